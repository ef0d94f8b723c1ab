package natsbus

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/starling-im/starling/cluster/internal/bus"
)

const (
	routePing        = time.Second // a peer that is silent for two of these loses its connection
	routeWrite       = 3 * time.Second
	routeHandshake   = 5.0  // seconds
	routeRetries     = 3600 // for a peer known by hearsay, about one a second: an hour
	listenPoll       = 2 * time.Millisecond
	defaultRekey     = time.Second
	defaultResolve   = 10 * time.Second
	defaultAnnounce  = 2 * time.Second
	internalUserSize = 32 // bytes of a password
)

// accounts of an embedded server, one for each lane. Each has a connection of its own between any two nodes.
var accounts = [bus.Lanes]string{bus.Control: "CTL", bus.Data: "DATA"}

// Embedded is an engine that runs a NATS server inside the node. The servers of a cluster connect to each other by
// mutual TLS that only holders of a join token can speak; it is enough that each knows one other, the rest is
// learned. Clients of NATS find no door, unless one is asked for: the server listens for them on loopback only, and
// lets in nobody but its own node.
type Embedded struct {
	Token     []byte                 // text of the token file; see NewToken
	Reread    func() ([]byte, error) `json:"-"` // reads the file anew, while the node runs; nil if Token holds for good
	Listen    string                 // host:port for other nodes; port 0 takes a free one
	Advertise string                 // host:port that other nodes dial, if it differs from Listen
	Peers     []string               // host:port of other nodes; host alone means the port of this node
	DNS       string                 // name whose addresses are nodes: host or host:port (A, AAAA), or _service._proto.host (SRV)
	Multicast string                 // group:port on which nodes of one network find each other
	Interface string                 // network interface for Multicast; empty means all

	Clients Clients // a door for clients of NATS; by default there is none

	Resolver Resolver      // nil means net.DefaultResolver
	Rekey    time.Duration // between two calls of Reread; 0 means 1 s
	Resolve  time.Duration // between two looks at names; 0 means 10 s
	Announce time.Duration // between two multicast announcements; 0 means 2 s
}

// embedded is a running server and what belongs to it.
type embedded struct {
	*natsBus
	conf   Embedded
	self   bus.Identity
	server *server.Server
	ear    *logger
	peers  atomic.Int64 // connected ones
	find   *finder
	cast   *multicast // nil without multicast
	loops  sync.WaitGroup
	keys   atomic.Pointer[keyring]
	proven atomic.Pointer[keyring] // the keys with which there was a peer last; nil: there was none

	mu     sync.Mutex      // guards what follows, and is held while the server takes options
	base   *server.Options // of the server, but for its peers; never given away, only cloned
	places []*url.URL      // where peers may be
}

// Open starts a server and connects to it. It does not wait for peers. Failures: a token that is none, an address that
// is none or in use.
func (e *Embedded) Open(ctx context.Context, self bus.Identity, log *slog.Logger) (bus.Bus, error) {
	s := &embedded{natsBus: newBus(log), conf: *e, self: self, ear: newLogger(log)}
	s.hints = make(chan bus.Hint, maxHints)
	if e.Resolver == nil {
		s.conf.Resolver = net.DefaultResolver
	}
	s.conf.Resolve = cmp.Or(e.Resolve, defaultResolve)
	s.conf.Announce = cmp.Or(e.Announce, defaultAnnounce)
	keys, err := newKeyring(e.Token, self.Cluster)
	if err != nil {
		return nil, err
	}
	s.keys.Store(keys)
	if err := s.discovery(); err != nil {
		s.stop()
		return nil, err
	}
	if err := s.start(ctx, keys); err != nil {
		s.stop()
		s.disconnect(ctx)
		s.shutdown()
		return nil, err
	}
	s.after = func() {
		s.loops.Wait()
		s.shutdown()
	}
	return s, nil
}

func (s *embedded) start(ctx context.Context, keys *keyring) error {
	passwords, err := s.prepare(keys)
	if err != nil {
		return err
	}
	if err := s.listenAndWait(ctx); err != nil {
		return err
	}
	for i, account := range accounts {
		options := append(s.options(s.self.ID+" "+account), nats.InProcessServer(s.server),
			nats.UserInfo(account, passwords[i]), nats.IgnoreDiscoveredServers())
		conn, err := nats.Connect("", options...)
		if err != nil {
			return fmt.Errorf("connect to the cluster's own server: %w", err)
		}
		s.lanes[i].conn = conn
	}
	s.maxPayload = int(s.base.MaxPayload)
	port := s.server.ClusterAddr().Port
	s.address = cmp.Or(s.conf.Advertise, net.JoinHostPort(reachable(s.base.Cluster.Host), strconv.Itoa(port)))
	s.loops.Go(s.watch)
	if s.conf.Reread != nil {
		s.loops.Go(s.keepKeys)
	}
	s.loops.Go(func() { s.find.run(s.ctx, port) })
	if s.cast != nil {
		s.cast.self.port = cmp.Or(s.cast.self.port, uint16(port))
		s.loops.Go(func() { s.cast.run(s.ctx) })
	}
	return nil
}

// discovery reads where peers may be.
func (s *embedded) discovery() error {
	find, err := newFinder(&s.conf, s.log)
	if err != nil {
		return err
	}
	find.reload, find.connected, find.lonely = s.reload, s.connectedHost, func() bool { return s.peers.Load() == 0 }
	s.find = find
	if s.conf.Multicast == "" {
		return nil
	}
	cast, err := newMulticast(&s.conf, func() [][]byte { return s.keys.Load().mac }, s.log)
	if err != nil {
		return err
	}
	cast.hear = find.hear
	host, port, err := hostPort(cmp.Or(s.conf.Advertise, s.conf.Listen))
	if err != nil {
		return err
	}
	cast.self = announcement{id: s.self.ID, port: uint16(port)}
	if ip := net.ParseIP(host); ip != nil && !ip.IsUnspecified() {
		cast.self.host = host
		cast.loopback = ip.IsLoopback()
	}
	s.cast = cast
	return nil
}

