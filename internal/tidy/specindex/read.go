package main

import (
	"regexp"
	"slices"
	"strings"

	"github.com/starling-im/starling/internal/tidy"
)

var (
	rfcNumber = regexp.MustCompile(`(?m)^Request for Comments: (\d{4})\b`)
	// rfcHeading begins in the first column, where neither text nor the table of contents stands.
	rfcHeading = regexp.MustCompile(`^(?:Appendix )?((?:[0-9]{1,2}|[A-Z])(?:\.[0-9]+)*)\.? +\S`)
	xepTitle   = regexp.MustCompile(`(?m)^# (XEP-\d{4}): (.+)$`)
	xepVersion = regexp.MustCompile(`(?m)^Version (\S+)`)
	xepHeading = regexp.MustCompile(`^##+ ([0-9]+(?:\.[0-9]+)*)\. `)
)

// readRFC reads the text of an RFC. Its title is the second block of lines, after the names of the authors.
func readRFC(text string) tidy.Document {
	var d tidy.Document
	if m := rfcNumber.FindStringSubmatch(text); m != nil {
		d.ID = "RFC " + m[1]
	}
	if blocks := blocks(text, 2); len(blocks) == 2 {
		d.Title = strings.Join(strings.Fields(blocks[1]), " ")
	}
	for line := range strings.Lines(text) {
		m := rfcHeading.FindStringSubmatch(line)
		if m == nil || lettered(m[1]) && !strings.Contains(m[1], ".") && !strings.HasPrefix(line, "Appendix ") {
			continue // a line such as "A new …" is no appendix
		}
		d.Sections = add(d.Sections, m[1])
	}
	return d
}

// readXEP reads the Markdown form of a XEP.
func readXEP(text string) tidy.Document {
	var d tidy.Document
	if m := xepTitle.FindStringSubmatch(text); m != nil {
		d.ID, d.Title = m[1], strings.TrimSpace(m[2])
	}
	if m := xepVersion.FindStringSubmatch(text); m != nil {
		d.Version = m[1]
	}
	fenced := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		if m := xepHeading.FindStringSubmatch(line); m != nil && !fenced {
			d.Sections = add(d.Sections, m[1])
		}
	}
	return d
}

// blocks returns the first n runs of lines that are not blank.
func blocks(text string, n int) []string {
	var found []string
	inside := false
	for line := range strings.Lines(text) {
		switch blank := strings.TrimSpace(line) == ""; {
		case blank:
			if inside && len(found) == n {
				return found
			}
			inside = false
		case inside:
			found[len(found)-1] += line
		default:
			found = append(found, line)
			inside = true
		}
	}
	return found
}

func lettered(section string) bool {
	return section[0] >= 'A'
}

// add adds section s once, and before it the sections that contain it, whose headings some texts write otherwise.
func add(sections []string, s string) []string {
	if slices.Contains(sections, s) {
		return sections
	}
	if i := strings.LastIndexByte(s, '.'); i >= 0 {
		sections = add(sections, s[:i])
	}
	return append(sections, s)
}
