// Package fleet makes the nodes of a cluster one XMPP server: every node sees the sessions of all, and what is for a
// session goes to the node that has it.
//
// # Directory
//
// A node writes a row for each of its sessions into a cluster.Table that all nodes have a copy of. Out of the rows of
// others it makes the sessions that session.Table shows beside its own, so that the router and the features work as if
// all were here: session.Flow.Send to such a session makes a leg.
//
// A row is there before the bind is answered, and before anything that the session sends arrives anywhere. It goes when
// contacts have been told of the end. Of two sessions with one full JID the one that was bound later stays, and the other
// is ended with <conflict/> by its node; nobody waits for another node to bind.
//
// # Legs
//
// A leg is the way of one stanza to one session on another node. These rules keep it from being lost, doubled or overtaken:
//
//   - The node of the sender, the origin, decides everything once: hooks, copies, which sessions. It keeps the stanza
//     until the leg is settled, which means that the node of the recipient has given it to the session. It alone sends a
//     leg again or routes it anew; the receiving node answers, and makes no stanza of its own.
//   - A lane is all that one session sends to one full JID. A leg leaves only if no earlier one of its lane is unsettled
//     at another node, or parked; else it is parked. That holds, too, when the recipient has come to the origin itself.
//   - A flight is a number of a lane, sent with each leg. Who has refused a leg refuses all that come later with that
//     flight, or a lower one. At a refusal the origin raises the flight and routes all unsettled legs of the lane anew, in
//     order, and then what was parked.
//   - When a node dies, in its incarnation, all unsettled legs to it are routed anew, lane by lane and in order. So is a
//     lane whose first leg is unsettled for 20 s. A leg is sent at most eight times; then it ends like one that nobody
//     can take.
//   - To route a leg anew is to follow RFC 6121 §8 for this one way: the same full JID on another node; for a chat
//     message the other resources; storage; an error to the sender. Presence that has nowhere to go is dropped.
//   - A message to several sessions is one fork. A leg that fails ends there if another one has succeeded; when all
//     fail, the last one is routed anew.
//   - Nothing waits and nothing is dropped for want of room: a session whose legs are more than 1,000, or 1 MiB, or to
//     a node that takes nothing, is not read until they are half of that.
//
// Several ledgers, each with a lock, numbers and records of its own, share the senders among them.
//
// # Members that come and go
//
// The contacts of an available session whose node died are told by one node, the home of the account. A session that is
// available when its row is first seen has been missed: each node asks for its presence on behalf of those of its own
// sessions that may see it. So nothing is sent when an empty node joins, and all is exchanged when two halves meet again.
//
// # What happens at the same moment
//
// Of two sessions that become available at the same moment on two nodes the node of the later one notices that neither is
// known to the other (newcomers). What concerns an account goes to all nodes, and each gives it to its own sessions as
// they are then (Tell), so that a session which reads the database after it has become part of the audience misses nothing.
package fleet

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/session"
)

// Options are the settings of a Fleet; the zero value works.
type Options struct {
	Log     *slog.Logger          // by default slog.Default
	Metrics prometheus.Registerer // by default module.Core.Metrics
	Workers int                   // stanzas and events that are worked on at once, by default 16
	Timeout time.Duration         // of one of them, by default 30 s
}

// Back is what the fleet asks of the router.
type Back interface {
	// Returned routes a leg anew that could not be delivered. It may wait for storage.
	Returned(ctx context.Context, r module.Return)
}

// Fleet is this node's part. It works as well while the node stands alone.
type Fleet struct {
	core    *module.Core
	node    *cluster.Node
	back    Back
	o       Options
	self    string // Member.ID
	workers *session.Workers
	relay   session.Relay   // itself, as sessions of other nodes need it
	ctx     context.Context // ends with Run
	cancel  context.CancelFunc
	pumps   sync.WaitGroup

	sessions  *cluster.Table[*seat]
	channel   *cluster.Channel
	events    *cluster.Subscription[cluster.Event]
	settle    *cluster.Task[string, string] // commits what is held of an account
	turns     [stripes]sync.Mutex           // by full JID: a look at one's own row and the change that follows
	notes     notes
	hands     [hands]hand
	arrivals  arrivals
	stored    stored
	fresh     fresh
	newcomers newcomers
	moves     moves
	metrics   metrics
}

