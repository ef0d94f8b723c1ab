package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/starling-im/starling/internal/tidy"
)

const rfc = `



Internet Engineering Task Force (IETF)                         A. Author
Request for Comments: 9999                                     July 2031
Category: Standards Track


                A Protocol for Starlings
             That Spans Two Lines of Title

Abstract

   1.  This is no heading.

Table of Contents

   1.  Introduction . . . . . . . . . . . . . . . . . . . . . . . . . 2
     1.1.  Left out below . . . . . . . . . . . . . . . . . . . . . . 2

RFC 9999                      Starlings                        July 2031

1.  Introduction

   Text.

2 Old Style

2.10.3.  bad-format

Appendix B.  Schema

B.1.  The First

A new line of text that a tool left in the first column.
C.2 Table without its appendix
`

const xep = "# XEP-0999: Murmuration\n\nCopyright.\n\nVersion 1.2.3 (2031-01-02) | Status: Draft\n\n" +
	"## 1. Introduction\n\n```\n## 7. in an example\n```\n\n### 1.1. More\n\n## Unnumbered\n\n#### 2.1.4. Deep\n"

func TestRead(t *testing.T) {
	for _, c := range []struct {
		name string
		got  tidy.Document
		want tidy.Document
	}{
		{"rfc", readRFC(rfc), tidy.Document{
			ID: "RFC 9999", Title: "A Protocol for Starlings That Spans Two Lines of Title",
			Sections: strings.Fields("1 2 2.10 2.10.3 B B.1 C C.2"),
		}},
		{"xep", readXEP(xep), tidy.Document{
			ID: "XEP-0999", Version: "1.2.3", Title: "Murmuration",
			Sections: strings.Fields("1 1.1 2 2.1 2.1.4"),
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.got.ID != c.want.ID || c.got.Version != c.want.Version || c.got.Title != c.want.Title {
				t.Errorf("got %q %q %q", c.got.ID, c.got.Version, c.got.Title)
			}
			if got, want := strings.Join(c.got.Sections, " "), strings.Join(c.want.Sections, " "); got != want {
				t.Errorf("sections\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestRun(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		fails string
	}{
		{"both kinds", map[string]string{"rfc9999.txt": "\ufeff" + rfc, "xep-0999.md": xep, "README.md": "# Texts"}, ""},
		{"no title", map[string]string{"rfc1.txt": "\n\n"}, "rfc1.txt: found no number"},
		{"empty folder", nil, "holds neither"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, out := t.TempDir(), filepath.Join(t.TempDir(), "specs.txt")
			for name, text := range c.files {
				if err := os.WriteFile(filepath.Join(in, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := run(in, out)
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Fatalf("got error %v, want one with %q", err, c.fails)
				}
				if _, err := os.Stat(out); err == nil {
					t.Error("an index was written")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			ix, err := tidy.ParseIndex(text)
			if err != nil {
				t.Fatal(err)
			}
			if len(ix) != len(c.files)-1 || ix["XEP-0999"].Version != "1.2.3" || ix["RFC 9999"].Title == "" {
				t.Errorf("index holds %v", ix)
			}
		})
	}
}
