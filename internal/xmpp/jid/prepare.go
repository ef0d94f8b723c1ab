package jid

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/secure/bidirule"
	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/bidi"
	"golang.org/x/text/unicode/norm"
)

// ErrInvalid is wrapped by every error of this package. To a peer it means jid-malformed (RFC 6120 §8.3.3.8).
var ErrInvalid = errors.New("invalid address")

func fault(part, reason string) error { return fmt.Errorf("%w: %s %s", ErrInvalid, part, reason) }

// Bits of the ascii table: a part made only of such bytes is prepared already.
const (
	inLocal    = 1 << iota // RFC 7622 §3.3: ASCII7 of the IdentifierClass, without capitals and the excluded
	inDomain               // RFC 7622 §3.2.1: letters, digits and hyphens; and the dot between labels
	inResource             // RFC 7622 §3.4: ASCII of the FreeformClass
)

// excluded holds what a localpart must not contain beyond the profile's own rules (RFC 7622 §3.3.1).
const excluded = `"&'/:<>@`

var ascii = func() (t [256]byte) {
	for c := byte(' '); c <= '~'; c++ {
		t[c] = inResource
		if c != ' ' && (c < 'A' || c > 'Z') && strings.IndexByte(excluded, c) < 0 {
			t[c] |= inLocal
		}
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.' {
			t[c] |= inDomain
		}
	}
	return t
}()

// consists reports whether every byte of s has the bit.
func consists(s string, bit byte) bool {
	for i := range len(s) {
		if ascii[s[i]]&bit == 0 {
			return false
		}
	}
	return true
}

// username is UsernameCaseMapped (RFC 8265 §3.3) save the Bidi Rule: precis.UsernameCaseMapped puts that to all
// strings, refusing a digit before any letter beyond ASCII.
var username = precis.NewIdentifier(precis.FoldWidth, precis.LowerCase(), precis.Norm(norm.NFC))

// Localpart prepares a localpart: width and case mapped, normalised, all code points allowed (RFC 7622 §3.3). The
// result has 1 to 1,023 bytes. The error wraps ErrInvalid.
//
// Choice: whether code points are allowed is asked after they are mapped, the order of RFC 8264 §7, so what maps to
// a good localpart is accepted, as RFC 7622 §4 encourages.
func Localpart(s string) (string, error) {
	const part = "localpart"
	if err := checkSize(part, s); err != nil {
		return "", err
	}
	if consists(s, inLocal) {
		return s, nil
	}
	s, err := enforce(part, username, s)
	if err != nil {
		return "", err
	}
	// RFC 8265 §3.3.1: the Bidi Rule is for strings that contain right-to-left code points.
	if bidirule.DirectionString(s) == bidi.RightToLeft && !bidirule.ValidString(s) {
		return "", fault(part, "mixes directions of writing")
	}
	if strings.ContainsAny(s, excluded) {
		return "", fault(part, "contains one of "+excluded)
	}
	return s, nil
}

// Resourcepart prepares a resourcepart: spaces mapped, normalised, all code points allowed (RFC 7622 §3.4). The
// result has 1 to 1,023 bytes. The error wraps ErrInvalid.
func Resourcepart(s string) (string, error) {
	const part = "resourcepart"
	if err := checkSize(part, s); err != nil {
		return "", err
	}
	if !consists(s, inResource) {
		var err error
		if s, err = enforce(part, precis.OpaqueString, s); err != nil {
			return "", err
		}
	}
	// RFC 7622 §3.5: example 18 calls a leading space a violation, though no rule of the profile does.
	if s[0] == ' ' {
		return "", fault(part, "begins with a space")
	}
	return s, nil
}

// checkSize holds a part to 1 to 1,023 bytes (RFC 7622 §3.1). Choice: before preparation as well as after, so that
// hostile input costs a bounded amount of work.
func checkSize(part, s string) error {
	switch {
	case s == "":
		return fault(part, "is empty")
	case len(s) > maxPart:
		return fault(part, "is longer than 1023 bytes")
	}
	return nil
}

