// Package roster keeps each user's list of contacts (RFC 6121 §2) and the state of
// the subscriptions in it (RFC 6121 §3 and its appendix A).
package roster

import (
	"context"
	"embed"

	"github.com/starling-im/starling/internal/cache"
	"github.com/starling-im/starling/internal/hook"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/serial"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// NS is the namespace of rosters (RFC 6121 §2.1).
const NS = "jabber:iq:roster"

// cacheSize is how many rosters are kept in memory.
const cacheSize = 20_000

//go:embed schema
var schema embed.FS

// Module is the feature's declaration.
var Module = module.Def[Config]{
	Name: "roster",
	Doc:  "Keeps each user's list of contacts.",
	Specs: []module.Spec{
		{RFC: 6121, Note: "roster, versioning without partial results, pre-approval"},
	},
	Defaults: Config{MaxItems: 1000, MaxName: 1023, MaxGroups: 64, MaxRequests: 200},
	Schema:   schema,
	Start:    start,
}

// Config is the feature's configuration.
type Config struct {
	MaxItems    int `toml:"max_items" doc:"Most contacts that a user may list."`
	MaxName     int `toml:"max_name" doc:"Longest name of a contact or a group, in bytes."`
	MaxGroups   int `toml:"max_groups" doc:"Most groups that a contact may be in."`
	MaxRequests int `toml:"max_requests" doc:"Most subscription requests that are kept for a user to answer."`
}

// Roster answers for all rosters.
type Roster struct {
	// Removed tells of a contact that its owner has taken off the roster.
	Removed hook.Point[Removal]

	host  *module.Host
	cfg   Config
	cache *cache.Cache[*List]
	turns serial.Keys[jid.JID] // by owner: changes, their pushes, and what must not fall between
}

// Removal is a contact that was removed, as it stood before.
type Removal struct {
	Owner jid.JID
	Item  Item
}

func start(h *module.Host, cfg Config) error {
	r := &Roster{host: h, cfg: cfg, cache: cache.New[*List](&h.Caches, "roster", "Rosters", cacheSize, h.Metrics)}
	h.Provide(r)
	h.IQ(module.Account, stanza.Get, NS, "query", r.get)
	h.IQ(module.Account, stanza.Set, NS, "query", r.set)
	h.Hooks.Gate.Add(h.Name, hook.Check, noPush)
	h.Hooks.Features.Add(h.Name, hook.Amend, func(_ context.Context, e *module.FeatureEvent) error {
		if e.Authenticated {
			e.Add = append(e.Add,
				xml.New("urn:xmpp:features:rosterver", "ver"),    // RFC 6121 §2.6.1
				xml.New("urn:xmpp:features:pre-approval", "sub")) // RFC 6121 §3.4
		}
		return nil
	})
	h.Hooks.Deleted.Add(h.Name, hook.Record, r.deleted)
	return nil
}

// noPush keeps others from sending what a careless client could take for a push of its
// own roster (RFC 6121 §2.1.6).
func noPush(_ context.Context, e *module.Passage) error {
	if e.Stanza.Type == stanza.Set && e.Stanza.HasSpace(NS) {
		return stanza.Err(stanza.ServiceUnavailable, "")
	}
	return nil
}

// List is the roster of an account, from memory when it was read lately. It must not be changed.
func (r *Roster) List(ctx context.Context, owner jid.JID) (*List, error) {
	return r.cache.Load(ctx, owner, r.read)
}

// Lookup is the item of one contact; the zero Item when there is none.
func (r *Roster) Lookup(ctx context.Context, owner, contact jid.JID) (Item, error) {
	l, err := r.List(ctx, owner)
	if err != nil {
		return Item{}, err
	}
	return l.Item(contact), nil
}

// Apply changes one item and pushes the result to the owner's interested resources.
// change reports whether it changed anything. before, if not nil, runs when the
// change is committed and before the push.
func (r *Roster) Apply(ctx context.Context, owner, contact jid.JID, change func(*Item) bool, before func()) (Item, error) {
	var item Item
	err := r.turns.Run(ctx, owner, func() error {
		l, changed, err := r.write(ctx, owner, contact, change)
		if err != nil {
			return err
		}
		item = l.Item(contact)
		if before != nil {
			before()
		}
		if changed {
			r.push(ctx, l, owner, contact)
		}
		return nil
	})
	return item, err
}

// deleted takes the account off the rosters of its contacts by cancelling every
// subscription, and forgets its own.
func (r *Roster) deleted(ctx context.Context, e *module.AccountEvent) error {
	l, err := r.List(ctx, e.Account)
	if err != nil {
		return err
	}
	for _, item := range l.Items {
		if err := r.cancel(ctx, e.Account, item); err != nil {
			return err
		}
	}
	return r.forget(ctx, e.Account)
}
