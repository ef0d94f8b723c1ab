package xml

import "strings"

// Element returns the item as a tree. Its strings share one copy of the item's bytes: whoever keeps a small part for
// long should clone it.
func (it *Item) Element() Element {
	if len(it.Raw) == 0 {
		return None
	}
	b := builder{src: string(it.Raw), head: it.head, hint: it.elements}
	var e Element
	if it.tagEnd == len(it.Raw) { // one tag: an empty element, or a stream header
		b.startTag(&e, it.headSpace())
	} else {
		b.element(&e, it.headSpace())
	}
	return e
}

// ChildElement returns the child c of the item as a tree, for code that needs only one of them.
func (it *Item) ChildElement(c *Child) Element {
	b := builder{src: string(it.Raw[:it.tagEnd]), head: it.head}
	var parent, e Element
	_, space := b.startTag(&parent, it.headSpace())
	b.src, b.pos = string(it.Raw[c.Start:c.End]), 0
	b.element(&e, space)
	return e
}

func (it *Item) headSpace() string {
	if it.head == nil {
		return ""
	}
	return it.head.space
}

// Parse returns the tree of b, which holds exactly one element and maybe white space around it. It is as strict as a
// Scanner with DefaultLimits but without a limit to size and number of elements: those are for where b came in. Space is the default namespace around the element;
// there are no prefixes around it. Errors are *SyntaxError.
func Parse(b []byte, space string) (Element, error) {
	s := AcquireScanner()
	defer s.Release()
	var st Stream
	st.Open(space)
	lim := DefaultLimits()
	lim.Bytes, lim.Elements = maxParse, maxParse
	ev, n, err := s.Next(&st, &lim, b)
	switch {
	case err != nil:
		return None, err
	case ev != FirstLevel:
		return None, &SyntaxError{Condition: NotWellFormed, Text: "element is not complete"}
	case len(strings.Trim(string(b[n:]), " \t\r\n")) > 0:
		return None, &SyntaxError{Condition: NotWellFormed, Text: "data after the element"}
	}
	return s.Item().Element(), nil
}

// maxParse bounds what Parse takes: more than anybody should hand it.
const maxParse = 1 << 30

// builder makes trees of XML that a Scanner has validated.
type builder struct {
	src  string
	pos  int
	head *header // what is declared around src
	hint int     // how many elements to expect, 0 if not known

	binds []binding   // prefixes declared in src
	nodes []Node      // children of the open elements
	tag   []Attribute // of the tag being read, with prefixes for namespaces

	// The text being read: of one piece, or of several, which are put together in spare.
	text   string
	pieces int
	spare  []byte

	elements slab[Element]
	attrs    slab[Attribute]
	lists    slab[Node]
}

// slab hands out slices of a few big ones, so that a tree costs few allocations.
type slab[T any] []T

func (s *slab[T]) take(n, hint int) []T {
	if n == 0 {
		return nil
	}
	if len(*s) < n {
		*s = make([]T, max(n, min(hint, 64), 4))
	}
	out := (*s)[:n:n]
	*s = (*s)[n:]
	return out
}

// element reads the element at pos into e. Space is the default namespace in force.
func (b *builder) element(e *Element, space string) {
	mark := len(b.binds)
	empty, inner := b.startTag(e, space)
	if !empty {
		b.content(e, inner)
	}
	b.binds = b.binds[:mark]
}

