package xml

import "unicode/utf8"

// Classes of bytes, as bits of class.
const (
	blank     = 1 << iota // white space: the only bytes allowed between first-level elements
	nameStart             // ASCII that may begin a name; the colon is treated apart
	nameChar              // ASCII that may continue a name
	verbatim              // written as it is both in text and in attribute values
)

// class tells what a byte may be.
var class = classes()

func classes() (t [256]uint8) {
	for _, c := range " \t\r\n" {
		t[c] |= blank
	}
	for c := range utf8.RuneSelf {
		if 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_' {
			t[c] |= nameStart | nameChar
		}
		if '0' <= c && c <= '9' || c == '-' || c == '.' {
			t[c] |= nameChar
		}
		if c >= ' ' && c != '&' && c != '<' && c != '>' && c != '\'' && c != '"' {
			t[c] |= verbatim
		}
	}
	return t
}

func isSpace(c byte) bool { return class[c]&blank != 0 }

// isChar tells whether XML may carry r: production [2] Char of XML 1.0. That leaves out U+0000, the other
// control characters, surrogates, U+FFFE and U+FFFF.
func isChar(r rune) bool {
	switch {
	case r < ' ':
		return r == '\t' || r == '\n' || r == '\r'
	case r < 0xD800:
		return true
	default:
		return 0xE000 <= r && r <= 0xFFFD || 0x10000 <= r && r <= utf8.MaxRune
	}
}

// isNameStart is production [4] NameStartChar of XML 1.0, fifth edition, for characters outside ASCII.
func isNameStart(r rune) bool {
	switch {
	case r < 0x2000:
		return r >= 0xC0 && r != 0xD7 && r != 0xF7 && r != 0x37E && !(0x300 <= r && r <= 0x36F)
	case r < 0x3001:
		return r == 0x200C || r == 0x200D || 0x2070 <= r && r <= 0x218F || 0x2C00 <= r && r <= 0x2FEF
	default:
		return r <= 0xD7FF || 0xF900 <= r && r <= 0xFDCF || 0xFDF0 <= r && r <= 0xFFFD || 0x10000 <= r && r <= 0xEFFFF
	}
}

// isNameChar is production [4a] NameChar of XML 1.0, fifth edition, for characters outside ASCII.
func isNameChar(r rune) bool {
	return isNameStart(r) || r == 0xB7 || 0x300 <= r && r <= 0x36F || r == 0x203F || r == 0x2040
}
