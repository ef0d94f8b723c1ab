// Package stanza holds the three stanzas of XMPP, message, presence and iq
// (RFC 6120 §8), as immutable values: the bytes that are sent, and the few
// attributes that decide where they go.
package stanza

import (
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// Kind tells the three stanzas apart.
type Kind uint8

// The stanzas of RFC 6120 §8.
const (
	Message Kind = iota + 1
	Presence
	IQ
)

// String is the name of the element.
func (k Kind) String() string {
	switch k {
	case Message:
		return "message"
	case Presence:
		return "presence"
	case IQ:
		return "iq"
	}
	return ""
}

// Values of the type attribute. A message without one is Normal (RFC 6121 §5.2.2),
// a presence without one is Available.
const (
	Available    = ""
	Chat         = "chat"
	Error        = "error"
	Get          = "get"
	Groupchat    = "groupchat"
	Headline     = "headline"
	Normal       = "normal"
	Probe        = "probe"
	Result       = "result"
	Set          = "set"
	Subscribe    = "subscribe"
	Subscribed   = "subscribed"
	Unavailable  = "unavailable"
	Unsubscribe  = "unsubscribe"
	Unsubscribed = "unsubscribed"
)

// Stanza is one stanza. It is never changed: With… returns a changed copy, so
// that any number of recipients, queues and archives can share one.
type Stanza struct {
	Kind Kind
	Type string // as sent, save that a message without a known type is Normal
	ID   string
	Lang string // xml:lang of the stanza itself, else empty
	From jid.JID
	To   jid.JID // zero when the stanza has no 'to'

	raw          string // the whole stanza as it is sent on a client's stream
	inner, close uint32 // raw[inner:close] is the content
	count        uint32 // of few
	few          [4]Child
	more         *more // nil for most stanzas
}

// more is what few stanzas have.
type more struct {
	attrs    string  // attributes of the root that RFC 6120 does not name, rendered
	children []Child // used instead of few when there are more
}

// Child is where a first-level child element of a stanza stands.
type Child struct {
	Space, Local string
	start, end   uint32 // within raw
}

// String is the stanza as it is sent, in the content namespace of a client's stream.
func (s *Stanza) String() string { return s.raw }

// Inner is the content of the stanza: well-formed, self-contained in the
// namespace jabber:client.
func (s *Stanza) Inner() string { return s.raw[s.inner:s.close] }

// Children lists the first-level child elements in order.
func (s *Stanza) Children() []Child {
	if s.more != nil && s.more.children != nil {
		return s.more.children
	}
	return s.few[:s.count]
}

// Has tells whether a first-level child of that name is there.
func (s *Stanza) Has(space, local string) bool {
	_, ok := s.find(space, local)
	return ok
}

// HasSpace tells whether any first-level child is in the namespace.
func (s *Stanza) HasSpace(space string) bool {
	for _, c := range s.Children() {
		if c.Space == space {
			return true
		}
	}
	return false
}

func (s *Stanza) find(space, local string) (Child, bool) {
	for _, c := range s.Children() {
		if c.Local == local && c.Space == space {
			return c, true
		}
	}
	return Child{}, false
}

// Child is the parsed first-level child of that name, None when there is none.
func (s *Stanza) Child(space, local string) xml.Element {
	if c, ok := s.find(space, local); ok {
		return s.parse(c)
	}
	return xml.None
}

// Payload is the parsed first child element, None when there is none: what an
// iq get or set asks (RFC 6120 §8.2.3).
func (s *Stanza) Payload() xml.Element {
	if c := s.Children(); len(c) > 0 {
		return s.parse(c[0])
	}
	return xml.None
}

// Elements are all first-level children, parsed.
func (s *Stanza) Elements() []xml.Element {
	all := make([]xml.Element, 0, len(s.Children()))
	for _, c := range s.Children() {
		all = append(all, s.parse(c))
	}
	return all
}

func (s *Stanza) parse(c Child) xml.Element {
	e, err := xml.Parse([]byte(s.raw[c.start:c.end]), xml.NSClient)
	if err != nil {
		panic("stanza: validated content does not parse: " + err.Error())
	}
	return e
}

// IsRequest tells an iq that must be answered from a reply (RFC 6120 §8.2.3).
func (s *Stanza) IsRequest() bool {
	return s.Kind == IQ && (s.Type == Get || s.Type == Set)
}

// IsSubscription tells the four presence types of RFC 6121 §3 from the rest.
func (s *Stanza) IsSubscription() bool {
	if s.Kind != Presence {
		return false
	}
	switch s.Type {
	case Subscribe, Subscribed, Unsubscribe, Unsubscribed:
		return true
	}
	return false
}

// New makes a stanza. The type Normal of a message is left out on the wire.
func New(k Kind, typ, id string, to jid.JID, children ...xml.Element) *Stanza {
	s := &Stanza{Kind: k, Type: typ, ID: id, To: to}
	var content []byte
	for i := range children {
		content = children[i].Append(content, xml.NSClient)
	}
	return s.render(content)
}

// NewIQ makes a request to be sent by the server.
func NewIQ(typ, id string, from, to jid.JID, payload xml.Element) *Stanza {
	return New(IQ, typ, id, to, payload).WithFrom(from)
}
