// Package xml reads and writes the XML of XMPP streams (RFC 6120 §11): XML 1.0 with namespaces, in UTF-8, without
// comments, processing instructions, DTDs and entities other than the five predefined ones.
//
// A Scanner cuts a stream into its items — the stream header, first-level elements, the footer — in place, in the
// buffer that the bytes were read into, and validates each of them whole, once, in one pass. It leaves an Item: the
// item's bytes, its attributes and its first-level children, which is all that routing needs; Item.Element builds
// the tree for code that wants more. Element trees are also what the server's own elements are made of.
//
// Where to read: scan.go is the state machine, tag.go, text.go and prolog.go its states, resolve.go the namespaces,
// item.go what comes out, element.go, build.go and write.go the trees.
package xml

import (
	"bytes"
	"sync"
)

// Event is what Scanner.Next found.
type Event uint8

const (
	NeedMore   Event = iota // no complete item yet
	Header                  // the stream header
	FirstLevel              // a first-level element: a stanza or another direct child of the stream
	Footer                  // the end tag that closes the stream
)

// Scanner reads the items of streams. One is held for a stream only from an item's first byte until the item was
// handled; between items all that a stream needs is in its Stream.
type Scanner struct {
	state state
	event Event // what the item will be
	err   error // the first error; it ends the stream
	st    *Stream
	lim   Limits

	pos      int // the next byte to read; like all offsets here, from the item's first byte
	tag      int // the tag or markup being read
	elements int
	grow     int // bytes that the item's plain form needs on top of those received
	plain    bool

	cur      frame // the element whose start tag is being read
	attr     attr  // the attribute being read
	equals   bool  // its equals sign was read
	prefixes int   // prefixed attributes of the tag being read

	stack    []frame // open elements
	decls    []decl  // namespace declarations in force
	attrs    []attr  // the item's own, then those of the tag being read
	own      int     // how many are the item's own
	root     frame   // the item's own tag
	tagEnd   int     // its end
	children []Child

	item   Item
	shared interner
}

// state says what the scanner was reading when the bytes ran out. Up to inEnd it was inside a tag.
type state uint8

const (
	idle     state = iota // between items
	inMarkup              // at a <
	inAttrs               // in a start tag, before white space, an attribute or the tag's end
	inEquals              // in a start tag, between an attribute's name and value
	inValue               // in an attribute's value
	inEnd                 // in an end tag, after the name
	inText
	inCDATA
)

// frame is one element: offsets of its qualified name, and what its tag did to the namespaces.
type frame struct {
	name, colon, nameEnd int // colon is 0 if there is no prefix
	space                nsRef
	defaultSpace         nsRef // in force inside the element
	decls                int   // declarations in force around it
}

// attr is one attribute, as offsets.
type attr struct {
	name, colon, nameEnd int // colon is 0 if there is no prefix
	value, valueEnd      int
	space                nsRef
	quote                byte
	flags                valueFlags
}

// step is how reading one piece ended.
type step uint8

const (
	next step = iota // go on with the state that was set
	more             // the bytes ran out; s.pos is where to go on
	done             // the item is complete
	fail             // s.err is set
)

var scanners = sync.Pool{New: func() any { return new(Scanner) }}

// AcquireScanner returns a Scanner that is between items.
func AcquireScanner() *Scanner { return scanners.Get().(*Scanner) }

// keepChildren bounds the memory of a pooled scanner: one that has grown beyond is dropped.
const keepChildren = 256

// Release gives the scanner back. Neither it nor its Item may be used afterwards.
func (s *Scanner) Release() {
	if cap(s.children) > keepChildren {
		return
	}
	s.begin(nil, nil)
	s.item.reset()
	s.state, s.err = idle, nil
	scanners.Put(s)
}

// Idle tells whether s is between items: if Next wanted more, it has kept nothing and may be released until more
// bytes have come.
func (s *Scanner) Idle() bool { return s.state == idle }

// Next reads the next item of the stream from buf, whose first byte is the first that was not consumed.
//
// It consumes n bytes: white space, the XML declaration, and the item if there is an event. On NeedMore, Next wants
// to be called again with the bytes after those n followed by at least one more; they may have moved in memory. What
// was read of an incomplete item is not read again.
//
// An error is a *SyntaxError and final. The limits may change between items, not within one; nil stands for
// DefaultLimits.
func (s *Scanner) Next(st *Stream, lim *Limits, buf []byte) (ev Event, n int, err error) {
	if s.err != nil {
		return NeedMore, 0, s.err
	}
	if s.state == idle {
		if st.phase == ending {
			st.phase = closed
			return Footer, 0, nil
		}
		var r step
		if n, r = s.between(st, lim, buf); r == fail {
			return NeedMore, n, s.err
		} else if r == more {
			return NeedMore, n, nil
		}
	}
	s.st = st
	b := buf[n:]
	switch s.run(b) {
	case more:
		return NeedMore, n, nil
	case fail:
		return NeedMore, n, s.err
	}
	s.finish(b[:s.pos])
	return s.event, n + s.pos, nil
}