// enforce applies a profile until the result is stable, as addresses are compared by their bytes. Some strings of
// several mappings need a second pass; RFC 8265 §3.3.3 leaves open what becomes of them. Choice: four passes.
func enforce(part string, profile *precis.Profile, s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", fault(part, "is not UTF-8")
	}
	for range 4 {
		next, err := profile.String(s)
		if err != nil {
			return "", fault(part, "is refused: "+err.Error())
		}
		if next == s {
			if err := checkSize(part, s); err != nil {
				return "", err
			}
			return s, nil
		}
		s = next
	}
	return "", fault(part, "has no stable form")
}

// lookup maps a domain name and checks its labels, save the IDNA2008 classes, which it does not know.
var lookup = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.BidiRule(),
	idna.RemoveLeadingDots(false), idna.VerifyDNSLength(true))

// identifier decides on the code points of U-labels: after mapping, the IdentifierClass (RFC 8264 §4.2) has just
// the code points and context rules of IDNA2008, from which it was derived.
var identifier = precis.NewIdentifier()

// Domainpart prepares a domainpart: an IPv4 address, an IPv6 address in brackets, or a domain name (RFC 7622 §3.2).
// Names are mapped to lower case, A-labels are converted to U-labels, a final dot is removed; labels and the name
// have the bounds of DNS, counted in A-labels: 63 and 253 bytes. The error wraps ErrInvalid.
func Domainpart(s string) (string, error) {
	const part = "domainpart"
	// RFC 7622 §3.2: the final dot is stripped before anything else.
	name := strings.TrimSuffix(s, ".")
	if err := checkSize(part, name); err != nil {
		return "", err
	}
	if len(s) > maxPart {
		return "", fault(part, "is longer than 1023 bytes")
	}
	if isLDH(name) {
		return name, nil
	}
	if name[0] == '[' {
		return addressLiteral(name)
	}
	return internationalName(name)
}

// isLDH reports whether name consists of lower-case labels of letters, digits and hyphens, no A-labels among them,
// within the bounds of DNS. Then it is prepared.
func isLDH(name string) bool {
	if len(name) > 253 || !consists(name, inDomain) {
		return false
	}
	for more := true; more; {
		var label string
		if label, name, more = strings.Cut(name, "."); !isLabel(label) || len(label) > 63 {
			return false
		}
	}
	return true
}

// isLabel checks the hyphens of a label and that it is not empty. "--" after two bytes is reserved; of such labels
// only A-labels are in use, and a domainpart has none (RFC 7622 §3.2.1).
func isLabel(label string) bool {
	n := len(label)
	return n > 0 && label[0] != '-' && label[n-1] != '-' && (n < 4 || label[2:4] != "--")
}

// internationalName prepares a name that is not yet plain lower-case ASCII.
func internationalName(name string) (string, error) {
	const part = "domainpart"
	if !utf8.ValidString(name) {
		return "", fault(part, "is not UTF-8")
	}
	aForm, err := lookup.ToASCII(name)
	if err != nil {
		return "", fault(part, "is refused: "+err.Error())
	}
	uForm, err := lookup.ToUnicode(aForm)
	if err != nil {
		return "", fault(part, "is refused: "+err.Error())
	}
	for label := range strings.SplitSeq(uForm, ".") {
		if !isLabel(label) {
			return "", fault(part, "has an empty label or a misplaced hyphen")
		}
		if kept, err := identifier.String(label); err != nil || kept != label {
			return "", fault(part, "has a label that IDNA2008 does not allow")
		}
	}
	// What the tables of mapping and of conversion do not agree on would have two forms.
	if again, err := lookup.ToASCII(uForm); err != nil || again != aForm {
		return "", fault(part, "has no stable form")
	}
	return uForm, nil // below 1,023 bytes: a byte of an A-label stands for one code point at most
}

// addressLiteral prepares an IPv6 address. Choice: it is written in its one canonical text form, so that equal
// addresses compare equal. Deviation: neither zone identifiers, which mean nothing to a peer, nor address formats of the future are
// taken, though the grammar of RFC 7622 §3.1 has room for both.
func addressLiteral(s string) (string, error) {
	inner, closed := strings.CutSuffix(s[1:], "]")
	addr, err := netip.ParseAddr(inner)
	if !closed || err != nil || !addr.Is6() || addr.Zone() != "" {
		return "", fault("domainpart", "is not an IPv6 address in brackets")
	}
	prepared := "[" + addr.String() + "]"
	if prepared == s {
		return s, nil
	}
	return prepared, nil
}
