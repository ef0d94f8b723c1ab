package xml

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Append writes e to dst as it stands inside an element whose default namespace is parentSpace: namespaces are
// declared, without prefixes, only where they change. The output is always well-formed, has neither CDATA nor
// prefixed element names, and declares the prefixes that attributes need where they are used.
//
// RFC 6120 §8.4: receivers must not depend on prefix strings. Choice: those of the original are not kept.
func (e *Element) Append(dst []byte, parentSpace string) []byte {
	w := writer{dst: dst}
	w.element(e, parentSpace, false)
	return w.dst
}

// writer appends one element tree.
type writer struct {
	dst []byte
	// spaces are the namespaces of prefixed attributes that the open elements have declared; the prefix of
	// spaces[i] is "ns" and i.
	spaces []string
}

// element writes e. If declare is set, e's namespace is declared even where it does not change.
func (w *writer) element(e *Element, parentSpace string, declare bool) {
	mark := len(w.spaces)
	w.dst = append(w.dst, '<')
	w.dst = append(w.dst, e.Local...)
	if declare || e.Space != parentSpace {
		w.attr("xmlns", e.Space)
	}
	for i := range e.Attrs {
		w.attr(w.attrName(&e.Attrs[i]), e.Attrs[i].Value)
	}
	if len(e.Nodes) == 0 {
		w.dst = append(w.dst, "/>"...)
		w.spaces = w.spaces[:mark]
		return
	}
	w.dst = append(w.dst, '>')
	for i := range e.Nodes {
		if c := e.Nodes[i].Element; c != nil {
			w.element(c, e.Space, false)
		} else {
			w.dst = AppendText(w.dst, e.Nodes[i].Text)
		}
	}
	w.dst = append(w.dst, "</"...)
	w.dst = append(w.dst, e.Local...)
	w.dst = append(w.dst, '>')
	w.spaces = w.spaces[:mark]
}

// attrName returns the qualified name to write for a, having declared its prefix if none is in force.
func (w *writer) attrName(a *Attribute) string {
	switch a.Space {
	case "":
		return a.Local
	case NSXML:
		return "xml:" + a.Local
	}
	i := slices.Index(w.spaces, a.Space)
	if i < 0 {
		i = len(w.spaces)
		w.spaces = append(w.spaces, a.Space)
		w.attr("xmlns:ns"+strconv.Itoa(i), a.Space)
	}
	return "ns" + strconv.Itoa(i) + ":" + a.Local
}

// attr writes one attribute, in the quotes that make fewer escapes: a value must not grow just because it
// holds the kind that we would have chosen.
func (w *writer) attr(name, value string) {
	quote := byte('\'')
	if n := strings.Count(value, "'"); n > 0 && n > strings.Count(value, `"`) {
		quote = '"'
	}
	w.dst = append(w.dst, ' ')
	w.dst = append(w.dst, name...)
	w.dst = append(w.dst, '=', quote)
	w.dst = appendQuoted(w.dst, value, quote)
	w.dst = append(w.dst, quote)
}

// AppendText writes s to dst as character data. What XML cannot carry becomes U+FFFD.
func AppendText(dst []byte, s string) []byte {
	before := len(dst)
	from := 0
	for i := 0; i < len(s); {
		if class[s[i]]&verbatim != 0 {
			i++
			continue
		}
		size, legal := legalAt(s, i)
		esc := ""
		switch c := s[i]; {
		case !legal:
			esc = "\uFFFD"
		case c == '&':
			esc = "&amp;"
		case c == '<':
			esc = "&lt;"
		case c == '\r': // a literal one would be read as a line feed
			esc = "&#13;"
		case c == '>' && closesCDATA(dst[:before], s[:i]):
			esc = "&gt;"
		}
		if esc != "" {
			dst = append(append(dst, s[from:i]...), esc...)
			from = i + size
		}
		i += size
	}
	return append(dst, s[from:]...)
}

// closesCDATA tells whether a > after dst and s would make the sequence that character data must not hold.
// Other > are written as they are, so that text does not grow.
func closesCDATA(dst []byte, s string) bool {
	if len(s) < 2 {
		s = string(dst[max(0, len(dst)-2):]) + s
	}
	return strings.HasSuffix(s, "]]")
}

// AppendAttr writes s to dst as the value of an attribute in single quotes, without the quotes. What XML
// cannot carry becomes U+FFFD.
func AppendAttr(dst []byte, s string) []byte { return appendQuoted(dst, s, '\'') }

func appendQuoted(dst []byte, s string, quote byte) []byte {
	from := 0
	for i := 0; i < len(s); {
		if class[s[i]]&verbatim != 0 {
			i++
			continue
		}
		size, legal := legalAt(s, i)
		esc := ""
		switch c := s[i]; {
		case !legal:
			esc = "\uFFFD"
		case c == '&':
			esc = "&amp;"
		case c == '<':
			esc = "&lt;"
		case c == quote && c == '\'':
			esc = "&#39;"
		case c == quote:
			esc = "&#34;"
		case c == '\t': // literal white space would be read as spaces
			esc = "&#9;"
		case c == '\n':
			esc = "&#10;"
		case c == '\r':
			esc = "&#13;"
		}
		if esc != "" {
			dst = append(append(dst, s[from:i]...), esc...)
			from = i + size
		}
		i += size
	}
	return append(dst, s[from:]...)
}

// legalAt returns the length of the character at s[i] and whether XML can carry it.
func legalAt(s string, i int) (size int, legal bool) {
	if c := s[i]; c < utf8.RuneSelf {
		return 1, c >= ' ' || c == '\t' || c == '\n' || c == '\r'
	}
	r, size := utf8.DecodeRuneInString(s[i:])
	return size, (r != utf8.RuneError || size > 1) && isChar(r)
}