// startTag reads a start tag into e and returns whether it is an empty-element tag, and the default namespace inside.
func (b *builder) startTag(e *Element, space string) (empty bool, inner string) {
	b.pos++
	prefix, local := b.name()
	b.tag = b.tag[:0]
	for b.nextAttr() {
		p, l := b.name()
		for b.src[b.pos] != '\'' && b.src[b.pos] != '"' {
			b.pos++
		}
		quote := b.src[b.pos : b.pos+1]
		b.pos++
		value := unescape(b.until(quote), inAttr)
		b.pos++
		switch {
		case p == "xmlns":
			b.binds = append(b.binds, binding{l, share(value)})
		case p == "" && l == "xmlns":
			space = share(value)
		default:
			b.tag = append(b.tag, Attribute{Space: p, Local: l, Value: value})
		}
	}
	e.Space, e.Local = space, local
	if prefix != "" {
		e.Space = b.bound(prefix)
	}
	e.Attrs = b.attrs.take(len(b.tag), b.hint*2)
	copy(e.Attrs, b.tag)
	for i := range e.Attrs {
		if a := &e.Attrs[i]; a.Space != "" {
			a.Space = b.bound(a.Space)
		}
	}
	empty = b.src[b.pos] == '/'
	b.until(">")
	b.pos++
	return empty, space
}

// nextAttr goes to the next attribute of the tag and tells whether there is one.
func (b *builder) nextAttr() bool {
	for isSpace(b.src[b.pos]) {
		b.pos++
	}
	return b.src[b.pos] != '/' && b.src[b.pos] != '>'
}

// name reads a qualified name.
func (b *builder) name() (prefix, local string) {
	start := b.pos
	for ; ; b.pos++ {
		switch c := b.src[b.pos]; {
		case c == ':':
			prefix = b.src[start:b.pos]
			start = b.pos + 1
		case c == '=' || c == '/' || c == '>' || isSpace(c):
			return prefix, b.src[start:b.pos]
		}
	}
}

// bound returns the namespace of a prefix.
func (b *builder) bound(prefix string) string {
	if prefix == "xml" {
		return NSXML
	}
	for i := len(b.binds) - 1; i >= 0; i-- {
		if b.binds[i].prefix == prefix {
			return b.binds[i].space
		}
	}
	for _, h := range b.head.binds {
		if h.prefix == prefix {
			return h.space
		}
	}
	return ""
}

// content reads up to and with the end tag.
func (b *builder) content(e *Element, space string) {
	first := len(b.nodes)
	for {
		b.piece(b.until("<"), inContent)
		switch b.src[b.pos+1] {
		case '/':
			b.endText()
			b.until(">")
			b.pos++
			e.Nodes = b.lists.take(len(b.nodes)-first, b.hint*2)
			copy(e.Nodes, b.nodes[first:])
			b.nodes = b.nodes[:first]
			return
		case '!':
			b.pos += len("<![CDATA[")
			b.piece(b.until("]]>"), inSection)
			b.pos += len("]]>")
		default:
			b.endText()
			child := &b.elements.take(1, b.hint)[0]
			b.element(child, space)
			b.nodes = append(b.nodes, Node{Element: child})
		}
	}
}

// piece adds to the text being read.
func (b *builder) piece(raw string, p place) {
	switch raw = unescape(raw, p); {
	case raw == "":
		return
	case b.pieces == 0:
		b.text = raw
	case b.pieces == 1:
		b.spare = append(append(b.spare[:0], b.text...), raw...)
	default:
		b.spare = append(b.spare, raw...)
	}
	b.pieces++
}

// endText makes a node of the text that was read, if there is any.
func (b *builder) endText() {
	if b.pieces > 1 {
		b.text = string(b.spare)
	}
	if b.pieces > 0 {
		b.nodes = append(b.nodes, Node{Text: b.text})
	}
	b.pieces = 0
}

// until reads up to the next stop, which there is.
func (b *builder) until(stop string) string {
	start := b.pos
	b.pos += strings.Index(b.src[start:], stop)
	return b.src[start:b.pos]
}

// unescape returns the character data that raw stands for; raw itself if possible.
func unescape(raw string, p place) string {
	if p == inAttr {
		for i := range len(raw) {
			if raw[i] == '&' || raw[i] < ' ' {
				return string(appendUnescaped(nil, []byte(raw), p))
			}
		}
		return raw
	}
	if strings.IndexByte(raw, '\r') < 0 && (p == inSection || strings.IndexByte(raw, '&') < 0) {
		return raw
	}
	return string(appendUnescaped(nil, []byte(raw), p))
}
