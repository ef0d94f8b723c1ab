package config

import (
	"bytes"
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Value is one setting in force.
type Value struct {
	Key    string
	Text   string // as it would be written in the file; secrets are hidden
	Source Source
}

// Effective lists all settings in force, in the order of doc/config.md, each with its source.
func (c *Config) Effective() []Value {
	l := loader{sources: c.sources}
	var all []Value
	for _, f := range c.root().leaves() {
		all = append(all, Value{Key: f.key, Text: render(f.value, false), Source: l.source(f.key)})
	}
	return all
}

// render writes a value as TOML. Unless reveal is set, secrets are hidden.
func render(v reflect.Value, reveal bool) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		return quote(formatDuration(x))
	case Secret:
		if reveal {
			return quote(x.Reveal())
		}
	case URL:
		if reveal {
			return quote(x.Reveal())
		}
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		text, err := m.MarshalText()
		if err != nil {
			panic(fmt.Sprintf("config: %s cannot be written as text: %v", v.Type(), err))
		}
		return quote(string(text))
	}
	switch v.Kind() {
	case reflect.String:
		return quote(v.String())
	case reflect.Float32, reflect.Float64:
		return strconv.FormatFloat(v.Float(), 'g', -1, v.Type().Bits())
	case reflect.Slice:
		items := make([]string, v.Len())
		for i := range items {
			items[i] = render(v.Index(i), reveal)
		}
		return "[" + strings.Join(items, ", ") + "]"
	case reflect.Struct:
		var parts []string
		for _, f := range (field{value: v}).fields() {
			parts = append(parts, f.name+" = "+render(f.value, reveal))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return fmt.Sprint(v.Interface())
}

// quote writes a text as a basic string of TOML.
func quote(s string) string {
	b := []byte{'"'}
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ' || r == 0x7f:
			b = fmt.Appendf(b, `\u%04X`, r)
		default:
			b = append(b, string(r)...)
		}
	}
	return string(append(b, '"'))
}

// Reference returns doc/config.md: every setting with its type, default and meaning.
func Reference(sections ...Section) []byte {
	var b bytes.Buffer
	b.WriteString(referenceIntro)
	root := newConfig(sections).root()
	writeTable(&b, root.fields())
	for _, f := range root.fields() {
		writeSection(&b, f)
	}
	return b.Bytes()
}

const referenceIntro = `# Settings

Generated from the source; do not edit.

The file is TOML. A setting may also come from elsewhere; the first of these that names it counts: a flag,
` + "`--set key=value`" + `, the environment (` + "`STARLING_LISTEN__C2S`" + ` for ` + "`listen.c2s`" + `), the file, the default.
` + "`starling check --effective`" + ` shows every value in force and where it came from.

A *duration* is a number and a unit: ` + "`\"500ms\"`, `\"30s\"`, `\"5m\"`, `\"12h\"`, `\"7d\"`" + `. A *size* is a number of bytes, or a
number and a unit: ` + "`\"64 kB\"` (1000), `\"256 KiB\"` (1024), `\"1 MiB\"`" + `. A list may be written as one text with commas.

## Top level

`

// writeSection writes the heading and the table of a group, then of the groups inside it.
func writeSection(b *bytes.Buffer, f field) {
	if !f.group() {
		return
	}
	fmt.Fprintf(b, "\n## [%s]\n\n%s\n\n", f.key, f.doc)
	writeTable(b, f.fields())
	for _, child := range f.fields() {
		writeSection(b, child)
	}
}

func writeTable(b *bytes.Buffer, fields []field) {
	b.WriteString("| key | type | default | meaning |\n|---|---|---|---|\n")
	for _, f := range fields {
		if f.group() {
			continue
		}
		cells := []string{"`" + f.key + "`", f.typeName(), "`" + render(f.value, false) + "`", f.doc + f.choices()}
		for i := range cells {
			cells[i] = strings.ReplaceAll(cells[i], "|", `\|`)
		}
		fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
	}
}

// choices says which values a field may have.
func (f field) choices() string {
	var s string
	switch {
	case len(f.oneof) > 0 && f.value.Kind() == reflect.Slice:
		s = " Any of `" + strings.Join(f.oneof, "`, `") + "`."
	case len(f.oneof) > 0:
		s = " One of `" + strings.Join(f.oneof, "`, `") + "`."
	}
	switch {
	case f.min != "" && f.max != "":
		s += fmt.Sprintf(" From %s to %s.", f.min, f.max)
	case f.min != "" && f.min != "0":
		s += fmt.Sprintf(" At least %s.", f.min)
	case f.max != "":
		s += fmt.Sprintf(" At most %s.", f.max)
	}
	return s
}

// Commented returns a file with every setting, explained and commented out at its default; only the domain is set.
// Text lines begin with "# ", settings with "#".
func Commented(domain string, sections ...Section) []byte {
	c := newConfig(sections)
	var b bytes.Buffer
	writeComment(&b, "Settings of the Starling server. Every line that begins with # and a name shows a default: remove "+
		"the # to change it. `starling check` finds mistakes, `starling check --effective` shows what is in force.")
	writeCommented(&b, c.root(), domain)
	return b.Bytes()
}

func writeCommented(b *bytes.Buffer, group field, domain string) {
	fields := group.fields()
	for _, f := range fields {
		if f.group() {
			continue
		}
		b.WriteByte('\n')
		writeComment(b, f.doc+strings.ReplaceAll(f.choices(), "`", ""))
		if f.key == "domains" {
			fmt.Fprintf(b, "domains = [%s]\n", quote(domain))
			continue
		}
		fmt.Fprintf(b, "#%s = %s\n", f.name, render(f.value, true))
	}
	for _, f := range fields {
		if f.group() {
			b.WriteString("\n\n")
			writeComment(b, f.doc)
			fmt.Fprintf(b, "[%s]\n", f.key)
			writeCommented(b, f, domain)
		}
	}
}

// writeComment writes a text as comment lines of at most 100 characters.
func writeComment(b *bytes.Buffer, text string) {
	const width = 100
	line := "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > width && line != "#" {
			b.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}
