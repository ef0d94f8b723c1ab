package roster

import (
	"container/list"
	"context"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/xmpp/jid"
)

// cacheSize is how many rosters are kept in memory.
const cacheSize = 20_000

// cache keeps the rosters that were used last.
type cache struct {
	hits, misses prometheus.Counter

	mu     sync.Mutex // guards all below
	lists  map[jid.JID]*list.Element
	recent list.List // of *entry, most recent first
	epoch  uint64    // grows with each change, so that a slow reader does not enter an old list
}

type entry struct {
	owner jid.JID
	list  *List
}

func newCache(r prometheus.Registerer) *cache {
	c := &cache{lists: map[jid.JID]*list.Element{}}
	c.hits = prometheus.NewCounter(prometheus.CounterOpts{Name: "starling_roster_cache_hits_total", Help: "Rosters found in memory."})
	c.misses = prometheus.NewCounter(prometheus.CounterOpts{Name: "starling_roster_cache_misses_total", Help: "Rosters read from the database."})
	r.MustRegister(c.hits, c.misses, prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Name: "starling_roster_cache_entries", Help: "Rosters in memory."},
		func() float64 { c.mu.Lock(); defer c.mu.Unlock(); return float64(len(c.lists)) }))
	return c
}

// load is the owner's roster, read if it is not here.
func (c *cache) load(ctx context.Context, owner jid.JID, read func(context.Context, jid.JID) (*List, error)) (*List, error) {
	l, epoch := c.get(owner)
	if l != nil {
		c.hits.Inc()
		return l, nil
	}
	c.misses.Inc()
	l, err := read(ctx, owner)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoch == epoch {
		c.enter(owner, l)
	}
	return l, nil
}

func (c *cache) get(owner jid.JID) (*List, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.lists[owner]
	if !ok {
		return nil, c.epoch
	}
	c.recent.MoveToFront(e)
	return e.Value.(*entry).list, c.epoch
}

// put enters a list that was just changed.
func (c *cache) put(owner jid.JID, l *List) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	c.enter(owner, l)
}

// drop forgets a roster.
func (c *cache) drop(owner jid.JID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	if e, ok := c.lists[owner]; ok {
		c.recent.Remove(e)
		delete(c.lists, owner)
	}
}

// enter is called with the lock held.
func (c *cache) enter(owner jid.JID, l *List) {
	if e, ok := c.lists[owner]; ok {
		e.Value.(*entry).list = l
		c.recent.MoveToFront(e)
		return
	}
	c.lists[owner] = c.recent.PushFront(&entry{owner, l})
	if c.recent.Len() > cacheSize {
		oldest := c.recent.Back()
		c.recent.Remove(oldest)
		delete(c.lists, oldest.Value.(*entry).owner)
	}
}
