package stanza

import (
	"slices"

	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// WithTo is the stanza addressed to another JID; the zero JID leaves 'to' out.
func (s *Stanza) WithTo(to jid.JID) *Stanza {
	c := s.head()
	c.To = to
	return c.rehead(s)
}

// WithFrom is the stanza as sent by another JID; the zero JID leaves 'from' out.
func (s *Stanza) WithFrom(from jid.JID) *Stanza {
	c := s.head()
	c.From = from
	return c.rehead(s)
}

// WithAddresses changes both addresses at once.
func (s *Stanza) WithAddresses(from, to jid.JID) *Stanza {
	c := s.head()
	c.From, c.To = from, to
	return c.rehead(s)
}

// WithID is the stanza with another id.
func (s *Stanza) WithID(id string) *Stanza {
	c := s.head()
	c.ID = id
	return c.rehead(s)
}

// With is the stanza with elements added after its content.
func (s *Stanza) With(children ...xml.Element) *Stanza {
	if s.close == s.inner { // its tag is to be opened
		var content []byte
		for i := range children {
			content = children[i].Append(content, xml.NSClient)
		}
		return s.head().render(content)
	}
	c := *s
	if s.more != nil {
		c.more = &more{s.more.attrs, slices.Clip(s.more.children)}
	}
	added := make([]byte, 0, 128)
	for i := range children {
		start := s.close + uint32(len(added))
		added = children[i].Append(added, xml.NSClient)
		c.add(Child{children[i].Space, children[i].Local, start, s.close + uint32(len(added))})
	}
	c.close += uint32(len(added))
	c.raw = s.raw[:s.close] + string(added) + s.raw[s.close:]
	return &c
}

// Without is the stanza less every first-level child for which drop is true.
func (s *Stanza) Without(drop func(Child) bool) *Stanza {
	var content []byte
	at := s.inner
	for _, c := range s.Children() {
		if drop(c) {
			content = append(content, s.raw[at:c.start]...)
			at = c.end
		}
	}
	if at == s.inner {
		return s
	}
	content = append(content, s.raw[at:s.close]...)
	c := s.head()
	return c.render(content)
}

// head is a copy without content.
func (s *Stanza) head() *Stanza {
	c := &Stanza{Kind: s.Kind, Type: s.Type, ID: s.ID, Lang: s.Lang, From: s.From, To: s.To}
	if s.more != nil && s.more.attrs != "" {
		c.more = &more{attrs: s.more.attrs}
	}
	return c
}

// rehead renders c with the content of s, whose children keep their places
// but for the difference in the length of the heads.
func (c *Stanza) rehead(s *Stanza) *Stanza {
	buf := c.appendHead(make([]byte, 0, len(s.raw)+64), s.close == s.inner)
	c.inner = uint32(len(buf))
	buf = append(buf, s.Inner()...)
	c.close = uint32(len(buf))
	c.raw = string(c.appendTail(buf))
	shift := c.inner - s.inner
	for _, child := range s.Children() {
		c.add(Child{child.Space, child.Local, child.start + shift, child.end + shift})
	}
	return c
}

func (s *Stanza) add(c Child) {
	switch {
	case s.more != nil && s.more.children != nil:
		s.more.children = append(s.more.children, c)
	case int(s.count) < len(s.few):
		s.few[s.count] = c
		s.count++
	default:
		if s.more == nil {
			s.more = &more{}
		}
		s.more.children = append(append(make([]Child, 0, 2*len(s.few)), s.few[:]...), c)
	}
}

// render sets the bytes of s from its attributes and content, which must be
// well-formed in the namespace jabber:client.
func (s *Stanza) render(content []byte) *Stanza {
	buf := s.appendHead(make([]byte, 0, len(content)+160), len(content) == 0)
	s.inner = uint32(len(buf))
	buf = append(buf, content...)
	s.close = uint32(len(buf))
	s.raw = string(s.appendTail(buf))
	s.index()
	return s
}

// index finds the children of a stanza that was rendered here.
func (s *Stanza) index() {
	s.count = 0
	if s.more != nil {
		s.more.children = nil
	}
	if s.close == s.inner {
		return
	}
	sc := xml.AcquireScanner()
	defer sc.Release()
	var st xml.Stream
	st.Open(xml.NSClient)
	ev, _, err := sc.Next(&st, unlimited(), []byte(s.raw))
	if err != nil || ev != xml.FirstLevel {
		panic("stanza: rendered stanza does not scan: " + s.raw)
	}
	for _, c := range sc.Item().Children {
		s.add(Child{c.Space, s.raw[c.Name:c.NameEnd], uint32(c.Start), uint32(c.End)})
	}
}

// unlimited is for stanzas that were held to the limits when they came in.
func unlimited() *xml.Limits {
	return &xml.Limits{Bytes: 1 << 30, Depth: 1 << 20, Elements: 1 << 30, Attrs: 1 << 20, Name: 1 << 20, Decls: 1 << 20, Tag: 1 << 30}
}

func (s *Stanza) appendHead(buf []byte, empty bool) []byte {
	buf = append(buf, '<')
	buf = append(buf, s.Kind.String()...)
	buf = appendAttr(buf, "from", s.From.String())
	buf = appendAttr(buf, "to", s.To.String())
	if s.Type != Normal || s.Kind != Message {
		buf = appendAttr(buf, "type", s.Type)
	}
	buf = appendAttr(buf, "id", s.ID)
	buf = appendAttr(buf, "xml:lang", s.Lang)
	if s.more != nil {
		buf = append(buf, s.more.attrs...)
	}
	if empty {
		return append(buf, "/>"...)
	}
	return append(buf, '>')
}

func (s *Stanza) appendTail(buf []byte) []byte {
	if s.close == s.inner {
		return buf
	}
	buf = append(buf, "</"...)
	buf = append(buf, s.Kind.String()...)
	return append(buf, '>')
}

func appendAttr(buf []byte, name, value string) []byte {
	if value == "" {
		return buf
	}
	buf = append(buf, ' ')
	buf = append(buf, name...)
	buf = append(buf, "='"...)
	buf = xml.AppendAttr(buf, value)
	return append(buf, '\'')
}
