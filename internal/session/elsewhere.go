package session

import (
	"context"
	"sync/atomic"

	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
)

// Elsewhere is the other nodes, as a Table shows and reaches them.
type Elsewhere interface {
	Others
	Errands
}

// Others are the sessions of other nodes.
type Others interface {
	// Account lists those of a bare JID. The slice may be kept and changed.
	Account(bare jid.JID) []*Session
	// All calls fn for each, without holding a lock meanwhile.
	All(fn func(*Session))
	// Len is their number.
	Len() int
}

// Errands are what other nodes do for an account.
type Errands interface {
	// Nudge has what waits in the database delivered by the node that has a reachable session of the account, now or as
	// soon as one shows.
	Nudge(bare jid.JID)
	// Settle has all others commit what they hold of the account. It returns when they have, or after a while.
	Settle(ctx context.Context, bare jid.JID)
	// Tell has all others give a stanza to those sessions of the account that are of an audience when it comes there.
	Tell(bare jid.JID, to Audience, st *stanza.Stanza)
}

// Audience is which sessions of an account are told something. Whether a session is of it, its own node decides: a session
// that is of it before it reads from the database misses nothing that is told after it was stored.
type Audience uint8

// The audiences.
const (
	Interested Audience = iota // have asked for the roster
	Available                  // are available
	Blocking                   // have asked for the block list
)

// Has tells whether a session in a state is of the audience.
func (a Audience) Has(s *State) bool {
	switch a {
	case Interested:
		return s.Interested
	case Available:
		return s.Available()
	}
	return s.Blocklist
}

// Address is the stanza as a session of the audience gets it: an iq needs the full JID.
func (a Audience) Address(st *stanza.Stanza, s *Session) *stanza.Stanza {
	if st.Kind == stanza.IQ {
		return st.WithTo(s.JID)
	}
	return st
}

// Observer hears of the sessions of this node, so that others can know them. Its methods do not wait for anybody.
type Observer interface {
	// Binding tells of a session that is about to enter the table. It may set UID and Took.
	Binding(s *Session)
	// Bound tells of a session that has entered the table.
	Bound(s *Session)
	// Changed tells of a new State; calls about one session are made one after another.
	Changed(s *Session, now *State)
	// Gone tells of a session that has left the table and whose end has been told to those concerned.
	Gone(s *Session)
}

// Relay takes stanzas that cannot simply be appended to a session's Out. Its methods never block.
type Relay interface {
	// Relay takes a stanza of the flow. taken tells that somebody will get it or answer for it; direct that the session
	// is of this node and needs no relay, so that nothing was done.
	Relay(f *Flow, to *Session, st *stanza.Stanza) (taken, direct bool)
	// Flush sends what was taken of the flow.
	Flush(f *Flow)
}

// NewRemote makes what stands here for a session of another node.
func NewRemote(full jid.JID, node string, uid UID, out Out, relay *Relay, state *State) *Session {
	s := &Session{JID: full, Bare: full.Bare(), Out: out, Node: node, UID: uid}
	s.state.Store(state)
	s.relay.Store(relay)
	return s
}

// Remote tells whether another node has the session.
func (s *Session) Remote() bool { return s.Node != "" }

// Divert has all that is for the session pass a relay; nil ends that.
func (s *Session) Divert(r *Relay) { s.relay.Store(r) }

// Supersede notes that the client is at another node now, which tells those concerned that this session has ended.
func (s *Session) Supersede() { s.told.Store(true) }

// Superseded tells whether Supersede was called.
func (s *Session) Superseded() bool { return s.told.Load() }

// jam is the state of a session whose stanzas other nodes do not take as fast as they come.
type jam struct {
	on     atomic.Bool // changed with the session's mu held
	resume func()
}

// Jam asks the door of the session to read no more of it until Clear is called.
func (s *Session) Jam() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jam.on.Store(true)
}

// Clear ends what Jam began.
func (s *Session) Clear() {
	s.mu.Lock()
	resume := s.jam.resume
	s.jam.resume = nil
	s.jam.on.Store(false)
	s.mu.Unlock()
	if resume != nil {
		resume()
	}
}

// Jammed tells whether the session is not to be read. If so it calls resume once that is over.
func (s *Session) Jammed(resume func()) bool {
	if !s.jam.on.Load() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.jam.on.Load() {
		s.jam.resume = resume
	}
	return s.jam.on.Load()
}

// Fork is one message on its way to several sessions of an account, of which one is enough. It is made when one of them
// is of another node.
type Fork struct {
	open    atomic.Int32
	settled atomic.Bool
	done    func(received bool) // takes the outcome; nil but for NewDelivery
}

// NewFork makes a fork with one way open.
func NewFork() *Fork {
	k := &Fork{}
	k.open.Store(1)
	return k
}

// More opens a way.
func (k *Fork) More() { k.open.Add(1) }

// Close ends a way, with success or without. It reports whether it was the last one, and none has succeeded.
func (k *Fork) Close(settled bool) (failed bool) {
	if settled {
		k.settled.Store(true)
	}
	if k.open.Add(-1) != 0 {
		return false
	}
	if k.done != nil {
		k.done(k.settled.Load())
		return false
	}
	return !k.settled.Load()
}
