package server_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/server"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
	"github.com/starling-im/starling/internal/xmpptest"
)

func TestMain(m *testing.M) { os.Exit(xmpptest.Main(m)) }

// A server in a process of its own, as operators run it.
func TestServerProcess(t *testing.T) {
	program := xmpptest.Program(t)
	t.Run("crowd", func(t *testing.T) { crowd(t, program) })
	t.Run("killed", func(t *testing.T) { killed(t, program) })
	t.Run("synced", func(t *testing.T) { synced(t, program) })
}

// node is a running server.
type node struct {
	t *testing.T
	*exec.Cmd
	data string
	info server.RunInfo
}

// run starts a server on a folder, through a command that may begin with a tracer.
func run(t *testing.T, data string, command ...string) *node {
	t.Helper()
	n := &node{t: t, data: data}
	n.Cmd = exec.Command(command[0], append(command[1:], "serve", "--data", data, "--listen-c2s=127.0.0.1:0", "--listen-tls=127.0.0.1:0",
		"--listen-https=", "--listen-admin=127.0.0.1:0", "--open-registration", "--allow-plaintext-auth", "--log-level=warn",
		"--set=auth.iterations=4096", "--set=limits.rate_bytes=0", "--set=offline.max_messages=1000000",
		"--set=limits.pre_auth_connections=20000", "--set=limits.pre_auth_per_address=20000", "--set=limits.connections_per_address=0",
		"--set=limits.auth_timeout=5m", "--set=limits.handshake_timeout=5m")...)
	n.Dir = t.TempDir()
	n.Stderr = t.Output()
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.kill)
	if !eventually(func() bool {
		info, err := server.ReadRunInfo(data)
		n.info = info
		return err == nil && info.PID == n.Process.Pid
	}) {
		t.Fatalf("not ready; %+v", n.info)
	}
	return n
}

// kill ends the server as a failing machine does.
func (n *node) kill() {
	if n.ProcessState == nil {
		n.Process.Kill()
		n.Wait()
	}
}

func (n *node) config(name string, mode client.TLSMode) client.Config {
	door := map[client.TLSMode]string{client.Direct: "tls", client.None: "c2s"}[mode]
	return client.Config{
		Addr: n.info.Addresses[door], TLS: mode, TLSConfig: insecure(), JID: jid.MustParse(name + "@localhost"), Password: password,
	}
}

func (n *node) register(names ...string) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	for _, name := range names {
		if err := client.Register(ctx, n.config(name, client.Direct)); err != nil {
			n.t.Fatal(err)
		}
	}
}

// metrics reads what the server says of itself, after a garbage collection.
func (n *node) metrics() map[string]float64 {
	n.t.Helper()
	all := map[string]float64{}
	for _, path := range []string{"/debug/pprof/heap?gc=1", "/metrics"} {
		r, err := http.Get("http://" + n.info.Addresses["admin"] + path)
		if err != nil {
			n.t.Fatal(err)
		}
		for lines := bufio.NewScanner(r.Body); path == "/metrics" && lines.Scan(); {
			if name, value, ok := strings.Cut(lines.Text(), " "); ok {
				all[name], _ = strconv.ParseFloat(value, 64)
			}
		}
		io.Copy(io.Discard, r.Body)
		r.Body.Close()
	}
	return all
}

// crowdSize is how many hostile connections come at once.
const crowdSize = 10_000

// crowd sends hostile connections to a server on which two people chat: each message must arrive, and when the crowd
// is gone the server must hold what it held before.
func crowd(t *testing.T, program string) {
	n := run(t, t.TempDir(), program)
	n.register("romeo", "juliet")
	c := &couple{t: t, a: dialUser(t, n.config("romeo", client.Direct)).available(), b: dialUser(t, n.config("juliet", client.Direct)).available()}
	for range 50 {
		c.chat()
	}
	alone := n.metrics()
	// The runtime keeps descriptors of the goroutines that there ever were, and maps the size that they had: about half
	// of this for each connection. A second crowd must add nothing.
	c.among(n, alone, crowdSize<<10)
	once := n.metrics()
	c.among(n, once, 4<<20)
	t.Logf("%d messages, the slowest took %v", c.said, c.slowest)
}

// couple is two users who chat.
type couple struct {
	t       *testing.T
	a, b    *user
	said    int
	slowest time.Duration
}

// chat sends a message each way and waits for it.
func (c *couple) chat() {
	c.t.Helper()
	for _, way := range [2][2]*user{{c.a, c.b}, {c.b, c.a}} {
		begun := time.Now()
		c.said++
		way[0].send(fmt.Sprintf("<message to='%s' id='m%d' type='chat'><body>hi</body></message>", way[1].JID(), c.said))
		if got := way[1].next(); !strings.Contains(got, fmt.Sprintf("id='m%d'", c.said)) {
			c.t.Fatalf("message %d: got %s", c.said, got)
		}
		c.slowest = max(c.slowest, time.Since(begun))
	}
}

