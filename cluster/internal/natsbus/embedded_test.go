package natsbus

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/starling-im/starling/cluster/internal/bus"
	"github.com/starling-im/starling/cluster/internal/bus/bustest"
)

// patience bounds what should happen soon.
const patience = 20 * time.Second

// record is a log that tests can read.
type record struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func (r *record) Enabled(_ context.Context, l slog.Level) bool { return l > slog.LevelDebug }
func (r *record) WithAttrs([]slog.Attr) slog.Handler           { return r }
func (r *record) WithGroup(string) slog.Handler                { return r }
func (r *record) Handle(_ context.Context, rec slog.Record) error {
	line := rec.Level.String() + " " + rec.Message
	rec.Attrs(func(a slog.Attr) bool {
		line += fmt.Sprintf(" %s=%q", a.Key, a.Value)
		return true
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
	return nil
}

// with returns the lines that contain all parts.
func (r *record) with(parts ...string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []string
	for _, line := range r.lines {
		if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
			found = append(found, line)
		}
	}
	return found
}

// node is a bus under test, with its log.
type node struct {
	bus.Bus
	id  string
	log *record
}

func (n *node) address() string { return n.Bus.(bus.Addresser).Address() }

var ids = "abcdefghij"

// open starts node number i of a cluster.
func open(t *testing.T, i int, e bus.Engine) *node {
	t.Helper()
	n, err := tryOpen(t, i, e)
	if err != nil {
		t.Fatalf("open node %d: %v", i, err)
	}
	return n
}

func tryOpen(t *testing.T, i int, e bus.Engine) (*node, error) {
	t.Helper()
	return tryOpenIn(t, "test", i, e)
}

func tryOpenIn(t *testing.T, cluster string, i int, e bus.Engine) (*node, error) {
	t.Helper()
	log := &record{}
	id := "node" + ids[i:i+1]
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	b, err := e.Open(ctx, bus.Identity{ID: id, Name: id, Cluster: cluster, Incarnation: 7}, slog.New(log))
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := b.Close(ctx); err != nil {
			t.Errorf("close %s: %v", id, err)
		}
		if t.Failed() {
			log.mu.Lock()
			defer log.mu.Unlock()
			for _, line := range log.lines {
				t.Logf("%s: %s", id, line)
			}
		}
	})
	return &node{b, id, log}, nil
}

// embed starts n nodes that know the first one only.
func embed(t *testing.T, n int) []*node {
	t.Helper()
	token := []byte(NewToken())
	nodes := []*node{open(t, 0, &Embedded{Token: token, Listen: "127.0.0.1:0"})}
	for i := 1; i < n; i++ {
		nodes = append(nodes, open(t, i, &Embedded{Token: token, Listen: "127.0.0.1:0", Peers: []string{nodes[0].address()}}))
	}
	return nodes
}

func TestEmbeddedBus(t *testing.T) {
	bustest.Run(t, bustest.Harness{Open: func(t *testing.T, n int) []bus.Bus {
		var bs []bus.Bus
		for _, node := range embed(t, n) {
			bs = append(bs, node.Bus)
		}
		return bs
	}})
}

// until waits for hints that say so of all these peers.
func (n *node) until(t *testing.T, up bool, peers ...string) {
	t.Helper()
	deadline := time.After(patience)
	for len(peers) > 0 {
		select {
		case h := <-n.Hints():
			if h.Up == up {
				peers = slices.DeleteFunc(peers, func(p string) bool { return p == h.Peer })
			}
		case <-deadline:
			t.Fatalf("%s: no hint that %v went up=%v", n.id, peers, up)
		}
	}
}

func TestMesh(t *testing.T) {
	nodes := embed(t, 3)
	nodes[0].until(t, true, "nodeb", "nodec")
	nodes[1].until(t, true, "nodea", "nodec") // learned from the first
	nodes[2].until(t, true, "nodea", "nodeb")
	for _, n := range nodes {
		if lines := n.log.with("WARN"); len(lines) > 0 {
			t.Errorf("%s is not quiet: %v", n.id, lines)
		}
	}
	if err := nodes[2].Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	nodes[0].until(t, false, "nodec")
	nodes[1].until(t, false, "nodec")
	t.Logf("hint of a closed peer after %v", time.Since(start))
}

