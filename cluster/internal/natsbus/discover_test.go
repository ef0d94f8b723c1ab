package natsbus

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// nameServer is a DNS server for one test.
type nameServer struct {
	conn net.PacketConn

	mu    sync.Mutex // guards what follows
	hosts map[string][]netip.Addr
	srv   map[string][]dnsmessage.SRVResource
	down  bool
	asked int
}

func newNameServer(t *testing.T) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{conn: conn, hosts: map[string][]netip.Addr{}, srv: map[string][]dnsmessage.SRVResource{}}
	var served sync.WaitGroup
	served.Go(s.serve)
	t.Cleanup(func() {
		_ = conn.Close()
		served.Wait()
	})
	return s
}

func (s *nameServer) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *nameServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", s.conn.LocalAddr().String())
	}}
}

func (s *nameServer) serve() {
	buf := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		s.answer(&m)
		if packed, err := m.Pack(); err == nil {
			_, _ = s.conn.WriteTo(packed, from)
		}
	}
}

func (s *nameServer) answer(m *dnsmessage.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	q := m.Questions[0]
	name := q.Name.String()
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
	hosts, known := s.hosts[name]
	records, knownSRV := s.srv[name]
	switch {
	case s.down:
		m.RCode = dnsmessage.RCodeServerFailure
	case !known && !knownSRV:
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeSRV:
		for _, r := range records {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &r})
		}
	}
	for _, ip := range hosts {
		switch {
		case s.down:
		case q.Type == dnsmessage.TypeA && ip.Is4():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: ip.As4()}})
		case q.Type == dnsmessage.TypeAAAA && ip.Is6():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: ip.As16()}})
		}
	}
}

func addrs(texts ...string) []netip.Addr {
	var as []netip.Addr
	for _, s := range texts {
		as = append(as, netip.MustParseAddr(s))
	}
	return as
}

func TestFinder(t *testing.T) {
	dns := newNameServer(t)
	dns.set(func() {
		dns.hosts["nodes.test."] = addrs("192.0.2.1", "192.0.2.2", "2001:db8::1")
		dns.hosts["one.test."] = addrs("192.0.2.3")
		dns.srv["_starling._tcp.test."] = []dnsmessage.SRVResource{
			{Port: 7001, Target: dnsmessage.MustNewName("one.test.")},
			{Port: 7002, Target: dnsmessage.MustNewName("gone.test.")},
		}
	})
	log := &record{}
	for _, c := range []struct {
		name  string
		peers []string
		dns   string
		want  []string
	}{
		{"nothing", nil, "", nil},
		{"addresses", []string{"192.0.2.9", "192.0.2.9:7009", "::1", "[::1]", "[::1]:7009"}, "",
			[]string{"192.0.2.9:7000", "192.0.2.9:7009", "[::1]:7000", "[::1]:7009"}},
		{"names", []string{"one.test.", "one.test.:7009"}, "", []string{"192.0.2.3:7000", "192.0.2.3:7009"}},
		{"A and AAAA", nil, "nodes.test.:7009", []string{"192.0.2.1:7009", "192.0.2.2:7009", "[2001:db8::1]:7009"}},
		{"A without port", nil, "one.test.", []string{"192.0.2.3:7000"}},
		{"SRV", nil, "_starling._tcp.test.", []string{"192.0.2.3:7001"}},
		{"no such name", nil, "none.test.", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var told []string
			f, err := newFinder(&Embedded{Peers: c.peers, DNS: c.dns, Resolver: dns.resolver()}, slog.New(log))
			if err != nil {
				t.Fatal(err)
			}
			f.connected = func(string) bool { return false }
			f.reload = func(addresses []string) error { told = addresses; return nil }
			f.update(t.Context(), 7000)
			slices.Sort(c.want)
			if !slices.Equal(told, c.want) {
				t.Errorf("server is told of %v, want %v", told, c.want)
			}
		})
	}
	if len(log.with("cannot look up nodes", "none.test")) != 1 || len(log.with("cannot look up nodes", "gone.test")) != 1 {
		t.Errorf("log: %v", log.lines)
	}
}

