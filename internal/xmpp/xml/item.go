package xml

// Item is one stream header or first-level element as it was read. It refers to the scanned bytes, so it is
// valid until the Scanner's next Next or Release and while those bytes do not change.
type Item struct {
	Raw           []byte // the whole item
	Prefix, Local []byte
	Space         string
	Attrs         []Attr  // in order, without namespace declarations
	Decls         []Decl  // prefixes declared by the item's own tag, without the default namespace
	Inner         []byte  // between start and end tag; nil for an empty-element tag and for a header
	Children      []Child // first-level children

	// Plain says that the item may be forwarded in pieces of its own bytes: whoever writes a start tag with the
	// same default namespace and Decls, then Inner, has written the tree that was read; with another content
	// namespace, the tree that RFC 6120 §4.8.3 asks for. It means that there is no CDATA, no use of a prefix that
	// the stream header declared, no prefix on the item itself or on an element in a content namespace, no
	// element in the default namespace directly inside a prefixed one in another, no declaration of the content
	// namespace where it is in force already, and none with a reference in it.
	Plain bool

	head     *header // what the stream had declared
	tagEnd   int     // end of the start tag in Raw
	elements int
}

// Decl is one prefix declared by an item's tag.
type Decl struct {
	Prefix []byte
	Space  string
}

// Attr is one attribute of an Item's tag.
type Attr struct {
	Space         string
	Prefix, Local []byte
	Raw           []byte // the value as it was written, without the quotes
	Quote         byte   // the quotes it was written in
	flags         valueFlags
}

// valueFlags say what must be done to an attribute's value when it is read.
type valueFlags uint8

const (
	hasReference valueFlags = 1 << iota
	hasBlank                // TAB, LF or CR, which are read as spaces
)

// Child is one first-level child of an Item. Start and End are offsets into its Raw.
type Child struct {
	Space      string
	Local      []byte
	Start, End int

	Name, NameEnd int // where the local name stands in Raw
}

// reset empties the item and drops what it refers to, but keeps its room.
func (it *Item) reset() {
	clear(it.Attrs)
	clear(it.Decls)
	*it = Item{Attrs: it.Attrs[:0], Decls: it.Decls[:0]}
}

// Attr returns the attribute of that name without prefix, or nil.
func (it *Item) Attr(local string) *Attr {
	for i := range it.Attrs {
		if a := &it.Attrs[i]; len(a.Prefix) == 0 && string(a.Local) == local {
			return a
		}
	}
	return nil
}

// Lang returns the item's own xml:lang and whether it has one (RFC 6120 §8.1.5).
func (it *Item) Lang() (lang string, ok bool) {
	for i := range it.Attrs {
		if a := &it.Attrs[i]; a.Space == NSXML && string(a.Local) == "lang" {
			return a.Value(), true
		}
	}
	return "", false
}

// Child returns the first child of that name, or nil.
func (it *Item) Child(space, local string) *Child {
	for i := range it.Children {
		if c := &it.Children[i]; string(c.Local) == local && c.Space == space {
			return c
		}
	}
	return nil
}

// AppendDecls writes the prefix declarations of the item's tag to dst, each after a space. A start tag that is
// written anew around Inner must carry them.
func (it *Item) AppendDecls(dst []byte) []byte {
	for i := range it.Decls {
		d := &it.Decls[i]
		dst = append(append(dst, " xmlns:"...), d.Prefix...)
		dst = append(AppendAttr(append(dst, "='"...), d.Space), '\'')
	}
	return dst
}

// AppendPlain writes the item to dst in plain form, with all declarations that it needs, its own namespace
// included: scanning the result yields the same tree and is Plain.
func (it *Item) AppendPlain(dst []byte) []byte {
	e := it.Element()
	w := writer{dst: dst}
	w.element(&e, "", true)
	return w.dst
}

// Head is how many bytes of Raw stand before Inner: the start tag.
func (it *Item) Head() int { return it.tagEnd }

// Verbatim tells whether Raw is the value itself: it holds no reference, and no TAB, LF or CR.
func (a *Attr) Verbatim() bool { return a.flags == 0 }

// Append writes the attribute to dst as it came, after a space. Its prefix, if any, must be declared around.
func (a *Attr) Append(dst []byte) []byte {
	dst = append(dst, ' ')
	if len(a.Prefix) > 0 {
		dst = append(append(dst, a.Prefix...), ':')
	}
	dst = append(append(dst, a.Local...), '=', a.Quote)
	return append(append(dst, a.Raw...), a.Quote)
}

// AppendValue writes the attribute's value to dst: references are resolved, TAB, LF and CR are spaces. A nil a
// has an empty value.
func (a *Attr) AppendValue(dst []byte) []byte {
	switch {
	case a == nil:
		return dst
	case a.flags == 0:
		return append(dst, a.Raw...)
	}
	return appendUnescaped(dst, a.Raw, inAttr)
}

// Value returns the attribute's value: references are resolved, TAB, LF and CR are spaces. A nil a has an
// empty value.
func (a *Attr) Value() string {
	switch {
	case a == nil:
		return ""
	case a.flags == 0:
		return string(a.Raw)
	}
	return string(appendUnescaped(make([]byte, 0, len(a.Raw)), a.Raw, inAttr))
}
