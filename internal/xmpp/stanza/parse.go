package stanza

import (
	"errors"
	"sync"

	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// KindOf is the kind of stanza an item is, 0 when it is none
// (unsupported-stanza-type, RFC 6120 §4.9.3.24).
func KindOf(it *xml.Item) Kind {
	if it.Space != xml.NSClient && it.Space != xml.NSServer {
		return 0
	}
	switch string(it.Local) {
	case "message":
		return Message
	case "presence":
		return Presence
	case "iq":
		return IQ
	}
	return 0
}

// Parse makes a stanza of a validated item, as sent by from (RFC 6120 §8.1.2.1).
// lang is the stream's default language, taken by stanzas without their own
// (RFC 6120 §8.1.5). A *Failure says which rule of RFC 6120 §8 the stanza breaks; it comes
// with what could be understood, so that an error can be returned to its sender.
func Parse(it *xml.Item, from jid.JID, lang string) (*Stanza, error) {
	s := &Stanza{Kind: KindOf(it), From: from}
	p := parts{s: s}
	if !it.Plain || len(it.Decls) > 0 {
		p.rebuild(it, lang)
	} else {
		p.take(it, lang)
	}
	if p.to != "" {
		to, err := jid.Parse(p.to)
		if err != nil {
			s.To = jid.JID{}
			return s, Err(JIDMalformed, "").Because(err) // RFC 6120 §8.3.3.8
		}
		s.To = to
	}
	return s, s.check(p.hasID)
}

// check holds a stanza against the rules of RFC 6120 §8.2.3 and RFC 6121 §4.7.1, §5.2.2.
func (s *Stanza) check(hasID bool) error {
	switch s.Kind {
	case Message:
		switch s.Type {
		case Chat, Error, Groupchat, Headline, Normal:
		default:
			s.Type = Normal // RFC 6121 §5.2.2: an unknown type is taken as "normal"
		}
	case Presence:
		switch s.Type {
		case Available, Unavailable, Probe, Error, Subscribe, Subscribed, Unsubscribe, Unsubscribed:
		default:
			return Err(BadRequest, "unknown type of presence") // RFC 6121 §4.7.1
		}
	case IQ:
		if !hasID {
			return Err(BadRequest, "an iq needs an id") // RFC 6120 §8.2.3 rule 1
		}
		switch s.Type {
		case Get, Set:
			if len(s.Children()) != 1 { // RFC 6120 §8.2.3 rule 5
				return Err(BadRequest, "an iq get or set has exactly one child element")
			}
		case Result, Error:
		default:
			return Err(BadRequest, "unknown type of iq") // RFC 6120 §8.2.3 rule 2
		}
	}
	return nil
}

// parts gathers the attributes of a stanza while its bytes are laid out.
type parts struct {
	s     *Stanza
	to    string
	hasID bool
}

// span is an attribute's value: a part of the stanza's own bytes, unless it holds references.
type span struct {
	from, to int
	value    string
}

func (v *span) of(s string) string {
	if v.value != "" {
		return v.value
	}
	return s[v.from:v.to]
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}

// take copies the item once: a new head, the content byte for byte.
func (p *parts) take(it *xml.Item, lang string) {
	s, pooled := p.s, buffers.Get().(*[]byte)
	defer func() { *pooled = (*pooled)[:0]; buffers.Put(pooled) }()
	buf := append((*pooled)[:0], '<')
	buf = append(buf, it.Local...)
	buf = appendAttr(buf, "from", s.From.String())
	var id, to, typ, own span
	for i := range it.Attrs {
		a := &it.Attrs[i]
		var into *span
		switch {
		case a.Space == xml.NSXML && string(a.Local) == "lang":
			into = &own
		case a.Space != "" || string(a.Local) == "from":
			continue // Deviation: attributes of foreign namespaces on a stanza are not forwarded
		case len(a.Raw) == 0:
			continue // an empty id, type or 'to' is as none
		case string(a.Local) == "id":
			into, p.hasID = &id, true
		case string(a.Local) == "to":
			into = &to
		case string(a.Local) == "type":
			into = &typ
		}
		buf = a.Append(buf)
		switch {
		case into == nil:
		case a.Verbatim():
			*into = span{from: len(buf) - 1 - len(a.Raw), to: len(buf) - 1}
		default:
			into.value = a.Value()
		}
	}
	if own == (span{}) && lang != "" {
		buf = append(buf, " xml:lang='"...)
		own.value = lang // the bytes may be longer, by references
		buf = append(xml.AppendAttr(buf, lang), '\'')
	}
	if len(it.Inner) == 0 {
		buf = append(buf, "/>"...)
		s.inner, s.close = uint32(len(buf)), uint32(len(buf))
	} else {
		buf = append(buf, '>')
		s.inner = uint32(len(buf))
		buf = append(buf, it.Inner...)
		s.close = uint32(len(buf))
		buf = append(append(append(buf, "</"...), it.Local...), '>')
	}
	s.raw = string(buf)
	*pooled = buf
	s.ID, s.Type, s.Lang, p.to = id.of(s.raw), typ.of(s.raw), own.of(s.raw), to.of(s.raw)
	if s.Kind == Message && s.Type == "" {
		s.Type = Normal
	}
	if unknown := unknownAttrs(it); unknown != "" {
		s.more = &more{attrs: unknown}
	}
	shift := int(s.inner) - it.Head()
	for i := range it.Children {
		c := &it.Children[i]
		space := c.Space
		if space == it.Space {
			space = xml.NSClient // RFC 6120 §4.8.3: the content namespace of a client's stream
		}
		s.add(Child{space, s.raw[c.Name+shift : c.NameEnd+shift], uint32(c.Start + shift), uint32(c.End + shift)})
	}
}

// unknownAttrs renders the attributes that RFC 6120 does not name, for copies with another head.
func unknownAttrs(it *xml.Item) string {
	var buf []byte
	for i := range it.Attrs {
		a := &it.Attrs[i]
		if a.Space != "" || len(a.Raw) == 0 {
			continue
		}
		switch string(a.Local) {
		case "from", "to", "id", "type":
		default:
			buf = a.Append(buf)
		}
	}
	return string(buf)
}

// rebuild re-serialises an item that leans on declarations from outside its content.
func (p *parts) rebuild(it *xml.Item, lang string) {
	s, e := p.s, it.Element()
	rescope(&e, e.Space)
	s.Lang = lang
	for _, a := range e.Attrs {
		switch {
		case a.Space == xml.NSXML && a.Local == "lang":
			s.Lang = a.Value
		case a.Space != "" || a.Local == "from" || a.Value == "":
		case a.Local == "id":
			s.ID, p.hasID = a.Value, true
		case a.Local == "to":
			p.to = a.Value
		case a.Local == "type":
			s.Type = a.Value
		default:
			if s.more == nil {
				s.more = &more{}
			}
			s.more.attrs += string(appendAttr(nil, a.Local, a.Value))
		}
	}
	if s.Kind == Message && s.Type == "" {
		s.Type = Normal
	}
	var content []byte
	for i := range e.Nodes {
		if n := &e.Nodes[i]; n.Element != nil {
			content = n.Element.Append(content, xml.NSClient)
		} else {
			content = xml.AppendText(content, n.Text)
		}
	}
	if to, err := jid.Parse(p.to); p.to != "" && err == nil {
		s.To = to
	}
	s.render(content)
}

// rescope moves e, and what inherits its content namespace, to that of a client's stream
// (RFC 6120 §4.8.3).
func rescope(e *xml.Element, from string) {
	if e.Space != from {
		return
	}
	e.Space = xml.NSClient
	for i := range e.Nodes {
		if c := e.Nodes[i].Element; c != nil {
			rescope(c, from)
		}
	}
}

// Decode reads back what String gave, from a database or another node. raw must be
// one whole stanza in the namespace jabber:client.
func Decode(raw string) (*Stanza, error) {
	sc := xml.AcquireScanner()
	defer sc.Release()
	var ns xml.Stream
	ns.Open(xml.NSClient)
	ev, n, err := sc.Next(&ns, unlimited(), []byte(raw))
	switch {
	case err != nil:
		return nil, err
	case ev != xml.FirstLevel || n != len(raw) || KindOf(sc.Item()) == 0:
		return nil, errors.New("not one whole stanza")
	}
	var from jid.JID
	if a := sc.Item().Attr("from"); a != nil {
		if from, err = jid.Parse(a.Value()); err != nil {
			return nil, err
		}
	}
	return Parse(sc.Item(), from, "")
}
