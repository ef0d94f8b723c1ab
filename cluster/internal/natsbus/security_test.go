package natsbus

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/starling-im/starling/cluster/internal/bus"
)

// handshakes says whether both ends of a connection believe each other, whoever dials.
func handshakes(t *testing.T, mine, theirs *keyring) bool {
	t.Helper()
	ok := true
	for _, k := range [][2]*keyring{{mine, theirs}, {theirs, mine}} {
		server, err := k[0].tls(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		client, err := k[1].tls(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		listener, err := tls.Listen("tcp", "127.0.0.1:0", server)
		if err != nil {
			t.Fatal(err)
		}
		accepted := make(chan error, 1)
		go func() {
			conn, err := listener.Accept()
			if err == nil {
				err = conn.(*tls.Conn).Handshake()
				_ = conn.Close()
			}
			accepted <- err
		}()
		conn, err := tls.Dial("tcp", listener.Addr().String(), client)
		if err == nil {
			_ = conn.Close()
		}
		if served := <-accepted; err != nil || served != nil {
			ok = false
		}
		_ = listener.Close()
	}
	return ok
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline, again := time.After(patience), time.NewTicker(5*time.Millisecond)
	defer again.Stop()
	for !condition() {
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		}
	}
}

// refusals returns how many handshakes with addresses of a host failed for a reason, and how many log lines tell of it.
func (n *node) refusals(reason string) (failed, logged int) {
	p := n.Bus.(*embedded).ear.probes
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.said["127.0.0.1 "+reason]; u != nil {
		failed = 1 + u.suppressed
	}
	return failed, len(n.log.with("cluster connection refused", `address="127.0.0.1:`, reason))
}

func TestStrangersGetNowhere(t *testing.T) {
	nodes := embed(t, 1)
	foreign, err := newKeyring([]byte(NewToken()), "test")
	if err != nil {
		t.Fatal(err)
	}
	forged, err := foreign.tls(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	forged.InsecureSkipVerify = true // goes on whoever answers
	for _, c := range []struct {
		name, reason string
		wrap         func(net.Conn) net.Conn
	}{
		{"plain text", noTLS, func(c net.Conn) net.Conn { return c }},
		{"no certificate", badTLS, func(c net.Conn) net.Conn { return tls.Client(c, &tls.Config{InsecureSkipVerify: true}) }},
		{"foreign certificate", otherToken, func(c net.Conn) net.Conn { return tls.Client(c, forged) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 3 {
				conn, err := net.Dial("tcp", nodes[0].address())
				if err != nil {
					t.Fatal(err)
				}
				_ = conn.SetDeadline(time.Now().Add(patience))
				w := c.wrap(conn)
				_, _ = w.Write([]byte("CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n"))
				answer, err := io.ReadAll(w)
				if strings.Contains(string(answer), "INFO") || strings.Contains(string(answer), "PONG") {
					t.Errorf("the server answers: %q", answer)
				}
				if errors.Is(err, context.DeadlineExceeded) {
					t.Error("the server does not end the connection")
				}
				_ = conn.Close()
			}
			eventually(t, "three refusals and a log line", func() bool {
				failed, logged := nodes[0].refusals(c.reason)
				return failed >= 3 && logged > 0
			})
			if _, logged := nodes[0].refusals(c.reason); logged != 1 {
				t.Errorf("%d log lines:\n%s", logged, strings.Join(nodes[0].log.with(""), "\n"))
			}
		})
	}
	t.Run("nothing but a connection", func(t *testing.T) {
		conn, err := net.Dial("tcp", nodes[0].address())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		eventually(t, "refusal", func() bool { failed, _ := nodes[0].refusals(noHandshake); return failed == 1 })
	})
	if nodes[0].Bus.(*embedded).peers.Load() != 0 {
		t.Error("a stranger is taken for a peer")
	}
}

// TestWrongToken: a node with another token, or of another cluster, learns why it gets nowhere, and the others are not
// disturbed but log it once.
func TestWrongToken(t *testing.T) {
	token := NewToken()
	a := open(t, 0, &Embedded{Token: []byte(token), Listen: "127.0.0.1:0"})
	for i, c := range []struct{ name, token, cluster string }{
		{"other token", NewToken(), "test"},
		{"other cluster", token, "production"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, err := tryOpenIn(t, c.cluster, i+1, &Embedded{
				Token: []byte(c.token), Listen: "127.0.0.1:0", Peers: []string{a.address()},
			})
			if err != nil {
				t.Fatal(err)
			}
			select {
			case f := <-b.Faults():
				checkFailure(t, f, a.address()+": "+otherToken)
				if !strings.Contains(f.Remedy, "same token file and the same cluster name") {
					t.Errorf("remedy is %q", f.Remedy)
				}
			case <-time.After(patience):
				t.Fatal("no fault")
			}
		})
	}
	eventually(t, "refusals and a log line", func() bool {
		failed, logged := a.refusals(notBelieved)
		return failed >= 4 && logged > 0
	})
	if _, logged := a.refusals(notBelieved); logged != 1 {
		t.Errorf("%d log lines", logged)
	}
	select {
	case f := <-a.Faults():
		t.Errorf("fault where strangers knocked: %v", f)
	default:
	}
}

// TestPeerTurnsStranger: a peer comes back with another token, or in another cluster. Who is left alone by that is not in
// the wrong, and says so in the log only.
func TestPeerTurnsStranger(t *testing.T) {
	token := NewToken()
	first := open(t, 1, &Embedded{Token: []byte(token), Listen: "127.0.0.1:0"})
	address := first.address()
	left := open(t, 0, &Embedded{Token: []byte(token), Listen: "127.0.0.1:0", Peers: []string{address}})
	left.until(t, true, first.id)
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	left.until(t, false, first.id)
	if _, err := tryOpenIn(t, "production", 1, &Embedded{Token: []byte(token), Listen: address}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "refusals", func() bool {
		failed, _ := left.refusals(otherToken)
		return failed >= 2
	})
	select {
	case f := <-left.Faults():
		t.Errorf("fault: %v", f)
	default:
	}
}

// TestRotation changes the token of a running cluster, node by node, and never splits it.
func TestRotation(t *testing.T) {
	was, is := NewToken(), NewToken()
	listen := [2]string{"127.0.0.1:0", "127.0.0.1:0"}
	var nodes [2]*node
	start := func(i int, tokens ...string) {
		if nodes[i] != nil {
			if err := nodes[i].Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		nodes[i] = open(t, i, &Embedded{
			Token: []byte(strings.Join(tokens, "\n")), Listen: listen[i], Peers: []string{listen[1-i]}[:min(i, 1)],
		})
		listen[i] = nodes[i].address()
	}
	start(0, was)
	start(1, was)
	meet := func() {
		t.Helper()
		nodes[0].until(t, true, nodes[1].id)
		nodes[1].until(t, true, nodes[0].id)
	}
	meet()
	for _, step := range []struct {
		name   string
		tokens []string
	}{
		{"add", []string{was, is}},
		{"roll", []string{is, was}},
		{"remove", []string{is}},
	} {
		for i := range nodes {
			start(i, step.tokens...)
			nodes[1-i].until(t, true, nodes[i].id)
			t.Logf("%s: node %d is back", step.name, i)
		}
		for _, n := range nodes {
			if lines := n.log.with("refused"); len(lines) > 0 && !strings.Contains(lines[0], noHandshake) {
				t.Errorf("%s: %s", step.name, lines[0])
			}
		}
	}
}

// TestNoDoorForClients: the only address besides the peers' is on loopback and lets nobody in.
func TestNoDoorForClients(t *testing.T) {
	a := embed(t, 1)[0].Bus.(*embedded)
	addr := a.server.Addr().(*net.TCPAddr)
	if !addr.IP.IsLoopback() {
		t.Errorf("clients are listened for on %v", addr)
	}
	for _, auth := range []nats.Option{nats.Name(""), nats.UserInfo("CTL", ""), nats.UserInfo("CTL", "CTL")} {
		conn, err := nats.Connect("nats://"+addr.String(), auth, nats.Timeout(patience))
		if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("a client connects: %v", err)
		}
		conn.Close()
	}
}

func TestListenFailures(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	token := []byte(NewToken())
	for _, c := range []struct {
		name, reason string
		engine       Embedded
	}{
		{"port in use", taken.Addr().String() + " is in use", Embedded{Token: token, Listen: taken.Addr().String()}},
		{"foreign address", "192.0.2.1:0 is not one of this machine", Embedded{Token: token, Listen: "192.0.2.1:0"}},
		{"no address", `"nonsense" is not an address`, Embedded{Token: token, Listen: "nonsense"}},
		{"port out of range", `":65536" is not an address`, Embedded{Token: token, Listen: ":65536"}},
		{"advertise", `cannot dial "host:0"`, Embedded{Token: token, Listen: "127.0.0.1:0", Advertise: "host:0"}},
		{"no token", "there is no join token", Embedded{Listen: "127.0.0.1:0"}},
		{"peer", `"a:b:c" is not the address of a node`, Embedded{Token: token, Listen: "127.0.0.1:0", Peers: []string{"a:b:c"}}},
		{"name", `"a:" is not the address of a node`, Embedded{Token: token, Listen: "127.0.0.1:0", DNS: "a:"}},
		{"group", `"127.0.0.1:1" is not a multicast group`, Embedded{Token: token, Listen: "127.0.0.1:0", Multicast: "127.0.0.1:1"}},
		{"interface", `no network interface "none0"`, Embedded{
			Token: token, Listen: "127.0.0.1:0", Multicast: "239.255.0.1:1", Interface: "none0",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := tryOpen(t, 0, &c.engine)
			checkFailure(t, err, c.reason)
		})
	}
}

func TestOpenInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e := &Embedded{Token: []byte(NewToken()), Listen: "127.0.0.1:0"}
	b, err := e.Open(ctx, bus.Identity{ID: "a", Cluster: "test"}, embed(t, 1)[0].Bus.(*embedded).log)
	if err == nil { // it was faster
		_ = b.Close(t.Context())
	} else if !errors.Is(err, context.Canceled) {
		t.Errorf("open: %v", err)
	}
}

func TestSparseness(t *testing.T) {
	now := time.Unix(0, 0)
	s := newSparseness(time.Minute)
	s.now = func() time.Time { return now }
	say := func(what string, want bool, suppressed int) {
		t.Helper()
		if n, ok := s.say(what); ok != want || n != suppressed {
			t.Errorf("say(%q) = %d, %v", what, n, ok)
		}
	}
	say("a", true, 0)
	say("a", false, 0)
	say("a", false, 0)
	say("b", true, 0)
	now = now.Add(time.Minute)
	say("a", true, 2)
	for i := range 2 * maxSaid {
		s.say(strings.Repeat("x", i+1))
	}
	if len(s.said) > maxSaid {
		t.Errorf("%d things remembered", len(s.said))
	}
	say("new", false, 0)
	now = now.Add(time.Minute)
	say("new", true, 0)
}
