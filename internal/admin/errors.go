package admin

import "fmt"

// Code tells the errors of the service apart, also over the wire: errors.Is(err, admin.Exists).
type Code string

// What can be wrong with a request.
const (
	Exists        Code = "exists"         // there is such an account already
	Reserved      Code = "reserved"       // the name belonged to an account that was deleted not long ago
	NotFound      Code = "not-found"      // there is no such account
	InvalidName   Code = "invalid-name"   // not the address of an account
	ForeignDomain Code = "foreign-domain" // the domain is not served here
	BadPassword   Code = "bad-password"   // empty, too long, or not text
	NotConfigured Code = "not-configured" // the configuration of the server lacks what is needed
	Unavailable   Code = "unavailable"    // the database is away or the server is busy: try again later
	BadRequest    Code = "bad-request"    // the client speaks another version
	Internal      Code = "internal"       // the server's own fault; its log says more
)

// Error makes a Code a target for errors.Is.
func (c Code) Error() string { return string(c) }

// Error is a request that failed: a code for programs and a sentence for people.
type Error struct {
	Code  Code   `json:"code"`
	Text  string `json:"text"`
	cause error
}

// Error returns the sentence.
func (e *Error) Error() string { return e.Text }

// Is reports whether target is the error's code.
func (e *Error) Is(target error) bool { return target == e.Code }

// Unwrap returns what led to the error; nil on the client's side.
func (e *Error) Unwrap() error { return e.cause }

// fault makes an error for the caller. The cause, if any, is kept for errors.Is.
func fault(c Code, cause error, format string, args ...any) *Error {
	text := fmt.Sprintf(format, args...)
	if c == InvalidName && cause != nil {
		text += ": " + cause.Error()
	}
	return &Error{Code: c, Text: text, cause: cause}
}
