package session

import (
	"context"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
)

// shards spreads the table's locks; a power of two.
const shards = 64

// Table finds sessions by JID: those of this node, which it keeps, and those of others.
type Table struct {
	seed      maphash.Seed
	count     atomic.Int64
	elsewhere Elsewhere // nil when there are no other nodes
	observer  Observer  // nil likewise
	shards    [shards]shard
}

type shard struct {
	mu       sync.RWMutex           // guards accounts
	accounts map[jid.JID][]*Session // by bare JID; the slices are never changed in place
}

// NewTable makes an empty table.
func NewTable() *Table {
	t := &Table{seed: maphash.MakeSeed()}
	for i := range t.shards {
		t.shards[i].accounts = map[jid.JID][]*Session{}
	}
	return t
}

// Join has the table show what is elsewhere, and tell of what is here. It is called once, before the first session.
func (t *Table) Join(e Elsewhere, o Observer) { t.elsewhere, t.observer = e, o }

func (t *Table) shard(bare jid.JID) *shard {
	return &t.shards[maphash.String(t.seed, bare.String())%shards]
}

// Account lists the sessions of a bare JID, those of this node first. The slice must not be changed.
func (t *Table) Account(bare jid.JID) []*Session {
	here := t.Here(bare)
	if t.elsewhere == nil {
		return here
	}
	there := t.elsewhere.Account(bare)
	switch {
	case len(there) == 0:
		return here
	case len(here) == 0:
		return there
	}
	all := make([]*Session, 0, len(here)+len(there))
	for _, s := range here {
		// One that another node has, too, is about to be ended here.
		if !slices.ContainsFunc(there, func(o *Session) bool { return o.JID == s.JID }) {
			all = append(all, s)
		}
	}
	return append(all, there...)
}

// Here lists the sessions of a bare JID on this node. The slice must not be changed.
func (t *Table) Here(bare jid.JID) []*Session {
	sh := t.shard(bare)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.accounts[bare]
}

// Find is the session of a full JID, nil when there is none.
func (t *Table) Find(full jid.JID) *Session {
	for _, s := range t.Account(full.Bare()) {
		if s.JID == full {
			return s
		}
	}
	return nil
}

// Add enters a session unless accept refuses, which sees the account's other sessions
// under the table's lock and must not block. A session of the same full JID is replaced and returned; if another node has
// it, that is all that has happened to it.
func (t *Table) Add(s *Session, accept func(others []*Session) error) (replaced *Session, err error) {
	if t.elsewhere == nil {
		return t.add(s, nil, accept)
	}
	there := t.elsewhere.Account(s.Bare)
	var remote *Session
	if i := slices.IndexFunc(there, func(o *Session) bool { return o.JID == s.JID }); i >= 0 {
		remote = there[i]
		there = slices.Delete(there, i, i+1)
	}
	s.observer = t.observer
	s.Took = remote != nil && remote.State().Available()
	t.observer.Binding(s)
	if replaced, err = t.add(s, there, accept); err != nil {
		return nil, err
	}
	t.observer.Bound(s)
	if replaced == nil {
		replaced = remote
	}
	return replaced, nil
}

func (t *Table) add(s *Session, there []*Session, accept func(others []*Session) error) (replaced *Session, err error) {
	sh := t.shard(s.Bare)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	old := sh.accounts[s.Bare]
	i := slices.IndexFunc(old, func(o *Session) bool { return o.JID == s.JID })
	others := old
	if i >= 0 {
		replaced = old[i]
		others = slices.Delete(slices.Clone(old), i, i+1)
	}
	if accept != nil {
		if err := accept(append(slices.Clip(others), there...)); err != nil {
			return nil, err
		}
	}
	sh.accounts[s.Bare] = append(slices.Clip(others), s)
	if replaced == nil {
		t.count.Add(1)
	}
	return replaced, nil
}

// Remove takes a session of this node out. It reports whether it was there: a session that was
// replaced is not. Gone is called when the end has been told.
func (t *Table) Remove(s *Session) bool {
	sh := t.shard(s.Bare)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	old := sh.accounts[s.Bare]
	i := slices.Index(old, s)
	if i < 0 {
		return false
	}
	if len(old) == 1 {
		delete(sh.accounts, s.Bare)
	} else {
		sh.accounts[s.Bare] = slices.Delete(slices.Clone(old), i, i+1)
	}
	t.count.Add(-1)
	return true
}

// Gone tells other nodes that a session which was removed or replaced is over, and that those concerned know.
func (t *Table) Gone(s *Session) {
	if t.observer != nil {
		t.observer.Gone(s)
	}
}

// Nudge has what waits in the database for an account delivered by another node, if that has a reachable session of it
// or soon will.
func (t *Table) Nudge(bare jid.JID) {
	if t.elsewhere != nil {
		t.elsewhere.Nudge(bare)
	}
}

// SettleElsewhere has the other nodes commit what they hold of an account, because it is read here next. It returns when
// they have, or after a while.
func (t *Table) SettleElsewhere(ctx context.Context, bare jid.JID) {
	if t.elsewhere != nil {
		t.elsewhere.Settle(ctx, bare)
	}
}

// TellElsewhere has the other nodes give a stanza to those sessions of an account that are of an audience.
func (t *Table) TellElsewhere(bare jid.JID, to Audience, st *stanza.Stanza) {
	if t.elsewhere != nil {
		t.elsewhere.Tell(bare, to, st)
	}
}

// Len is the number of sessions on this node.
func (t *Table) Len() int { return int(t.count.Load()) }

// LenEverywhere is the number of sessions on all nodes.
func (t *Table) LenEverywhere() int {
	if t.elsewhere == nil {
		return t.Len()
	}
	return t.Len() + t.elsewhere.Len()
}

// Everywhere calls fn for every session of all nodes, without holding a lock meanwhile.
func (t *Table) Everywhere(fn func(*Session)) {
	t.All(fn)
	if t.elsewhere != nil {
		t.elsewhere.All(fn)
	}
}

// All calls fn for every session of this node, without holding a lock meanwhile.
func (t *Table) All(fn func(*Session)) {
	for i := range t.shards {
		sh := &t.shards[i]
		sh.mu.RLock()
		all := make([]*Session, 0, len(sh.accounts))
		for _, sessions := range sh.accounts {
			all = append(all, sessions...)
		}
		sh.mu.RUnlock()
		for _, s := range all {
			fn(s)
		}
	}
}