// reload tells the server where peers may be.
func (s *embedded) reload(addresses []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.places = nil
	for _, a := range addresses {
		s.places = append(s.places, &url.URL{Scheme: "nats-route", Host: a})
	}
	return s.apply()
}

// apply gives the server the present options. It is called with mu held.
func (s *embedded) apply() error {
	options := s.base.Clone()
	options.Routes = s.places
	return s.server.ReloadOptions(options)
}

// prepare makes the server, and returns the passwords of the accounts.
func (s *embedded) prepare(keys *keyring) ([bus.Lanes]string, error) {
	var passwords [bus.Lanes]string
	host, port, err := hostPort(s.conf.Listen)
	if err != nil {
		return passwords, err
	}
	if s.conf.Advertise != "" {
		if _, p, err := hostPort(s.conf.Advertise); err != nil || p == 0 {
			return passwords, &bus.Failure{
				Reason: fmt.Sprintf("other nodes cannot dial %q", s.conf.Advertise), Remedy: "advertise host:port",
			}
		}
	}
	config, err := keys.tls(time.Now())
	if err != nil {
		return passwords, err
	}
	if err := s.conf.Clients.check(); err != nil {
		return passwords, err
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	s.base = &server.Options{
		// Two servers of one name are never connected, so a name is never used twice.
		ServerName: serverName(s.self),
		Host:       "127.0.0.1", Port: server.RANDOM_PORT, // DontListen would disable the cluster's port, too
		NoSigs: true, NoLog: true, NoSystemAccount: true,
		MaxPayload: leastPayload,
		Cluster: server.ClusterOpts{
			Name: s.self.Cluster, Host: host, Port: port, Advertise: s.conf.Advertise, NoAdvertise: true,
			TLSConfig: config, TLSTimeout: routeHandshake, AuthTimeout: routeHandshake + 1,
			PoolSize: 1, PinnedAccounts: accounts[:],
			PingInterval: routePing, MaxPingsOut: 2,
			WriteDeadline: routeWrite, WriteTimeout: server.WriteTimeoutPolicyClose, // never the server's memory without bound
			ConnectRetries: routeRetries,
		},
	}
	for i, name := range accounts {
		var secret [internalUserSize]byte
		_, _ = rand.Read(secret[:]) // never fails
		passwords[i] = hex.EncodeToString(secret[:])
		account := server.NewAccount(name)
		s.base.Accounts = append(s.base.Accounts, account)
		s.base.Users = append(s.base.Users, &server.User{Username: name, Password: passwords[i], Account: account})
	}
	s.conf.Clients.open(s.base)
	s.server, err = server.NewServer(s.base.Clone())
	if err != nil {
		return passwords, fmt.Errorf("make the cluster's server: %w", err)
	}
	s.server.SetLoggerV2(s.ear, false, false, false)
	s.ear.refused = s.refused
	return passwords, nil
}

// listenAndWait starts the server and waits until it listens for peers, or cannot.
func (s *embedded) listenAndWait(ctx context.Context) error {
	s.server.Start()
	poll := time.NewTicker(listenPoll)
	defer poll.Stop()
	for {
		select {
		case err := <-s.ear.fatal:
			return listenFailure(s.conf.Listen, err)
		case <-ctx.Done():
			return fmt.Errorf("wait for the cluster's server: %w", ctx.Err())
		case <-poll.C:
			if s.server.ClusterAddr() != nil {
				return nil
			}
		}
	}
}

func (s *embedded) shutdown() {
	if s.server != nil {
		s.server.Shutdown()
		s.server.WaitForShutdown()
	}
}

// refused hears of a failed handshake. It is a fault if a configured peer is on the other end, and there was no other one
// since this node has its keys: then it is probably this node that has the wrong token.
func (s *embedded) refused(address string, err error) {
	f := tokenFailure(address, err)
	if f != nil && s.peers.Load() == 0 && s.proven.Load() != s.keys.Load() && s.find.configured(address) {
		s.fault(f)
	}
}

// serverName is the name of a node's server. Peers read the id from it.
func serverName(self bus.Identity) string {
	return self.ID + "-" + strconv.FormatUint(self.Incarnation, 10)
}

// idOf returns the node id in a server's name.
func idOf(serverName string) string {
	if i := strings.LastIndexByte(serverName, '-'); i > 0 {
		return serverName[:i]
	}
	return serverName
}

// hostPort splits an address to listen on or to be dialled at.
func hostPort(address string) (string, int, error) {
	host, service, err := net.SplitHostPort(address)
	port, portErr := strconv.ParseUint(service, 10, 16)
	if err != nil || portErr != nil {
		return "", 0, &bus.Failure{Reason: fmt.Sprintf("%q is not an address", address), Remedy: "write host:port"}
	}
	return cmp.Or(host, "0.0.0.0"), int(port), nil
}

// reachable returns an address at which other machines probably reach a server that listens on host.
func reachable(host string) string {
	ip := net.ParseIP(host)
	if ip == nil || !ip.IsUnspecified() {
		return host
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return host
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && (n.IP.To4() != nil || ip.To4() == nil) {
			return n.IP.String()
		}
	}
	return "127.0.0.1"
}
