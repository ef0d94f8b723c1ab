// Package disco tells what the server and its accounts support (XEP-0030), as the
// running features declare it.
package disco

import (
	"context"
	"errors"
	"slices"

	"github.com/starling-im/starling/internal/feature/roster"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// Namespaces of the two questions.
const (
	NSInfo  = "http://jabber.org/protocol/disco#info"
	NSItems = "http://jabber.org/protocol/disco#items"
)

// Module is the feature's declaration.
var Module = module.Def[struct{}]{
	Name:  "disco",
	Doc:   "Tells clients what the server supports.",
	Specs: []module.Spec{{XEP: 30, Version: "2.5.0"}},
	Disco: module.Disco{module.Server: {NSInfo, NSItems}, module.Account: {NSInfo, NSItems}},
	Needs: []string{"roster"},
	Start: start,
}

// Disco answers for the server and its accounts.
type Disco struct {
	*module.Host
	roster *roster.Roster
}

func start(h *module.Host, _ struct{}) error {
	d := &Disco{h, module.Use[*roster.Roster](h, "roster")}
	h.Provide(d)
	for _, t := range []module.Target{module.Server, module.Account} {
		h.IQ(t, stanza.Get, NSInfo, "query", func(ctx context.Context, iq *stanza.Stanza) (xml.Element, error) {
			return d.info(ctx, t, iq)
		})
		h.IQ(t, stanza.Get, NSItems, "query", func(ctx context.Context, iq *stanza.Stanza) (xml.Element, error) {
			return d.items(ctx, t, iq)
		})
	}
	return nil
}

// info lists identities, features and forms: XEP-0030 §3.1, XEP-0128 §2.
func (d *Disco) info(ctx context.Context, t module.Target, iq *stanza.Stanza) (xml.Element, error) {
	if err := d.check(ctx, t, iq); err != nil {
		return xml.None, err
	}
	ask := iq.Payload()
	e := &module.InfoEvent{Target: t, Asker: iq.From, Entity: entity(iq), Node: ask.Attr("node")}
	if err := d.Info(ctx, e); err != nil {
		return xml.None, err
	}
	if !e.Known { // XEP-0030 §3.2
		return xml.None, stanza.Err(stanza.ItemNotFound, "no such node")
	}
	return Element(e), nil
}

// Element is the answer that an event stands for.
func Element(e *module.InfoEvent) xml.Element {
	q := xml.New(NSInfo, "query", "node", e.Node).With(e.Identities...)
	for _, name := range e.Features {
		f := xml.New(NSInfo, "feature", "var", name)
		q.Nodes = append(q.Nodes, xml.Node{Element: &f})
	}
	return q.With(e.Forms...)
}

// Info completes e with what the features tell about the entity or node that it names.
func (d *Disco) Info(ctx context.Context, e *module.InfoEvent) error {
	if e.Node == "" {
		e.Known = true
		e.Identities = append(e.Identities, identity(e.Target))
		for _, m := range d.Modules() {
			e.Features = append(e.Features, m.Disco[e.Target]...)
		}
	}
	err := d.Hooks.Info.Run(ctx, e)
	slices.Sort(e.Features)
	e.Features = slices.Compact(e.Features) // XEP-0030 §3.1: each once
	return err
}

func identity(t module.Target) xml.Element {
	if t == module.Server {
		return xml.New(NSInfo, "identity", "category", "server", "type", "im", "name", "Starling")
	}
	return xml.New(NSInfo, "identity", "category", "account", "type", "registered")
}

// entity is who is asked: without 'to', the sender's account (RFC 6120 §10.3.3).
func entity(iq *stanza.Stanza) jid.JID {
	if iq.To.IsZero() {
		return iq.From.Bare()
	}
	return iq.To
}

// items lists what belongs to the server: XEP-0030 §4.1. Accounts show no resources, and strangers get an empty list, as
// for accounts that do not exist (XEP-0030 §8).
func (d *Disco) items(ctx context.Context, t module.Target, iq *stanza.Stanza) (xml.Element, error) {
	switch err := d.check(ctx, t, iq); {
	case errors.Is(err, errStranger):
		return xml.New(NSItems, "query"), nil
	case err != nil:
		return xml.None, err
	}
	ask := iq.Payload()
	e := &module.ItemsEvent{Target: t, Asker: iq.From, Entity: entity(iq), Node: ask.Attr("node")}
	e.Known = e.Node == ""
	if err := d.Hooks.Items.Run(ctx, e); err != nil {
		return xml.None, err
	}
	if !e.Known { // XEP-0030 §4.2
		return xml.None, stanza.Err(stanza.ItemNotFound, "no such node")
	}
	return xml.New(NSItems, "query", "node", e.Node).With(e.Items...), nil
}

// check tells strangers nothing about an account: XEP-0030 §8.
func (d *Disco) check(ctx context.Context, t module.Target, iq *stanza.Stanza) error {
	owner := iq.To
	if t != module.Account || owner.IsZero() || owner == iq.From.Bare() {
		return nil
	}
	item, err := d.roster.Lookup(ctx, owner, iq.From.Bare())
	if err != nil {
		return err
	}
	if !item.From {
		return errStranger
	}
	return nil
}

// errStranger is for those who do not see the presence of the account that they ask about.
var errStranger = stanza.Err(stanza.ServiceUnavailable, "")
