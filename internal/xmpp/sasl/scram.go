package sasl

import (
	"crypto/rand"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds on the parts of messages, in bytes.
const (
	maxUsername = 1023
	maxAuthzid  = 2047 // a bare JID
	maxNonce    = 256
)

// newNonce returns the own part of a nonce: 192 random bits, printable and without comma (RFC 5802 §7).
func newNonce() string {
	var b [24]byte
	rand.Read(b[:]) // never fails
	return encode64(b[:])
}

// clientFirst is the client-first-message (RFC 5802 §7).
type clientFirst struct {
	flag     byte   // 'n', 'y' or 'p'
	binding  string // type of channel binding, if flag is 'p'
	authzid  string
	header   string // the gs2-header as sent, with its commas
	bare     string // the rest of the message as sent
	username string
	nonce    string
}

func parseClientFirst(in []byte) (m clientFirst, err error) {
	s, err := messageText(in)
	if err != nil {
		return m, err
	}
	flag, rest, found := strings.Cut(s, ",")
	authzid, bare, found2 := strings.Cut(rest, ",")
	if !found || !found2 {
		return m, malformed("")
	}
	m.header, m.bare = s[:len(s)-len(bare)], bare
	if m.flag, m.binding, err = parseFlag(flag); err != nil {
		return m, err
	}
	if authzid != "" {
		name, ok := strings.CutPrefix(authzid, "a=")
		if !ok {
			return m, malformed("")
		}
		if m.authzid, err = parseName(name, maxAuthzid); err != nil {
			return m, err
		}
	}
	name, rest, _, err := cutAttribute(bare, 'n')
	if err != nil {
		return m, err
	}
	if m.username, err = parseName(name, maxUsername); err != nil {
		return m, err
	}
	nonce, rest, more, err := cutAttribute(rest, 'r')
	if err != nil {
		return m, err
	}
	if !isNonce(nonce) || len(nonce) > maxNonce {
		return m, malformed("")
	}
	m.nonce = nonce
	return m, checkExtensions(rest, more)
}

// parseFlag reads the gs2-cbind-flag.
func parseFlag(s string) (flag byte, binding string, err error) {
	switch {
	case s == "n", s == "y":
		return s[0], "", nil
	case strings.HasPrefix(s, "p=") && isBindingType(s[2:]):
		return 'p', s[2:], nil
	}
	return 0, "", malformed("")
}

// clientFinal is the client-final-message (RFC 5802 §7).
type clientFinal struct {
	binding []byte // the decoded attribute c
	nonce   string
	proof   []byte
	rest    string // the message without the proof
}

func parseClientFinal(in []byte) (m clientFinal, err error) {
	s, err := messageText(in)
	if err != nil {
		return m, err
	}
	at := strings.LastIndex(s, ",p=")
	if at < 0 {
		return m, malformed("")
	}
	m.rest = s[:at]
	binding, rest, _, err := cutAttribute(m.rest, 'c')
	if err != nil {
		return m, err
	}
	nonce, rest, more, err := cutAttribute(rest, 'r')
	if err != nil {
		return m, err
	}
	var ok, ok2 bool
	m.nonce = nonce
	m.binding, ok = decode64(binding)
	m.proof, ok2 = decode64(s[at+len(",p="):])
	if !ok || !ok2 || len(m.proof) == 0 || !isNonce(nonce) {
		return m, malformed("invalid-encoding")
	}
	return m, checkExtensions(rest, more)
}

// serverFirst is the server-first-message (RFC 5802 §7).
type serverFirst struct {
	nonce      string
	salt       []byte
	iterations int
	downgrade  string // attribute h (XEP-0474 §6.1); "" if there is none
}

// String writes the message.
func (m *serverFirst) String() string {
	s := "r=" + m.nonce + ",s=" + encode64(m.salt) + ",i=" + strconv.Itoa(m.iterations)
	if m.downgrade != "" {
		s += ",h=" + m.downgrade
	}
	return s
}

func parseServerFirst(in []byte) (m serverFirst, err error) {
	s, err := messageText(in)
	if err != nil {
		return m, err
	}
	nonce, rest, _, err := cutAttribute(s, 'r')
	if err != nil {
		return m, err
	}
	salt, rest, _, err := cutAttribute(rest, 's')
	if err != nil {
		return m, err
	}
	count, rest, more, err := cutAttribute(rest, 'i')
	if err != nil {
		return m, err
	}
	var ok bool
	m.nonce = nonce
	m.salt, ok = decode64(salt)
	if !ok || !isNonce(nonce) || len(nonce) > 2*maxNonce {
		return m, malformed("")
	}
	if m.iterations, err = parseCount(count); err != nil {
		return m, err
	}
	if err := checkExtensions(rest, more); err != nil {
		return m, err
	}
	for attr := range strings.SplitSeq(rest, ",") {
		if value, ok := strings.CutPrefix(attr, "h="); ok {
			m.downgrade = value
		}
	}
	return m, nil
}

// parseServerFinal reads the server-final-message: the signature, or the error the server reports.
func parseServerFinal(in []byte) (signature []byte, reported string, err error) {
	s, err := messageText(in)
	if err != nil {
		return nil, "", err
	}
	name := byte('v')
	if strings.HasPrefix(s, "e=") {
		name = 'e'
	}
	value, rest, more, err := cutAttribute(s, name)
	if err != nil {
		return nil, "", err
	}
	if err := checkExtensions(rest, more); err != nil {
		return nil, "", err
	}
	if name == 'e' {
		return nil, value, nil
	}
	signature, ok := decode64(value)
	if !ok {
		return nil, "", malformed("")
	}
	return signature, "", nil
}

// messageText checks what holds for the whole of every message: UTF-8 without NUL.
func messageText(in []byte) (string, error) {
	s := string(in)
	if len(s) > maxMessage || !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
		return "", malformed("")
	}
	return s, nil
}

