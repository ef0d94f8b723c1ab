// Package offline keeps messages for users who are not there, and delivers them when
// they come back (XEP-0160). Of what the archive keeps, it keeps a mark only; a client that reads the archive by itself
// gets no second copy from here (XEP-0313 §6.1.1).
package offline

import (
	"context"
	"embed"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/hook"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/serial"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
)

// Namespaces of what decides whether a message is worth keeping.
const (
	nsHints      = "urn:xmpp:hints"
	nsChatStates = "http://jabber.org/protocol/chatstates"
	nsDelay      = "urn:xmpp:delay"
	nsPing       = "urn:xmpp:ping"
)

//go:embed schema
var schema embed.FS

// Module is the feature's declaration.
var Module = module.Def[Config]{
	Name: "offline",
	Doc:  "Keeps messages for users who are not there.",
	Specs: []module.Spec{
		{XEP: 160, Version: "1.0.1"},
		{XEP: 203, Version: "2.0", Note: "on messages delivered later"},
		{XEP: 334, Version: "1.0.0", Note: "hints about storing"},
	},
	Disco:    module.Disco{module.Server: {"msgoffline"}},
	Defaults: Config{MaxMessages: 500},
	Schema:   schema,
	Start:    start,
}

// Config is the feature's configuration.
type Config struct {
	MaxMessages int `toml:"max_messages" doc:"Most messages that are kept for one user; senders of more get an error."`
}

// feedWorkers is how many portions are read at once.
const feedWorkers = 8

// Offline answers for the messages that wait.
type Offline struct {
	*module.Host
	cfg     Config
	archive Archive              // nil without one
	turns   serial.Keys[jid.JID] // by owner: a message is stored, or some are delivered
	feeds   feeds
	workers *session.Workers // who go on with feeds
	due     due
	kept    prometheus.Counter
	sent    prometheus.Counter
}

// Archive keeps messages whether they wait or not.
type Archive interface {
	// Mark has Mark called for a message that it keeps, and waits for the commit unless that takes long; then Stored
	// tells. kept: it does keep the message.
	Mark(ctx context.Context, st *stanza.Stanza) (kept bool)
	// Settle has what waits for its place in an owner's archive, on any node, take it.
	Settle(ctx context.Context, owner jid.JID) error
	// Waiting reads messages by their ids, as they are delivered; the zero Message is for one that is there no more.
	Waiting(tx *store.Tx, owner jid.JID, ids [][]byte) ([]Message, error)
}

// Message is one that waits.
type Message struct {
	Stanza   *stanza.Stanza
	Position int64 // in the archive; 0 for one that the archive does not keep
	place    int64 // among all that wait for the owner
}

// Join has the archive keep what it keeps anyway. It is called once, before the first stanza.
func (o *Offline) Join(a Archive) { o.archive = a }

func start(h *module.Host, cfg Config) error {
	o := &Offline{
		Host: h, cfg: cfg, workers: session.NewWorkers(feedWorkers), due: due{wake: make(chan struct{}, 1)},
		kept: prometheus.NewCounter(prometheus.CounterOpts{Name: "starling_offline_stored_total", Help: "Messages kept for users who were not there."}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{Name: "starling_offline_delivered_total", Help: "Kept messages that were delivered."}),
	}
	h.Metrics.MustRegister(o.kept, o.sent)
	h.Provide(o)
	h.Hooks.ToAccount.Add(h.Name, hook.Amend, o.unstamp)
	h.Hooks.Undelivered.Add(h.Name, hook.Record, o.keep)
	h.Hooks.Reachable.Add(h.Name, hook.Copy, o.reachable)
	h.Hooks.Ended.Add(h.Name, hook.Record, o.ended)
	h.Hooks.Deleted.Add(h.Name, hook.Record, o.deleted)
	h.Go("offline sweep", o.sweep)
	return nil
}

// unstamp takes off what claims to be a stamp of this server (XEP-0203 §5).
func (o *Offline) unstamp(_ context.Context, e *module.Passage) error {
	if !e.Stanza.Has(nsDelay, "delay") {
		return nil
	}
	all, i := e.Stanza.Elements(), -1
	e.Stanza = e.Stanza.Without(func(stanza.Child) bool {
		i++
		from, err := jid.Parse(all[i].Attr("from"))
		return all[i].Space == nsDelay && err == nil && from.IsHost() && o.Local(from)
	})
	return nil
}

// keep stores a message that nobody could take: XEP-0160 §3.
func (o *Offline) keep(ctx context.Context, e *module.Passage) error {
	st := e.Stanza
	if !worthKeeping(st) {
		return hook.ErrHandled
	}
	owner := st.To.Bare()
	if o.archive == nil || !o.archive.Mark(ctx, st) {
		if err := o.store(ctx, owner, st); err != nil {
			return err
		}
	}
	o.kept.Inc()
	// A resource may have come while the message was being stored; nobody else would tell it.
	for _, s := range o.Sessions.Here(owner) {
		if takes(s) {
			return join(o.deliver(ctx, s))
		}
	}
	o.Sessions.Nudge(owner)
	return hook.ErrHandled
}

// join makes of success what ends the stanza's way.
func join(err error) error {
	if err == nil {
		return hook.ErrHandled
	}
	return err
}

// worthKeeping tells messages for later from those that say nothing later.
func worthKeeping(st *stanza.Stanza) bool {
	if st.Has(nsHints, "no-store") || st.Has(nsHints, "no-permanent-store") { // XEP-0334 §4.1, §4.2
		return false
	}
	if st.Has(nsHints, "store") { // XEP-0334 §4.4
		return true
	}
	for _, c := range st.Children() {
		if c.Space != nsChatStates && c.Local != "thread" && c.Space != nsHints { // XEP-0160 §3
			return true
		}
	}
	return false
}
