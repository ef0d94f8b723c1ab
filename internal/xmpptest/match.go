package xmpptest

import (
	"fmt"
	"maps"
	"regexp"
	"strings"

	"github.com/starling-im/starling/internal/xmpp/xml"
)

// anySpace is the namespace of elements of a pattern for which none is written.
const anySpace = "starling:any"

// footer is how the end of a stream is written.
const footer = "</stream:stream>"

// item is something that came: an element, a stream header, or the end of a stream.
type item struct {
	xml.Element
	footer bool
}

// String is the item as it would stand in a script.
func (i item) String() string {
	if i.footer {
		return footer
	}
	return string(i.Append(nil, xml.NSClient))
}

// compile reads a pattern.
func compile(text string) (item, error) {
	if text == footer {
		return item{footer: true}, nil
	}
	if strings.HasPrefix(text, "<stream:stream") && !strings.HasSuffix(text, "/>") {
		text += footer
	}
	e, err := xml.Parse([]byte("<pattern xmlns='"+anySpace+"' xmlns:stream='"+xml.NSStream+"'>"+text+"</pattern>"), "")
	if err != nil {
		return item{}, fmt.Errorf("cannot expect %q: %w", text, err)
	}
	if len(e.Nodes) != 1 || e.Nodes[0].Element == nil {
		return item{}, fmt.Errorf("cannot expect %q: it is not one element", text)
	}
	return item{Element: *e.First()}, nil
}

// variables are what scripts have kept, by name.
type variables map[string]string

var variable = regexp.MustCompile(`\$[a-z][a-z0-9]*`)

// fill puts values in the place of variables, fit for XML. Those without a value are left.
func (v variables) fill(text string) string {
	return variable.ReplaceAllStringFunc(text, func(name string) string {
		if value, ok := v[name[1:]]; ok {
			if name == "$open" {
				return value
			}
			return string(xml.AppendAttr(nil, value))
		}
		return name
	})
}

// match tells whether an item is as the pattern says, and keeps the values of new variables if so.
func (v variables) match(pattern, got item, strict bool) bool {
	if pattern.footer || got.footer {
		return pattern.footer == got.footer
	}
	trial := maps.Clone(v)
	if !trial.element(&pattern.Element, &got.Element, strict) {
		return false
	}
	maps.Copy(v, trial)
	return true
}

func (v variables) element(want, got *xml.Element, strict bool) bool {
	if want.Local != got.Local || want.Space != anySpace && want.Space != got.Space {
		return false
	}
	for _, a := range want.Attrs {
		value, ok := lookup(got, a)
		if a.Value == "$none" && ok || a.Value != "$none" && (!ok || !v.value(a.Value, value)) {
			return false
		}
	}
	text := strings.TrimSpace(want.Text())
	if (strict || text != "") && !v.value(text, strings.TrimSpace(got.Text())) {
		return false
	}
	var wanted, present []*xml.Element
	for e := range want.Elements() {
		wanted = append(wanted, e)
	}
	for e := range got.Elements() {
		present = append(present, e)
	}
	if strict && len(wanted) != len(present) {
		return false
	}
	return v.children(wanted, present, strict)
}

// lookup finds the attribute of got that has the name of a.
func lookup(got *xml.Element, a xml.Attribute) (value string, ok bool) {
	for _, b := range got.Attrs {
		if b.Local == a.Local && b.Space == a.Space {
			return b.Value, true
		}
	}
	return "", false
}

// children finds a different child of those present for each that is wanted.
func (v variables) children(wanted, present []*xml.Element, strict bool) bool {
	if len(wanted) == 0 {
		return true
	}
	for i, candidate := range present {
		trial := maps.Clone(v)
		if !trial.element(wanted[0], candidate, strict) {
			continue
		}
		rest := append(append([]*xml.Element(nil), present[:i]...), present[i+1:]...)
		if trial.children(wanted[1:], rest, strict) {
			maps.Copy(v, trial)
			return true
		}
	}
	return false
}

// value compares an attribute or text, or keeps it under the name that the pattern gives it.
func (v variables) value(want, got string) bool {
	name, ok := strings.CutPrefix(want, "$")
	switch {
	case !ok || variable.FindString(want) != want:
		return want == got
	case name == "any":
		return true
	}
	if known, ok := v[name]; ok {
		return known == got
	}
	v[name] = got
	return true
}
