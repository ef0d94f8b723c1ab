package account

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/starling-im/starling/internal/xmpp/jid"
)

// Limits say how many failed attempts to log in are endured.
type Limits struct {
	// Failures within Window, from one address (IPv6: one /64 network) or for one account, that make further attempts be
	// refused until Window has passed since the first of them; 0 = 10, negative = no limit.
	Failures int
	Window   time.Duration // 0 = 5 minutes
	// Entries bounds the addresses, and the accounts, that are remembered; 0 = 65,536.
	Entries int
}

// Throttle counts failed attempts to log in. It is safe for concurrent use and treats names without account like others.
//
// Choice: a failed attempt from elsewhere must not lock out the owner of an account. So the limit of an account does not hold
// for addresses from which somebody has logged in to it since the start; the limit of the address always does.
type Throttle struct {
	limits  Limits
	clock   func() time.Time
	refused *prometheus.CounterVec

	mu       sync.Mutex // guards all below
	byAddr   *lru[netip.Prefix, window]
	byUser   *lru[string, window]
	familiar *lru[place, struct{}]
}

// window counts failures from the first on.
type window struct {
	since    time.Time
	failures int
}

// place is an address from which the owner of an account has logged in.
type place struct {
	user string
	from netip.Prefix
}

func newThrottle(l Limits, clock func() time.Time, metrics promauto.Factory) *Throttle {
	if l.Failures == 0 {
		l.Failures = 10
	}
	if l.Window <= 0 {
		l.Window = 5 * time.Minute
	}
	if l.Entries <= 0 {
		l.Entries = 65_536
	}
	return &Throttle{
		limits: l,
		clock:  clock,
		refused: metrics.NewCounterVec(prometheus.CounterOpts{
			Name: "starling_account_throttled_total",
			Help: "Attempts to log in that were refused after too many failures, by what has failed too often.",
		}, []string{"by"}),
		byAddr:   newLRU[netip.Prefix, window](l.Entries),
		byUser:   newLRU[string, window](l.Entries),
		familiar: newLRU[place, struct{}](l.Entries),
	}
}

// Network returns the part of an address that one party is likely to hold alone: all of IPv4, the /64 of IPv6; the zero
// Prefix for the zero Addr.
func Network(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap()
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.WithZone("").Prefix(bits) // the zero Prefix for the zero Addr
	return p
}

// Allow returns nil if another attempt may be made from addr for the account user, else an error that wraps ErrThrottled.
// A zero user is one not known yet, a zero addr no network address; they are not looked at.
func (t *Throttle) Allow(addr netip.Addr, user jid.JID) error {
	if t.limits.Failures < 0 {
		return nil
	}
	now, from, name := t.clock(), Network(addr), user.Bare().String()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.exhausted(t.byAddr.get(from), now) {
		t.refused.WithLabelValues("address").Inc()
		return fmt.Errorf("%w from %s", ErrThrottled, from)
	}
	if t.exhausted(t.byUser.get(name), now) && t.familiar.get(place{name, from}) == nil {
		t.refused.WithLabelValues("account").Inc()
		return fmt.Errorf("%w for %s", ErrThrottled, name)
	}
	return nil
}

func (t *Throttle) exhausted(w *window, now time.Time) bool {
	return w != nil && w.failures >= t.limits.Failures && now.Sub(w.since) < t.limits.Window
}

// Failed counts a failed attempt.
func (t *Throttle) Failed(addr netip.Addr, user jid.JID) {
	now := t.clock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if addr.IsValid() {
		t.count(t.byAddr.add(Network(addr)), now)
	}
	if !user.IsZero() {
		t.count(t.byUser.add(strings.Clone(user.Bare().String())), now)
	}
}

func (t *Throttle) count(w *window, now time.Time) {
	if now.Sub(w.since) >= t.limits.Window {
		*w = window{since: now}
	}
	w.failures++
}

// Succeeded forgets the failures for an account, whose owner has logged in. Those of the address stay: else whoever has one
// account could try any number of passwords of others.
func (t *Throttle) Succeeded(addr netip.Addr, user jid.JID) {
	if user.IsZero() {
		return
	}
	name := strings.Clone(user.Bare().String())
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byUser.remove(name)
	if addr.IsValid() {
		t.familiar.add(place{name, Network(addr)})
	}
}
