package xml

import (
	"bytes"
	"unicode/utf8"
)

// resolveReference returns the character for what stands between & and ; in a reference. numeric says that it is a
// character reference; ok that its form is right, though maybe not the character.
func resolveReference(name []byte) (c rune, numeric, ok bool) {
	if len(name) > 0 && name[0] == '#' {
		c, ok = number(name[1:])
		return c, true, ok
	}
	switch string(name) {
	case "lt":
		return '<', false, true
	case "gt":
		return '>', false, true
	case "amp":
		return '&', false, true
	case "apos":
		return '\'', false, true
	case "quot":
		return '"', false, true
	}
	return 0, false, false
}

// number reads decimal digits, or hexadecimal ones after an x.
func number(digits []byte) (n rune, ok bool) {
	base := rune(10)
	if len(digits) > 0 && digits[0] == 'x' {
		base = 16
		digits = digits[1:]
	}
	for i := range len(digits) {
		d := rune(digits[i])
		switch {
		case '0' <= d && d <= '9':
			d -= '0'
		case base == 16 && 'a' <= d|0x20 && d|0x20 <= 'f':
			d = d | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		if n = n*base + d; n > utf8.MaxRune {
			return 0, false
		}
	}
	return n, len(digits) > 0
}

// place is where character data stands, which decides what becomes of its white space.
type place uint8

const (
	inContent place = iota // line ends become line feeds
	inSection              // in a CDATA section: the same, and & is no reference
	inAttr                 // TAB, LF and CR become spaces
)

// appendUnescaped writes to dst the character data that raw, which was validated, stands for.
func appendUnescaped(dst, raw []byte, p place) []byte {
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '&' && p != inSection:
			end := i + bytes.IndexByte(raw[i:], ';')
			r, _, _ := resolveReference(raw[i+1 : end])
			dst = utf8.AppendRune(dst, r)
			i = end
		case c == '\r':
			if i+1 < len(raw) && raw[i+1] == '\n' {
				i++
			}
			dst = append(dst, lineEnd[p])
		case c == '\n':
			dst = append(dst, lineEnd[p])
		case c == '\t' && p == inAttr:
			dst = append(dst, ' ')
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// lineEnd is what a line end becomes.
var lineEnd = [...]byte{inContent: '\n', inSection: '\n', inAttr: ' '}
