package xml

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// text reads character data up to the next tag.
func (s *Scanner) text(b []byte) step {
	for i := s.pos; ; {
		j, high := stopAt(b, i, '>')
		if j == len(b) {
			return s.outOfText(b, i, high)
		}
		if high && s.chars(b[i:j]) != next {
			return fail
		}
		s.pos = j
		switch c := b[j]; {
		case c == '<':
			s.tag = j
			s.state = inMarkup
			return next
		case c == '&':
			size, r := s.reference(b[j:])
			if r != next {
				return r
			}
			i = j + size
		case c == '>':
			// A start tag goes before every text, so these bytes exist, and neither a tag nor a reference nor a
			// CDATA section ends in two brackets.
			if b[j-1] == ']' && b[j-2] == ']' {
				return s.fail(NotWellFormed, "]]> in text")
			}
			i = j + 1
		case isSpace(c):
			i = j + 1
		default:
			return s.fail(NotWellFormed, "control character")
		}
	}
}

// value reads an attribute's value and its closing quote.
func (s *Scanner) value(b []byte) step {
	for i := s.pos; ; {
		j, high := stopAt(b, i, s.attr.quote)
		if j == len(b) {
			return s.outOfText(b, i, high)
		}
		if high && s.chars(b[i:j]) != next {
			return fail
		}
		s.pos = j
		switch c := b[j]; {
		case c == s.attr.quote:
			s.attr.valueEnd = j
			s.pos++
			return next
		case c == '&':
			size, r := s.reference(b[j:])
			if r != next {
				return r
			}
			s.attr.flags |= hasReference
			i = j + size
		case c == '<':
			return s.fail(NotWellFormed, "< in an attribute")
		case isSpace(c):
			s.attr.flags |= hasBlank
			i = j + 1
		default:
			return s.fail(NotWellFormed, "control character")
		}
	}
}

// outOfText checks what there is of a text that began at b[i] and sets where to go on: before a character of which
// only a part has come.
func (s *Scanner) outOfText(b []byte, i int, high bool) step {
	end := len(b)
	for k := len(b) - 1; high && k >= i && k >= len(b)-utf8.UTFMax; k-- {
		if utf8.RuneStart(b[k]) {
			if !utf8.FullRune(b[k:]) {
				end = k
			}
			break
		}
	}
	if high && s.chars(b[i:end]) != next {
		return fail
	}
	s.pos = end
	return more
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// stopAt returns the index of the first byte from b[i] on that is a control character, <, & or stop, or len(b), and
// whether there may be bytes outside ASCII before it. It looks at eight bytes at a time.
func stopAt(b []byte, i int, stop byte) (end int, high bool) {
	stops := uint64(stop) * ones
	var seen uint64
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		seen |= w
		lt, amp, st := w^'<'*ones, w^'&'*ones, w^stops
		// The lowest high bit that is set here belongs to the first such byte; those above it may be wrong.
		found := ((w-' '*ones)&^w | (lt-ones)&^lt | (amp-ones)&^amp | (st-ones)&^st) & highs
		if found != 0 {
			return i + bits.TrailingZeros64(found)>>3, seen&highs != 0
		}
	}
	for ; i < len(b); i++ {
		c := b[i]
		if c < ' ' || c == '<' || c == '&' || c == stop {
			break
		}
		seen |= uint64(c)
	}
	return i, seen&highs != 0
}

// chars checks that b, which is free of control characters, is UTF-8 and made of characters that XML allows.
func (s *Scanner) chars(b []byte) step {
	if utf8.Valid(b) && !hasNoncharacter(b) {
		return next
	}
	for {
		r, size := utf8.DecodeRune(b)
		if r == utf8.RuneError && size <= 1 {
			// RFC 6120 §4.9.3.22: breaking the rules of UTF-8 is an unsupported encoding.
			return s.fail(UnsupportedEncoding, "not UTF-8")
		}
		if !isChar(r) {
			return s.fail(NotWellFormed, "character not allowed in XML")
		}
		b = b[size:]
	}
}

// hasNoncharacter tells whether b holds U+FFFE or U+FFFF, the only characters in valid UTF-8 above U+001F that XML
// does not allow.
func hasNoncharacter(b []byte) bool {
	for {
		i := bytes.IndexByte(b, 0xEF)
		if i < 0 || i+2 >= len(b) {
			return false
		}
		if b[i+1] == 0xBF && b[i+2] >= 0xBE {
			return true
		}
		b = b[i+3:]
	}
}

// cdata reads a CDATA section up to its end.
func (s *Scanner) cdata(b []byte) step {
	from, high := s.pos, false
	i := s.pos
	for ; i < min(len(b), s.lim.Bytes-s.grow); i++ {
		switch c := b[i]; {
		case c == ']':
			if i+2 >= len(b) {
				return s.outOfText(b[:i], from, high)
			}
			if b[i+1] != ']' || b[i+2] != '>' {
				continue
			}
			if high && s.chars(b[from:i]) != next {
				return fail
			}
			s.pos = i + len("]]>")
			s.state = inText
			return next
		case c == '<' || c == '&':
			s.grow += len("&amp;") - 1
		case c >= utf8.RuneSelf:
			high = true
		case c < ' ' && !isSpace(c):
			if high && s.chars(b[from:i]) != next {
				return fail
			}
			return s.fail(NotWellFormed, "control character")
		}
	}
	return s.outOfText(b[:i], from, high)
}

// maxReference bounds a reference, from & to ;.
const maxReference = 12

// reference reads the reference at the begin of b and returns its length.
func (s *Scanner) reference(b []byte) (size int, r step) {
	for i := 1; i < min(len(b), maxReference); i++ {
		c := b[i]
		switch {
		case c == ';' && i > 1:
			c, numeric, ok := resolveReference(b[1:i])
			switch {
			case ok && isChar(c):
				return i + 1, next
			case numeric: // RFC 6120 §11.1: of the entities only the predefined ones may be used
				return 0, s.fail(NotWellFormed, "bad character reference")
			}
			return 0, s.fail(RestrictedXML, "entity reference")
		case i == 1 && c == '#', class[c]&nameStart != 0, i > 1 && class[c]&nameChar != 0:
		default:
			return 0, s.fail(NotWellFormed, "& without a reference")
		}
	}
	if len(b) < maxReference {
		return 0, more
	}
	if b[1] == '#' {
		return 0, s.fail(NotWellFormed, "character reference too long")
	}
	return 0, s.fail(RestrictedXML, "entity reference")
}
