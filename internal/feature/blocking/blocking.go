// Package blocking lets a user refuse contacts (XEP-0191), and tell the operator why
// (XEP-0377).
package blocking

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/cache"
	"github.com/starling-im/starling/internal/feature/roster"
	"github.com/starling-im/starling/internal/hook"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/serial"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// Namespaces of block lists, of the error that tells users whom they have blocked, and of reports.
const (
	NS        = "urn:xmpp:blocking"
	nsErrors  = "urn:xmpp:blocking:errors"
	nsReport  = "urn:xmpp:reporting:1"
	nsStanzas = "urn:xmpp:sid:0"
)

// cacheSize is how many block lists are kept in memory. Most of them are empty, and
// all empty ones are the same.
const cacheSize = 100_000

//go:embed schema
var schema embed.FS

// Module is the feature's declaration.
var Module = module.Def[Config]{
	Name: "blocking",
	Doc:  "Lets a user refuse contacts, and report them.",
	Specs: []module.Spec{
		{XEP: 191, Version: "1.3"},
		{XEP: 377, Version: "0.4.1", Note: "reports are kept for the operator and not forwarded"},
	},
	Disco:    module.Disco{module.Server: {NS, nsReport}},
	Needs:    []string{"roster"},
	Defaults: Config{MaxItems: 1000, MaxReports: 100},
	Schema:   schema,
	Start:    start,
}

// Config is the feature's configuration.
type Config struct {
	MaxItems   int `toml:"max_items" min:"1" doc:"Longest block list that an account may keep."`
	MaxReports int `toml:"max_reports" min:"0" doc:"Reports that are kept of one account; the oldest give way. 0 keeps none."`
}

// Blocking knows all block lists.
type Blocking struct {
	*module.Host
	cfg     Config
	roster  *roster.Roster
	lists   *cache.Cache[*List]
	turns   serial.Keys[jid.JID] // by owner: changes, their pushes, and what must not fall between
	refused prometheus.Counter
	reports prometheus.Counter
	retry   atomic.Int64 // when lists are read again after the database was away, in nanoseconds since 1970
}

func start(h *module.Host, cfg Config) error {
	b := &Blocking{
		Host: h, cfg: cfg, roster: module.Use[*roster.Roster](h, "roster"),
		lists:   cache.New[*List](&h.Caches, "blocking", "Block lists", cacheSize, h.Metrics),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "starling_blocking_refused_total", Help: "Stanzas that were refused because of a block."}),
		reports: prometheus.NewCounter(prometheus.CounterOpts{Name: "starling_blocking_reports_total", Help: "Reports of abuse that users have made."}),
	}
	h.Metrics.MustRegister(b.refused, b.reports)
	h.Provide(b)
	h.IQ(module.Account, stanza.Get, NS, "blocklist", b.list)
	h.IQ(module.Account, stanza.Set, NS, "block", b.block)
	h.IQ(module.Account, stanza.Set, NS, "unblock", b.unblock)
	h.Hooks.FromClient.Add(h.Name, hook.Check, b.outbound)
	h.Hooks.ToAccount.Add(h.Name, hook.Check, b.inbound)
	h.Hooks.PresenceIn.Add(h.Name, hook.Check, b.presenceIn)
	h.Hooks.Share.Add(h.Name, hook.Check, b.share)
	h.Hooks.Deleted.Add(h.Name, hook.Record, b.deleted)
	h.Hooks.AddQuick(b.atHand)
	return nil
}

// Blocks tells whether an account here has blocked a contact.
func (b *Blocking) Blocks(ctx context.Context, owner, contact jid.JID) (bool, error) {
	l, err := b.listOf(ctx, owner)
	if err != nil {
		return false, err
	}
	return l.blocks(owner, contact), nil
}

