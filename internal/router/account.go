package router

import (
	"context"
	"errors"

	"github.com/starling-im/starling/internal/hook"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/stanza"
)

// account handles a stanza for a local user: RFC 6121 §8.5.
func (r *Router) account(ctx context.Context, f *session.Flow, st *stanza.Stanza) {
	if st.Kind == stanza.Presence {
		r.presence(ctx, f, st)
		return
	}
	if h := &r.core.Hooks.ToAccount; !h.Empty() {
		var ok bool
		if st, ok = r.pass(ctx, h, nil, st, false); !ok {
			return
		}
	}
	if st.Kind == stanza.Message {
		r.message(ctx, f, st, r.core.Sessions.Account(st.To.Bare()), false)
	} else {
		r.iq(ctx, f, st)
	}
}

// presence delivers presence that no feature took over.
func (r *Router) presence(ctx context.Context, f *session.Flow, st *stanza.Stanza) {
	st, ok := r.pass(ctx, &r.core.Hooks.PresenceIn, nil, st, false)
	if !ok {
		return
	}
	switch st.Type {
	case stanza.Available, stanza.Unavailable, stanza.Error:
	default:
		return // subscriptions and probes are for a feature to handle
	}
	for _, s := range r.core.Sessions.Account(st.To.Bare()) {
		// RFC 6121 §8.5.2.1.2, §8.5.3.1: to all available resources, or the one that is named.
		if s.JID == st.To || st.To.IsBare() && s.State().Available() {
			f.Send(s, st)
		}
	}
}

// message delivers to the sessions of an account by the table of RFC 6121 §8.5.4. returned means that a session was given
// the message before.
func (r *Router) message(ctx context.Context, f *session.Flow, st *stanza.Stanza, sessions []*session.Session, returned bool) {
	if st.To.IsFull() {
		for _, s := range sessions {
			if s.JID == st.To && f.Send(s, st) {
				return // RFC 6121 §8.5.3.1
			}
		}
		switch st.Type {
		case stanza.Chat: // RFC 6121 §8.5.3.2.1: goes on as if to the bare JID
		case stanza.Error:
			return
		default:
			r.Bounce(ctx, st, stanza.Err(stanza.ServiceUnavailable, ""))
			return
		}
	}
	switch st.Type {
	case stanza.Groupchat: // RFC 6121 §8.5.2.1.1
		r.Bounce(ctx, st, stanza.Err(stanza.ServiceUnavailable, ""))
		return
	case stanza.Error:
		return
	}
	if !r.toReachable(f, st, sessions) {
		r.undelivered(ctx, st, returned)
	}
}

// toReachable sends a message to the sessions that take messages for their account. It reports whether one has it, or
// may yet get it: then it is for Returned to go on if none does.
func (r *Router) toReachable(f *session.Flow, st *stanza.Stanza, sessions []*session.Session) (delivered bool) {
	// RFC 6121 §8.5.2.1.1: never to a negative priority. Choice: to all others, since
	// people expect to find a conversation on each of their devices.
	ways := 0
	for _, s := range sessions {
		if s.State().Reachable() {
			ways++
		}
	}
	if ways > 1 {
		f.Fork = session.NewFork()
		defer func() { f.Fork = nil }()
	}
	for _, s := range sessions {
		if s.State().Reachable() && f.Send(s, st) {
			delivered = true
		}
	}
	if f.Fork != nil && f.Fork.Close(false) {
		return false
	}
	return delivered
}

// Returned routes a stanza anew that was on its way to a session on another node and did not get there: by RFC 6121 §8.5
// as if that session were not there, and for this one way only.
func (r *Router) Returned(ctx context.Context, ret module.Return) {
	session.Within(ctx, func(ctx context.Context, f *session.Flow) {
		st := ret.Stanza
		switch {
		case st.Kind == stanza.Message && ret.Final:
			if st.Type != stanza.Groupchat && st.Type != stanza.Error {
				r.undelivered(ctx, st, true)
			}
		case st.Kind == stanza.Message:
			var others []*session.Session
			for _, s := range r.core.Sessions.Account(st.To.Bare()) {
				if s.UID != ret.UID {
					others = append(others, s)
				}
			}
			r.message(ctx, f, st, others, true)
		case st.IsRequest(): // RFC 6121 §8.5.3.2.3
			r.Bounce(ctx, st, stanza.Err(stanza.ServiceUnavailable, ""))
		}
	})
}

// undelivered is RFC 6121 §8.5.2.2.1: kept for later, ignored or bounced.
func (r *Router) undelivered(ctx context.Context, st *stanza.Stanza, returned bool) {
	if st.Type == stanza.Headline {
		return
	}
	// A session may outlast its account by a moment, and a guest has none to come back to.
	known, err := r.core.Accounts.Exists(ctx, st.To.Bare())
	if err != nil && !returned {
		r.Bounce(ctx, st, err)
		return
	}
	// What a session was given may have been read, and is in the archive or about to be: as long as nobody knows that the
	// account is gone, nothing is known that its sender should hear.
	if known || err != nil {
		p := module.Passage{Stanza: st}
		switch err := r.core.Hooks.Undelivered.Run(ctx, &p); {
		case errors.Is(err, hook.ErrHandled):
			return
		case err != nil:
			r.Bounce(ctx, st, err)
			return
		}
	}
	// RFC 6121 §8.5.1. Choice: the sender learns that nobody will read the message.
	r.Bounce(ctx, st, stanza.Err(stanza.ServiceUnavailable, ""))
}

// iq delivers to a resource, or answers on behalf of the user.
func (r *Router) iq(ctx context.Context, f *session.Flow, st *stanza.Stanza) {
	if st.To.IsFull() {
		r.iqToResource(ctx, f, st)
		return
	}
	if !st.IsRequest() {
		r.replied(ctx, st)
		return
	}
	// RFC 6121 §8.5.2.1.3: never forwarded to a resource. Choice: whoever answers is asked for names without account,
	// too, so that nothing tells these from the accounts of strangers (RFC 6120 §13.11).
	r.answer(ctx, module.Account, st)
}

func (r *Router) iqToResource(ctx context.Context, f *session.Flow, st *stanza.Stanza) {
	s := r.core.Sessions.Find(st.To)
	if s == nil { // RFC 6121 §8.5.3.2.3
		r.Bounce(ctx, st, stanza.Err(stanza.ServiceUnavailable, ""))
		return
	}
	ours := st.From.IsZero() || st.From.IsHost() && r.core.Local(st.From) // the server's own
	if st.IsRequest() && st.From.Bare() != s.Bare && !ours {
		defer func() { f.Gated = false }() // Gate may leave it to the node of the resource
		var ok bool
		if st, ok = r.pass(ctx, &r.core.Hooks.Gate, s, st, false); !ok {
			return
		}
	}
	if !f.Send(s, st) {
		r.Bounce(ctx, st, stanza.Err(stanza.ServiceUnavailable, ""))
	}
}