// TestFinderForgets: what name servers say replaces what they said before, save while they do not answer, and save
// addresses at which a peer is connected.
func TestFinderForgets(t *testing.T) {
	dns := newNameServer(t)
	var told []string
	connected := ""
	f, err := newFinder(&Embedded{DNS: "nodes.test.:7009", Resolver: dns.resolver()}, slog.New(&record{}))
	if err != nil {
		t.Fatal(err)
	}
	f.connected = func(address string) bool { return address == connected }
	f.reload = func(addresses []string) error { told = addresses; return nil }
	for _, step := range []struct {
		name      string
		change    func()
		connected string
		want      []string
	}{
		{"first", func() { dns.hosts["nodes.test."] = addrs("192.0.2.1", "192.0.2.2") }, "", []string{"192.0.2.1:7009", "192.0.2.2:7009"}},
		{"added", func() { dns.hosts["nodes.test."] = addrs("192.0.2.2", "192.0.2.3") }, "", []string{"192.0.2.2:7009", "192.0.2.3:7009"}},
		{"name server down", func() { dns.down = true }, "", []string{"192.0.2.2:7009", "192.0.2.3:7009"}},
		{"removed but connected", func() { dns.down = false; dns.hosts["nodes.test."] = addrs("192.0.2.3") }, "192.0.2.2:7009",
			[]string{"192.0.2.2:7009", "192.0.2.3:7009"}},
		{"no longer connected", func() {}, "", []string{"192.0.2.3:7009"}},
		{"name gone", func() { delete(dns.hosts, "nodes.test.") }, "", nil},
	} {
		dns.set(step.change)
		connected = step.connected
		f.update(t.Context(), 7000)
		if !slices.Equal(told, step.want) {
			t.Errorf("%s: server is told of %v, want %v", step.name, told, step.want)
		}
	}
}

// TestDNS: a node finds others by name, and later ones when the name changes.
func TestDNS(t *testing.T) {
	dns := newNameServer(t)
	token := []byte(NewToken())
	a := open(t, 0, &Embedded{Token: token, Listen: "127.0.0.1:0"})
	b := open(t, 1, &Embedded{
		Token: token, Listen: "127.0.0.1:0", DNS: "_starling._tcp.nodes.test.", Resolver: dns.resolver(), Resolve: 20 * time.Millisecond,
	})
	eventually(t, "name looked up in vain", func() bool { dns.mu.Lock(); defer dns.mu.Unlock(); return dns.asked > 0 })
	dns.set(func() {
		dns.hosts["host.test."] = addrs("127.0.0.1")
		var records []dnsmessage.SRVResource
		for _, n := range []*node{a, b} { // it finds itself, too
			records = append(records, dnsmessage.SRVResource{
				Port: netip.MustParseAddrPort(n.address()).Port(), Target: dnsmessage.MustNewName("host.test."),
			})
		}
		dns.srv["_starling._tcp.nodes.test."] = records
	})
	b.until(t, true, a.id)
	a.until(t, true, b.id)
	if lines := append(b.log.with("complains"), b.log.with("refused")...); len(lines) > 0 {
		t.Errorf("not quiet: %v", lines)
	}
}

// relay stands before a node, as a network that can break.
type relay struct {
	listener net.Listener
	target   string

	mu     sync.Mutex // guards what follows
	broken bool
	tried  int // connections refused while broken
	conns  []net.Conn
}

func newRelay(t *testing.T) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: l}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() { r.carry(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		r.set(true)
		work.Wait()
	})
	return r
}

func (r *relay) set(broken bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken, r.tried = broken, 0
	for _, c := range r.conns {
		_ = c.Close()
	}
	r.conns = nil
}

func (r *relay) carry(in net.Conn) {
	defer func() { _ = in.Close() }()
	r.mu.Lock()
	if r.broken {
		r.tried++
		r.mu.Unlock()
		return
	}
	out, err := net.Dial("tcp", r.target)
	if err != nil {
		r.mu.Unlock()
		return
	}
	defer func() { _ = out.Close() }()
	r.conns = append(r.conns, in, out)
	r.mu.Unlock()
	var back sync.WaitGroup
	back.Go(func() { pump(in, out) })
	pump(out, in)
	back.Wait()
}

