package c2s

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/session"
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
	secret [32]byte // makes the ids of sessions
	hint   string   // that they begin with

	mu      sync.Mutex       // guards what follows, up to order
	all     []*line          // in no order
	retired map[string]*line // by id, of those that could be resumed and are over
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

func newKeeper(r prometheus.Registerer, hint string) *keeper {
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
		hint: hint, retired: map[string]*line{}, ended: map[string]remains{},
		enabled:  counter("starling_sm_enabled_total", "Sessions that enabled stream management."),
		resumed:  counter("starling_sm_resumed_total", "Sessions that were resumed."),
		failed:   vec("starling_sm_resume_failures_total", "Sessions that were not resumed, by reason.", "reason"),
		over:     vec("starling_sm_ended_total", "Ends of sessions with stream management, by reason.", "reason"),
		sentOn:   counter("starling_sm_rerouted_total", "Stanzas that the client of a session did not acknowledge, and that were sent on when it ended."),
		released: counter("starling_csi_released_total", "Stanzas that were held back for a client and sent later."),
		dropped:  counter("starling_csi_dropped_total", "Stanzas that were left out for a client that did not listen."),
	}
	_, _ = rand.Read(k.secret[:]) // never fails
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
		stanzas, bytes := l.waiting()
		sum.stanzas += stanzas
		sum.bytes += bytes
		sum.longest = max(sum.longest, stanzas)
		l.mu.Unlock()
	}
	return sum
}

// lines lists the sessions with stream management.
func (k *keeper) lines() []*line {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.all)
}

// id is the name of a session, which nobody can guess (XEP-0198 §5), with a hint of the node that has it. It is made anew
// whenever it is needed: the same each time, and no memory for those that rest.
func (k *keeper) id(sess *session.Session) string {
	mac := hmac.New(sha256.New, k.secret[:])
	mac.Write(sess.Seed[:])
	id := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(mac.Sum(nil)[:idBytes])
	if k.hint == "" {
		return id
	}
	return k.hint + "." + id
}

// firstLines is how long a list of lines may be that is nearly empty.
const firstLines = 64

// idBytes is the length of the part of an id that cannot be guessed.
const idBytes = 16

// enter takes note of a session, which is in the table.
func (k *keeper) enter(l *line) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.sm.index == 0 { // else it was ended meanwhile
		k.all = append(k.all, l)
		l.sm.index = uint32(len(k.all))
	}
}

// gone is the index of a line that has left.
const gone = math.MaxUint32

// retire has a session that is over still found when it is no longer in the table, until it leaves, and returns its id:
// empty if it cannot be resumed.
func (k *keeper) retire(l *line) (id string) {
	if l.sm.max == 0 {
		return ""
	}
	id = k.id(l.sess)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.retired[id] = l
	return id
}

// leave forgets a session that is over, but for what its client may want to know.
func (k *keeper) leave(l *line, id string, r remains) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if at := l.sm.index; at != 0 {
		last := len(k.all) - 1
		k.all[at-1], k.all[last].sm.index = k.all[last], at
		k.all[last] = nil
		if k.all = k.all[:last]; cap(k.all) > 4*last+firstLines {
			k.all = slices.Clone(k.all)
		}
	}
	l.sm.index = gone
	if id == "" {
		return
	}
	delete(k.retired, id)
	k.ended[id] = r
	k.order = append(k.order, id)
	for len(k.order) > maxRemains || k.ended[k.order[0]].ended < r.ended-remainsTime.Microseconds() {
		delete(k.ended, k.order[0])
		k.order = k.order[1:]
	}
}

// find looks for a session by its id among those of its account that are in the table, and those that are over. Without one,
// r is what remains of it; known tells whether there is that.
func (k *keeper) find(id string, account jid.JID, here []*session.Session) (l *line, r remains, known bool) {
	for _, sess := range here {
		if l, ok := sess.Out.(*line); ok && l.resumable() && k.id(sess) == id {
			return l, r, true
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if l = k.retired[id]; l != nil && l.sess.Bare == account {
		return l, r, true
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
