package registration

import (
	"net/netip"
	"sync"
	"time"

	"github.com/starling-im/starling/internal/account"
)

// maxNetworks bounds the addresses that are remembered.
const maxNetworks = 10_000

// quota counts accounts made from each address in a time.
type quota struct {
	max    int
	window time.Duration
	now    func() time.Time

	mu     sync.Mutex // guards recent
	recent map[netip.Prefix][]time.Time
}

func newQuota(max int, window time.Duration, now func() time.Time) *quota {
	return &quota{max: max, window: window, now: now, recent: map[netip.Prefix][]time.Time{}}
}

// spend counts an account that is made from an address; false when there are enough.
func (q *quota) spend(a netip.Addr) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := account.Network(a)
	if len(q.forget(p)) >= q.max {
		return false
	}
	if len(q.recent) >= maxNetworks {
		for other := range q.recent {
			q.forget(other)
		}
	}
	if len(q.recent) < maxNetworks {
		q.recent[p] = append(q.forget(p), q.now())
	}
	return true
}

// refund takes back the last one, which was not made after all.
func (q *quota) refund(a netip.Addr) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := account.Network(a)
	if all := q.recent[p]; len(all) > 1 {
		q.recent[p] = all[:len(all)-1]
	} else {
		delete(q.recent, p)
	}
}

// forget drops what is older than the window. The lock is held.
func (q *quota) forget(p netip.Prefix) []time.Time {
	all, limit := q.recent[p], q.now().Add(-q.window)
	for len(all) > 0 && all[0].Before(limit) {
		all = all[1:]
	}
	if len(all) == 0 {
		delete(q.recent, p)
		return nil
	}
	q.recent[p] = all
	return all
}
