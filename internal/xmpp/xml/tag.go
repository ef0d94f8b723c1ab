package xml

import (
	"bytes"
	"unicode/utf8"
)

// markup reads what begins with the < at s.pos.
func (s *Scanner) markup(b []byte) step {
	i := s.pos + 1
	if i >= len(b) {
		return more
	}
	switch b[i] {
	case '/':
		return s.endTag(b, i+1)
	case '!':
		return s.declarationMarkup(b)
	case '?':
		return s.fail(RestrictedXML, "processing instruction")
	}
	return s.startTag(b, i)
}

// declarationMarkup reads what begins with <!, of which only CDATA sections inside elements are allowed
// (RFC 6120 §11.1).
func (s *Scanner) declarationMarkup(b []byte) step {
	const begin = "<![CDATA["
	t := b[s.pos:]
	k := min(len(t), len(begin))
	switch {
	case k <= len("<!"):
		return more
	case t[2] == '-':
		return s.fail(RestrictedXML, "comment")
	case t[2] != '[':
		return s.fail(RestrictedXML, "document type declaration")
	case len(s.stack) == 0:
		return s.fail(NotWellFormed, "CDATA section outside of any element")
	case string(t[:k]) != begin[:k]:
		return s.fail(NotWellFormed, "bad CDATA section")
	case k < len(begin):
		return more
	}
	s.plain = false
	s.pos += len(begin)
	s.state = inCDATA
	return next
}

// startTag reads the name, which begins at b[i], and goes on with the attributes.
func (s *Scanner) startTag(b []byte, i int) step {
	colon, end, r := s.name(b, i)
	if r != next {
		return r
	}
	if s.elements >= s.lim.Elements {
		return s.tooBig("too many elements")
	}
	if len(s.stack) >= s.lim.Depth {
		return s.tooBig("elements nested too deeply")
	}
	s.elements++
	s.cur = frame{name: i, colon: colon, nameEnd: end, defaultSpace: streamSpace, decls: len(s.decls)}
	if n := len(s.stack); n > 0 {
		s.cur.defaultSpace = s.stack[n-1].defaultSpace
	}
	s.prefixes = 0
	s.pos, s.state = end, inAttrs
	return s.attributes(b)
}

// attributes reads the rest of a start tag from before white space, an attribute or the tag's end.
func (s *Scanner) attributes(b []byte) step {
	for {
		i := s.pos
		for i < len(b) && isSpace(b[i]) {
			i++
		}
		s.pos = i
		if i == len(b) {
			return more
		}
		switch b[i] {
		case '>':
			s.pos++
			return s.opened(b, false)
		case '/':
			if i+1 == len(b) {
				return more
			}
			if b[i+1] != '>' {
				return s.fail(NotWellFormed, "slash inside a tag")
			}
			s.pos += 2
			return s.opened(b, true)
		}
		if !isSpace(b[i-1]) {
			return s.fail(NotWellFormed, "no space before an attribute")
		}
		colon, end, r := s.name(b, i)
		if r != next {
			return r
		}
		s.attr = attr{name: i, colon: colon, nameEnd: end, space: noSpace}
		s.equals = false
		s.pos, s.state = end, inEquals
		if r := s.attribute(b); r != next {
			return r
		}
	}
}

// attribute reads what follows an attribute's name.
func (s *Scanner) attribute(b []byte) step {
	if s.state == inEquals {
		for ; ; s.pos++ {
			if s.pos == len(b) {
				return more
			}
			c := b[s.pos]
			if (c == '\'' || c == '"') && s.equals {
				s.attr.quote = c
				break
			}
			if c == '=' && !s.equals {
				s.equals = true
			} else if !isSpace(c) {
				return s.fail(NotWellFormed, "attribute without a quoted value")
			}
		}
		s.pos++
		s.attr.value = s.pos
		s.state = inValue
	}
	if r := s.value(b); r != next {
		return r
	}
	s.state = inAttrs
	return s.addAttr(b)
}

// addAttr takes the attribute that was read.
func (s *Scanner) addAttr(b []byte) step {
	a := &s.attr
	name := b[a.name:a.nameEnd]
	if len(name) >= 5 && string(name[:5]) == "xmlns" && (a.colon == a.name+5 || len(name) == 5) {
		return s.declare(b, a)
	}
	if len(s.attrs)-s.own >= s.lim.Attrs {
		return s.tooBig("too many attributes")
	}
	for i := s.own; i < len(s.attrs); i++ {
		o := &s.attrs[i]
		if o.nameEnd-o.name == len(name) && string(b[o.name:o.nameEnd]) == string(name) {
			return s.fail(NotWellFormed, "attribute given twice")
		}
	}
	if a.colon > 0 {
		s.prefixes++
	}
	s.attrs = append(s.attrs, *a)
	return next
}

