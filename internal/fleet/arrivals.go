package fleet

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/stream"
)

const (
	refusedFor = time.Minute // that a flight which was refused is remembered
	maxRefused = 100_000     // lanes of one node of which that is remembered
)

// arrivals is what this node, as that of recipients, remembers of others.
type arrivals struct {
	mu    sync.Mutex // guards nodes
	nodes map[string]*origin
}

// origin is a node whose legs come here.
type origin struct {
	id string // Member.ID

	mu      sync.Mutex // guards all; records of one node come one after another, save around a new link
	inc     uint64
	refused map[laneAt]flightAt
}

type laneAt struct{ index, lane uint64 }

type flightAt struct {
	flight uint64
	at     time.Time
}

func (a *arrivals) of(m cluster.Member) *origin {
	a.mu.Lock()
	defer a.mu.Unlock()
	o := a.nodes[m.ID]
	if o == nil {
		if a.nodes == nil {
			a.nodes = map[string]*origin{}
		}
		o = &origin{id: m.ID}
		a.nodes[m.ID] = o
	}
	return o
}

// sweep forgets nodes that are gone, and what was refused long ago.
func (a *arrivals) sweep(n *cluster.Node) {
	a.mu.Lock()
	all := make([]*origin, 0, len(a.nodes))
	for id, o := range a.nodes {
		if _, ok := n.Member(id); !ok {
			delete(a.nodes, id)
			continue
		}
		all = append(all, o)
	}
	a.mu.Unlock()
	for _, o := range all {
		o.sweep(time.Now())
	}
}

func (o *origin) sweep(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for k, f := range o.refused {
		if now.Sub(f.at) > refusedFor {
			delete(o.refused, k)
		}
	}
}

// stale tells whether an earlier leg of the flight, or a later flight, was refused. It is called with mu held.
func (o *origin) stale(k laneAt, flight uint64) bool {
	if len(o.refused) == 0 {
		return false
	}
	f, ok := o.refused[k]
	if ok && flight > f.flight {
		delete(o.refused, k)
	}
	return ok && flight <= f.flight
}

func (o *origin) refuse(k laneAt, flight uint64, now time.Time) {
	if o.refused == nil {
		o.refused = map[laneAt]flightAt{}
	}
	for old := range o.refused {
		if len(o.refused) < maxRefused {
			break
		}
		delete(o.refused, old)
	}
	o.refused[k] = flightAt{flight, now}
}

// receive takes a record of another node. It waits for nothing.
func (f *Fleet) receive(from cluster.Member, record []byte) {
	var err error
	text := string(record)
	if len(text) == 0 {
		err = errRecord
	} else {
		switch rest := text[1:]; text[0] {
		case legsRecord:
			err = f.legs(from, rest)
		case receiptRecord:
			err = f.receipts(from, rest)
		case nudgeRecord:
			err = f.nudged(rest)
		case newsRecord:
			err = f.news(rest)
		case endRecord:
			err = f.endAsked(rest)
		case forgetRecord:
			err = f.forget(rest)
		case emptyRecord:
			f.core.Caches.ForgetAll()
		default:
			err = errRecord
		}
	}
	if err != nil {
		f.metrics.malformed.Inc()
		f.o.Log.Error("record of a member cannot be read", slog.String("member", from.Name), slog.Any("err", err))
	}
}

// legs gives stanzas to their recipients, and tells the origin what became of each.
func (f *Fleet) legs(from cluster.Member, rest string) error {
	r, err := readLegs(rest)
	if err != nil {
		return err
	}
	if r.inc != f.node.Self().Incarnation {
		return nil // this node was taken for dead meanwhile, and all legs to it were routed anew
	}
	o := f.arrivals.of(from)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.inc != from.Incarnation {
		o.inc, o.refused = from.Incarnation, nil
	}
	var fl session.Flow
	reply := f.apply(o, &fl, &r)
	fl.Flush()
	if err := f.channel.Reply(from.ID, reply); err != nil {
		f.o.Log.Debug("receipt is not sent", slog.String("member", from.Name), slog.Any("err", err))
	}
	if r.bad {
		return errRecord
	}
	return nil
}

