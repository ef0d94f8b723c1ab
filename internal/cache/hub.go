package cache

import (
	"sync"

	"github.com/starling-im/starling/internal/xmpp/jid"
)

// Hub makes the caches of several nodes work on one database: whoever changes what is stored has all others forget what
// they keep of it. The zero value is ready, and tells nobody. It is safe for concurrent use.
type Hub struct {
	mu     sync.RWMutex // guards what follows
	caches map[string]Forgetter
	tell   func(name string, owner jid.JID) (others bool)
}

// Forgetter keeps something of owners in memory. What it forgets it must not enter again from a read that began before.
type Forgetter interface {
	Forget(owner jid.JID)
	ForgetAll()
}

// Enter makes a cache known under a name, the same on all nodes, which nothing else has.
func (h *Hub) Enter(name string, c Forgetter) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.caches == nil {
		h.caches = map[string]Forgetter{}
	}
	if h.caches[name] != nil {
		panic("cache: " + name + " is there already")
	}
	h.caches[name] = c
}

// Connect has fn called for each change that was made here. It must not wait, and tells whether there are other nodes.
func (h *Hub) Connect(fn func(name string, owner jid.JID) (others bool)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tell = fn
}

// Changed tells the other nodes that something was stored for an owner. It reports whether there are any.
func (h *Hub) Changed(name string, owner jid.JID) (others bool) {
	if h == nil {
		return false
	}
	h.mu.RLock()
	tell := h.tell
	h.mu.RUnlock()
	return tell != nil && tell(name, owner)
}

// Forget drops what a cache keeps of an owner, since another node has stored something.
func (h *Hub) Forget(name string, owner jid.JID) {
	h.mu.RLock()
	c := h.caches[name]
	h.mu.RUnlock()
	if c != nil {
		c.Forget(owner)
	}
}

// ForgetAll empties all caches, since changes may have been missed.
func (h *Hub) ForgetAll() {
	h.mu.RLock()
	all := make([]Forgetter, 0, len(h.caches))
	for _, c := range h.caches {
		all = append(all, c)
	}
	h.mu.RUnlock()
	for _, c := range all {
		c.ForgetAll()
	}
}
