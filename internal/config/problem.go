package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Problem is one mistake in the settings.
type Problem struct {
	File   string // the file, or another source: "environment STARLING_…", "--set", "flag", "default"
	Line   int    // in the file, from 1; 0 if the mistake has no line
	Key    string // with its section, as in "limits.stanza_bytes"; "" if it concerns the whole file
	Text   string // what is wrong
	Remedy string // what to do
}

// String returns the problem as one line: place, key, what is wrong, what to do.
func (p Problem) String() string {
	s := Source{Name: p.File, Line: p.Line}.String() + ": "
	if p.Key != "" {
		s += p.Key + ": "
	}
	s += p.Text
	if p.Remedy != "" {
		s += "; " + p.Remedy
	}
	return s
}

// Error is what Load returns: every problem that it found, those of the file first, in the order of its lines.
type Error struct{ Problems []Problem }

// Error returns the problems, one a line.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Source says where a value came from.
type Source struct {
	Name string // "default", the file's name, "environment STARLING_…", "--set" or "flag"
	Line int    // in the file, from 1; else 0
}

// String returns the name, and the line if there is one.
func (s Source) String() string {
	if s.Line == 0 {
		return s.Name
	}
	return fmt.Sprintf("%s:%d", s.Name, s.Line)
}

// invalid is a complaint of a Validate method.
type invalid struct{ key, text, remedy string }

func (e *invalid) Error() string { return e.text }

// Invalid makes the error that a Validate method returns: key is the name of the setting inside the struct, with
// dots between levels, or "" for the value as a whole; text says what is wrong and remedy what to do. Several are
// returned with errors.Join.
func Invalid(key, text, remedy string) error { return &invalid{key, text, remedy} }

// complaints takes the error of a Validate method apart.
func complaints(err error) []*invalid {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*invalid
		for _, e := range joined.Unwrap() {
			all = append(all, complaints(e)...)
		}
		return all
	}
	var one *invalid
	if errors.As(err, &one) {
		return []*invalid{one}
	}
	return []*invalid{{text: err.Error()}}
}

// nearest returns the candidate that word was probably meant to be, or "": one that differs in a third of the letters
// at most, or that is the beginning of word or begins with it.
func nearest(word string, candidates []string) string {
	const longest = 64 // no key is longer, and the comparison is quadratic
	if len(word) > longest {
		return ""
	}
	best, distance := "", max(1, len(word)/3)+1
	for _, c := range candidates {
		d := editDistance(word, c)
		if shorter := min(len(word), len(c)); shorter > 2 && word[:shorter] == c[:shorter] {
			d = 1
		}
		if d < distance {
			best, distance = c, d
		}
	}
	return best
}

// editDistance counts the insertions, deletions, replacements and swaps of neighbours that lead from a to b.
func editDistance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

// sortProblems puts those of the file first, by line, and keeps the order of the others.
func sortProblems(problems []Problem) {
	rank := func(p Problem) int {
		if p.Line > 0 {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Line, b.Line))
	})
}
