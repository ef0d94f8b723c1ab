// Package cache keeps in memory what was read last of accounts, a bounded number of
// them. A value that is found costs a look at one shard, shared with other readers;
// what to forget is decided when something new comes (the SIEVE algorithm: the oldest
// that nobody has asked for since it was last passed over).
package cache

import (
	"context"
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/xmpp/jid"
)

const (
	shards   = 32   // spread the locks
	spreadAt = 4096 // smaller caches have one shard, so that their bound is exact
)

// Cache keeps a V for each owner. Whoever changes what is stored tells it by Put or
// Drop, after the change is committed; then nothing older is found. It is safe for
// concurrent use.
type Cache[V any] struct {
	hub    *Hub // nil when no other node is to be told
	name   string
	seed   maphash.Seed
	shards []shard[V]
}

type shard[V any] struct {
	hits, misses atomic.Uint64
	limit        int

	mu             sync.RWMutex // guards all below
	entries        map[jid.JID]*entry[V]
	oldest, newest *entry[V]
	hand           *entry[V] // where the search for what to forget goes on; nil for the oldest
	epoch          uint64    // grows with each change, so that a slow reader does not enter an old value
	stale          map[jid.JID]V
}

type entry[V any] struct {
	owner        jid.JID
	value        V
	older, newer *entry[V]
	used         atomic.Bool // asked for since the hand was here
}

// New makes a cache of at most about size values. Its metrics are named after name,
// such as "roster"; what says in a word or two what is kept, in the plural. By the hub, which may be nil, changes here
// and on other nodes meet.
func New[V any](hub *Hub, name, what string, size int, r prometheus.Registerer) *Cache[V] {
	n := shards
	if size < spreadAt {
		n = 1
	}
	c := &Cache[V]{hub: hub, name: name, seed: maphash.MakeSeed(), shards: make([]shard[V], n)}
	for i := range c.shards {
		c.shards[i].limit = max(size/n, 1)
		c.shards[i].entries = map[jid.JID]*entry[V]{}
	}
	counter := func(name, help string, value func(*shard[V]) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return c.sum(value) })
	}
	r.MustRegister(
		counter("starling_"+name+"_cache_hits_total", what+" found in memory.", func(s *shard[V]) uint64 { return s.hits.Load() }),
		counter("starling_"+name+"_cache_misses_total", what+" read from the database.", func(s *shard[V]) uint64 { return s.misses.Load() }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "starling_" + name + "_cache_entries", Help: what + " in memory."},
			func() float64 { return float64(c.Len()) }))
	if hub != nil {
		hub.Enter(name, c)
	}
	return c
}

func (c *Cache[V]) sum(value func(*shard[V]) uint64) float64 {
	var n uint64
	for i := range c.shards {
		n += value(&c.shards[i])
	}
	return float64(n)
}

// Len is the number of values that are kept.
func (c *Cache[V]) Len() int {
	n := 0
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.RLock()
		n += len(s.entries)
		s.mu.RUnlock()
	}
	return n
}

func (c *Cache[V]) shard(owner jid.JID) *shard[V] {
	if len(c.shards) == 1 {
		return &c.shards[0]
	}
	return &c.shards[maphash.String(c.seed, owner.String())%uint64(len(c.shards))]
}

// Get is the owner's value if it is in memory.
func (c *Cache[V]) Get(owner jid.JID) (v V, ok bool) {
	v, ok, _ = c.shard(owner).get(owner)
	return v, ok
}

// Load is the owner's value, read if it is not in memory.
func (c *Cache[V]) Load(ctx context.Context, owner jid.JID, read func(context.Context, jid.JID) (V, error)) (V, error) {
	s := c.shard(owner)
	v, ok, epoch := s.get(owner)
	if ok {
		s.hits.Add(1)
		return v, nil
	}
	s.misses.Add(1)
	v, err := read(ctx, owner)
	if err != nil {
		return v, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch == epoch {
		s.enter(owner, v)
	}
	return v, nil
}

// Stale is the owner's value as it was before ForgetAll, if nothing newer is known of it. It may be out of date, and is for
// those who cannot read it and would rather go on with that than not at all.
func (c *Cache[V]) Stale(owner jid.JID) (v V, ok bool) {
	s := c.shard(owner)
	s.mu.RLock()
	defer s.mu.RUnlock()
	v, ok = s.stale[owner]
	return v, ok
}

// Put enters what was just stored, and has other nodes forget what they have. If there are any it does not enter it:
// another one may have stored something since, and have told so already.
func (c *Cache[V]) Put(owner jid.JID, v V) {
	if c.hub.Changed(c.name, owner) {
		c.Forget(owner)
		return
	}
	s := c.shard(owner)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	s.enter(owner, v)
}

// Drop forgets the owner's value, here and on other nodes.
func (c *Cache[V]) Drop(owner jid.JID) {
	c.Forget(owner)
	c.hub.Changed(c.name, owner)
}

// ForgetAll empties the cache of this node, but for Stale.
func (c *Cache[V]) ForgetAll() {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.epoch++
		s.age()
		s.mu.Unlock()
	}
}

// age makes of all values stale ones, of which no more are kept than of others. It is called with the lock held.
func (s *shard[V]) age() {
	if s.stale == nil {
		s.stale = make(map[jid.JID]V, len(s.entries))
	}
	for owner, e := range s.entries {
		s.stale[owner] = e.value
	}
	for owner := range s.stale {
		if len(s.stale) <= s.limit {
			break
		}
		if s.entries[owner] == nil {
			delete(s.stale, owner)
		}
	}
	clear(s.entries)
	s.oldest, s.newest, s.hand = nil, nil, nil
}

// Forget drops the owner's value of this node.
func (c *Cache[V]) Forget(owner jid.JID) {
	s := c.shard(owner)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	delete(s.stale, owner)
	if e := s.entries[owner]; e != nil {
		s.remove(e)
	}
}

func (s *shard[V]) get(owner jid.JID) (v V, ok bool, epoch uint64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	e := s.entries[owner]
	if e == nil {
		return v, false, s.epoch
	}
	if !e.used.Load() { // spares the write, which other processors would have to see
		e.used.Store(true)
	}
	return e.value, true, s.epoch
}

// enter is called with the lock held.
func (s *shard[V]) enter(owner jid.JID, v V) {
	delete(s.stale, owner)
	if e := s.entries[owner]; e != nil {
		e.value = v
		e.used.Store(true)
		return
	}
	if len(s.entries) >= s.limit {
		s.forget()
	}
	// The JID may point into a whole stanza, which must not be kept with it.
	owner = jid.MustParse(strings.Clone(owner.String()))
	e := &entry[V]{owner: owner, value: v, older: s.newest}
	if s.newest != nil {
		s.newest.newer = e
	} else {
		s.oldest = e
	}
	s.newest = e
	s.entries[owner] = e
}

// forget removes the first entry from the hand on, towards newer ones, that was not
// asked for since the hand was there.
func (s *shard[V]) forget() {
	e := s.hand
	if e == nil {
		e = s.oldest
	}
	for e.used.Swap(false) {
		if e = e.newer; e == nil {
			e = s.oldest
		}
	}
	s.remove(e)
	s.hand = e.newer
}

// remove is called with the lock held.
func (s *shard[V]) remove(e *entry[V]) {
	if s.hand == e {
		s.hand = e.newer
	}
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		s.oldest = e.newer
	}
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		s.newest = e.older
	}
	delete(s.entries, e.owner)
}
