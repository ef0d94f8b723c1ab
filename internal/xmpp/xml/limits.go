package xml

// Limits bounds one first-level element or stream header. Every limit is checked while the item is still
// incomplete and before memory is taken for what it bounds. A zero field stands for that of DefaultLimits.
type Limits struct {
	Bytes    int // bytes of the item as received, plus those that its plain form needs on top (see Item.AppendPlain)
	Depth    int // nested elements, the item's own included
	Elements int // elements, the item's own included
	Attrs    int // attributes of one element, namespace declarations not counted
	Name     int // bytes of a qualified name, and of a namespace name
	Decls    int // namespace declarations in force at one place, those of the stream header not counted
	Tag      int // bytes of one tag
}

// DefaultLimits returns the limits for a client that has logged in. RFC 6120 §13.12 asks for at least 10,000
// bytes a stanza.
func DefaultLimits() Limits {
	return Limits{Bytes: 262144, Depth: 64, Elements: 5000, Attrs: 64, Name: 1024, Decls: 64, Tag: 16384}
}

// PreAuthLimits returns the limits for a peer that has not proved who it is.
func PreAuthLimits() Limits {
	l := DefaultLimits()
	l.Bytes, l.Elements, l.Tag = 8192, 32, 8192
	return l
}

// filled returns l with its zero fields replaced by the defaults. A nil l is all zero.
func (l *Limits) filled() Limits {
	d := DefaultLimits()
	if l == nil {
		return d
	}
	return Limits{
		Bytes:    orDefault(l.Bytes, d.Bytes),
		Depth:    orDefault(l.Depth, d.Depth),
		Elements: orDefault(l.Elements, d.Elements),
		Attrs:    orDefault(l.Attrs, d.Attrs),
		Name:     orDefault(l.Name, d.Name),
		Decls:    orDefault(l.Decls, d.Decls),
		Tag:      orDefault(l.Tag, d.Tag),
	}
}

func orDefault(n, def int) int {
	if n == 0 {
		return def
	}
	return n
}