// Item returns the item that Next found: after Header or FirstLevel, until the next call of Next or Release.
func (s *Scanner) Item() *Item { return &s.item }

// begin prepares for an item of st.
func (s *Scanner) begin(st *Stream, lim *Limits) {
	s.st, s.lim = st, lim.filled()
	s.state = inMarkup
	s.pos, s.tag, s.elements, s.grow = 0, 0, 0, 0
	s.plain = true
	s.own, s.prefixes = 0, 0
	clear(s.children) // they refer to the item's bytes
	s.stack, s.decls, s.attrs, s.children = s.stack[:0], s.decls[:0], s.attrs[:0], s.children[:0]
}

// run reads on until the item is complete or the bytes run out. Each state sees only as many bytes as the limits
// allow it, so running out of those is the only check they need.
func (s *Scanner) run(b []byte) step {
	for {
		w := b
		if limit, _ := s.limit(); limit < len(w) {
			w = w[:max(limit, s.pos)]
		}
		switch r := s.step(w); r {
		case next:
		case more:
			if limit, what := s.limit(); len(b) >= limit {
				return s.tooBig(what)
			}
			return more
		default:
			return r
		}
	}
}

// limit returns how many of the item's bytes may be looked at in this state, and what is wrong if that is not enough.
func (s *Scanner) limit() (n int, what string) {
	n = s.lim.Bytes - s.grow
	if s.state <= inEnd && s.tag+s.lim.Tag < n {
		return s.tag + s.lim.Tag, "tag too long"
	}
	return n, "element too big"
}

// step reads one piece.
func (s *Scanner) step(b []byte) step {
	switch s.state {
	case inMarkup:
		return s.markup(b)
	case inAttrs:
		return s.attributes(b)
	case inEquals, inValue:
		return s.attribute(b)
	case inEnd:
		return s.endOfTag(b)
	case inText:
		return s.text(b)
	default:
		return s.cdata(b)
	}
}

// finish makes the item out of b, its bytes, now that they will not move.
func (s *Scanner) finish(b []byte) {
	s.state = idle
	it := &s.item
	it.reset()
	it.Raw = b
	if s.event == Footer {
		s.st.phase = closed
		return
	}
	it.head, it.tagEnd, it.elements = s.st.head, s.tagEnd, s.elements
	it.Prefix, it.Local = split(b, s.root.name, s.root.colon, s.root.nameEnd)
	it.Space = s.space(b, s.root.space)
	it.Plain = s.plain
	for i := range s.attrs[:s.own] {
		a := &s.attrs[i]
		prefix, local := split(b, a.name, a.colon, a.nameEnd)
		it.Attrs = append(it.Attrs, Attr{
			Space: s.space(b, a.space), Prefix: prefix, Local: local,
			Raw: b[a.value:a.valueEnd], Quote: a.quote, flags: a.flags,
		})
	}
	for i := range s.decls {
		if d := &s.decls[i]; d.prefix < d.prefixEnd {
			it.Decls = append(it.Decls, Decl{Prefix: b[d.prefix:d.prefixEnd], Space: s.space(b, nsRef(i))})
		}
	}
	if s.event == Header {
		s.st.head, s.st.phase = newHeader(it, s.space(b, s.root.defaultSpace)), open
		if bytes.HasSuffix(b, []byte("/>")) {
			s.st.phase = ending
		}
		return
	}
	if s.tag > s.root.name { // there is an end tag
		it.Inner = b[s.tagEnd:s.tag]
	}
	for i := range s.children {
		c := &s.children[i]
		c.Local = b[c.Name:c.NameEnd]
	}
	it.Children = s.children
}

// split cuts a qualified name.
func split(b []byte, name, colon, end int) (prefix, local []byte) {
	if colon == 0 {
		return nil, b[name:end]
	}
	return b[name:colon], b[colon+1 : end]
}

func (s *Scanner) fail(condition, text string) step {
	s.err = &SyntaxError{Condition: condition, Text: text}
	return fail
}

// tooBig fails with a limit of RFC 6120 §4.9.3.14 and XEP-0205 §4.5.
func (s *Scanner) tooBig(text string) step {
	s.err = &SyntaxError{Condition: PolicyViolation, AppCondition: StanzaTooBig, Text: text}
	return fail
}
