package router

import (
	"context"

	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/stanza"
)

// Namespaces of what keeps a message from being copied (XEP-0280 §9).
const (
	nsCarbons = "urn:xmpp:carbons:2"
	nsHints   = "urn:xmpp:hints"
)

// SendOn treats a stanza that a session was given, and that its client did not get, as one for a resource that is gone
// (XEP-0198 §4): by RFC 6121 §8.5 as if the session was not there, which takes nothing of the context's flow. The hooks
// of the account have seen it. at is when the session was given it, in microseconds since 1970.
func (r *Router) SendOn(ctx context.Context, gone *session.Session, st *stanza.Stanza, at int64) {
	switch {
	case st.Kind == stanza.Presence, st.To.Bare() != gone.Bare:
	case st.Kind == stanza.IQ:
		if st.IsRequest() { // RFC 6121 §8.5.3.2.3
			r.Bounce(ctx, st, stanza.Err(stanza.ServiceUnavailable, ""))
		}
	case st.From == gone.Bare: // made by the account for this resource, such as a copy of what another one has
	case r.copied(gone, st, at):
	default:
		session.Within(ctx, func(ctx context.Context, f *session.Flow) {
			r.message(ctx, f, st, r.core.Sessions.Account(gone.Bare), true)
		})
	}
}

// copied tells whether another resource got a copy of a message to this one (XEP-0280 §7).
func (r *Router) copied(gone *session.Session, st *stanza.Stanza, at int64) bool {
	switch st.Type {
	case stanza.Chat, stanza.Normal:
	default:
		return false
	}
	if !st.To.IsFull() || st.Has(nsCarbons, "private") || st.Has(nsHints, "no-copy") {
		return false
	}
	for _, s := range r.core.Sessions.Account(gone.Bare) {
		if s != gone && s.State().Carbons && s.Born < at {
			return true
		}
	}
	return false
}
