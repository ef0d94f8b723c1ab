// Package sasl implements the authentication mechanisms of XMPP, both sides of each: SCRAM with SHA-1, SHA-256 and
// SHA-512, with and without channel binding (RFC 5802, RFC 7677), PLAIN (RFC 4616), EXTERNAL with certificates
// (XEP-0178), ANONYMOUS (XEP-0175), and hashed tokens (XEP-0484); further the channel bindings themselves (RFC 5929, RFC 9266) and the
// downgrade protection of SCRAM (XEP-0474).
//
// The package knows neither streams nor storage. It turns messages into messages and failures into the conditions of
// RFC 6120 §6.5, for the SASL profile of RFC 6120 as for that of XEP-0388. Whoever sends the bytes encodes them with
// Encode; accounts stand behind the interface Credentials.
package sasl

import (
	"encoding/base64"
	"errors"
	"strings"
)

// Condition is a SASL error condition, the name of its element.
type Condition string

// The conditions of RFC 6120 §6.5.
const (
	Aborted              Condition = "aborted"
	AccountDisabled      Condition = "account-disabled"
	CredentialsExpired   Condition = "credentials-expired"
	EncryptionRequired   Condition = "encryption-required"
	IncorrectEncoding    Condition = "incorrect-encoding"
	InvalidAuthzid       Condition = "invalid-authzid"
	InvalidMechanism     Condition = "invalid-mechanism"
	MalformedRequest     Condition = "malformed-request"
	MechanismTooWeak     Condition = "mechanism-too-weak"
	NotAuthorized        Condition = "not-authorized"
	TemporaryAuthFailure Condition = "temporary-auth-failure"
)

// Failure is how an exchange fails in the eyes of the peer.
type Failure struct {
	Condition Condition
	Text      string // for the text element; empty where more words would tell an attacker something
	Err       error  // the cause, for the log only
}

func (f *Failure) Error() string {
	s := "sasl: " + string(f.Condition)
	if f.Text != "" {
		s += " (" + f.Text + ")"
	}
	if f.Err != nil {
		s += ": " + f.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

func fail(c Condition, text string) *Failure { return &Failure{Condition: c, Text: text} }

func malformed(text string) *Failure { return fail(MalformedRequest, text) }

// asFailure turns any error into a Failure: what no one meant for the peer is a trouble of ours.
func asFailure(err error) *Failure {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f
	}
	return &Failure{Condition: TemporaryAuthFailure, Err: err}
}

// maxMessage is the longest message taken from a peer, in bytes before Encode: more than fits in what a stream takes
// before authentication.
const maxMessage = 8192

// Encode writes a message as the text of an XML element: base64, and "=" for a message of no bytes (RFC 6120
// §6.4.2). A nil message is an empty text, which says that there is none.
func Encode(message []byte) string {
	if message != nil && len(message) == 0 {
		return "="
	}
	return base64.StdEncoding.EncodeToString(message)
}

// Decode reads the text of an XML element as Encode writes it: nil for an empty text, empty but not nil for "=". The
// error is a Failure with IncorrectEncoding, or MalformedRequest if the text is longer than any message of use.
func Decode(text []byte) ([]byte, error) {
	switch {
	case len(text) == 0:
		return nil, nil
	case len(text) == 1 && text[0] == '=':
		return []byte{}, nil
	case len(text) > base64.StdEncoding.EncodedLen(maxMessage):
		return nil, malformed("message too long")
	}
	message, ok := decode64(string(text))
	if !ok {
		return nil, fail(IncorrectEncoding, "")
	}
	return message, nil
}

// strict64 insists on zero padding bits (RFC 6120 §6.3.5).
var strict64 = base64.StdEncoding.Strict()

func decode64(s string) ([]byte, bool) {
	if strings.ContainsAny(s, "\r\n") { // which package base64 would skip
		return nil, false
	}
	b, err := strict64.DecodeString(s)
	return b, err == nil
}

func encode64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