func pump(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	_ = to.Close()
	_ = from.Close()
}

// TestHearsayHeals: two nodes that know each other only through a third find each other again after a cut that the
// third does not see.
func TestHearsayHeals(t *testing.T) {
	token := []byte(NewToken())
	a := open(t, 0, &Embedded{Token: token, Listen: "127.0.0.1:0"})
	var relays [2]*relay
	var nodes [2]*node
	for i := range nodes {
		relays[i] = newRelay(t)
		nodes[i] = open(t, i+1, &Embedded{
			Token: token, Listen: "127.0.0.1:0", Advertise: relays[i].listener.Addr().String(), Peers: []string{a.address()},
		})
		relays[i].mu.Lock()
		relays[i].target = net.JoinHostPort("127.0.0.1", portOf(t, nodes[i]))
		relays[i].mu.Unlock()
	}
	b, c := nodes[0], nodes[1]
	b.until(t, true, a.id, c.id)
	c.until(t, true, a.id, b.id)
	for _, r := range relays {
		r.set(true)
	}
	b.until(t, false, c.id)
	c.until(t, false, b.id)
	tried := func() (n int) {
		for _, r := range relays {
			r.mu.Lock()
			n += r.tried
			r.mu.Unlock()
		}
		return n
	}
	eventually(t, "attempts to connect", func() bool { return tried() >= 6 }) // three connections, twice
	for _, r := range relays {
		r.set(false)
	}
	b.until(t, true, c.id)
	c.until(t, true, b.id)
	if n := a.Bus.(*embedded).peers.Load(); n != 2 {
		t.Errorf("the third node has %d peers", n)
	}
}

func portOf(t *testing.T, n *node) string {
	t.Helper()
	_, port, err := net.SplitHostPort(n.Bus.(*embedded).server.ClusterAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func TestAnnouncement(t *testing.T) {
	key, other := []byte("key"), []byte("other")
	good := announcement{"nodea", "192.0.2.1", 7000}
	for _, c := range []struct {
		name   string
		packet []byte
		keys   [][]byte
		err    string
	}{
		{"own key", good.append(nil, key), [][]byte{key}, ""},
		{"rotated key", good.append(nil, key), [][]byte{other, key}, ""},
		{"other key", good.append(nil, other), [][]byte{key}, "another cluster"},
		{"changed", append([]byte("starling-cluster 1\n\x05nodeb"), good.append(nil, key)[25:]...), [][]byte{key}, "another cluster"},
		{"empty", nil, [][]byte{key}, "another cluster"},
		{"noise", []byte(strings.Repeat("x", maxAnnounce)), [][]byte{key}, "another cluster"},
		{"signed nonsense", append([]byte(announcePrefix+"\xff"), mac([]byte(announcePrefix+"\xff"), key)...), [][]byte{key}, "malformed"},
		{"signed nothing", append([]byte(announcePrefix), mac([]byte(announcePrefix), key)...), [][]byte{key}, "malformed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseAnnouncement(c.packet, c.keys)
			switch {
			case c.err == "" && (err != nil || got != good):
				t.Errorf("got %v, %v", got, err)
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Errorf("error is %v", err)
			}
		})
	}
}

func FuzzAnnouncement(f *testing.F) {
	key := []byte("key")
	f.Add([]byte("\x05nodea\x00\x1b\x58"))
	f.Add([]byte("\xff" + strings.Repeat("a", 255) + "\x00\x1b\x58")) // the longest id
	f.Fuzz(func(t *testing.T, body []byte) {
		packet := append([]byte(announcePrefix), body...)
		packet = append(packet, mac(packet, key)...)
		a, err := parseAnnouncement(packet, [][]byte{key})
		if err == nil && string(a.append(nil, key)) != string(packet) {
			t.Errorf("%q is read as %v", body, a)
		}
	})
}
