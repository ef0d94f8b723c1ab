// Package router decides where a stanza goes: RFC 6120 §10 and RFC 6121 §8. It knows
// no feature; what stanzas mean is asked of the hooks and iq handlers of package module.
package router

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/hook"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/telemetry"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
)

// Router sends stanzas on. It implements module.Router.
type Router struct {
	core    *module.Core
	set     *module.Set
	log     *slog.Logger
	metrics metrics
	asked   *asked
	away    telemetry.Seldom // stanzas that were refused for want of the database
}

type metrics struct {
	routed  [stanza.IQ + 1]prometheus.Counter
	bounced *prometheus.CounterVec
}

// New makes a router and enters it in core. Handle completes it.
func New(core *module.Core, log *slog.Logger) *Router {
	r := &Router{core: core, log: log, asked: newAsked(core.Metrics)}
	routed := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "starling_stanzas_routed_total", Help: "Stanzas that were routed, by kind.",
	}, []string{"kind"})
	r.metrics.bounced = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "starling_stanzas_bounced_total", Help: "Stanzas that were answered with an error, by condition.",
	}, []string{"condition"})
	for k := stanza.Message; k <= stanza.IQ; k++ {
		r.metrics.routed[k] = routed.WithLabelValues(k.String())
	}
	core.Metrics.MustRegister(routed, r.metrics.bounced)
	core.Router = r
	return r
}

// Handle names the features whose handlers answer iqs. It is called once, before the first stanza.
func (r *Router) Handle(set *module.Set) { r.set = set }

// Inline routes a client's stanza at once if nothing has to be waited for: a message
// for somebody who is there. It reports whether it did; what is left goes to FromClient
// on a worker.
func (r *Router) Inline(ctx context.Context, f *session.Flow, s *session.Session, st *stanza.Stanza) bool {
	if st.Kind != stanza.Message || !r.core.Local(st.To) || st.To.Local() == "" {
		return false
	}
	sessions := r.core.Sessions.Account(st.To.Bare())
	if !anyTakes(sessions, st.To) {
		return false
	}
	h := r.core.Hooks
	ready := h.Quick(s.Bare, st.To.Bare())
	if ready == module.Wait {
		return false
	}
	to, ok := st.To, false
	if st, ok = r.pass(ctx, &h.FromClient, s, st, ready == module.Idle); !ok {
		return true
	}
	if st.To != to { // a feature has sent it elsewhere
		r.route(ctx, f, st)
		return true
	}
	r.metrics.routed[st.Kind].Inc()
	if st, ok = r.pass(ctx, &h.ToAccount, nil, st, ready == module.Idle); ok {
		r.message(ctx, f, st, sessions, false)
	}
	return true
}

// anyTakes tells whether a message to an address finds a session. If that one leaves the
// next moment, routing is right all the same, and only slower.
func anyTakes(sessions []*session.Session, to jid.JID) bool {
	for _, s := range sessions {
		if s.JID == to || s.State().Reachable() {
			return true
		}
	}
	return false
}

// FromClient routes a stanza of a local client, whose 'from' is stamped with its full JID.
func (r *Router) FromClient(ctx context.Context, s *session.Session, st *stanza.Stanza) {
	h := r.core.Hooks
	if !h.FromClient.Empty() {
		var ok bool
		if st, ok = r.pass(ctx, &h.FromClient, s, st, false); !ok {
			return
		}
	}
	switch {
	case st.Kind == stanza.Presence && st.To.IsZero():
		r.pass(ctx, &h.OwnPresence, s, st, false)
		return
	case st.Kind == stanza.Presence:
		var ok bool
		if st, ok = r.pass(ctx, &h.PresenceOut, s, st, false); !ok {
			return
		}
	case st.To.IsZero() && st.Kind == stanza.Message:
		// RFC 6120 §10.3.1: a message without 'to' is addressed to the sender's bare JID.
		st = st.WithTo(s.Bare)
	case st.To.IsZero():
		// RFC 6120 §10.3.3: an iq without 'to' is handled on behalf of the account.
		r.metrics.routed[st.Kind].Inc()
		r.answer(ctx, module.Account, st)
		return
	}
	r.Route(ctx, st)
}

