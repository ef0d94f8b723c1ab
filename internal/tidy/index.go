package tidy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
)

// IndexPath is where the repository keeps the index of the specifications.
const IndexPath = "internal/tidy/specs.txt"

// Document is what the index keeps of one specification.
type Document struct {
	ID       string   // "RFC 6120", "XEP-0045": the form that citations use
	Version  string   // of a XEP; empty for an RFC
	Title    string   // in one line
	Sections []string // numbers in the document's order: "4.9.3.1", "A.5"
}

// Index maps the ID of each specification that was read to what it holds.
type Index map[string]Document

// ParseIndex reads what Index.Write wrote.
func ParseIndex(text []byte) (Index, error) {
	ix := Index{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, len(text)+1)
	for n := 1; lines.Scan(); n++ {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		col := strings.Split(lines.Text(), "\t")
		if len(col) != 4 {
			return nil, fmt.Errorf("line %d has %d columns, not 4", n, len(col))
		}
		ix[col[0]] = Document{ID: col[0], Version: col[1], Title: col[2], Sections: strings.Fields(col[3])}
	}
	return ix, lines.Err()
}

// Write writes the index as text, one line for each document, in the order of the IDs.
func (ix Index) Write(w io.Writer) error {
	var ids []string
	for id := range ix {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	var b bytes.Buffer
	b.WriteString("# The sections of each specification, made by `make specs`: id, version, title, section numbers.\n")
	for _, id := range ids {
		d := ix[id]
		fmt.Fprintf(&b, "%s\t%s\t%s\t%s\n", d.ID, d.Version, d.Title, strings.Join(d.Sections, " "))
	}
	_, err := w.Write(b.Bytes())
	return err
}

// index reads the tree's index; the Problem says why there is none.
func (t *Tree) index() (Index, []Problem) {
	f := t.file(IndexPath)
	if f == nil {
		return nil, []Problem{{IndexPath, 0, "is missing: run make specs"}}
	}
	ix, err := ParseIndex(f.Src)
	if err != nil {
		return nil, []Problem{{IndexPath, 0, err.Error() + ": run make specs"}}
	}
	return ix, nil
}
