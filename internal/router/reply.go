package router

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// Answer is the reply to an iq get or set: the result with the payload (None for an
// empty one), or the error (RFC 6120 §8.2.3).
func (r *Router) Answer(iq *stanza.Stanza, payload xml.Element, err error) *stanza.Stanza {
	if err != nil {
		return ErrorReply(iq, r.failure(iq, err))
	}
	st := stanza.New(stanza.IQ, stanza.Result, iq.ID, iq.From)
	if !payload.IsNone() {
		st = st.With(payload)
	}
	// RFC 6120 §8.1.2.1: the reply to a stanza without 'to' needs no 'from'.
	return st.WithFrom(iq.To)
}

// Bounce answers a stanza with an error (RFC 6120 §8.3): a *stanza.Failure as it
// is, any other error as internal-server-error, whose cause is logged here.
// Errors, results and stanzas without a sender are never answered.
func (r *Router) Bounce(ctx context.Context, st *stanza.Stanza, err error) {
	failure := r.failure(st, err)
	reply := ErrorReply(st, failure)
	if reply == nil || st.From.IsZero() {
		return
	}
	r.metrics.bounced.WithLabelValues(string(failure.Condition)).Inc()
	if f := session.FlowOf(ctx); f != nil && f.Session != nil && f.Session.JID == st.From {
		// Straight back to the client that sent it: the hooks of its account are about
		// what others send, and the error comes from the address that was written to.
		f.Send(f.Session, reply)
		if h := &r.core.Hooks.Bounced; !h.Empty() {
			if err := h.Each(ctx, &module.BounceEvent{Session: f.Session, Stanza: st, Reply: reply}); err != nil {
				r.log.Error("return of a stanza not handled", "user", f.Session.JID.String(), "err", err)
			}
		}
		return
	}
	r.Route(ctx, reply)
}

// failure is what the sender of a stanza gets to see of an error; the rest is logged.
func (r *Router) failure(st *stanza.Stanza, err error) *stanza.Failure {
	level := slog.LevelDebug
	var failure *stanza.Failure
	switch {
	case errors.As(err, &failure):
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, context.DeadlineExceeded): // passes, and the sender may try again
		if more, told := r.away.Tell(time.Now()); told {
			r.log.Warn("stanzas are refused for want of the database", "more", more, "err", err)
		}
		failure = stanza.Err(stanza.ResourceConstraint, "the database is away")
	default:
		level = slog.LevelError
		failure = stanza.Err(stanza.InternalServerError, "")
	}
	r.log.LogAttrs(context.Background(), level, "stanza refused",
		slog.String("from", st.From.String()), slog.String("to", st.To.String()),
		slog.String("kind", st.Kind.String()), slog.Any("err", err))
	return failure
}

// ErrorReply is the stanza of type error that tells the sender of st about a
// failure; nil when st must not be answered (RFC 6120 §8.3.1).
func ErrorReply(st *stanza.Stanza, failure *stanza.Failure) *stanza.Stanza {
	if st.Type == stanza.Error || st.Kind == stanza.IQ && st.Type == stanza.Result {
		return nil
	}
	reply := stanza.New(st.Kind, stanza.Error, st.ID, st.From, failure.Element())
	return reply.WithFrom(st.To) // RFC 6120 §8.3.1 rule 3
}
