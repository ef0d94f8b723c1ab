package sasl

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// maxPassword is the longest password, in bytes, before and after preparation.
const maxPassword = 1023

// ErrPassword says that a string cannot be a password: empty, longer than 1,023 bytes, not UTF-8, or with a code
// point that is prohibited.
var ErrPassword = errors.New("sasl: not usable as a password")

// PreparePassword prepares a password for hashing.
//
// Choice: RFC 5802 §2.2 asks for SASLprep, and so do its clients when they hash, though RFC 8265 has a newer profile
// for passwords; the two differ in compatibility characters, and a server that took the newer one would refuse the
// proofs of clients that keep to RFC 5802. So what SASLprep accepts comes out as SASLprep has it.
// Deviation: code points that Unicode 3.2 did not have, such as most emoji, and mixed directions of writing are let
// through; such passwords work with every client that lets them through as well.
func PreparePassword(s string) (string, error) {
	if len(s) > maxPassword || !utf8.ValidString(s) {
		return "", ErrPassword
	}
	if !isPrintableASCII(s) {
		s = norm.NFKC.String(strings.Map(mapPassword, s))
	}
	if s == "" || len(s) > maxPassword || strings.IndexFunc(s, prohibited) >= 0 {
		return "", ErrPassword
	}
	return s, nil
}

func isPrintableASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// mapPassword is the mapping of SASLprep: tables B.1 and C.1.2 of RFC 3454.
func mapPassword(r rune) rune {
	switch {
	case r == 0x00ad, r == 0x034f, r == 0x1806, r >= 0x180b && r <= 0x180d, r >= 0x200b && r <= 0x200d,
		r == 0x2060, r >= 0xfe00 && r <= 0xfe0f, r == 0xfeff:
		return -1
	case isNonASCIISpace(r):
		return ' '
	}
	return r
}

func isNonASCIISpace(r rune) bool {
	return r == 0x00a0 || r == 0x1680 || r >= 0x2000 && r <= 0x200b || r == 0x202f || r == 0x205f || r == 0x3000
}

// prohibited tells what must not be left in the output of SASLprep: tables C.1.2 to C.9 of RFC 3454. Surrogates,
// table C.5, cannot occur in UTF-8.
func prohibited(r rune) bool {
	return isNonASCIISpace(r) || unicode.In(r, unicode.Cc, unicode.Co, unicode.Noncharacter_Code_Point, prohibitedFormat)
}

// prohibitedFormat has what no category of Unicode covers, of tables C.2.2 and C.6 to C.9 of RFC 3454.
var prohibitedFormat = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x0340, Hi: 0x0341, Stride: 1},
		{Lo: 0x06dd, Hi: 0x06dd, Stride: 1},
		{Lo: 0x070f, Hi: 0x070f, Stride: 1},
		{Lo: 0x180e, Hi: 0x180e, Stride: 1},
		{Lo: 0x200c, Hi: 0x200f, Stride: 1},
		{Lo: 0x2028, Hi: 0x202e, Stride: 1},
		{Lo: 0x2060, Hi: 0x2063, Stride: 1},
		{Lo: 0x206a, Hi: 0x206f, Stride: 1},
		{Lo: 0x2ff0, Hi: 0x2ffb, Stride: 1},
		{Lo: 0xfeff, Hi: 0xfeff, Stride: 1},
		{Lo: 0xfff9, Hi: 0xfffd, Stride: 1},
	},
	R32: []unicode.Range32{
		{Lo: 0x1d173, Hi: 0x1d17a, Stride: 1},
		{Lo: 0xe0001, Hi: 0xe0001, Stride: 1},
		{Lo: 0xe0020, Hi: 0xe007f, Stride: 1},
	},
}
