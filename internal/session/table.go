package session

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/starling-im/starling/internal/xmpp/jid"
)

// shards spreads the table's locks; a power of two.
const shards = 64

// Table finds the sessions of this node by JID.
type Table struct {
	seed   maphash.Seed
	count  atomic.Int64
	shards [shards]shard
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

func (t *Table) shard(bare jid.JID) *shard {
	return &t.shards[maphash.String(t.seed, bare.String())%shards]
}

// Account lists the sessions of a bare JID. The slice must not be changed.
func (t *Table) Account(bare jid.JID) []*Session {
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
// under the table's lock and must not block. A session of the same full JID is replaced and returned.
func (t *Table) Add(s *Session, accept func(others []*Session) error) (replaced *Session, err error) {
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
		if err := accept(others); err != nil {
			return nil, err
		}
	}
	sh.accounts[s.Bare] = append(slices.Clip(others), s)
	if replaced == nil {
		t.count.Add(1)
	}
	return replaced, nil
}

// Remove takes a session out. It reports whether it was there: a session that was
// replaced is not.
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

// Len is the number of sessions.
func (t *Table) Len() int { return int(t.count.Load()) }

// All calls fn for every session, without holding a lock meanwhile.
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
