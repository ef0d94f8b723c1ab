package account

import (
	"strings"
	"sync"
	"time"

	"github.com/starling-im/starling/internal/xmpp/jid"
)

// knownFor is how long an account is believed to exist without asking the database.
const knownFor = time.Minute

// known remembers accounts that exist. Those that do not are never remembered: anybody can name any number of them.
type known struct {
	clock func() time.Time

	mu    sync.Mutex // guards all below
	until *lru[string, time.Time]
	gen   uint64 // number of accounts forgotten
}

func newKnown(entries int, clock func() time.Time) *known {
	return &known{clock: clock, until: newLRU[string, time.Time](entries)}
}

func (k *known) has(bare jid.JID) bool {
	now := k.clock()
	k.mu.Lock()
	defer k.mu.Unlock()
	until := k.until.get(bare.String())
	return until != nil && now.Before(*until)
}

// generation is to be taken before the database is asked.
func (k *known) generation() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.gen
}

// add remembers an account, unless one was forgotten since the generation was taken: it may be this one.
func (k *known) add(bare jid.JID, gen uint64) {
	until := k.clock().Add(knownFor)
	k.mu.Lock()
	defer k.mu.Unlock()
	if gen == k.gen {
		*k.until.add(strings.Clone(bare.String())) = until // cloned: bare may point into a larger string
	}
}

// Forget forgets an account (cache.Forgetter).
func (k *known) Forget(bare jid.JID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gen++
	k.until.remove(bare.String())
}

// ForgetAll forgets all accounts (cache.Forgetter).
func (k *known) ForgetAll() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gen++
	k.until = newLRU[string, time.Time](k.until.limit)
}
