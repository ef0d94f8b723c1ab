package archive

import (
	"context"
	"slices"

	"github.com/starling-im/starling/internal/hook"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// stanzaID is what tells a client under which id an archive keeps a message: XEP-0359 §2.1.
func stanzaID(id string, owner jid.JID) xml.Element {
	return xml.New(NSStanzaID, "stanza-id", "id", id, "by", owner.String())
}

// refuseForged returns messages in which a client pretends to be an archive that answers: no client asks another one.
func refuseForged(_ context.Context, e *module.Passage) error {
	if e.Stanza.Kind == stanza.Message && e.Stanza.Has(NS, "result") {
		return stanza.Err(stanza.Forbidden, "results come from archives only")
	}
	return nil
}

// dropForged drops results that nobody can have asked for: an archive answers to the resource that asked (XEP-0313 §8.2).
func dropForged(_ context.Context, e *module.Passage) error {
	if e.Stanza.Kind == stanza.Message && e.Stanza.To.IsBare() && e.Stanza.Has(NS, "result") {
		return hook.ErrHandled
	}
	return nil
}

// unforge takes off ids that claim to be of an account here: XEP-0359 §3. Choice: of any account here, since none of them
// has given an id before this.
func (a *Archive) unforge(_ context.Context, e *module.Passage) error {
	if !e.Stanza.Has(NSStanzaID, "stanza-id") {
		return nil
	}
	all, i := e.Stanza.Elements(), -1
	e.Stanza = e.Stanza.Without(func(c stanza.Child) bool {
		i++
		if c.Space != NSStanzaID || c.Local != "stanza-id" {
			return false
		}
		by, err := jid.Parse(all[i].Attr("by"))
		return err == nil && a.Local(by)
	})
	return nil
}

// atHand tells whether the wishes of both are in memory, and whether the writer takes more.
func (a *Archive) atHand(from, to jid.JID) module.Readiness {
	if a.writer.full() || a.Local(from) && !a.known(from) || !a.known(to) {
		return module.Wait
	}
	return module.Ready
}

// known tells whether an account's wishes can be kept to without reading anything.
func (a *Archive) known(owner jid.JID) bool {
	p, ok := a.prefs.Get(owner)
	return ok && p.fallback != fallbackRoster
}

// outgoing keeps what a client sends for the client's account. What it sends to its own account comes by there.
func (a *Archive) outgoing(ctx context.Context, e *module.Passage) error {
	st := e.Stanza
	if st.Kind != stanza.Message || st.To.IsZero() || st.To.Bare() == e.Session.Bare || e.Session.Anonymous || !worthKeeping(st) {
		return nil
	}
	e.Kept = a.keep(ctx, st, e.Session.Bare, st.To)
	return nil
}

// incoming keeps what an account gets, and tells its clients under which id: XEP-0313 §3.5.
func (a *Archive) incoming(ctx context.Context, e *module.Passage) error {
	st := e.Stanza
	if st.Kind != stanza.Message || !worthKeeping(st) {
		return nil
	}
	owner := st.To.Bare()
	sessions := a.Sessions.Account(owner)
	direct, taken := module.Takers(st, sessions)
	if !taken || len(sessions) > 0 && sessions[0].Anonymous {
		return nil
	}
	if !slices.ContainsFunc(sessions, direct) && !a.mayWait(ctx, owner) {
		return nil // it comes back to its sender: XEP-0313 §6.1
	}
	if e.Kept = a.keep(ctx, st, owner, st.From); e.Kept != "" {
		e.Stanza = st.With(stanzaID(e.Kept, owner))
	}
	return nil
}

// mayWait tells whether a message will be kept for an account of which nobody is there. What cannot be found out is left
// to those who find out for good.
func (a *Archive) mayWait(ctx context.Context, owner jid.JID) bool {
	known, err := a.Accounts.Exists(ctx, owner)
	if err != nil || !known {
		return false
	}
	room, err := a.offline.Room(ctx, owner)
	return err != nil || room
}

// keep hands a message to the writer, if it is wanted, and returns the id that it will have; none when it is not kept.
func (a *Archive) keep(ctx context.Context, st *stanza.Stanza, owner, peer jid.JID) string {
	wanted, unsure := a.wants(ctx, owner, peer)
	if !wanted {
		return ""
	}
	f := session.FlowOf(ctx)
	if !a.writer.admit(ctx) {
		a.metrics.unstored.Inc()
		hold(f) // for good: nobody may take it for received
		return ""
	}
	made := a.ids.of(f.Key(st), owner)
	a.writer.add(&row{
		task: insert, owner: owner.String(), id: made, stamp: store.Micros(a.Now()), peer: peer,
		stanza: st.String(), retracts: retracted(st), unsure: unsure, held: hold(f),
	})
	return made.String()
}

// hold keeps the stanza in hand from being acknowledged until its row is committed.
func hold(f *session.Flow) *session.Held {
	if f == nil {
		return nil
	}
	return f.Held.More()
}
