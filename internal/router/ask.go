package router

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/stream"
)

const (
	maxAsked   = 10_000           // requests of the server that wait for a reply
	askTimeout = 30 * time.Second // after which none is expected any more
)

// asked are the requests that the server has sent and that are not answered yet.
type asked struct {
	unanswered prometheus.Counter

	mu   sync.Mutex // guards open
	open map[askKey]*question
}

// askKey is what a reply has in common with its request (RFC 6120 §8.2.3): the id, which
// nobody can guess, and both addresses.
type askKey struct {
	id        string
	asker, to jid.JID
}

type question struct {
	done  module.ReplyFunc
	timer *time.Timer
}

func newAsked(r prometheus.Registerer) *asked {
	a := &asked{open: map[askKey]*question{}}
	a.unanswered = prometheus.NewCounter(prometheus.CounterOpts{Name: "starling_asked_unanswered_total", Help: "Requests of the server that got no reply in time."})
	r.MustRegister(a.unanswered, prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Name: "starling_asked_open", Help: "Requests of the server that wait for a reply."},
		func() float64 { a.mu.Lock(); defer a.mu.Unlock(); return float64(len(a.open)) }))
	return a
}

// Ask sends an iq of the server, with an id of its own, and has done called with the
// reply (module.Router).
func (r *Router) Ask(ctx context.Context, iq *stanza.Stanza, done module.ReplyFunc) {
	iq = iq.WithID(stream.NewID())
	s := r.core.Sessions.Find(iq.To)
	if s != nil && s.Remote() || !r.asked.enter(iq, done) {
		r.asked.unanswered.Inc()
		done(ctx, nil)
		return
	}
	r.Route(ctx, iq)
}

// enter notes a request, unless there are too many.
func (a *asked) enter(iq *stanza.Stanza, done module.ReplyFunc) bool {
	key := askKey{iq.ID, iq.From, iq.To}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.open) >= maxAsked {
		return false
	}
	a.open[key] = &question{done, time.AfterFunc(askTimeout, func() { a.expire(key) })}
	return true
}

// take removes a request and returns what is to be done about it; nil when there is none.
func (a *asked) take(key askKey) module.ReplyFunc {
	a.mu.Lock()
	defer a.mu.Unlock()
	q := a.open[key]
	if q == nil {
		return nil
	}
	q.timer.Stop()
	delete(a.open, key)
	return q.done
}

// expire gives a request up.
func (a *asked) expire(key askKey) {
	done := a.take(key)
	if done == nil {
		return
	}
	a.unanswered.Inc()
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	session.Within(ctx, func(ctx context.Context, _ *session.Flow) { done(ctx, nil) })
}

// replied hands the reply to a request of the server to who asked. Others are ignored.
func (r *Router) replied(ctx context.Context, st *stanza.Stanza) {
	if st.Kind != stanza.IQ || st.Type != stanza.Result && st.Type != stanza.Error {
		return
	}
	if done := r.asked.take(askKey{st.ID, st.To, st.From}); done != nil {
		done(ctx, st)
	}
}
