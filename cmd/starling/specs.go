package main

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/server"
)

// readTitles reads the titles of the specifications, by their ID.
func readTitles(file string) (map[string]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the titles of specifications: %w", err)
	}
	titles := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if col := strings.Split(line, "\t"); len(col) == 4 { // id, version, title, sections
			titles[col[0]] = col[2]
		}
	}
	return titles, nil
}

// specLines gathers what the core and the features implement: RFCs first, by number and folder.
func specLines(features []module.Info, titles map[string]string) []specLine {
	var lines []specLine
	for _, s := range server.CoreSpecs() {
		lines = append(lines, specLine{Spec: s.Spec, folder: s.Folder})
	}
	for _, f := range features {
		for _, s := range f.Specs {
			lines = append(lines, specLine{Spec: s, folder: "internal/feature/" + f.Name})
		}
	}
	for i := range lines {
		lines[i].title = titles[lines[i].id()]
	}
	slices.SortFunc(lines, func(a, b specLine) int {
		return cmp.Or(cmp.Compare(a.XEP, b.XEP), cmp.Compare(a.RFC, b.RFC), cmp.Compare(a.folder, b.folder))
	})
	return lines
}

const specsIntro = `# Specifications

Generated from the source; do not edit. Which specification is implemented, in which version, and in which folder.
`

// specsPage returns doc/xeps.md.
func specsPage(lines []specLine) []byte {
	var b bytes.Buffer
	b.WriteString(specsIntro)
	heading := ""
	for _, l := range lines {
		if h := kind(&l); h != heading {
			heading = h
			fmt.Fprintf(&b, "\n## %s\n\n| number | title | version | folder | note |\n|---|---|---|---|---|\n", heading)
		}
		fmt.Fprintf(&b, "| [%s](%s) | %s | %s | [%s](../%s) | %s |\n",
			l.id(), l.link(), l.title, l.Version, strings.TrimPrefix(l.folder, "internal/"), l.folder, l.Note)
	}
	return b.Bytes()
}

func kind(l *specLine) string {
	if l.XEP != 0 {
		return "Extensions (XEP)"
	}
	return "Standards (RFC)"
}

const doapIntro = `<?xml version="1.0" encoding="UTF-8"?>
<!-- Generated from the source; do not edit. -->
<rdf:RDF xmlns="http://usefulinc.com/ns/doap#"
         xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
         xmlns:xmpp="https://linkmauve.fr/ns/xmpp-doap#">
  <Project>
    <name>Starling</name>
    <shortdesc xml:lang="en">Instant-messaging server (XMPP)</shortdesc>
    <homepage rdf:resource="https://github.com/starling-im/starling"/>
    <license rdf:resource="https://spdx.org/licenses/Apache-2.0"/>
    <programming-language>Go</programming-language>
    <category rdf:resource="https://linkmauve.fr/ns/xmpp-doap#category-server"/>
`

// doap returns doc/starling.doap, the description from which xmpp.org makes its list of software. A specification
// that several folders implement stands there once.
func doap(lines []specLine) []byte {
	var b bytes.Buffer
	b.WriteString(doapIntro)
	for rest := lines; len(rest) > 0; {
		first, n := rest[0], 1
		var notes []string
		if first.Note != "" {
			notes = append(notes, first.Note)
		}
		for ; n < len(rest) && rest[n].id() == first.id(); n++ {
			if note := rest[n].Note; note != "" {
				notes = append(notes, note)
			}
		}
		rest = rest[n:]
		if first.XEP == 0 {
			fmt.Fprintf(&b, "    <implements rdf:resource=\"https://xmpp.org/rfcs/rfc%d.html\"/>\n", first.RFC)
			continue
		}
		writeSupported(&b, &first, strings.Join(notes, "; "))
	}
	b.WriteString("  </Project>\n</rdf:RDF>\n")
	return b.Bytes()
}

func writeSupported(b *bytes.Buffer, l *specLine, note string) {
	status := "complete"
	if note != "" {
		status = "partial"
	}
	fmt.Fprintf(b, `    <implements>
      <xmpp:SupportedXep>
        <xmpp:xep rdf:resource="%s"/>
        <xmpp:status>%s</xmpp:status>
        <xmpp:version>%s</xmpp:version>
`, l.link(), status, l.Version)
	if note != "" {
		b.WriteString("        <xmpp:note xml:lang=\"en\">")
		_ = xml.EscapeText(b, []byte(note)) // a buffer takes everything
		b.WriteString("</xmpp:note>\n")
	}
	b.WriteString("      </xmpp:SupportedXep>\n    </implements>\n")
}
