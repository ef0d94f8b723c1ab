package xml

import (
	"bytes"
	"strings"
)

// between reads what stands between items. It returns how many bytes that were, and next if an item begins there.
func (s *Scanner) between(st *Stream, lim *Limits, buf []byte) (n int, r step) {
	for n < len(buf) {
		c := buf[n]
		switch {
		case isSpace(c):
			n++
			if st.phase == fresh {
				st.phase = prolog // an XML declaration must not follow
			}
			continue
		case c != '<':
			return n, s.stray(st, c)
		case st.phase == closed:
			return n, s.fail(NotWellFormed, "data after the end of the stream")
		case len(buf) == n+1:
			return n, more
		case st.head != nil:
		case buf[n+1] == 0: // '<' in UTF-16
			return n, s.fail(UnsupportedEncoding, "not UTF-8")
		case buf[n+1] == '?':
			size, r := s.declaration(st, buf[n:])
			if r != next {
				return n, r
			}
			n += size
			st.phase = prolog
			continue
		}
		s.begin(st, lim)
		s.event = FirstLevel
		if st.head == nil {
			s.event = Header
		}
		return n, next
	}
	return n, more
}

// stray fails for a byte that is neither white space nor the begin of a tag.
//
// RFC 6120 §11.6: a byte order mark is not one, but a character like others; other encodings show by bytes that
// UTF-8 never begins a character with, or by a NUL where they begin.
func (s *Scanner) stray(st *Stream, c byte) step {
	if c >= 0xF5 || 0x80 <= c && c <= 0xC1 || c == 0 && st.head == nil {
		return s.fail(UnsupportedEncoding, "not UTF-8")
	}
	return s.fail(NotWellFormed, "text outside of any element")
}

// maxDeclaration bounds an XML declaration.
const maxDeclaration = 256

// declaration reads the XML declaration at the begin of b (RFC 6120 §11.5) and returns its length.
func (s *Scanner) declaration(st *Stream, b []byte) (n int, r step) {
	const begin = "<?xml"
	if k := min(len(b), len(begin)); string(b[:k]) != begin[:k] {
		return 0, s.fail(RestrictedXML, "processing instruction")
	}
	switch {
	case len(b) <= len(begin):
		return 0, more
	case class[b[len(begin)]]&nameChar != 0:
		return 0, s.fail(RestrictedXML, "processing instruction")
	case st.phase != fresh:
		return 0, s.fail(NotWellFormed, "XML declaration not at the begin")
	}
	end := bytes.Index(b[:min(len(b), maxDeclaration)], []byte("?>"))
	switch {
	case end >= 0:
	case len(b) >= maxDeclaration:
		return 0, s.tooBig("XML declaration too long")
	default:
		return 0, more
	}
	return end + len("?>"), s.pseudoAttributes(b[len(begin):end])
}

// pseudoAttributes checks what an XML declaration says.
func (s *Scanner) pseudoAttributes(b []byte) step {
	at := 0 // in the order of production [23] XMLDecl
	for len(bytes.TrimLeft(b, " \t\r\n")) > 0 {
		name, value, rest, ok := pseudoAttribute(b)
		if !ok {
			return s.fail(NotWellFormed, "bad XML declaration")
		}
		b = rest
		switch {
		case name == "version" && at == 0:
			at = 1
			if value != "1.0" { // RFC 6120 §11.8
				return s.fail(NotWellFormed, "XML version is not 1.0")
			}
		case name == "encoding" && at == 1:
			at = 2
			if !strings.EqualFold(value, "utf-8") { // RFC 6120 §11.6
				return s.fail(UnsupportedEncoding, "encoding is not UTF-8")
			}
		case name == "standalone" && (at == 1 || at == 2) && (value == "no" || value == "yes"):
			at = 3 // RFC 6120 §11.5. Choice: ignored, since without DTDs it has no meaning
		default:
			return s.fail(NotWellFormed, "bad XML declaration")
		}
	}
	if at == 0 {
		return s.fail(NotWellFormed, "XML declaration without version")
	}
	return next
}

// pseudoAttribute cuts white space, a name, an equals sign and a quoted value from b.
func pseudoAttribute(b []byte) (name, value string, rest []byte, ok bool) {
	t := bytes.TrimLeft(b, " \t\r\n")
	n, v, found := bytes.Cut(t, []byte("="))
	v = bytes.TrimLeft(v, " \t\r\n")
	if !found || len(t) == len(b) || len(v) == 0 || v[0] != '\'' && v[0] != '"' {
		return "", "", nil, false
	}
	value, after, found := strings.Cut(string(v[1:]), string(v[:1]))
	return string(bytes.TrimRight(n, " \t\r\n")), value, []byte(after), found
}
