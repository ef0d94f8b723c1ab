// Package archive keeps the messages that each user sends and gets, and hands them out again, page by page (XEP-0313). It
// says in each message under which id it is kept (XEP-0359), keeps to what users and senders wish (XEP-0441, XEP-0334), and
// puts a tombstone in the place of what was retracted (XEP-0424).
//
// A message is known by an id that derives from its key and its owner, so it is known before it is committed, and equal
// wherever it is computed. It stands at a position that is given when it is committed, under the lock of its owner's row:
// what is committed later stands later, so nobody who pages by position misses anything. Commits are those of a writer
// that takes all that waits at once (writer.go), on SQLite by way of a journal (shelf.go); delivery does not wait for it,
// acknowledgements do.
//
// The archive is also where messages wait for users who are away: feature offline keeps a mark for each, for clients that
// do not ask the archive (pending.go).
package archive

import (
	"context"
	"embed"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/cache"
	"github.com/starling-im/starling/internal/feature/offline"
	"github.com/starling-im/starling/internal/feature/roster"
	"github.com/starling-im/starling/internal/hook"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
)

// Namespaces of the archive, and of the ids that it gives.
const (
	NS          = "urn:xmpp:mam:2"
	NSExtended  = NS + "#extended"
	NSStanzaID  = "urn:xmpp:sid:0"
	NSRetract   = "urn:xmpp:message-retract:1"
	nsForward   = "urn:xmpp:forward:0"
	nsDelay     = "urn:xmpp:delay"
	nsTombstone = NSRetract + "#tombstone"
	nsGroupchat = NS + "#groupchat-field"
)

//go:embed schema
var schema embed.FS

// Module is the feature's declaration.
var Module = module.Def[Config]{
	Name: "archive",
	Doc:  "Keeps the messages that users send and get, for their clients to read again.",
	Specs: []module.Spec{
		{XEP: 313, Version: "1.1.3", Note: "archives of users, with #extended"},
		{XEP: 441, Version: "0.2.0"},
		{XEP: 359, Version: "0.7.0"},
		{XEP: 334, Version: "1.0.0", Note: "hints about storing and copying"},
		{XEP: 424, Version: "0.4.2", Note: "tombstones"},
		{XEP: 59, Version: "1.0", Note: "but for pages by index"},
	},
	Disco: module.Disco{
		module.Server:  {NSRetract},
		module.Account: {NS, NSExtended, nsGroupchat, NSStanzaID, NSRetract, nsTombstone},
	},
	Needs:    []string{"offline", "roster"},
	Defaults: Config{MaxAge: 365 * 24 * time.Hour, MaxMessages: 1_000_000, Default: "always", Page: 50, MaxPage: 250, MaxListed: 500},
	Schema:   schema,
	Start:    start,
}

// Config is the feature's configuration.
type Config struct {
	MaxAge      time.Duration `toml:"max_age" doc:"How long messages are kept; 0 keeps them for ever."`
	MaxMessages int           `toml:"max_messages" doc:"Most messages that are kept for one user, the newest; 0 sets no limit."`
	Default     string        `toml:"default" doc:"What is kept for users who have not said what they wish: always (all), roster (what they exchange with their contacts) or never (nothing)."`
	Page        int           `toml:"page" min:"1" doc:"Messages in a page whose length the client leaves open."`
	MaxPage     int           `toml:"max_page" min:"1" doc:"Most messages in a page."`
	MaxListed   int           `toml:"max_listed" doc:"Most addresses that a user may name in preferences."`
}

// secretWait is how long the start of the server waits for its database.
const secretWait = time.Minute

// prefsSize is of how many accounts the preferences are kept in memory: two for each message.
const prefsSize = 50_000

// Archive answers for the archives of all accounts.
type Archive struct {
	*module.Host
	cfg     Config
	roster  *roster.Roster
	offline *offline.Offline
	prefs   *cache.Cache[*prefs]
	unset   *prefs // of those who have not set any
	ids     ids
	writer  *writer
	retract *retractor
	metrics metrics
}

type metrics struct {
	unstored, purged, tombstones, queries prometheus.Counter
}

