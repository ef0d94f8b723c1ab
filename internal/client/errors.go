package client

import (
	"fmt"

	"github.com/starling-im/starling/internal/xmpp/sasl"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/stream"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// StreamError is an error with which the server ends the stream (RFC 6120 §4.9).
type StreamError struct {
	Condition stream.Condition // empty if there is none
	Text      string
	Element   xml.Element // as it came
}

func newStreamError(e xml.Element) *StreamError {
	condition, text := conditionOf(&e, stream.NSErrors)
	return &StreamError{Condition: stream.Condition(condition), Text: text, Element: e}
}

// Error names the condition and gives the text.
func (e *StreamError) Error() string { return describe("stream error", string(e.Condition), e.Text) }

// StanzaError is an error reply to a stanza (RFC 6120 §8.3).
type StanzaError struct {
	Type      string           // "auth", "cancel", "continue", "modify" or "wait"
	Condition stanza.Condition // empty if there is none
	Text      string
	Element   xml.Element // the stanza as it came
}

func newStanzaError(reply xml.Element) *StanzaError {
	e := reply.Child(reply.Space, "error")
	condition, text := conditionOf(e, stanza.NSErrors)
	return &StanzaError{Type: e.Attr("type"), Condition: stanza.Condition(condition), Text: text, Element: reply}
}

// Error names the condition and gives the text.
func (e *StanzaError) Error() string { return describe("stanza error", string(e.Condition), e.Text) }

// newFailure reads <failure/> of SASL (RFC 6120 §6.5).
func newFailure(e xml.Element) *sasl.Failure {
	condition, text := conditionOf(&e, nsSASL)
	return &sasl.Failure{Condition: sasl.Condition(condition), Text: text}
}

// conditionOf returns the name of e's first child in the namespace that is not its text, and the text.
func conditionOf(e *xml.Element, space string) (condition, text string) {
	for child := range e.Elements() {
		if child.Space == space && child.Local != "text" {
			condition = child.Local
			break
		}
	}
	return condition, e.Child(space, "text").Text()
}

func describe(kind, condition, text string) string {
	if text == "" {
		return kind + ": " + condition
	}
	return fmt.Sprintf("%s: %s: %s", kind, condition, text)
}

// unexpected says that the server sent something else than it had to.
func unexpected(awaited string, e xml.Element) error {
	return fmt.Errorf("awaited %s, got %s", awaited, e)
}
