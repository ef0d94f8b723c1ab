// Package lastactivity tells contacts since when a user is away, and anybody how long
// the server has been running (XEP-0012).
package lastactivity

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/starling-im/starling/internal/feature/roster"
	"github.com/starling-im/starling/internal/hook"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// NS is the namespace of the question.
const NS = "jabber:iq:last"

// maxStatus is how much is kept of a status, in bytes.
const maxStatus = 1024

//go:embed schema
var schema embed.FS

// Module is the feature's declaration.
var Module = module.Def[struct{}]{
	Name:   "lastactivity",
	Doc:    "Tells contacts since when a user is away.",
	Specs:  []module.Spec{{XEP: 12, Version: "2.0"}},
	Disco:  module.Disco{module.Server: {NS}, module.Account: {NS}},
	Needs:  []string{"roster"},
	Schema: schema,
	Start:  start,
}

type lastActivity struct {
	*module.Host
	roster *roster.Roster
	since  time.Time // start of the server

	mu   sync.Mutex                  // guards left
	left map[*session.Session]string // status with which a session that goes on has become unavailable
}

func start(h *module.Host, _ struct{}) error {
	l := &lastActivity{Host: h, roster: module.Use[*roster.Roster](h, "roster"), since: h.Now(), left: map[*session.Session]string{}}
	h.IQ(module.Server, stanza.Get, NS, "query", l.uptime)
	h.IQ(module.Account, stanza.Get, NS, "query", l.account)
	h.Hooks.ToAccount.Add(h.Name, hook.Check, l.resource)
	h.Hooks.OwnPresence.Add(h.Name, hook.Record, l.presence)
	h.Hooks.Ended.Add(h.Name, hook.Record, l.ended)
	h.Hooks.Deleted.Add(h.Name, hook.Record, l.deleted)
	return nil
}

// uptime is XEP-0012 §5.
func (l *lastActivity) uptime(context.Context, *stanza.Stanza) (xml.Element, error) {
	return l.answer(l.since, ""), nil
}

func (l *lastActivity) answer(since time.Time, status string) xml.Element {
	seconds := max(0, int64(l.Now().Sub(since)/time.Second))
	return xml.New(NS, "query", "seconds", strconv.FormatInt(seconds, 10)).WithText(status)
}

// account answers for a user: XEP-0012 §3.
func (l *lastActivity) account(ctx context.Context, iq *stanza.Stanza) (xml.Element, error) {
	owner := iq.To
	if owner.IsZero() {
		owner = iq.From.Bare()
	}
	if err := l.check(ctx, owner, iq.From); err != nil {
		return xml.None, err
	}
	if len(l.Sessions.Account(owner)) > 0 {
		return l.answer(l.Now(), ""), nil
	}
	var ended int64
	var status string
	err := l.DB.Read(ctx, func(tx *store.Tx) error {
		return tx.Row(`SELECT ended, status FROM last_activity WHERE owner = $1`, owner.String()).Scan(&ended, &status)
	})
	switch {
	case errors.Is(err, store.ErrNotFound): // Choice: of who has never logged in there is nothing to tell
		return xml.None, stanza.Err(stanza.ItemNotFound, "this user has never logged in").Because(err)
	case err != nil:
		return xml.None, fmt.Errorf("look up last activity of %s: %w", owner, err)
	}
	return l.answer(store.Time(ended), status), nil
}

// check refuses who may not see the owner's presence: XEP-0012 §3, §8.
func (l *lastActivity) check(ctx context.Context, owner, asker jid.JID) error {
	if asker.Bare() == owner {
		return nil
	}
	item, err := l.roster.Lookup(ctx, owner, asker.Bare())
	if err != nil {
		return err
	}
	if !item.From {
		return stanza.Err(stanza.Forbidden, "")
	}
	switch err := l.Hooks.Share.Run(ctx, &module.ShareEvent{Owner: owner, Contact: asker.Bare()}); {
	case errors.Is(err, hook.ErrHandled):
		return stanza.Err(stanza.Forbidden, "")
	case err != nil:
		return err
	}
	return nil
}

// resource keeps questions from a resource that its user does not share presence with:
// XEP-0012 §4. They get another error than the other requests that RFC 6121 §8.5.3.1 refuses.
func (l *lastActivity) resource(ctx context.Context, e *module.Passage) error {
	st := e.Stanza
	if st.Kind != stanza.IQ || st.Type != stanza.Get || !st.To.IsFull() || !st.Has(NS, "query") {
		return nil
	}
	if s := l.Sessions.Find(st.To); s != nil {
		if s.State().Directs { // its node knows to whom, and lets nobody else through
			return nil
		}
		for _, to := range s.State().Directed {
			if to == st.From || to == st.From.Bare() {
				return nil
			}
		}
	}
	return l.check(ctx, st.To.Bare(), st.From)
}

// presence remembers the status of unavailable presence until the session ends or
// becomes available again.
func (l *lastActivity) presence(_ context.Context, e *module.Passage) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch e.Stanza.Type {
	case stanza.Unavailable:
		status := e.Stanza.Child(xml.NSClient, "status")
		l.left[e.Session] = clip(status.Text())
	case stanza.Available:
		delete(l.left, e.Session)
	}
	return nil
}

// clip shortens a status to what is kept, at the end of a character.
func clip(s string) string {
	if len(s) <= maxStatus {
		return s
	}
	n := maxStatus
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// ended records that a user has left.
func (l *lastActivity) ended(ctx context.Context, e *module.Passage) error {
	s := e.Session
	l.mu.Lock()
	status := l.left[s]
	delete(l.left, s)
	l.mu.Unlock()
	if s.Anonymous {
		return nil
	}
	// The deletion of an account ends its sessions too.
	if known, err := l.Accounts.Exists(ctx, s.Bare); err != nil || !known {
		return err
	}
	err := l.DB.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO last_activity (owner, ended, status) VALUES ($1, $2, $3)
			ON CONFLICT (owner) DO UPDATE SET ended = excluded.ended, status = excluded.status
			WHERE excluded.ended >= last_activity.ended`, s.Bare.String(), store.Micros(l.Now()), status)
		return err
	})
	if err != nil {
		return fmt.Errorf("record last activity of %s: %w", s.Bare, err)
	}
	return nil
}

// deleted forgets when the owner of an account was there.
func (l *lastActivity) deleted(ctx context.Context, e *module.AccountEvent) error {
	return l.DB.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`DELETE FROM last_activity WHERE owner = $1`, e.Account.String())
		return err
	})
}
