package stanza

import (
	"strings"

	"github.com/starling-im/starling/internal/xmpp/xml"
)

// NSErrors is the namespace of the defined conditions (RFC 6120 §8.3.3).
const NSErrors = "urn:ietf:params:xml:ns:xmpp-stanzas"

// Condition is a defined condition of a stanza error (RFC 6120 §8.3.3).
type Condition string

// The defined conditions.
const (
	BadRequest            Condition = "bad-request"
	Conflict              Condition = "conflict"
	FeatureNotImplemented Condition = "feature-not-implemented"
	Forbidden             Condition = "forbidden"
	Gone                  Condition = "gone"
	InternalServerError   Condition = "internal-server-error"
	ItemNotFound          Condition = "item-not-found"
	JIDMalformed          Condition = "jid-malformed"
	NotAcceptable         Condition = "not-acceptable"
	NotAllowed            Condition = "not-allowed"
	NotAuthorized         Condition = "not-authorized"
	PolicyViolation       Condition = "policy-violation"
	RecipientUnavailable  Condition = "recipient-unavailable"
	Redirect              Condition = "redirect"
	RegistrationRequired  Condition = "registration-required"
	RemoteServerNotFound  Condition = "remote-server-not-found"
	RemoteServerTimeout   Condition = "remote-server-timeout"
	ResourceConstraint    Condition = "resource-constraint"
	ServiceUnavailable    Condition = "service-unavailable"
	SubscriptionRequired  Condition = "subscription-required"
	UndefinedCondition    Condition = "undefined-condition"
	UnexpectedRequest     Condition = "unexpected-request"
)

// Type is what RFC 6120 §8.3.3 recommends as the error's type for the condition.
func (c Condition) Type() string {
	switch c {
	case BadRequest, JIDMalformed, NotAcceptable, PolicyViolation, Redirect:
		return "modify"
	case Forbidden, NotAuthorized, RegistrationRequired, SubscriptionRequired:
		return "auth"
	case RecipientUnavailable, RemoteServerTimeout, ResourceConstraint, UnexpectedRequest:
		return "wait"
	}
	return "cancel"
}

// Failure is an error that the sender of a stanza gets to see.
type Failure struct {
	Condition Condition
	Text      string      // for a person; may be empty
	App       xml.Element // application-specific condition (RFC 6120 §8.3.4); may be None
	kind      string      // type of the error where it is not the condition's own
	cause     error
}

// Err makes a Failure.
func Err(c Condition, text string) *Failure { return &Failure{Condition: c, Text: text} }

// Because keeps the cause, which is logged and never sent.
func (f *Failure) Because(cause error) *Failure {
	c := *f
	c.cause = cause
	return &c
}

// With adds an application-specific condition.
func (f *Failure) With(app xml.Element) *Failure {
	c := *f
	c.App = app
	return &c
}

// OfType gives the error a type that its specification asks for instead of the one
// that goes with the condition.
func (f *Failure) OfType(kind string) *Failure {
	c := *f
	c.kind = kind
	return &c
}

// Error names condition, text and cause.
func (f *Failure) Error() string {
	var b strings.Builder
	b.WriteString(string(f.Condition))
	if f.Text != "" {
		b.WriteString(": " + f.Text)
	}
	if f.cause != nil {
		b.WriteString(": " + f.cause.Error())
	}
	return b.String()
}

// Unwrap is the cause.
func (f *Failure) Unwrap() error { return f.cause }

// Element is the <error/> child of a stanza of type error.
func (f *Failure) Element() xml.Element {
	kind := f.kind
	if kind == "" {
		kind = f.Condition.Type()
	}
	e := xml.New(xml.NSClient, "error", "type", kind).With(xml.New(NSErrors, string(f.Condition)))
	if f.Text != "" {
		e = e.With(xml.New(NSErrors, "text", "xml:lang", "en").WithText(f.Text))
	}
	if !f.App.IsNone() {
		e = e.With(f.App)
	}
	return e
}
