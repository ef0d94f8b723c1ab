// Package disco tells what the server and its accounts support (XEP-0030), as the
// running features declare it.
package disco

import (
	"context"
	"slices"

	"github.com/starling-im/starling/internal/feature/roster"
	"github.com/starling-im/starling/internal/module"
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

type disco struct {
	*module.Host
	roster *roster.Roster
}

func start(h *module.Host, _ struct{}) error {
	d := &disco{h, module.Use[*roster.Roster](h, "roster")}
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

// info lists identities and features: XEP-0030 §3.1.
func (d *disco) info(ctx context.Context, t module.Target, iq *stanza.Stanza) (xml.Element, error) {
	if err := d.check(ctx, t, iq); err != nil {
		return xml.None, err
	}
	q := xml.New(NSInfo, "query").With(identity(t))
	for _, f := range d.features(t) {
		q = q.With(xml.New(NSInfo, "feature", "var", f))
	}
	return q, nil
}

func identity(t module.Target) xml.Element {
	if t == module.Server {
		return xml.New(NSInfo, "identity", "category", "server", "type", "im", "name", "Starling")
	}
	return xml.New(NSInfo, "identity", "category", "account", "type", "registered")
}

// features are what the running modules declare, sorted.
func (d *disco) features(t module.Target) []string {
	var all []string
	for _, m := range d.Modules() {
		all = append(all, m.Disco[t]...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// items lists what belongs to the server: XEP-0030 §4.1. Nothing does yet, and
// accounts show no resources (XEP-0030 §8).
func (d *disco) items(ctx context.Context, t module.Target, iq *stanza.Stanza) (xml.Element, error) {
	if err := d.check(ctx, t, iq); err != nil {
		return xml.None, err
	}
	return xml.New(NSItems, "query"), nil
}

// check refuses unknown nodes, and tells strangers nothing about an account.
func (d *disco) check(ctx context.Context, t module.Target, iq *stanza.Stanza) error {
	ask := iq.Payload()
	if owner := iq.To; t == module.Account && !owner.IsZero() && owner != iq.From.Bare() {
		item, err := d.roster.Lookup(ctx, owner, iq.From.Bare())
		if err != nil {
			return err
		}
		if !item.From { // XEP-0030 §8
			return stanza.Err(stanza.ServiceUnavailable, "")
		}
	}
	if ask.Attr("node") != "" { // XEP-0030 §3.2
		return stanza.Err(stanza.ItemNotFound, "no such node")
	}
	return nil
}
