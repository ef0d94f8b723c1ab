package c2s

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/xmpp/jid"
)

// What is remembered of sessions that have ended, for clients that come too late (XEP-0198 §5).
const (
	maxRemains  = 50_000
	remainsTime = time.Hour
)

// remains are what is left of a session that could be resumed.
type remains struct {
	account jid.JID
	h       uint32 // stanzas of the client that were handled
	ended   int64  // microseconds since 1970
}

// keeper knows the sessions with stream management.
type keeper struct {
	mu      sync.Mutex // guards all, byID, ended and order
	all     map[*line]struct{}
	byID    map[string]*line // those that can be resumed
	ended   map[string]remains
	order   []string // of ended, oldest first
	acks    acks
	enabled prometheus.Counter
	resumed prometheus.Counter
	failed  *prometheus.CounterVec
	over    *prometheus.CounterVec
	sentOn  prometheus.Counter

	released, dropped prometheus.Counter // of stanzas that were held back
}

func newKeeper(r prometheus.Registerer) *keeper {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		r.MustRegister(c)
		return c
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
		r.MustRegister(c)
		return c
	}
	k := &keeper{
		all: map[*line]struct{}{}, byID: map[string]*line{}, ended: map[string]remains{},
		enabled:  counter("starling_sm_enabled_total", "Sessions that enabled stream management."),
		resumed:  counter("starling_sm_resumed_total", "Sessions that were resumed."),
		failed:   vec("starling_sm_resume_failures_total", "Sessions that were not resumed, by reason.", "reason"),
		over:     vec("starling_sm_ended_total", "Ends of sessions with stream management, by reason.", "reason"),
		sentOn:   counter("starling_sm_rerouted_total", "Stanzas that the client of a session did not acknowledge, and that were sent on when it ended."),
		released: counter("starling_csi_released_total", "Stanzas that were held back for a client and sent later."),
		dropped:  counter("starling_csi_dropped_total", "Stanzas that were left out for a client that did not listen."),
	}
	for name, g := range map[string]struct {
		help  string
		value func(load) int
	}{
		"starling_sm_sessions":        {"Sessions with stream management.", func(l load) int { return l.sessions }},
		"starling_sm_detached":        {"Sessions without a connection whose clients may come back.", func(l load) int { return l.detached }},
		"starling_sm_unacked_stanzas": {"Stanzas that wait for the acknowledgement of a client.", func(l load) int { return l.stanzas }},
		"starling_sm_unacked_bytes":   {"Size of the stanzas that wait for the acknowledgement of a client.", func(l load) int { return l.bytes }},
		"starling_sm_longest_queue":   {"Stanzas that wait for the client that has most of them.", func(l load) int { return l.longest }},
		"starling_csi_inactive":       {"Clients that have said that they are inactive, of sessions with stream management.", func(l load) int { return l.inactive }},
	} {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: g.help}, func() float64 { return float64(g.value(k.load())) }))
	}
	return k
}

// load is what the sessions hold at a moment.
type load struct{ sessions, detached, stanzas, bytes, longest, inactive int }

func (k *keeper) load() (sum load) {
	for _, l := range k.lines() {
		l.mu.Lock()
		sum.sessions++
		if l.phase == detached {
			sum.detached++
		}
		if l.quiet != nil && l.quiet.inactive {
			sum.inactive++
		}
		sum.stanzas += l.queue.len()
		sum.bytes += l.queue.bytes
		sum.longest = max(sum.longest, l.queue.len())
		l.mu.Unlock()
	}
	return sum
}

// lines lists the sessions with stream management.
func (k *keeper) lines() []*line {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := make([]*line, 0, len(k.all))
	for l := range k.all {
		all = append(all, l)
	}
	return all
}

// newID makes an id for a session, which nobody can guess (XEP-0198 §5), with a hint of the node that has it.
func newID(hint string) string {
	if hint == "" {
		return rand.Text()
	}
	return hint + "." + rand.Text()
}

// enter takes note of a session; without an id it cannot be resumed.
func (k *keeper) enter(l *line, id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.all[l] = struct{}{}
	if id != "" {
		k.byID[id] = l
	}
}

// leave forgets a session that is over, but for what its client may want to know.
func (k *keeper) leave(l *line, id string, r remains) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.all, l)
	if id == "" {
		return
	}
	delete(k.byID, id)
	k.ended[id] = r
	k.order = append(k.order, id)
	for len(k.order) > maxRemains || k.ended[k.order[0]].ended < r.ended-remainsTime.Microseconds() {
		delete(k.ended, k.order[0])
		k.order = k.order[1:]
	}
}

// find looks for the session of an account by its id. Without one, r is what remains of it; known tells whether there
// is that.
func (k *keeper) find(id string, account jid.JID) (l *line, r remains, known bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l = k.byID[id]; l != nil {
		if l.sess.Bare == account {
			return l, r, true
		}
		return nil, r, false
	}
	r, known = k.ended[id]
	return nil, r, known && r.account == account
}

// acks are the sessions to which an acknowledgement has become due while nobody handled their input. A borrowed
// goroutine sends them, so that a writer who settles many stanzas at once is not held up by their senders' sockets,
// and one acknowledgement does for many.
type acks struct {
	mu      sync.Mutex // guards due and running
	due     map[*line]struct{}
	running bool
}

func (a *acks) add(l *line) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.due == nil {
		a.due = map[*line]struct{}{}
	}
	a.due[l] = struct{}{}
	if !a.running {
		a.running = true
		go a.run()
	}
}

func (a *acks) run() {
	for {
		a.mu.Lock()
		due := a.due
		a.due = nil
		if len(due) == 0 {
			a.running = false
			a.mu.Unlock()
			return
		}
		a.mu.Unlock()
		for l := range due {
			l.follow()
		}
	}
}

// watch looks at all sessions with stream management every second, until the server stops.
func (s *Server) watch(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for _, l := range s.keeper.lines() {
				l.tick(now.UnixMicro())
			}
		}
	}
}