// New makes the fleet's part of a node and has core.Sessions show all sessions. Run must be called for it to do anything.
func New(core *module.Core, node *cluster.Node, back Back, o Options) *Fleet {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Metrics == nil {
		o.Metrics = core.Metrics
	}
	if o.Workers <= 0 {
		o.Workers = 16
	}
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	f := &Fleet{core: core, node: node, back: back, o: o, self: node.Self().ID, workers: session.NewWorkers(o.Workers)}
	f.relay = f
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.notes.wake = make(chan struct{}, 1)
	for i := range f.hands {
		f.hands[i].ledger = newLedger(uint64(i))
	}
	f.metrics.register(f)
	f.events = node.Events(256)
	f.sessions = cluster.NewTable(node, "sessions", codec{}, cluster.Indexed(terms), cluster.Observed(f.observe),
		cluster.Resumable(func(*seat) time.Duration { return 0 }))
	f.settle = cluster.NewTask(node, "settle", cluster.Text(), cluster.Text(), f.settled)
	f.channel = node.Channel("stanzas", f.receive, f.unsent)
	core.Sessions.Join(f, f)
	core.Accounts.Share(&core.Caches)
	core.Caches.Connect(f.tellCaches)
	return f
}

// alone tells whether there are no other nodes to think of.
func (f *Fleet) alone() bool {
	switch f.node.State() {
	case cluster.Standalone, cluster.Failed, cluster.Left:
		return true
	}
	return false
}

// Run does what is to be done about members that come and go, until the context ends.
func (f *Fleet) Run(ctx context.Context) {
	defer f.stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	f.enlist()
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-f.events.C:
			if !ok {
				return
			}
			f.heard(e)
		case <-f.notes.wake:
			f.noted()
		case <-tick.C:
			f.tick()
		}
	}
}

// stop waits for all that was begun.
func (f *Fleet) stop() {
	f.events.Close()
	f.cancel()
	f.pumps.Wait()
	f.workers.Wait()
}

// tick does what is done by the clock.
func (f *Fleet) tick() {
	for i := range f.hands {
		h := &f.hands[i]
		h.mu.Lock()
		h.tick()
		f.unlock(h)
	}
	f.arrivals.sweep(f.node)
	f.fresh.sweep(f)
	f.stored.sweep(time.Now())
	f.notes.sweep(time.Now())
	f.newcomers.sweep(time.Now())
	f.moves.sweep(time.Now())
	f.linger(time.Now())
}

// Drain waits until no leg is unsettled, or the context ends.
func (f *Fleet) Drain(ctx context.Context) error {
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for {
		if s := f.load(); s.Unsettled+s.Parked == 0 {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Status is the fleet at a moment.
type Status struct {
	Here, Everywhere  int // sessions
	Unsettled, Parked int // legs; those that are being routed anew count as parked
	Busy              int // stanzas and events that are worked on, or wait for that
	Nodes             []NodeStatus
	Returned          map[string]uint64 // legs, by reason: refused, gone, timeout
	Conflicts, Pauses uint64
}

// NodeStatus is what is on its way to a node.
type NodeStatus struct {
	ID        string // Member.ID
	Sessions  int
	Unsettled int // legs
	Unsent    int // bytes that its link had no room for
}

// Status describes the fleet. It walks through all rows: it is not for every second.
func (f *Fleet) Status() Status {
	s := f.load()
	s.Here, s.Everywhere = f.core.Sessions.Len(), f.core.Sessions.LenEverywhere()
	at := map[string]int{}
	f.All(func(o *session.Session) { at[o.Node]++ })
	for i := range s.Nodes {
		s.Nodes[i].Sessions = at[s.Nodes[i].ID]
		delete(at, s.Nodes[i].ID)
	}
	for id, n := range at {
		s.Nodes = append(s.Nodes, NodeStatus{ID: id, Sessions: n})
	}
	s.Returned, s.Conflicts, s.Pauses = f.metrics.counts()
	running, waiting := f.workers.Load()
	s.Busy = running + waiting + f.notes.waiting()
	return s
}

// load counts what the ledgers hold.
func (f *Fleet) load() Status {
	var s Status
	at := map[string]int{}
	for i := range f.hands {
		h := &f.hands[i]
		h.mu.Lock()
		s.Unsettled += h.unsettled
		s.Parked += h.parked
		for id, p := range h.peers {
			k, ok := at[id]
			if !ok {
				k = len(s.Nodes)
				at[id] = k
				s.Nodes = append(s.Nodes, NodeStatus{ID: id})
			}
			s.Nodes[k].Unsettled += p.open
			s.Nodes[k].Unsent += p.unsent()
		}
		h.mu.Unlock()
	}
	return s
}
