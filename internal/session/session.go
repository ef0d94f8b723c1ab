// Package session holds the state of bound resources (RFC 6120 §7) without any
// policy: who is connected, what each has told of itself, and how a stanza gets
// into its socket.
package session

import (
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"
	"time"

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

// Keeper is an Out that may keep stanzas until the client has acknowledged them (XEP-0198 §4).
type Keeper interface {
	// Keep is Append for one way of a fork, which it opens, and closes as soon as it is known whether the client got the
	// stanza: at once where that cannot be known.
	Keep(stanza string, k *Fork) (first bool, err error)
}

// Laster is an Out that may take stanzas after End: they are sent on behind those that its client has not got.
type Laster interface{ Lasts() bool }

func lasts(o Out) bool {
	l, ok := o.(Laster)
	return ok && l.Lasts()
}

// ErrOverflow says that an Out has taken a stanza, but no further one: the session is to be ended, and what its client
// has not got will be sent on.
var ErrOverflow = errors.New("too many stanzas wait for the client")

// State is what a session has told of itself: an immutable snapshot.
type State struct {
	// Presence is the last broadcast available presence; nil while not available. That of a session on another node is a
	// stand-in which tells that it is available, and whether it is away, and must not be shown to anybody: its node has
	// the presence (module.Core.ShowPresence).
	Presence   *stanza.Stanza
	Priority   int8      // of that presence (RFC 6121 §4.7.2.3)
	Interested bool      // has asked for the roster (RFC 6121 §2.2)
	Blocklist  bool      // has asked for the block list (XEP-0191 §3.3)
	Directed   []jid.JID // who was sent directed available presence (RFC 6121 §4.6); of a session on another node not known here
	Carbons    bool      // gets copies of what the account's other resources send and receive (XEP-0280 §4)
	CaughtUp   int64     // up to which position of the account's archive the client reads by itself (XEP-0313); 0: it does not
	Directs    bool      // of a session on another node: that node knows who was sent directed presence
}

// Available tells whether the resource is available (RFC 6121 §4.1).
func (s *State) Available() bool { return s.Presence != nil }

// Reachable tells whether messages to the bare JID may go to this resource
// (RFC 6121 §8.5.2.1.1): available with a priority that is not negative.
func (s *State) Reachable() bool { return s.Presence != nil && s.Priority >= 0 }

// UID tells a session from all others that ever were, also those that had its full JID. The first half is the stamp of
// the bind, by which of two sessions with one full JID the later one is known.
type UID [16]byte

// Session is one bound resource. Its fields do not change once it is in a table.
type Session struct {
	JID  jid.JID // full JID
	Bare jid.JID
	Out  Out
	// Anonymous marks an account that exists only as long as its session (XEP-0175).
	Anonymous bool
	// Node is the cluster.Member.ID of the node that has the session; empty for this one.
	Node string
	// UID is zero as long as this node has never been in a cluster.
	UID UID
	// Seed is random and known to nobody but the server: what tells the session's stanzas from all others (Key). It is zero
	// for a session of another node, and stays the same where a session is taken over.
	Seed [16]byte
	// Born is when the session was made, in microseconds since 1970; 0 for a session of another node.
	Born int64
	// Took tells that the client came here while another node had a session of this full JID, whose end was told here.
	Took bool

	state    atomic.Pointer[State]
	relay    atomic.Pointer[Relay] // nil, but for sessions of other nodes, and those here that come after such a one
	observer Observer              // nil outside of a table that has one
	mu       sync.Mutex            // serialises Update; guards jam.resume
	jam      jam
	ended    atomic.Bool
	told     atomic.Bool // another node tells of the end
	leaving  atomic.Bool
}

// New makes a session that is connected and not yet available.
func New(full jid.JID, out Out) *Session {
	s := &Session{JID: full, Bare: full.Bare(), Out: out, Born: time.Now().UnixMicro()}
	_, _ = rand.Read(s.Seed[:]) // never fails
	s.state.Store(initial)
	return s
}

var initial = &State{}

// State is the present snapshot.
func (s *Session) State() *State { return s.state.Load() }

// Update replaces the snapshot by a changed copy. change must not keep its
// argument, nor change in place what its slices share. On a session of another node it does nothing lasting.
func (s *Session) Update(change func(*State)) *State {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := *s.state.Load()
	change(&next)
	s.state.Store(&next)
	if s.observer != nil {
		s.observer.Changed(s, &next)
	}
	return &next
}

// End closes the session's stream for a reason. Only the first call counts. A session of another node is ended by that
// node.
func (s *Session) End(reason error) {
	if s.ended.CompareAndSwap(false, true) {
		s.Out.End(reason)
	}
}

// Leave notes that the client will not come back, and that what it has not got is being sent on. What is on its way joins
// that; nothing should be fetched from anywhere for the session any more.
func (s *Session) Leave() { s.leaving.Store(true) }

// Leaving tells whether Leave was called.
func (s *Session) Leaving() bool { return s.leaving.Load() }

// Ended tells whether End was called.
func (s *Session) Ended() bool { return s.ended.Load() }