// opened ends a start tag or an empty-element tag.
func (s *Scanner) opened(b []byte, empty bool) step {
	if r := s.resolve(b); r != next {
		return r
	}
	switch len(s.stack) {
	case 0:
		s.own = len(s.attrs)
		s.root, s.tagEnd = s.cur, s.pos
		if s.event == Header {
			return done
		}
	case 1:
		c := Child{Space: s.space(b, s.cur.space), Start: s.tag, End: s.pos, Name: s.cur.name, NameEnd: s.cur.nameEnd}
		if s.cur.colon > 0 {
			c.Name = s.cur.colon + 1
		}
		s.children = append(s.children, c)
	}
	s.attrs = s.attrs[:s.own]
	if !empty {
		s.stack = append(s.stack, s.cur)
		s.state = inText
		return next
	}
	if len(s.stack) == 0 {
		return done
	}
	s.decls = s.decls[:s.cur.decls]
	s.state = inText
	return next
}

// endTag reads the name of an end tag, which must be that of the innermost open element or of the stream.
func (s *Scanner) endTag(b []byte, i int) step {
	have := b[i:]
	n := 0
	same := false
	if depth := len(s.stack); depth > 0 {
		f := &s.stack[depth-1]
		want := b[f.name:f.nameEnd]
		n = len(want)
		k := min(n, len(have))
		same = bytes.Equal(have[:k], want[:k])
	} else if s.st.head != nil {
		want := s.st.head.name
		n = len(want)
		k := min(n, len(have))
		same = string(have[:k]) == want[:k] && n > 0
		s.event = Footer
	}
	if !same {
		return s.fail(NotWellFormed, "end tag does not match")
	}
	if len(have) < n {
		return more
	}
	s.pos = i + n
	s.state = inEnd
	return s.endOfTag(b)
}

// endOfTag reads the rest of an end tag.
func (s *Scanner) endOfTag(b []byte) step {
	for ; s.pos < len(b); s.pos++ {
		if c := b[s.pos]; c == '>' {
			s.pos++
			return s.closed()
		} else if !isSpace(c) {
			return s.fail(NotWellFormed, "end tag does not match")
		}
	}
	return more
}

// closed ends the innermost open element.
func (s *Scanner) closed() step {
	depth := len(s.stack)
	if depth <= 1 { // the item, or the stream
		return done
	}
	s.decls = s.decls[:s.stack[depth-1].decls]
	s.stack = s.stack[:depth-1]
	if depth == 2 {
		s.children[len(s.children)-1].End = s.pos
	}
	s.state = inText
	return next
}

// name reads the qualified name at b[i]: a local part, or a prefix, a colon and a local part.
func (s *Scanner) name(b []byte, i int) (colon, end int, r step) {
	w := b
	if len(w) > i+s.lim.Name {
		w = w[:i+s.lim.Name+1]
	}
	begins := true // a name or a local part begins here
	for j := i; j < len(w); {
		c := w[j]
		switch {
		case class[c]&nameStart != 0 || !begins && class[c]&nameChar != 0:
			j++
			begins = false
		case c == ':' && !begins && colon == 0:
			colon = j
			j++
			begins = true
		case c >= utf8.RuneSelf:
			size, r := s.nameRune(w[j:], begins)
			if r == more && len(w) < len(b) {
				return 0, 0, s.tooBig("name too long")
			} else if r != next {
				return 0, 0, r
			}
			j += size
			begins = false
		case begins || c == ':':
			return 0, 0, s.fail(NotWellFormed, "bad name")
		default:
			return colon, j, next
		}
	}
	if len(w)-i > s.lim.Name {
		return 0, 0, s.tooBig("name too long")
	}
	return 0, 0, more
}

// nameRune reads one character outside ASCII of a name and returns its length.
func (s *Scanner) nameRune(b []byte, begins bool) (size int, r step) {
	if !utf8.FullRune(b) {
		return 0, more
	}
	c, size := utf8.DecodeRune(b)
	switch {
	case c == utf8.RuneError && size == 1:
		return 0, s.fail(UnsupportedEncoding, "not UTF-8")
	case isNameStart(c) || !begins && isNameChar(c):
		return size, next
	default:
		return 0, s.fail(NotWellFormed, "bad name")
	}
}
