package main

import (
	"bytes"
	"encoding/xml"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/starling-im/starling/internal/server"
)

var update = flag.Bool("update", false, "rewrite the generated pages")

const root = "../.."

// TestDocs compares the committed pages with what the source says.
func TestDocs(t *testing.T) {
	pages, err := generate(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pages {
		file := filepath.Join(root, "doc", p.name)
		if *update {
			if err := os.WriteFile(file, p.text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if old, err := os.ReadFile(file); err != nil || !bytes.Equal(old, p.text) {
			t.Errorf("doc/%s is not what the source says (%v): run go test ./cmd/starling -run Docs -update", p.name, err)
		}
		if strings.HasSuffix(p.name, ".doap") {
			wellFormed(t, p.text)
		}
	}
}

func wellFormed(t *testing.T, text []byte) {
	t.Helper()
	for d := xml.NewDecoder(bytes.NewReader(text)); ; {
		switch _, err := d.Token(); err {
		case nil:
		case io.EOF:
			return
		default:
			t.Fatal(err)
		}
	}
}

// TestDocsCommand writes the same pages through the command line.
func TestDocsCommand(t *testing.T) {
	dir := t.TempDir()
	source, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	starling(t, dir, "doc", "--dir=.", "--source="+source).want(t, exitOK)
	for _, name := range []string{"config.md", "xeps.md", "hooks.md", "starling.doap"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	starling(t, dir, "doc", "--dir=.").want(t, exitFailed, "specs.txt")
}

// TestDocsCoreSpecs checks that each folder cites what the list says that it obeys.
func TestDocsCoreSpecs(t *testing.T) {
	for _, s := range server.CoreSpecs() {
		id := (&specLine{Spec: s.Spec}).id()
		files, err := filepath.Glob(filepath.Join(root, s.Folder, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		cited := false
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			cited = cited || bytes.Contains(text, []byte(id))
		}
		if !cited {
			t.Errorf("%s does not cite %s", s.Folder, id)
		}
	}
}