// pass runs the handlers of a point. It reports whether the stanza goes on.
func (r *Router) pass(ctx context.Context, point *hook.Point[module.Passage], s *session.Session, st *stanza.Stanza, idle bool) (*stanza.Stanza, bool) {
	if point.Empty() {
		return st, true
	}
	p := passages.Get().(*module.Passage)
	p.Session, p.Stanza, p.Idle = s, st, idle
	err := point.Run(ctx, p)
	passed := p.Stanza
	*p = module.Passage{}
	passages.Put(p)
	if err == nil {
		return passed, true
	}
	if !errors.Is(err, hook.ErrHandled) {
		r.Bounce(ctx, st, err)
	}
	return nil, false
}

// passages saves an allocation for each point that a message passes.
var passages = sync.Pool{New: func() any { return new(module.Passage) }}

// Route sends a stanza where its 'to' says.
func (r *Router) Route(ctx context.Context, st *stanza.Stanza) {
	f := session.FlowOf(ctx)
	if f == nil {
		session.Within(ctx, func(ctx context.Context, f *session.Flow) { r.route(ctx, f, st) })
		return
	}
	r.route(ctx, f, st)
}

func (r *Router) route(ctx context.Context, f *session.Flow, st *stanza.Stanza) {
	r.metrics.routed[st.Kind].Inc()
	switch {
	case !r.core.Local(st.To):
		r.remote(ctx, st)
	case st.To.Local() == "":
		r.server(ctx, st)
	default:
		r.account(ctx, f, st)
	}
}

// Deliver hands a stanza to one session of this server.
func (r *Router) Deliver(ctx context.Context, to *session.Session, st *stanza.Stanza) (taken bool) {
	if f := session.FlowOf(ctx); f != nil {
		return f.Send(to, st)
	}
	session.Within(ctx, func(_ context.Context, f *session.Flow) { taken = f.Send(to, st) })
	return taken
}

// Tell implements module.Router.
func (r *Router) Tell(ctx context.Context, owner jid.JID, to session.Audience, st *stanza.Stanza) {
	session.Within(ctx, func(_ context.Context, f *session.Flow) {
		for _, s := range r.core.Sessions.Here(owner) {
			if to.Has(s.State()) {
				f.Send(s, to.Address(st, s))
			}
		}
		f.Depart()
		r.core.Sessions.TellElsewhere(owner, to, st)
	})
}

// remote has no way to other servers: RFC 6120 §10.4.
func (r *Router) remote(ctx context.Context, st *stanza.Stanza) {
	if st.Kind == stanza.Presence && st.Type != stanza.Available && st.Type != stanza.Subscribe {
		return // nobody waits for an answer to these
	}
	r.Bounce(ctx, st, stanza.Err(stanza.RemoteServerNotFound, "this server does not talk to other servers"))
}

// server handles a stanza that is addressed to a domain served here (RFC 6120 §10.5.2).
func (r *Router) server(ctx context.Context, st *stanza.Stanza) {
	switch {
	case st.IsRequest():
		r.answer(ctx, module.Server, st)
	case st.Kind == stanza.Message:
		r.Bounce(ctx, st, stanza.Err(stanza.ServiceUnavailable, ""))
	default:
		r.replied(ctx, st)
	}
}

// answer lets the feature that handles the payload answer an iq get or set
// (RFC 6120 §8.2.3).
func (r *Router) answer(ctx context.Context, t module.Target, iq *stanza.Stanza) {
	if !iq.IsRequest() {
		return // RFC 6120 §8.2.3 rule 3: results and errors are never answered
	}
	c := iq.Children()[0]
	handle := r.set.Handler(t, iq.Type, c.Space, c.Local)
	if handle == nil {
		r.Bounce(ctx, iq, stanza.Err(stanza.ServiceUnavailable, "")) // RFC 6120 §8.4
		return
	}
	payload, err := handle(ctx, iq)
	if err != nil {
		r.Bounce(ctx, iq, err)
		return
	}
	r.Route(ctx, r.Answer(iq, payload, nil))
}
