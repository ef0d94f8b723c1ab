package cluster

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/cluster/internal/bus"
	"github.com/starling-im/starling/cluster/internal/frame"
)

// Config says who a node is and how it finds the others. The zero value is a node that stands alone.
type Config struct {
	Name    string // of the node, for people; unlike that of all other nodes. By default the start of its ID
	Cluster string // name of the cluster: lower-case letters, digits, '-', '_'; by default "main"

	// The join token, from which the keys of the cluster are derived: the same on all nodes. With several
	// lines the first one is used and all are accepted. A change of TokenFile is heeded within two seconds, for new
	// connections; those that exist stay. To replace the token while nodes run, add the new one as the last line on
	// all nodes, then make it the first line on all, then remove the old one.
	Token     string
	TokenFile string

	Listen    string   // host:port for other nodes
	Advertise string   // host:port that they dial, by default the address of Listen
	Peers     []string // host:port of other nodes; one that is up is enough
	DNS       string   // a name whose addresses, or SRV records, are nodes
	Multicast string   // host:port of a UDP group to find nodes on a LAN

	// A port for clients of NATS at the embedded server, with TLS: see ClientTLS. By default there is none. Clients
	// have an account of their own, in which they reach each other through all nodes, and nothing of the cluster's.
	ClientListen   string // host:port
	ClientUser     string
	ClientPassword string // at least 12 bytes

	NATS string      // URLs of NATS servers to use in place of the embedded one, separated by commas: tls://user:password@host:port
	TLS  *tls.Config // for these; by default the certificate authorities of the system are trusted

	Join  bool          // join from Start on, and try again with growing pauses while that fails for reasons that may pass
	Retry time.Duration // the first of these pauses, by default 1 s; they double up to 30 s

	Beacon    time.Duration // between two beacons, by default 500 ms
	Suspect   time.Duration // of silence until a member is suspected, by default 1.2 s
	DeadAfter time.Duration // of silence until it is dead, by default 2.3 s
	HintGrace time.Duration // without beacon after its connection ended, by default 500 ms
	Stuck     time.Duration // without acknowledgement though beacons come, by default 5 s
	Settle    time.Duration // a joining node listens at least this long before it is ready, by default two beacons
	Scrub     time.Duration // between two recounts of a copy of a table, by default 10 s

	Window int // bytes sent to one node and not acknowledged, by default 4 MiB

	Log        *slog.Logger          // by default slog.Default
	Registerer prometheus.Registerer // may be nil
	Now        func() time.Time      // the clock that stamps are made of, by default time.Now

	engine                 bus.Engine // in place of NATS, for tests
	minVersion, maxVersion uint8      // of the wire encoding, for tests
}

const (
	defaultBeacon  = 500 * time.Millisecond
	defaultSuspect = 1200 * time.Millisecond
	defaultDead    = 2300 * time.Millisecond
	defaultWindow  = 4 << 20
	journalBytes   = 8 << 20 // of changes kept for peers that lag
	maxRow         = 256 << 10
)

// withDefaults returns the complete configuration.
func (c Config) withDefaults(id string) (Config, error) {
	set(&c.Name, id[:8])
	set(&c.Cluster, "main")
	set(&c.Retry, time.Second)
	set(&c.Beacon, defaultBeacon)
	set(&c.Suspect, defaultSuspect)
	set(&c.DeadAfter, defaultDead)
	set(&c.HintGrace, 500*time.Millisecond)
	set(&c.Stuck, 5*time.Second)
	set(&c.Settle, 2*c.Beacon)
	set(&c.Scrub, 10*time.Second)
	set(&c.Window, defaultWindow)
	set(&c.Log, slog.Default())
	set(&c.minVersion, frame.MinVersion)
	set(&c.maxVersion, frame.MaxVersion)
	if c.Now == nil {
		c.Now = time.Now
	}
	var errs []error
	if !bus.Token(c.Cluster) {
		errs = append(errs, fmt.Errorf("cluster name %q: only lower-case letters, digits, '-' and '_', at most 64", c.Cluster))
	}
	if len(c.Name) > frame.MaxName {
		errs = append(errs, fmt.Errorf("node name is longer than %d bytes", frame.MaxName))
	}
	if c.Beacon < 10*time.Millisecond || c.Suspect < 2*c.Beacon || c.DeadAfter <= c.Suspect {
		errs = append(errs, fmt.Errorf("intervals: Beacon %v must be at least 10 ms, Suspect %v two beacons, DeadAfter %v more than Suspect", c.Beacon, c.Suspect, c.DeadAfter))
	}
	if c.Window < 1<<16 {
		errs = append(errs, fmt.Errorf("window of %d bytes is less than 64 KiB", c.Window))
	}
	return c, errors.Join(errs...)
}

func set[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}
