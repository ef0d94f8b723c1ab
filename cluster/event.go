package cluster

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// State is what a node is doing.
type State uint8

// The states of a node.
const (
	Standalone State = iota // it works alone
	Joining                 // it looks for the others and takes over their tables
	Ready                   // it is a full member
	Draining                // it is about to leave: others choose it as home of nothing
	Left                    // it has left for good, or its process ends
	Failed                  // joining failed for a reason that a person must mend; it works alone
)

// String names the state.
func (s State) String() string {
	names := [...]string{"standalone", "joining", "ready", "draining", "left", "failed"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// Member is a node as this one knows it.
type Member struct {
	ID          string // random, new with each process
	Name        string
	Address     string // where other nodes reach it; may be empty
	Incarnation uint64
	Start       uint64 // stamp: the smaller, the older the node
	State       State
	Suspected   bool
	MinVersion  uint8 // of the wire encoding
	MaxVersion  uint8
}

// before orders members by age.
func (m Member) before(o Member) bool {
	return m.Start < o.Start || m.Start == o.Start && m.ID < o.ID
}

// Reason says why something happened to a member.
type Reason string

// Reasons of events.
const (
	ReasonGoodbye    Reason = "goodbye"                                    // it left
	ReasonSilence    Reason = "silence"                                    // it was not heard for too long
	ReasonConnection Reason = "connection lost"                            // its connection ended, and it was not heard again
	ReasonDeaf       Reason = "does not hear this node"                    // its beacons come, but do not name this node
	ReasonStuck      Reason = "acknowledges nothing"                       // its beacons come, but it applies nothing
	ReasonRestarted  Reason = "new incarnation"                            // it came back before it was missed
	ReasonReset      Reason = "gave the connection up"                     // it had declared this node dead
	ReasonLeave      Reason = "this node left"                             // this node stands alone again
	ReasonDeclared   Reason = "others declared this node dead"             // of Fenced
	ReasonSuspended  Reason = "this node did not run for a while"          // of Paused
	ReasonOperator   Reason = "as asked"                                   // of StateChanged
	ReasonSynced     Reason = "tables are complete"                        // of StateChanged
	ReasonGaveUp     Reason = "a person must act, see Node.Failure"        // of StateChanged
	ReasonRetry      Reason = "joining failed and will be tried once more" // of StateChanged
)

// Kind is what an event tells.
type Kind uint8

// The kinds of events.
const (
	StateChanged  Kind = iota + 1 // State of this node
	MemberJoined                  // Member is there
	MemberChanged                 // Member has another state or address
	Suspected                     // Member was not heard for a while
	Trusted                       // Member was heard again
	MemberLeft                    // Member said goodbye
	MemberDied                    // Member was declared dead
	SeniorChanged                 // Member is the senior now
	Fenced                        // others had declared this node dead; Member is this node in its new incarnation
	Paused                        // this node did not run for a while: nobody knows yet what the others think of it
	Resumed                       // it is known
	Settled                       // all members agree that Member is dead, see Node.Settled
	Missed                        // the subscriber was too slow: Count events before this one are lost
)

// String names the kind.
func (k Kind) String() string {
	names := [...]string{"", "state changed", "member joined", "member changed", "suspected", "trusted", "member left", "member died", "senior changed", "fenced", "paused", "resumed", "settled", "missed"}
	if k > 0 && int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("event(%d)", uint8(k))
}

// Event is something that happened, as this node sees it.
type Event struct {
	Kind   Kind
	Time   time.Time
	Member Member
	State  State // of this node
	Reason Reason
	Count  int // of Missed
}

// String tells the event in one line.
func (e Event) String() string {
	switch e.Kind {
	case StateChanged:
		return fmt.Sprintf("%s: %s (%s)", e.Kind, e.State, e.Reason)
	case Missed:
		return fmt.Sprintf("missed %d events", e.Count)
	}
	s := fmt.Sprintf("%s: %s#%d", e.Kind, e.Member.Name, e.Member.Incarnation)
	if e.Reason != "" {
		s += fmt.Sprintf(" (%s)", e.Reason)
	}
	return s
}

// Subscription is a stream of values in order. A subscriber that does not keep up loses values, and receives one that
// tells how many, before the next one that it gets.
type Subscription[T any] struct {
	C <-chan T // closed by Close, and when what it is about ends

	hub    *hub[T]
	c      chan T
	missed int // guarded by hub.mu
}

// Close ends the subscription.
func (s *Subscription[T]) Close() { s.hub.remove(s) }

// hub gives each value to all subscriptions. It never waits for one.
type hub[T any] struct {
	notice func(missed int) T
	count  atomic.Int32 // of subs

	mu     sync.Mutex // guards what follows; sends below never block
	subs   []*Subscription[T]
	closed bool
}

func (h *hub[T]) subscribe(buffer int) *Subscription[T] {
	c := make(chan T, max(buffer, 2))
	s := &Subscription[T]{C: c, hub: h, c: c}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(c)
		return s
	}
	h.subs = append(h.subs, s)
	h.count.Store(int32(len(h.subs)))
	return s
}

func (h *hub[T]) remove(s *Subscription[T]) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, o := range h.subs {
		if o == s {
			h.subs = append(h.subs[:i:i], h.subs[i+1:]...)
			h.count.Store(int32(len(h.subs)))
			close(s.c)
			return
		}
	}
}

func (h *hub[T]) publish(v T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.subs {
		s.offer(v)
	}
}

// offer is called with hub.mu held, so only the subscriber takes from the channel meanwhile.
func (s *Subscription[T]) offer(v T) {
	need := 1
	if s.missed > 0 {
		need = 2
	}
	if cap(s.c)-len(s.c) < need {
		s.missed++
		return
	}
	if s.missed > 0 {
		s.c <- s.hub.notice(s.missed)
		s.missed = 0
	}
	s.c <- v
}

func (h *hub[T]) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, s := range h.subs {
		close(s.c)
	}
	h.subs = nil
	h.count.Store(0)
}