// apply gives the stanzas of a record to their recipients, and returns the receipt. It is called with o.mu held.
func (f *Fleet) apply(o *origin, fl *session.Flow, r *legs) []byte {
	reply := receipt{b: appendHead(make([]byte, 0, 32), receiptRecord, r.index, r.inc, r.number)}
	for a, ok := r.next(); ok; a, ok = r.next() {
		k := laneAt{r.index, a.lane}
		what := turned
		if !o.stale(k, a.flight) {
			if what = f.arrived(o.id, fl, a); what == turned {
				o.refuse(k, a.flight, time.Now())
			}
		}
		reply.add(what)
	}
	reply.flush()
	return reply.b
}

// arrived gives a stanza to the session that a leg names.
func (f *Fleet) arrived(from string, fl *session.Flow, a arrival) fate {
	to, err := jid.Parse(a.to)
	if err != nil {
		return turned
	}
	for _, s := range f.core.Sessions.Here(to.Bare()) {
		if s.JID == to {
			if f.overtaken(from, a.text) {
				return settled
			}
			return f.arrive(fl, s, a)
		}
	}
	return turned
}

// overtaken tells the end of a session whose full JID is available on another node than the one that tells: the client has
// moved, its node has told or is about to, and this must not be the last that is heard.
func (f *Fleet) overtaken(from, text string) bool {
	if !strings.HasPrefix(text, "<presence") || !strings.Contains(text, "type='"+stanza.Unavailable+"'") {
		return false
	}
	st, err := stanza.Decode(text)
	if err != nil || st.Type != stanza.Unavailable || !f.moves.has(st.From.String(), from) {
		return false
	}
	row, ok := f.sessions.Row(st.From.String())
	return ok && row.Owner != from && !row.Orphan && row.Value.has(available)
}

// arrive gives a stanza to a session of this node.
func (f *Fleet) arrive(fl *session.Flow, s *session.Session, a arrival) fate {
	if a.verb != deliver {
		st, err := stanza.Decode(a.text)
		switch {
		case err != nil || s.Ended():
			return turned
		case a.verb == probe:
			f.work(func(ctx context.Context) { f.probed(ctx, s, st.From) })
			return settled
		case a.verb == inquire:
			f.work(func(ctx context.Context) { f.inquired(ctx, s, st.From) })
			return settled
		case !directed(s, st.From):
			return rejected
		}
	}
	if fl.Pass(s, a.text) {
		return settled
	}
	return turned
}

// directed tells whether a session has sent somebody directed presence (RFC 6121 §4.6).
func directed(s *session.Session, whom jid.JID) bool {
	for _, to := range s.State().Directed {
		if to == whom || to == whom.Bare() || to.Bare() == whom {
			return true
		}
	}
	return false
}

// probed sends the presence of a session to who has asked for it and may see it, as the node that asks has found: to a
// resource itself, or to whom the account has (RFC 6121 §4.3.2).
func (f *Fleet) probed(ctx context.Context, s *session.Session, asker jid.JID) {
	to := asker
	if to.IsFull() && to.Bare() != s.Bare {
		to = to.Bare()
	}
	module.Shown(s, func(shown *stanza.Stanza) {
		if asker.IsFull() {
			if o := f.core.Sessions.Find(asker); o != nil {
				f.core.Router.Deliver(ctx, o, shown.WithTo(to))
				return
			}
		}
		f.core.Router.Route(ctx, shown.WithTo(asker))
	})
}

// inquired answers who may know of a session only if it has sent directed presence: RFC 6121 §4.3.2, §4.6.6.
func (f *Fleet) inquired(ctx context.Context, s *session.Session, asker jid.JID) {
	typ, from := stanza.Unsubscribed, s.Bare
	if directed(s, asker) {
		typ, from = stanza.Available, s.JID
	}
	f.core.Router.Route(ctx, stanza.New(stanza.Presence, typ, "", asker).WithFrom(from))
}

// work runs what may wait, with a flow.
func (f *Fleet) work(fn func(ctx context.Context)) {
	f.workers.Do(func() {
		defer func() {
			if p := recover(); p != nil {
				f.o.Log.Error("panic while working for other nodes", "panic", p)
			}
		}()
		ctx, cancel := context.WithTimeout(context.Background(), f.o.Timeout)
		defer cancel()
		session.Within(ctx, func(ctx context.Context, _ *session.Flow) { fn(ctx) })
	})
}