func start(h *module.Host, cfg Config) error {
	fallback, ok := parseFallback(cfg.Default)
	if !ok {
		return fmt.Errorf("archive.default is %q: it has to be always, roster or never", cfg.Default)
	}
	a := &Archive{
		Host: h, cfg: cfg,
		roster:  module.Use[*roster.Roster](h, "roster"),
		offline: module.Use[*offline.Offline](h, "offline"),
		prefs:   cache.New[*prefs](&h.Caches, "archive_prefs", "Preferences of archives", prefsSize, h.Metrics),
		unset:   &prefs{fallback: fallback},
	}
	ctx, cancel := context.WithTimeout(context.Background(), secretWait)
	defer cancel()
	var err error
	if a.ids, err = readSecret(ctx, h.DB); err != nil {
		return fmt.Errorf("read what ids are made with: %w", err)
	}
	a.metrics = newMetrics(h.Metrics)
	a.retract = newRetractor(a)
	a.writer = newWriter(a)
	h.Provide(a)
	a.offline.Join(a)
	a.answer()
	h.Hooks.FromClient.Add(h.Name, hook.Check, refuseForged)
	h.Hooks.FromClient.Add(h.Name, hook.Amend, a.unforge)
	h.Hooks.FromClient.Add(h.Name, hook.Record, a.outgoing)
	h.Hooks.ToAccount.Add(h.Name, hook.Check, dropForged)
	h.Hooks.ToAccount.Add(h.Name, hook.Amend, a.unforge)
	h.Hooks.ToAccount.Add(h.Name, hook.Record, a.incoming)
	h.Hooks.Bind.Add(h.Name, hook.Record, a.bound)
	h.Hooks.Settle.Add(h.Name, hook.Record, a.flushed)
	h.Hooks.Deleted.Add(h.Name, hook.Record, a.deleted)
	h.Hooks.AddQuick(a.atHand)
	h.Go("archive writer", a.writer.loop)
	h.Go("archive retractions", a.retract.loop)
	h.Go("archive purge", a.purge)
	return nil
}

// answer registers the requests: XEP-0313 §4, §5, XEP-0441 §2.1.
func (a *Archive) answer() {
	a.IQ(module.Account, stanza.Get, NS, "query", a.form)
	a.IQ(module.Account, stanza.Set, NS, "query", a.query)
	a.IQ(module.Account, stanza.Get, NS, "metadata", a.metadata)
	a.IQ(module.Account, stanza.Get, NS, "prefs", a.getPrefs)
	a.IQ(module.Account, stanza.Set, NS, "prefs", a.setPrefs)
}

func newMetrics(r prometheus.Registerer) metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "starling_archive_" + name, Help: help})
		r.MustRegister(c)
		return c
	}
	return metrics{
		unstored:   counter("unstored_total", "Messages that were passed on without being kept, since too many wait for the database."),
		purged:     counter("purged_total", "Messages that were removed because of their age or number."),
		tombstones: counter("tombstones_total", "Messages that were replaced by a tombstone."),
		queries:    counter("queries_total", "Pages that were read."),
	}
}

// Oldest is when the message came that has waited longest for its commit; zero when none waits. Its sender is not told
// that it was received.
func (a *Archive) Oldest() time.Time { return a.writer.oldest() }

// flush waits until all that was queued for an account has its place in the archive, on all other nodes too, so that ids
// which its clients have got are known.
func (a *Archive) flush(ctx context.Context, owner jid.JID) error {
	a.Sessions.SettleElsewhere(ctx, owner)
	return a.writer.flush(ctx, owner.String())
}

// flushed is flush as another node asks for it.
func (a *Archive) flushed(ctx context.Context, e *module.AccountEvent) error {
	return a.writer.flush(ctx, e.Account.String())
}

// deleted forgets the archive and the preferences of an account. The positions that were given stay known, so that none is
// given again.
func (a *Archive) deleted(ctx context.Context, e *module.AccountEvent) error {
	if err := a.flush(ctx, e.Account); err != nil {
		return err
	}
	if err := a.writer.flush(ctx, ""); err != nil { // nothing of it stays in the journal
		return err
	}
	err := a.forget(ctx, e.Account)
	a.prefs.Drop(e.Account)
	return err
}