// among lets them chat while a crowd comes, stays and leaves. The heap may then be larger than before by heapSlack bytes.
func (c *couple) among(n *node, before map[string]float64, heapSlack float64) {
	begun := time.Now()
	m := &mob{n: n, conns: make([]net.Conn, crowdSize)}
	arrived := m.come()
	for here := false; !here; {
		c.chat()
		select {
		case <-arrived:
			here = true
		default:
		}
	}
	if err := m.failed.Load(); err != nil {
		c.t.Fatal(*err)
	}
	for range 4 {
		m.drip()
		for range 25 {
			c.chat()
		}
	}
	during := n.metrics()
	m.leave()
	if open := during["starling_c2s_connections"]; open < crowdSize*3/4 {
		c.t.Errorf("only %v connections were open", open)
	}
	var after map[string]float64
	more := func() (names []string) {
		after = n.metrics()
		for name, slack := range map[string]float64{
			"starling_c2s_connections": 0, "starling_connections_open": 0, "starling_connections_blocked": 0, "starling_assembly_bytes": 0,
			"go_goroutines": 2, "process_open_fds": 2, // the request for the metrics
			"go_memstats_heap_alloc_bytes": heapSlack,
		} {
			if after[name] > before[name]+slack {
				names = append(names, fmt.Sprintf("%s: %v, before %v", name, after[name], before[name]))
			}
		}
		return names
	}
	if !eventually(func() bool { return more() == nil }) {
		c.t.Errorf("not given back: %q", more())
	}
	c.chat()
	const heap = "go_memstats_heap_alloc_bytes"
	c.t.Logf("%v connections at once, %v goroutines, heap %.1f MB before, %.1f MB during, %.1f MB after; %v",
		during["starling_c2s_connections"], during["go_goroutines"], before[heap]/1e6, during[heap]/1e6, after[heap]/1e6, time.Since(begun))
}

// mob is many hostile connections. None has a goroutine of its own here.
type mob struct {
	n      *node
	conns  []net.Conn
	failed atomic.Pointer[error]
}

// come opens all connections. The channel is closed when they are there, or one has failed.
func (m *mob) come() <-chan struct{} {
	const hands = 8
	var coming sync.WaitGroup
	for h := range hands {
		coming.Go(func() {
			for i := h; i < len(m.conns) && m.failed.Load() == nil; i += hands {
				m.open(i)
			}
		})
	}
	arrived := make(chan struct{})
	go func() { coming.Wait(); close(arrived) }()
	return arrived
}

// open makes connection i: what it does depends on the number.
func (m *mob) open(i int) {
	door := "c2s"
	if i%5 >= 3 {
		door = "tls"
	}
	conn, err := net.Dial("tcp", m.n.info.Addresses[door])
	if err != nil {
		m.failed.Store(&err)
		return
	}
	m.conns[i] = conn
	switch i % 10 {
	case 0, 5: // says nothing
	case 1, 6: // a stream, and an element that never ends
		io.WriteString(conn, open+"<a b='")
	case 2: // junk
		io.WriteString(conn, "\x01\x02\x03")
	case 7: // asks for TLS and goes on in plaintext, slowly
		io.WriteString(conn, open+"<starttls "+tlsNS+"/>")
	case 3, 8: // half of a handshake
		io.WriteString(conn, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"+strings.Repeat("x", 100))
	case 4: // says nothing where a handshake is awaited
	case 9: // junk where a handshake is awaited
		io.WriteString(conn, "GET / HTTP/1.1\r\n\r\n")
	}
}

// drip sends one more byte on each connection; those that the server has closed do not take it.
func (m *mob) drip() {
	for i, conn := range m.conns {
		if i%5 == 1 || i%5 == 3 || i%10 == 7 {
			io.WriteString(conn, "x")
		}
	}
}

func (m *mob) leave() {
	for i, conn := range m.conns {
		if i%3 == 0 {
			conn.(*net.TCPConn).SetLinger(0) // some are cut off
		}
		conn.Close()
	}
}

// killed kills a server while people send messages to somebody who is away. A ping that is answered on the stream of
// the sender says that what was sent before it is safe.
func killed(t *testing.T, program string) {
	const senders, rounds = 4, 10
	data := t.TempDir()
	n := run(t, data, program)
	n.register("juliet")
	for i := range senders {
		n.register(fmt.Sprint("romeo", i))
	}
	total := 0
	for round := range rounds {
		var safe sync.Map // id of a message whose ping was answered
		var count atomic.Int64
		last := 20 + rand.Int64N(300)
		enough := make(chan struct{})
		var sending sync.WaitGroup
		for i := range senders {
			u := dialUser(t, n.config(fmt.Sprint("romeo", i), client.Direct))
			sending.Go(func() {
				for k := 0; ; k++ {
					id := fmt.Sprintf("%d.%d.%d", round, i, k)
					message := xml.New(xml.NSClient, "message", "to", "juliet@localhost", "type", "chat", "id", id).With(xml.New(xml.NSClient, "body").WithText("come back"))
					if u.Send(t.Context(), message) != nil {
						return
					}
					if _, err := u.IQ(t.Context(), xml.New(xml.NSClient, "iq", "type", "get").With(xml.New("urn:xmpp:ping", "ping"))); err != nil {
						return
					}
					safe.Store(id, true)
					if count.Add(1) == last {
						close(enough)
					}
				}
			})
		}
		select {
		case <-enough:
		case <-time.After(patience):
			t.Fatalf("only %d of %d messages were taken", count.Load(), last)
		}
		n.kill() // while the others are in the middle
		sending.Wait()
		n = run(t, data, program)
		juliet := dialUser(t, n.config("juliet", client.Direct))
		juliet.send("<presence/>")
		got := strings.Join(juliet.heard(), "\n")
		safe.Range(func(id, _ any) bool {
			if strings.Count(got, fmt.Sprintf("id='%s'", id)) != 1 {
				t.Errorf("message %s, which was safe, is lost or came twice", id)
			}
			total++
			return true
		})
		juliet.Drop()
	}
	t.Logf("%d messages in %d lives", total, rounds)
}

// synced watches the system calls of a server: what a ping answers for is on the disk before the answer leaves.
func synced(t *testing.T, program string) {
	strace, err := exec.LookPath("strace")
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal("strace is needed: install it")
	} else if err != nil {
		t.Skip("strace is not installed: what reaches the disk, and when, is not watched")
	}
	trace := filepath.Join(t.TempDir(), "trace")
	n := run(t, t.TempDir(), strace, "-f", "-D", "-yy", "-s", "8192", "-o", trace, "-e", "trace=write,pwrite64,writev,sendto,fsync,fdatasync", program)
	n.register("romeo", "juliet")
	cfg := n.config("romeo", client.None)
	cfg.Mechanism = "SCRAM-SHA-256"
	romeo := dialUser(t, cfg)
	me := romeo.NetConn().LocalAddr().String()
	const messages = 20
	for i := range messages {
		romeo.send(fmt.Sprintf("<message to='juliet@localhost' type='chat'><body>%d</body></message><iq type='get' id='ack%d'><ping xmlns='urn:xmpp:ping'/></iq>", i, i))
		if got := romeo.next(); !strings.Contains(got, fmt.Sprintf("id='ack%d'", i)) {
			t.Fatalf("answer %d: %s", i, got)
		}
	}
	n.Process.Signal(os.Interrupt)
	n.Wait()
	var lines []string
	if !eventually(func() bool { // the tracer writes to the end
		b, _ := os.ReadFile(trace)
		lines = strings.Split(string(b), "\n")
		return strings.Contains(string(b), "+++ exited")
	}) {
		t.Fatal("the tracer wrote nothing")
	}
	if got := checkSynced(t, lines, me); got != messages {
		t.Errorf("%d answers of %d in %d lines of system calls", got, messages, len(lines))
	}
}