// cutAttribute splits off the attribute that must come first, of this name and not empty. more says that a comma
// followed. RFC 5802 §5.1: the order of attributes is fixed.
func cutAttribute(s string, name byte) (value, rest string, more bool, err error) {
	if len(s) < 2 || s[1] != '=' || s[0] != name {
		// RFC 5802 §5.1: the attribute "m" makes the exchange fail.
		if strings.HasPrefix(s, "m=") {
			return "", "", false, fail(NotAuthorized, "extensions-not-supported")
		}
		return "", "", false, malformed("")
	}
	value, rest, more = strings.Cut(s[2:], ",")
	if value == "" {
		return "", "", false, malformed("")
	}
	return value, rest, more, nil
}

// checkExtensions checks the attributes after those that are required, if there are more. RFC 5802 §5.1: unknown ones
// are ignored. Choice: one that RFC 5802 defines for another place is an error, as no two readers of the message may
// disagree on what it says.
func checkExtensions(s string, more bool) error {
	if !more {
		return nil
	}
	for attr := range strings.SplitSeq(s, ",") {
		if len(attr) < 3 || attr[1] != '=' || !isAlpha(attr[0]) {
			return malformed("")
		}
		if attr[0] == 'm' {
			return fail(NotAuthorized, "extensions-not-supported")
		}
		if strings.IndexByte("anrcsipve", attr[0]) >= 0 {
			return malformed("")
		}
	}
	return nil
}

// parseName decodes a saslname: "," and "=" are written as "=2C" and "=3D", and no other "=" is allowed (RFC 5802
// §5.1).
func parseName(s string, limit int) (string, error) {
	if s == "" || len(s) > 3*limit {
		return "", malformed("")
	}
	var b strings.Builder
	for {
		plain, rest, found := strings.Cut(s, "=")
		b.WriteString(plain)
		if !found {
			break
		}
		switch {
		case strings.HasPrefix(rest, "2C"):
			b.WriteByte(',')
		case strings.HasPrefix(rest, "3D"):
			b.WriteByte('=')
		default:
			return "", malformed("")
		}
		s = rest[2:]
	}
	if b.Len() > limit {
		return "", malformed("")
	}
	return b.String(), nil
}

// escapeName encodes a saslname.
func escapeName(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "=", "=3D"), ",", "=2C")
}

// parseCount reads a posit-number within the bounds of iterations.
func parseCount(s string) (int, error) {
	if s[0] < '1' || s[0] > '9' || strings.Trim(s, "0123456789") != "" {
		return 0, malformed("")
	}
	n, err := strconv.Atoi(s)
	if err != nil || n > MaxIterations {
		return 0, malformed("")
	}
	return n, nil
}

// isNonce reports whether s is printable ASCII without comma.
func isNonce(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == ',' {
			return false
		}
	}
	return s != ""
}

// isBindingType reports whether s is a cb-name.
func isBindingType(s string) bool {
	for i := range len(s) {
		if !isAlpha(s[i]) && (s[i] < '0' || s[i] > '9') && s[i] != '.' && s[i] != '-' {
			return false
		}
	}
	return s != ""
}

func isAlpha(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
