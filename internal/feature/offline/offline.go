// Package offline keeps messages for users who are not there, and delivers them when
// they come back (XEP-0160).
package offline

import (
	"context"
	"embed"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/hook"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/serial"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// Namespaces of what decides whether a message is worth keeping.
const (
	nsHints      = "urn:xmpp:hints"
	nsChatStates = "http://jabber.org/protocol/chatstates"
	nsDelay      = "urn:xmpp:delay"
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

type offline struct {
	*module.Host
	cfg   Config
	turns serial.Keys[jid.JID] // by owner: a message is stored, or all are delivered
	kept  prometheus.Counter
	sent  prometheus.Counter
}

func start(h *module.Host, cfg Config) error {
	o := &offline{
		Host: h, cfg: cfg,
		kept: prometheus.NewCounter(prometheus.CounterOpts{Name: "starling_offline_stored_total", Help: "Messages kept for users who were not there."}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{Name: "starling_offline_delivered_total", Help: "Kept messages that were delivered."}),
	}
	h.Metrics.MustRegister(o.kept, o.sent)
	h.Hooks.ToAccount.Add(h.Name, hook.Amend, o.unstamp)
	h.Hooks.Undelivered.Add(h.Name, hook.Record, o.keep)
	h.Hooks.Reachable.Add(h.Name, hook.Copy, o.reachable)
	h.Hooks.Deleted.Add(h.Name, hook.Record, o.deleted)
	return nil
}

// unstamp takes off what claims to be a stamp of this server (XEP-0203 §5).
func (o *offline) unstamp(_ context.Context, e *module.Passage) error {
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
func (o *offline) keep(ctx context.Context, e *module.Passage) error {
	st := e.Stanza
	if !worthKeeping(st) {
		return hook.ErrHandled
	}
	owner := st.To.Bare()
	if err := o.store(ctx, owner, st); err != nil {
		return err
	}
	o.kept.Inc()
	// A resource may have come while the message was being stored; nobody else would tell it.
	for _, s := range o.Sessions.Account(owner) {
		if s.State().Reachable() {
			return join(o.deliver(ctx, s))
		}
	}
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

func (o *offline) store(ctx context.Context, owner jid.JID, st *stanza.Stanza) error {
	now := o.Now()
	// XEP-0203 §2: the time at which the message came, by our clock.
	st = st.With(xml.New(nsDelay, "delay", "from", owner.Domain(), "stamp", now.UTC().Format("2006-01-02T15:04:05.000Z")))
	return o.turns.Run(ctx, owner, func() error {
		err := o.DB.Write(ctx, func(tx *store.Tx) error {
			var count, last int64
			err := tx.Row(`SELECT COUNT(*), COALESCE(MAX(position), 0) FROM offline WHERE owner = $1`, owner.String()).Scan(&count, &last)
			if err != nil {
				return err
			}
			if count >= int64(o.cfg.MaxMessages) {
				return stanza.Err(stanza.ServiceUnavailable, "too many messages wait for this user")
			}
			_, err = tx.Exec(`INSERT INTO offline (owner, position, received, stanza) VALUES ($1, $2, $3, $4)`,
				owner.String(), last+1, store.Micros(now), st.String())
			return err
		})
		if err != nil {
			return fmt.Errorf("keep message for %s: %w", owner, err)
		}
		return nil
	})
}

// reachable delivers what waits. It is called right before the session counts as
// reachable, and right after, when there is something only if a message was stored
// in between.
func (o *offline) reachable(ctx context.Context, e *module.Passage) error {
	return o.deliver(ctx, e.Session)
}

// deliver hands all kept messages to a session and forgets them.
func (o *offline) deliver(ctx context.Context, s *session.Session) error {
	if s.Anonymous {
		return nil
	}
	return o.turns.Run(ctx, s.Bare, func() error {
		waiting, last, err := o.waiting(ctx, s.Bare)
		if err != nil || len(waiting) == 0 {
			return err
		}
		for _, st := range waiting {
			if !o.Router.Deliver(ctx, s, st) {
				return nil // the session is gone: the next one gets them all
			}
		}
		if f := session.FlowOf(ctx); f != nil {
			f.Flush() // on their way before they are forgotten
		}
		o.sent.Add(float64(len(waiting)))
		return o.forget(ctx, s.Bare, last)
	})
}

// waiting reads what is kept for an owner, in order, and the position of the last.
func (o *offline) waiting(ctx context.Context, owner jid.JID) (all []*stanza.Stanza, last int64, err error) {
	err = o.DB.Read(ctx, func(tx *store.Tx) error {
		return tx.Each(func(scan store.Scan) error {
			var raw string
			if err := scan(&last, &raw); err != nil {
				return err
			}
			st, err := stanza.Decode(raw)
			if err != nil {
				o.Log.Error("kept message is broken", "owner", owner.String(), "position", last, "err", err)
				return nil
			}
			all = append(all, st)
			return nil
		}, `SELECT position, stanza FROM offline WHERE owner = $1 ORDER BY position`, owner.String())
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read messages kept for %s: %w", owner, err)
	}
	return all, last, nil
}

func (o *offline) forget(ctx context.Context, owner jid.JID, last int64) error {
	err := o.DB.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`DELETE FROM offline WHERE owner = $1 AND position <= $2`, owner.String(), last)
		return err
	})
	if err != nil {
		return fmt.Errorf("forget messages delivered to %s: %w", owner, err)
	}
	return nil
}

// deleted forgets what was kept for an account.
func (o *offline) deleted(ctx context.Context, e *module.AccountEvent) error {
	return o.turns.Run(ctx, e.Account, func() error {
		return o.DB.Write(ctx, func(tx *store.Tx) error {
			_, err := tx.Exec(`DELETE FROM offline WHERE owner = $1`, e.Account.String())
			return err
		})
	})
}