// TestLastWords: what was published before Close arrives.
func TestLastWords(t *testing.T) {
	nodes := embed(t, 2)
	nodes[1].until(t, true, "nodea")
	const n = 2000
	got := make(chan int, 2*n+1)
	for _, lane := range []bus.Lane{bus.Control, bus.Data} {
		cancel, err := nodes[0].Subscribe(lane, "v1.test.last", func(m bus.Message) { got <- len(m.Data) })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cancel)
	}
	spread(t, nodes[1], got)
	for range n {
		for _, lane := range []bus.Lane{bus.Control, bus.Data} {
			if err := nodes[1].Publish(lane, "v1.test.last", make([]byte, 300)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := nodes[1].Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(patience)
	for i := 0; i < 2*n; {
		select {
		case size := <-got:
			if size == 300 {
				i++
			}
		case <-deadline:
			t.Fatalf("%d of %d arrived", i, 2*n)
		}
	}
}

// spread publishes until subscriptions on both lanes have been heard, with messages of one and two bytes.
func spread(t *testing.T, from *node, got <-chan int) {
	t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	deadline := time.After(patience)
	for seen := map[int]bool{}; len(seen) < 2; {
		for i, lane := range []bus.Lane{bus.Control, bus.Data} {
			if err := from.Publish(lane, "v1.test.last", make([]byte, i+1)); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case size := <-got:
			seen[size] = true
		case <-again.C:
		case <-deadline:
			t.Fatal("subscriptions do not spread")
		}
	}
}

func identity(id string) bus.Identity {
	return bus.Identity{ID: id, Name: id, Cluster: "test", Incarnation: 7}
}

// TestReload: what the server learns about addresses does not disturb traffic.
func TestReload(t *testing.T) {
	nodes := embed(t, 2)
	nodes[1].until(t, true, "nodea")
	got := make(chan int, 1<<16)
	for _, lane := range []bus.Lane{bus.Control, bus.Data} {
		cancel, err := nodes[0].Subscribe(lane, "v1.test.last", func(m bus.Message) { got <- len(m.Data) })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cancel)
	}
	spread(t, nodes[1], got)
	const n = 1000
	sent := 0
	for i := range 20 {
		var addresses []string // of nobody, beside the peer
		if i%2 == 0 {
			addresses = []string{"127.0.0.1:1"}
		}
		for j, n := range nodes {
			if err := n.Bus.(*embedded).reload(append(addresses, nodes[1-j].address())); err != nil {
				t.Fatal(err)
			}
		}
		for range n / 20 {
			sent++
			if err := nodes[1].Publish(bus.Data, "v1.test.last", make([]byte, 100+sent)); err != nil {
				t.Fatal(err)
			}
		}
	}
	deadline := time.After(patience)
	for next := 101; next <= 100+sent; {
		select {
		case size := <-got:
			if size < 100 {
				continue
			}
			if size != next {
				t.Fatalf("message %d arrived when %d should", size-100, next-100)
			}
			next++
		case <-deadline:
			t.Fatalf("%d of %d arrived", next-101, sent)
		}
	}
}

// TestCloseFreesAll: opening and closing leaves nothing behind.
func TestCloseFreesAll(t *testing.T) {
	cycle := func() {
		ctx := context.Background()
		token := []byte(NewToken())
		e := &Embedded{Token: token, Listen: "127.0.0.1:0", Multicast: group(t), Interface: "lo"}
		a, err := e.Open(ctx, identity("a"), slog.New(&record{}))
		if err != nil {
			t.Fatal(err)
		}
		e = &Embedded{Token: token, Listen: "127.0.0.1:0", Peers: []string{a.(bus.Addresser).Address(), "127.0.0.1:1"}}
		b, err := e.Open(ctx, identity("b"), slog.New(&record{}))
		if err != nil {
			t.Fatal(err)
		}
		(&node{Bus: b, id: "b"}).until(t, true, "a")
		for _, n := range []bus.Bus{b, a} {
			if err := n.Close(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	cycle() // what lives as long as the process is made now
	before := runtime.NumGoroutine()
	for range 3 {
		cycle()
	}
	eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= before })
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func echo(_ context.Context, data []byte) []byte { return data }
