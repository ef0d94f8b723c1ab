// Package session holds the state of bound resources (RFC 6120 §7) without any
// policy: who is connected, what each has told of itself, and how a stanza gets
// into its socket.
package session

import (
	"sync"
	"sync/atomic"

	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
)

// Out is the way to the client: a TCP or TLS connection, and later WebSocket and BOSH.
// None of its methods ever blocks on the peer.
type Out interface {
	// Append queues the bytes of a whole stanza. first tells that the caller has to
	// see to a Flush; an error that the client cannot keep up or is gone.
	Append(stanza string) (first bool, err error)
	// Flush writes what is queued.
	Flush()
	// End closes the stream for a reason that the client is told.
	End(reason error)
}

// State is what a session has told of itself: an immutable snapshot.
type State struct {
	Presence   *stanza.Stanza // last broadcast available presence; nil while not available
	Priority   int8           // of that presence (RFC 6121 §4.7.2.3)
	Interested bool           // has asked for the roster (RFC 6121 §2.2)
	Blocklist  bool           // has asked for the block list (XEP-0191 §3.3)
	Directed   []jid.JID      // who was sent directed available presence (RFC 6121 §4.6)
}

// Available tells whether the resource is available (RFC 6121 §4.1).
func (s *State) Available() bool { return s.Presence != nil }

// Reachable tells whether messages to the bare JID may go to this resource
// (RFC 6121 §8.5.2.1.1): available with a priority that is not negative.
func (s *State) Reachable() bool { return s.Presence != nil && s.Priority >= 0 }

// Session is one bound resource. Its fields do not change after New.
type Session struct {
	JID  jid.JID // full JID
	Bare jid.JID
	Out  Out
	// Anonymous marks an account that exists only as long as its session (XEP-0175).
	Anonymous bool

	state atomic.Pointer[State]
	mu    sync.Mutex // serialises Update
	ended atomic.Bool
}

// New makes a session that is connected and not yet available.
func New(full jid.JID, out Out) *Session {
	s := &Session{JID: full, Bare: full.Bare(), Out: out}
	s.state.Store(initial)
	return s
}

var initial = &State{}

// State is the present snapshot.
func (s *Session) State() *State { return s.state.Load() }

// Update replaces the snapshot by a changed copy. change must not keep its
// argument, nor change in place what its slices share.
func (s *Session) Update(change func(*State)) *State {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := *s.state.Load()
	change(&next)
	s.state.Store(&next)
	return &next
}

// End closes the session's stream for a reason. Only the first call counts.
func (s *Session) End(reason error) {
	if s.ended.CompareAndSwap(false, true) {
		s.Out.End(reason)
	}
}

// Ended tells whether End was called.
func (s *Session) Ended() bool { return s.ended.Load() }