var (
	walWrite = regexp.MustCompile(`^(\d+) +p?write(64)?\(\d+<[^>]*\.db-wal>`)
	walSync  = regexp.MustCompile(`^(\d+) +f(data)?sync\(\d+<[^>]*\.db-wal>`)
	resumed  = regexp.MustCompile(`^(\d+) +<\.\.\. f(data)?sync resumed>.*= 0$`)
	text     = regexp.MustCompile(`<body>(\d+)</body>`)
	answered = regexp.MustCompile(`write\(\d+<TCP:\[[^]]*->([^]]*)\]>, ".*id='ack(\d+)'`)
)

// checkSynced goes through the system calls and counts the answers to peer. Before each, the text of its message was
// written to the log of the database, and that was synced then. Others write to it, too.
func checkSynced(t *testing.T, lines []string, peer string) (answers int) {
	t.Helper()
	written, durable := map[string]bool{}, map[string]bool{} // numbers of messages
	syncing := map[string][]string{}                         // by thread, what was written when its call began
	for _, line := range lines {
		switch {
		case walWrite.MatchString(line):
			for _, m := range text.FindAllStringSubmatch(line, -1) {
				written[m[1]] = true
			}
		case walSync.MatchString(line):
			thread, before := walSync.FindStringSubmatch(line)[1], slices.Collect(maps.Keys(written))
			if syncing[thread] = before; strings.HasSuffix(line, "= 0") {
				note(durable, before)
			}
		case resumed.MatchString(line):
			note(durable, syncing[resumed.FindStringSubmatch(line)[1]])
		default:
			m := answered.FindStringSubmatch(line)
			if m == nil || m[1] != peer {
				continue
			}
			if answers++; !durable[m[2]] {
				t.Errorf("the ping %s was answered before its message was on the disk: %s", m[2], line)
			}
		}
	}
	return answers
}

func note(set map[string]bool, keys []string) {
	for _, k := range keys {
		set[k] = true
	}
}

// The settings without which no commit is safe.
func TestDatabaseIsDurable(t *testing.T) {
	tg := attack(t)
	got, err := tg.Core().DB.Durability(t.Context())
	if err != nil || got != "journal_mode=wal synchronous=2" {
		t.Errorf("%s, %v", got, err)
	}
	if d := tg.Core().DB.Dialect(); d != store.SQLite {
		t.Errorf("this is %s", d)
	}
}
