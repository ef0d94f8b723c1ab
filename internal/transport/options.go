package transport

import (
	"runtime"
	"sync"
	"time"
)

// Options are shared by all connections of a listener. They must be neither changed nor copied after the first New.
// A field left at zero has the default given beside it.
type Options struct {
	// MaxPending is how many bytes may wait for a peer that does not read: 1 MiB. Append refuses what would exceed
	// it, so it must be larger than the largest stanza. The memory that they take is a small multiple of this.
	MaxPending int
	// WriteTimeout is how long a peer may take no bytes at all while some are waiting for it: 30 s.
	WriteTimeout time.Duration
	// HandshakeTimeout bounds a TLS handshake, the wait for its turn included: 15 s.
	HandshakeTimeout time.Duration
	// Linger bounds what Close waits for: the last bytes out, and the peer's own end of the connection: 2 s.
	Linger time.Duration
	// Handshakes is how many TLS handshakes may compute at the same time: 4 for each of GOMAXPROCS. Choice: one that
	// waits for its peer does not count, so that slow peers keep nobody out.
	Handshakes int
	// Metrics counts what happens on the connections; nil counts nothing.
	Metrics *Metrics

	once   sync.Once
	shared shared
}

// shared is what all connections have in common: the options in force, and what they share at run time.
type shared struct {
	maxPending                             int
	writeTimeout, handshakeTimeout, linger time.Duration
	slots                                  chan struct{} // one token for each handshake that computes
	metrics                                *Metrics
	followers                              followers
}

// settle fixes the options at the first connection.
func (o *Options) settle() *shared {
	o.once.Do(func() {
		s := &o.shared
		s.maxPending = positive(o.MaxPending, 1<<20)
		s.writeTimeout = positive(o.WriteTimeout, 30*time.Second)
		s.handshakeTimeout = positive(o.HandshakeTimeout, 15*time.Second)
		s.linger = positive(o.Linger, 2*time.Second)
		s.slots = make(chan struct{}, positive(o.Handshakes, 4*runtime.GOMAXPROCS(0)))
		s.metrics = o.Metrics
	})
	return &o.shared
}

func positive[T int | time.Duration](v, otherwise T) T {
	if v > 0 {
		return v
	}
	return otherwise
}
