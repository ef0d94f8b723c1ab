package xml

import (
	"iter"
	"slices"
	"strings"
)

// Element is one XML element with everything inside it: the view of a stanza for code that is not on the hot
// path. Elements are immutable once built and may be shared; the With methods return changed copies.
//
// The methods that only look accept a nil Element, which has no attributes, children or text, so that lookups
// can be chained.
type Element struct {
	Space, Local string
	Attrs        []Attribute // without namespace declarations
	Nodes        []Node
}

// Attribute is one attribute of an Element. Space is empty for an attribute without prefix.
type Attribute struct {
	Space, Local, Value string
}

// Node is a child element or, if Element is nil, a piece of character data.
type Node struct {
	Element *Element
	Text    string
}

// None is the empty Element: it stands for "no element" and is left out when it is added to another.
var None Element

// New returns an element with the attributes given as pairs of name and value. The name may be "xml:lang"; a
// pair with an empty value is left out. It panics if a value is missing.
func New(space, local string, attrs ...string) Element {
	if len(attrs)%2 != 0 {
		panic("xml: New needs pairs of attribute name and value")
	}
	e := Element{Space: space, Local: local}
	if len(attrs) > 0 {
		e.Attrs = make([]Attribute, 0, len(attrs)/2)
	}
	for i := 0; i < len(attrs); i += 2 {
		if attrs[i+1] != "" {
			e.Attrs = append(e.Attrs, attribute(attrs[i], attrs[i+1]))
		}
	}
	return e
}

func attribute(name, value string) Attribute {
	space, local := splitName(name)
	return Attribute{Space: space, Local: local, Value: value}
}

// splitName resolves an attribute's name as code writes it: only the prefix xml is known.
func splitName(name string) (space, local string) {
	if local, ok := strings.CutPrefix(name, "xml:"); ok {
		return NSXML, local
	}
	return "", name
}

// IsNone tells whether e is None.
func (e Element) IsNone() bool { return e.Local == "" }

// With returns e with children added at its end. Those that are None are left out.
func (e Element) With(children ...Element) Element {
	own := slices.Clone(children)
	nodes := make([]Node, len(e.Nodes), len(e.Nodes)+len(own))
	copy(nodes, e.Nodes)
	for i := range own {
		if !own[i].IsNone() {
			nodes = append(nodes, Node{Element: &own[i]})
		}
	}
	e.Nodes = nodes
	return e
}

// WithText returns e with character data added at its end.
func (e Element) WithText(s string) Element {
	if s != "" {
		e.Nodes = append(slices.Clip(e.Nodes), Node{Text: s})
	}
	return e
}

// WithAttr returns e with the attribute set, or removed if value is empty. The name may be "xml:lang".
func (e Element) WithAttr(name, value string) Element {
	a := attribute(name, value)
	same := func(x Attribute) bool { return x.Local == a.Local && x.Space == a.Space }
	i := slices.IndexFunc(e.Attrs, same)
	switch {
	case i < 0 && value == "":
	case i < 0:
		e.Attrs = append(slices.Clip(e.Attrs), a)
	case value == "":
		e.Attrs = slices.DeleteFunc(slices.Clone(e.Attrs), same)
	default:
		e.Attrs = slices.Clone(e.Attrs)
		e.Attrs[i] = a
	}
	return e
}

// Attr returns the value of the attribute, empty if there is none. The name may be "xml:lang".
func (e *Element) Attr(name string) string {
	v, _ := e.Lookup(name)
	return v
}

// Lookup returns the value of the attribute and whether there is one. The name may be "xml:lang".
func (e *Element) Lookup(name string) (value string, ok bool) {
	if e == nil {
		return "", false
	}
	space, local := splitName(name)
	for i := range e.Attrs {
		if a := &e.Attrs[i]; a.Local == local && a.Space == space {
			return a.Value, true
		}
	}
	return "", false
}

// Child returns the first child element of that name, or nil.
func (e *Element) Child(space, local string) *Element {
	for c := range e.Elements() {
		if c.Local == local && c.Space == space {
			return c
		}
	}
	return nil
}

// First returns the first child element, or nil.
func (e *Element) First() *Element {
	for c := range e.Elements() {
		return c
	}
	return nil
}

// Elements yields the child elements in order.
func (e *Element) Elements() iter.Seq[*Element] {
	return func(yield func(*Element) bool) {
		if e == nil {
			return
		}
		for i := range e.Nodes {
			if c := e.Nodes[i].Element; c != nil && !yield(c) {
				return
			}
		}
	}
}

// Text returns the character data directly inside e, without that of its children.
func (e *Element) Text() string {
	if e == nil {
		return ""
	}
	text, pieces := "", 0
	var all []byte // only if there are several pieces
	for i := range e.Nodes {
		if e.Nodes[i].Element != nil {
			continue
		}
		if pieces++; pieces == 2 {
			all = append(all, text...)
		}
		if text = e.Nodes[i].Text; pieces > 1 {
			all = append(all, text...)
		}
	}
	if pieces > 1 {
		return string(all)
	}
	return text
}

// String returns e as Append writes it outside any namespace.
func (e Element) String() string { return string(e.Append(nil, "")) }
