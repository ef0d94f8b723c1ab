package stream

import (
	"errors"
	"strings"

	"github.com/starling-im/starling/internal/xmpp/xml"
)

// NSErrors is the namespace of the defined stream errors (RFC 6120 §4.9.3).
const NSErrors = "urn:ietf:params:xml:ns:xmpp-streams"

// Condition is a defined condition of a stream error (RFC 6120 §4.9.3).
type Condition string

// The defined conditions.
const (
	BadFormat              Condition = "bad-format"
	BadNamespacePrefix     Condition = "bad-namespace-prefix"
	Conflict               Condition = "conflict"
	ConnectionTimeout      Condition = "connection-timeout"
	HostGone               Condition = "host-gone"
	HostUnknown            Condition = "host-unknown"
	ImproperAddressing     Condition = "improper-addressing"
	InternalServerError    Condition = "internal-server-error"
	InvalidFrom            Condition = "invalid-from"
	InvalidNamespace       Condition = "invalid-namespace"
	InvalidXML             Condition = "invalid-xml"
	NotAuthorized          Condition = "not-authorized"
	NotWellFormed          Condition = "not-well-formed"
	PolicyViolation        Condition = "policy-violation"
	Reset                  Condition = "reset"
	ResourceConstraint     Condition = "resource-constraint"
	RestrictedXML          Condition = "restricted-xml"
	SeeOtherHost           Condition = "see-other-host"
	SystemShutdown         Condition = "system-shutdown"
	UndefinedCondition     Condition = "undefined-condition"
	UnsupportedEncoding    Condition = "unsupported-encoding"
	UnsupportedFeature     Condition = "unsupported-feature"
	UnsupportedStanzaType  Condition = "unsupported-stanza-type"
	UnsupportedVersion     Condition = "unsupported-version"
	RemoteConnectionFailed Condition = "remote-connection-failed"
)

// Error ends a stream (RFC 6120 §4.9).
type Error struct {
	Condition Condition
	Text      string      // for a person; may be empty
	App       xml.Element // application-specific condition (RFC 6120 §4.9.4); may be None
	host      string      // where see-other-host points
	cause     error
}

// Err makes a stream error.
func Err(c Condition, text string) *Error { return &Error{Condition: c, Text: text} }

// SeeOther makes the error that sends the peer to another host, given as host:port (RFC 6120 §4.9.3.19).
func SeeOther(host string) *Error { return &Error{Condition: SeeOtherHost, host: host} }

// Because keeps the cause, which is logged and never sent.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

// Error names condition, text and cause.
func (e *Error) Error() string {
	parts := []string{string(e.Condition)}
	if e.Text != "" {
		parts = append(parts, e.Text)
	}
	if e.cause != nil {
		parts = append(parts, e.cause.Error())
	}
	return strings.Join(parts, ": ")
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.cause }

// Append renders <stream:error/> for a stream whose header bound the prefix
// "stream", as ours always does (RFC 6120 §4.8.5).
func (e *Error) Append(dst []byte) []byte {
	dst = append(dst, "<stream:error>"...)
	c := xml.New(NSErrors, string(e.Condition))
	if e.host != "" {
		c = c.WithText(e.host)
	}
	dst = c.Append(dst, xml.NSStream)
	if e.Text != "" {
		text := xml.New(NSErrors, "text", "xml:lang", "en").WithText(e.Text)
		dst = text.Append(dst, xml.NSStream)
	}
	if !e.App.IsNone() {
		dst = e.App.Append(dst, xml.NSStream)
	}
	return append(dst, "</stream:error>"...)
}

// AsError is the stream error that tells the peer of err: itself, the condition of
// a syntax error, or internal-server-error.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	var syntax *xml.SyntaxError
	if errors.As(err, &syntax) {
		e = &Error{Condition: Condition(syntax.Condition), Text: syntax.Text, cause: nil}
		if syntax.AppCondition != "" { // XEP-0205 §4.5
			e.App = xml.New("urn:xmpp:errors", syntax.AppCondition)
		}
		return e
	}
	return &Error{Condition: InternalServerError, cause: err}
}
