// Package search lets users find each other by what they have told in their vCards
// (XEP-0055).
package search

import (
	"context"
	"strings"

	"github.com/starling-im/starling/internal/feature/vcard"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/xmpp/form"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// NS is the namespace of questions, and the context of the form (XEP-0055 §3).
const NS = "jabber:iq:search"

// maxText is how long a text may be that is searched for, in bytes.
const maxText = 255

// Module is the feature's declaration. Choice: it is off by default, since it tells who
// has an account; whoever runs a closed server wants just that.
var Module = module.Def[Config]{
	Name:     "search",
	Doc:      "Lets users of a domain find each other by name, unless their vCard is marked private.",
	Specs:    []module.Spec{{XEP: 55, Version: "1.3", Note: "at the server's domain"}},
	Disco:    module.Disco{module.Server: {NS}},
	Needs:    []string{"vcard"},
	Off:      true,
	Defaults: Config{MaxResults: 50},
	Start:    start,
}

// Config is the feature's configuration.
type Config struct {
	MaxResults int `toml:"max_results" min:"1" max:"1000" doc:"Most people that one search finds."`
}

type search struct {
	*module.Host
	cfg   Config
	cards *vcard.VCards
}

func start(h *module.Host, cfg Config) error {
	s := &search{h, cfg, module.Use[*vcard.VCards](h, "vcard")}
	// Choice: the domain itself answers. Clients look there before they look at its
	// items, and no further address has to be made.
	h.IQ(module.Server, stanza.Get, NS, "query", s.ask)
	h.IQ(module.Server, stanza.Set, NS, "query", s.find)
	return nil
}

// field is one of the texts that people can be found by (XEP-0055 §7.2).
type field struct {
	name, label string
	of          func(p *vcard.Person) *string
}

func fields() []field {
	return []field{
		{"first", "Given name", func(p *vcard.Person) *string { return &p.Given }},
		{"last", "Family name", func(p *vcard.Person) *string { return &p.Family }},
		{"nick", "Nickname", func(p *vcard.Person) *string { return &p.Nickname }},
		{"email", "Email address", func(p *vcard.Person) *string { return &p.Email }},
	}
}

const instructions = "Fill in one or more fields. Who is found has them begin so."

func question() form.Form {
	var all []form.Field
	for _, f := range fields() {
		all = append(all, form.Text(f.name, f.label, ""))
	}
	return form.New(form.TypeForm, NS, all...).Titled("Find people", instructions)
}

// check lets only users of the domain search: XEP-0054 §3.3 warns of those who gather
// addresses.
func (s *search) check(iq *stanza.Stanza) error {
	asker := s.Sessions.Find(iq.From)
	if asker == nil || asker.Anonymous || iq.From.Host() != iq.To {
		return stanza.Err(stanza.NotAllowed, "only users of this domain may search it")
	}
	return nil
}

// ask tells what can be searched for, as elements and as a form: XEP-0055 §2.1, §3.
func (s *search) ask(_ context.Context, iq *stanza.Stanza) (xml.Element, error) {
	if err := s.check(iq); err != nil {
		return xml.None, err
	}
	q := xml.New(NS, "query").With(xml.New(NS, "instructions").WithText(instructions))
	for _, f := range fields() {
		q = q.With(xml.New(NS, f.name))
	}
	return q.With(question().Element()), nil
}

// find searches: XEP-0055 §2.1, §3.
func (s *search) find(ctx context.Context, iq *stanza.Stanza) (xml.Element, error) {
	if err := s.check(iq); err != nil {
		return xml.None, err
	}
	q := iq.Payload()
	like, filled, err := read(&q)
	if err != nil {
		return xml.None, stanza.Err(stanza.BadRequest, err.Error()).Because(err)
	}
	found, err := s.cards.Find(ctx, iq.To.Domain(), like, s.cfg.MaxResults)
	if err != nil {
		return xml.None, err
	}
	if filled {
		return xml.New(NS, "query").With(table(found)), nil
	}
	return list(found), nil
}

// read finds out what is searched for. filled tells that it was asked for with a form.
func read(q *xml.Element) (like vcard.Person, filled bool, err error) {
	submitted, err := form.Find(q)
	if err != nil {
		return like, false, err
	}
	text := func(name string) string { return q.Child(NS, name).Text() }
	if submitted != nil {
		ask := question()
		values, err := ask.Accept(submitted)
		if err != nil {
			return like, true, err
		}
		text = values.Text
	}
	for _, f := range fields() {
		// Clients of other servers have taught people to write a star.
		value := strings.TrimRight(strings.TrimSpace(text(f.name)), "*")
		if len(value) > maxText {
			return like, false, &form.Error{Field: f.name, Text: "is too long"}
		}
		*f.of(&like) = strings.Join(strings.Fields(value), " ")
	}
	return like, submitted != nil, nil
}

// list is what is found as elements: XEP-0055 §2.1.
func list(found []vcard.Person) xml.Element {
	q := xml.New(NS, "query")
	for i := range found {
		item := xml.New(NS, "item", "jid", found[i].Owner.String())
		for _, f := range fields() {
			item = item.With(xml.New(NS, f.name).WithText(*f.of(&found[i])))
		}
		q.Nodes = append(q.Nodes, xml.Node{Element: &item})
	}
	return q
}

// table is what is found as a form: XEP-0055 §3. Deviation: when nobody is found it is a
// table without rows, not an empty query as XEP-0055 §2.1 has it: clients that asked with
// a form look for one.
func table(found []vcard.Person) xml.Element {
	columns := []form.Field{{Name: "jid", Type: form.KindJIDSingle, Label: "Address"}}
	rows := make([][]form.Field, len(found))
	for i := range found {
		rows[i] = []form.Field{form.Value("jid", found[i].Owner.String())}
	}
	for _, f := range fields() {
		columns = append(columns, form.Field{Name: f.name, Type: form.KindTextSingle, Label: f.label})
		for i := range found {
			rows[i] = append(rows[i], form.Value(f.name, *f.of(&found[i])))
		}
	}
	return form.Table(NS, columns, rows).Element()
}
