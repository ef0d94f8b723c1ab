// Command specindex writes the index of specifications that citations are checked against. It reads a folder of plain
// texts: rfcNNNN.txt as the RFC editor publishes them, xep-NNNN.md with numbered Markdown headings.
//
//	go run ./internal/tidy/specindex DIR
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/starling-im/starling/internal/tidy"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: specindex DIR, where DIR holds rfcNNNN.txt and xep-NNNN.md; run it at the root of the repository")
		os.Exit(2)
	}
	if err := run(os.Args[1], tidy.IndexPath); err != nil {
		fmt.Fprintln(os.Stderr, "specindex:", err)
		os.Exit(1)
	}
}

// run indexes the texts of folder in and writes the file out. It fails, and writes nothing, when a text has no title
// or no sections: then it is not of the form that this program reads.
func run(in, out string) error {
	entries, err := os.ReadDir(in)
	if err != nil {
		return err
	}
	ix := tidy.Index{}
	for _, e := range entries {
		read := reader(e.Name())
		if read == nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join(in, e.Name()))
		if err != nil {
			return err
		}
		d := read(strings.TrimPrefix(string(text), "\ufeff"))
		if d.ID == "" || d.Title == "" {
			return fmt.Errorf("%s: found no number or no title", e.Name())
		}
		ix[d.ID] = d
	}
	if len(ix) == 0 {
		return fmt.Errorf("%s holds neither rfcNNNN.txt nor xep-NNNN.md", in)
	}
	var b bytes.Buffer
	if err := ix.Write(&b); err != nil {
		return err
	}
	return os.WriteFile(out, b.Bytes(), 0o644)
}

// reader chooses by the file's name how its text is read; nil for a file that is no specification.
func reader(name string) func(text string) tidy.Document {
	if ok, _ := filepath.Match("rfc[0-9]*.txt", name); ok {
		return readRFC
	}
	if ok, _ := filepath.Match("xep-[0-9]*.md", name); ok {
		return readXEP
	}
	return nil
}
