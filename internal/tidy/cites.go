package tidy

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

var (
	// reference finds the parts of citations: a document, or a section sign with what follows it.
	reference = regexp.MustCompile(`(RFC ?\d{4}|XEP-\d+)\b|§+ ?((?:[0-9]+|[A-Z]\b)(?:\.[0-9]+)*)?`)
	// joint is what may stand between a document and its section, or between two sections of it.
	joint = regexp.MustCompile(`^(?: |[,;/–-] ?|,? and |,? or |,? to )$`)
	// awkward finds citations in words, which nothing could check.
	awkward = regexp.MustCompile(`(?:RFC ?\d{4}|XEP-\d+),? (?:[Ss]ection|[Ss]ec\.|[Aa]ppendix|[Cc]hapter) |(?:[Ss]ection|[Aa]ppendix) [0-9A-Z.]+ (?:of|in) (?:RFC|XEP)|XEP ?\d{2,}|RFC-\d`)
	// docID is how a document is written.
	docID = regexp.MustCompile(`^(?:RFC \d{4}|XEP-\d{4})$`)
)

// line is a line of prose and where it stands.
type line struct {
	number int
	text   string
}

func checkCitations(t *Tree) []Problem {
	ix, ps := t.index()
	if ps != nil {
		return ps
	}
	for _, f := range t.Files {
		for _, para := range t.prose(f) {
			ps = append(ps, citations(ix, f, para)...)
		}
	}
	return ps
}

// prose returns the parts of a file in which specifications are cited: the comments of Go files and scripts, the whole
// of a page.
func (t *Tree) prose(f *File) [][]line {
	switch {
	case f.AST != nil:
		var paras [][]line
		for _, group := range f.AST.Comments {
			var para []line
			for _, c := range group.List {
				first := t.Fset.Position(c.Pos()).Line
				for i, text := range strings.Split(c.Text, "\n") {
					para = append(para, line{first + i, strings.Trim(text, "/* \t")})
				}
			}
			paras = append(paras, para)
		}
		return paras
	case path.Ext(f.Path) == ".script":
		return [][]line{lines(f, "#")}
	case path.Ext(f.Path) == ".md":
		return [][]line{lines(f, "")}
	}
	return nil
}

// lines returns the lines of f that begin with prefix.
func lines(f *File, prefix string) []line {
	var ls []line
	n := 0
	for text := range strings.Lines(string(f.Src)) {
		n++
		if text = strings.TrimSpace(text); strings.HasPrefix(text, prefix) {
			ls = append(ls, line{n, strings.Trim(text, "#> \t")})
		}
	}
	return ls
}

// citations checks the citations of one run of prose, which may be broken over lines.
func citations(ix Index, f *File, para []line) []Problem {
	var text strings.Builder
	starts := make([]int, len(para))
	for i, l := range para {
		starts[i] = text.Len()
		text.WriteString(l.text + " ")
	}
	var ps []Problem
	problem := func(at int, format string, args ...any) {
		i, found := slices.BinarySearch(starts, at)
		if !found {
			i--
		}
		ps = append(ps, Problem{f.Path, para[i].number, fmt.Sprintf(format, args...)})
	}
	s := text.String()
	for _, m := range awkward.FindAllStringIndex(s, -1) {
		problem(m[0], "%q: cite as `RFC 6120 §4.9` or `XEP-0045 §7.2`", strings.TrimSpace(s[m[0]:m[1]]))
	}
	doc, end := "", 0 // the document cited last, and where the last part of its citation ended
	for _, m := range reference.FindAllStringSubmatchIndex(s, -1) {
		if m[2] >= 0 {
			doc, end = s[m[2]:m[3]], m[1]
			if !docID.MatchString(doc) {
				problem(m[0], "%q: write `RFC 6120`, `XEP-0045`", doc)
				doc = ""
			}
			continue
		}
		section := ""
		if m[4] >= 0 {
			section = s[m[4]:m[5]]
		}
		attached := doc != "" && joint.MatchString(s[end:m[0]])
		switch d, known := ix[doc]; {
		case !attached && f.AST == nil: // a page may point at its own sections
		case !attached:
			problem(m[0], "§%s of what? cite as `RFC 6120 §4.9` or `XEP-0045 §7.2`", section)
		case !known:
			problem(m[0], "%s §%s: %s is not in %s; add its text and run make specs", doc, section, doc, IndexPath)
		case !slices.Contains(d.Sections, section):
			problem(m[0], "%s has no §%s", strings.TrimSpace(doc+" "+d.Version), section)
		}
		if attached {
			end = m[1]
		} else {
			doc = ""
		}
	}
	return ps
}

// checkVersions compares the versions that the code names with those that were read, and asks that the folder of a
// feature says where it obeys the specification.
func checkVersions(t *Tree) []Problem {
	ix, ps := t.index()
	if ps != nil {
		return ps
	}
	for _, s := range t.specs() {
		if s.vague {
			ps = append(ps, t.at(s.file, s.pos, "write number and version as literals, so that they can be checked"))
			continue
		}
		id := fmt.Sprintf("XEP-%04d", s.xep)
		if s.xep == 0 {
			id = fmt.Sprintf("RFC %d", s.rfc)
		}
		switch d, known := ix[id]; {
		case !known:
			ps = append(ps, t.at(s.file, s.pos, "%s is not in %s; add its text and run make specs", id, IndexPath))
		case d.Version != s.version:
			ps = append(ps, t.at(s.file, s.pos, "%s: version %q is named, version %q was read", id, s.version, d.Version))
		case !t.cites(path.Dir(s.file.Path), id):
			ps = append(ps, t.at(s.file, s.pos, "%s is declared, but no comment of this folder cites it", id))
		}
	}
	return ps
}

// cites says whether a comment of a Go file in dir names the document.
func (t *Tree) cites(dir, id string) bool {
	for f := range t.goFiles() {
		if path.Dir(f.Path) != dir {
			continue
		}
		for _, group := range f.AST.Comments {
			if strings.Contains(strings.Join(strings.Fields(group.Text()), " "), id) {
				return true
			}
		}
	}
	return false
}
