package natsbus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/starling-im/starling/cluster/internal/bus"
)

const (
	maxAddresses  = 256             // that a server is told to connect to
	lookupTime    = 5 * time.Second // for one name
	lonelyResolve = time.Second     // between two looks at names while no peer is connected
)

// Resolver looks up names. *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

// source is a name that stands for addresses of nodes.
type source struct {
	host string
	port int
	srv  bool
}

// finder tells the server where other nodes may be: at configured addresses, at those that names resolve to, and
// where announcements come from. An address stays as long as a peer there is connected, so that a name server that
// forgets a node does not disconnect it.
type finder struct {
	sources  []source
	resolver Resolver
	every    time.Duration
	log      *slog.Logger
	sparse   *sparseness

	reload    func(addresses []string) error
	connected func(address string) bool // is there a connection to this host?
	lonely    func() bool
	awake     chan struct{}

	routes atomic.Pointer[map[string]bool] // what the server knows; true for addresses that are configured
	last   map[source][]string             // what each source was last; only run uses it

	mu    sync.Mutex // guards heard
	heard map[string]time.Time
}

// newFinder reads the configured addresses.
func newFinder(conf *Embedded, log *slog.Logger) (*finder, error) {
	f := &finder{
		resolver: conf.Resolver, every: conf.Resolve, log: log, sparse: newSparseness(refusalsEvery),
		awake: make(chan struct{}, 1), last: map[source][]string{}, heard: map[string]time.Time{},
	}
	f.routes.Store(&map[string]bool{})
	for _, peer := range conf.Peers {
		s, err := parseSource(peer)
		if err != nil {
			return nil, err
		}
		f.sources = append(f.sources, s)
	}
	if conf.DNS == "" {
		return f, nil
	}
	if strings.HasPrefix(conf.DNS, "_") {
		f.sources = append(f.sources, source{host: conf.DNS, srv: true})
		return f, nil
	}
	s, err := parseSource(conf.DNS)
	if err != nil {
		return nil, err
	}
	f.sources = append(f.sources, s)
	return f, nil
}

// parseSource reads host, host:port, or an IPv6 address with or without brackets.
func parseSource(text string) (source, error) {
	if ip, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return source{host: ip.String()}, nil
	}
	if !strings.Contains(text, ":") && text != "" {
		return source{host: text}, nil
	}
	host, service, err := net.SplitHostPort(text)
	port, portErr := strconv.ParseUint(service, 10, 16)
	if err != nil || portErr != nil || host == "" || port == 0 {
		return source{}, &bus.Failure{
			Reason: fmt.Sprintf("%q is not the address of a node", text), Remedy: "write host or host:port",
		}
	}
	return source{host: host, port: int(port)}, nil
}

// run keeps the server's list up to date until the context ends. port is that of nodes given without one.
func (f *finder) run(ctx context.Context, port int) {
	for {
		f.update(ctx, port)
		pause := f.every
		if f.lonely() {
			pause = min(pause, lonelyResolve)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-f.awake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// wake makes run look again.
func (f *finder) wake() {
	select {
	case f.awake <- struct{}{}:
	default:
	}
}

// update looks everything up and tells the server what has changed.
func (f *finder) update(ctx context.Context, port int) {
	found := map[string]bool{}
	for _, s := range f.sources {
		for _, address := range f.resolve(ctx, s, port) {
			found[address] = true
		}
	}
	for _, address := range f.announced() {
		found[address] = found[address] // false, unless it is configured, too
	}
	old := *f.routes.Load()
	for address, configured := range old {
		if _, ok := found[address]; !ok && f.connected(address) {
			found[address] = configured
		}
	}
	if ctx.Err() != nil || maps.Equal(old, found) {
		return
	}
	addresses := slices.Sorted(maps.Keys(found))
	if len(addresses) > maxAddresses {
		f.complain("more addresses of nodes than a cluster has", fmt.Errorf("%d found, %d used", len(addresses), maxAddresses))
		addresses = addresses[:maxAddresses]
	}
	f.routes.Store(&found) // before the first connection is refused
	if err := f.reload(addresses); err != nil {
		f.routes.Store(&old)
		f.complain("cluster server does not take the addresses of nodes", err)
	}
}

// configured says whether an address stands for itself or a name in the configuration, and was not merely announced.
func (f *finder) configured(address string) bool { return (*f.routes.Load())[address] }

// resolve returns the addresses of a source; those of last time if the name servers do not answer now.
func (f *finder) resolve(ctx context.Context, s source, port int) []string {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	addresses, err := f.lookup(ctx, s, port)
	var unknown *net.DNSError
	switch {
	case err == nil, errors.As(err, &unknown) && unknown.IsNotFound:
		f.last[s] = addresses
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		f.complain("cannot look up nodes", fmt.Errorf("look up %s: %w", s.host, err))
	}
	return f.last[s]
}

func (f *finder) lookup(ctx context.Context, s source, port int) ([]string, error) {
	if !s.srv {
		return f.hosts(ctx, s.host, cmp.Or(s.port, port))
	}
	_, records, err := f.resolver.LookupSRV(ctx, "", "", s.host)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, r := range records[:min(len(records), maxAddresses)] {
		addresses, err := f.hosts(ctx, strings.TrimSuffix(r.Target, "."), int(r.Port))
		if err != nil && !errors.Is(err, context.Canceled) {
			f.complain("cannot look up nodes", fmt.Errorf("look up %s: %w", r.Target, err))
			continue
		}
		all = append(all, addresses...)
	}
	return all, nil
}

func (f *finder) hosts(ctx context.Context, host string, port int) ([]string, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []string{netip.AddrPortFrom(ip.Unmap(), uint16(port)).String()}, nil
	}
	ips, err := f.resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, ip := range ips {
		all = append(all, netip.AddrPortFrom(ip.Unmap(), uint16(port)).String())
	}
	return all, nil
}

func (f *finder) complain(what string, err error) {
	if n, ok := f.sparse.say(what + err.Error()); ok {
		f.log.Warn(what, "err", err, "repeated", n)
	}
}

// hear remembers an announced address until the time given.
func (f *finder) hear(address string, until time.Time) {
	f.mu.Lock()
	_, known := f.heard[address]
	if !known && len(f.heard) >= maxAddresses {
		f.mu.Unlock()
		return
	}
	f.heard[address] = until
	f.mu.Unlock()
	if !known {
		f.wake()
	}
}

// announced returns the addresses heard of lately.
func (f *finder) announced() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(f.heard, func(_ string, until time.Time) bool { return now.After(until) })
	return slices.Collect(maps.Keys(f.heard))
}