// receipts ends legs, or has them routed anew.
func (f *Fleet) receipts(from cluster.Member, rest string) error {
	r, err := readReceipts(rest)
	if err != nil {
		return err
	}
	h := &f.hands[r.index]
	h.mu.Lock()
	defer f.unlock(h)
	p := h.peers[from.ID]
	if p == nil || p.inc != r.inc {
		return nil
	}
	for first, last, what, ok := r.next(); ok; first, last, what, ok = r.next() {
		if last > p.number {
			return errRecord
		}
		switch what {
		case settled:
			h.settle(p, first, last)
		case turned:
			for n := first; n <= last; n++ {
				h.refuse(p, n, refused)
			}
		case rejected:
			for n := first; n <= last; n++ {
				h.reject(p, n)
			}
		}
	}
	if r.bad {
		return errRecord
	}
	return nil
}

// unsent takes back what a member may not have got. What is for its caches, and the receipts, it gets again if there is
// a new link; the legs are all routed anew, also those that it has applied and whose receipts are lost.
func (f *Fleet) unsent(to cluster.Member, records [][]byte) {
	m, there := f.node.Member(to.ID)
	there = there && m.Incarnation == to.Incarnation
	lost := !there
	for _, r := range records {
		switch {
		case len(r) == 0:
		case r[0] == legsRecord:
			lost = true
		case there:
			_ = f.channel.Reply(to.ID, r) // if it goes again, its legs are routed anew there, and its caches emptied here
		}
	}
	if lost {
		f.die(to.ID, to.Incarnation)
	}
}

// die has everything routed anew that is unsettled at a node.
func (f *Fleet) die(id string, inc uint64) {
	for i := range f.hands {
		h := &f.hands[i]
		h.mu.Lock()
		if p := h.peers[id]; p != nil && p.inc <= inc {
			h.die(p)
		}
		f.unlock(h)
	}
}

// nudged has the node deliver what waits for an account (module.Hooks.Reachable).
func (f *Fleet) nudged(rest string) error {
	r := reader{s: rest}
	bare, err := jid.Parse(r.string())
	if r.bad || err != nil {
		return errRecord
	}
	f.work(func(ctx context.Context) {
		for _, s := range f.core.Sessions.Here(bare) {
			if !s.State().Reachable() || s.Leaving() {
				continue
			}
			if err := f.core.Hooks.Reachable.Each(ctx, &module.Passage{Session: s}); err != nil {
				f.o.Log.Error("what waited for a session is not delivered", "user", s.JID.String(), "err", err)
			}
			return
		}
	})
	return nil
}

// news gives a stanza to those sessions of this node that are of an audience (session.Elsewhere).
func (f *Fleet) news(rest string) error {
	r := reader{s: rest}
	bare, err := jid.Parse(r.string())
	to := session.Audience(r.byte())
	st, bad := stanza.Decode(r.string())
	if r.bad || err != nil || bad != nil {
		return errRecord
	}
	var fl session.Flow
	for _, s := range f.core.Sessions.Here(bare) {
		if to.Has(s.State()) {
			fl.Pass(s, to.Address(st, s).String())
		}
	}
	fl.Flush()
	return nil
}

// endAsked ends a session as another node asks.
func (f *Fleet) endAsked(rest string) error {
	r := reader{s: rest}
	full, err := jid.Parse(r.string())
	uid := r.uid()
	condition, text := r.string(), r.string()
	if r.bad || err != nil {
		return errRecord
	}
	for _, s := range f.core.Sessions.Here(full.Bare()) {
		if s.JID == full && s.UID == uid {
			f.workers.Do(func() { s.End(stream.Err(stream.Condition(condition), text)) })
		}
	}
	return nil
}

// forget drops what a cache of this node keeps of an owner.
func (f *Fleet) forget(rest string) error {
	r := reader{s: rest}
	name, owner := r.string(), r.string()
	j, err := jid.Parse(owner)
	if r.bad || err != nil {
		return errRecord
	}
	f.core.Caches.Forget(name, j)
	return nil
}

// tellCaches has all other nodes forget something, before anything that is sent to them from now on arrives.
func (f *Fleet) tellCaches(name string, owner jid.JID) (others bool) {
	if f.alone() {
		return false
	}
	r := appendString(appendString([]byte{forgetRecord}, name), owner.String())
	f.tellAll(r)
	return true
}