// listOf is the list that an account's stanzas are held against. Choice: while the database is away it is the one that was
// known before the node emptied its caches, since messages between people who are there do not wait for the database. Of
// a list that nobody has read yet nothing is known, and what it is to be held against is refused for the time being.
func (b *Blocking) listOf(ctx context.Context, owner jid.JID) (*List, error) {
	l, err := b.lists.Load(ctx, owner, b.readSoon)
	if errors.Is(err, store.ErrUnavailable) {
		if stale, ok := b.lists.Stale(owner); ok {
			return stale, nil
		}
	}
	return l, err
}

// What is known of a list is used when it cannot be read in staleWait, and for staleTime no other such list is read.
const (
	staleWait = time.Second
	staleTime = 5 * time.Second
)

// readSoon is read, but gives up soon a list of which something is known. The error is store.ErrUnavailable then.
func (b *Blocking) readSoon(ctx context.Context, owner jid.JID) (*List, error) {
	if _, ok := b.lists.Stale(owner); !ok {
		return b.read(ctx, owner)
	}
	if b.Now().UnixNano() < b.retry.Load() {
		return nil, store.ErrUnavailable
	}
	soon, cancel := context.WithTimeout(ctx, staleWait)
	defer cancel()
	l, err := b.read(soon, owner)
	if err != nil && soon.Err() != nil {
		err = fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	if errors.Is(err, store.ErrUnavailable) {
		b.retry.Store(b.Now().Add(staleTime).UnixNano())
	}
	return l, err
}

// atHand tells whether both lists that a message is held against are in memory, and
// whether anybody is on them.
func (b *Blocking) atHand(from, to jid.JID) module.Readiness {
	theirs, ok := b.lists.Get(to)
	if !ok {
		return module.Wait
	}
	own, ok := b.lists.Get(from)
	switch {
	case !ok:
		return module.Wait
	case theirs == empty && own == empty:
		return module.Idle
	}
	return module.Ready
}

// outbound refuses what a client sends to somebody whom the user has blocked: XEP-0191 §3.3.
func (b *Blocking) outbound(ctx context.Context, e *module.Passage) error {
	to := e.Stanza.To
	if e.Idle || to.IsZero() {
		return nil
	}
	blocked, err := b.Blocks(ctx, e.Session.Bare, to)
	if err != nil || !blocked {
		return err
	}
	b.refused.Inc()
	// XEP-0191 §3.3, example 9: of type "cancel".
	return stanza.Err(stanza.NotAcceptable, "").OfType("cancel").With(xml.New(nsErrors, "blocked"))
}

// inbound refuses messages and iqs for a user who has blocked the sender: XEP-0191 §3.3.
func (b *Blocking) inbound(ctx context.Context, e *module.Passage) error {
	if e.Idle {
		return nil
	}
	blocked, err := b.Blocks(ctx, e.Stanza.To.Bare(), e.Stanza.From)
	if err != nil || !blocked {
		return err
	}
	b.refused.Inc()
	switch e.Stanza.Type {
	case stanza.Groupchat, stanza.Headline:
		// Choice: an error would have the room throw its occupant out, when it is one other
		// occupant who is blocked; and nobody waits for a headline to be answered.
		return hook.ErrHandled
	}
	return stanza.Err(stanza.ServiceUnavailable, "") // results and errors are not answered by anybody
}

// presenceIn drops presence of all types: XEP-0191 §3.3.
func (b *Blocking) presenceIn(ctx context.Context, e *module.Passage) error {
	blocked, err := b.Blocks(ctx, e.Stanza.To.Bare(), e.Stanza.From)
	if err != nil || !blocked {
		return err
	}
	b.refused.Inc()
	return hook.ErrHandled
}

// share hides a user from those who are blocked.
func (b *Blocking) share(ctx context.Context, e *module.ShareEvent) error {
	blocked, err := b.Blocks(ctx, e.Owner, e.Contact)
	if err == nil && blocked {
		return hook.ErrHandled
	}
	return err
}
