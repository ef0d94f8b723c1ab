package scenario_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/internal/testnet"
)

const (
	patience = 60 * time.Second // bounds what is not measured
	port     = "7420"
)

// soaking says whether the long variants run: SOAK=1, as `make soak` sets it.
func soaking() bool { return os.Getenv("SOAK") != "" }

// world is a cluster of processes, each on a host of its own.
type world struct {
	t      *testing.T
	net    *testnet.Net
	token  string
	nodes  map[string]*node
	binary string // of the nodes, this one if empty
}

// node is a process, and the events it has told.
type node struct {
	*testnet.Program
	w    *world
	name string

	mu     sync.Mutex // guards what follows
	events []news
	told   chan struct{} // closed and made anew with every event
}

func newWorld(t *testing.T, hosts ...string) *world {
	t.Helper()
	return &world{t: t, net: testnet.New(t, hosts...), token: cluster.NewToken(), nodes: map[string]*node{}}
}

// address is where a node listens.
func (w *world) address(name string) string { return w.net.Host(name).Addr.String() + ":" + port }

// settings are those of a node that knows where all others may be.
func (w *world) settings(name string) settings {
	s := settings{Name: name, Cluster: "test", Token: w.token, Listen: "0.0.0.0:" + port}
	for _, h := range w.net.Hosts() {
		if h.Name != name {
			s.Peers = append(s.Peers, w.address(h.Name))
		}
	}
	return s
}

// start starts a node that stands alone.
func (w *world) start(name string, tune ...func(*settings)) *node {
	w.t.Helper()
	s := w.settings(name)
	for _, fn := range tune {
		fn(&s)
	}
	n := &node{w: w, name: s.Name, told: make(chan struct{})}
	binary := w.binary
	if binary == "" {
		binary = os.Args[0]
	}
	cmd := w.net.Host(name).Command(binary)
	cmd.Env = append(os.Environ(), programEnv+"=1")
	n.Program = testnet.Start(w.t, name, cmd, n.hear)
	w.nodes[name] = n
	n.ask("start", s, nil)
	return n
}

// join starts nodes at once, and waits until they are ready and see each other.
func (w *world) join(names ...string) []*node {
	w.t.Helper()
	ns := w.startAll(names)
	w.joinAll(ns)
	return ns
}

func (w *world) startAll(names []string, tune ...func(*settings)) (ns []*node) {
	w.t.Helper()
	for _, name := range names {
		ns = append(ns, w.start(name, tune...))
	}
	return ns
}

// joinAll joins nodes at the same moment.
func (w *world) joinAll(ns []*node) {
	w.t.Helper()
	var all sync.WaitGroup
	for _, n := range ns {
		all.Go(func() { n.ask("join", struct{}{}, nil) })
	}
	all.Wait()
	w.whole(ns...)
}

// whole waits until all nodes are ready, see each other and nobody else, and have the same rows.
func (w *world) whole(ns ...*node) time.Duration {
	w.t.Helper()
	var names []string
	for _, n := range ns {
		names = append(names, n.name)
	}
	return w.until("all see "+strings.Join(names, ", ")+" and the same rows", func() bool {
		var first view
		for i, n := range ns {
			v := n.view()
			if i == 0 {
				first = v
			}
			if slices.ContainsFunc(v.Members, func(m person) bool { return m.State != "ready" || m.Suspected }) {
				return false
			}
			if !v.sees(names...) || v.Unsynced > 0 || v.Digest != first.Digest || v.Keys != first.Keys || v.Senior.Name != first.Senior.Name {
				return false
			}
		}
		return true
	})
}

// until waits until something is so, and tells how long that took.
func (w *world) until(what string, ok func() bool) time.Duration {
	w.t.Helper()
	start := testnet.Now()
	deadline := time.After(patience)
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for !ok() {
		select {
		case <-again.C:
		case <-deadline:
			w.t.Fatalf("not within %v: %s\n%s", patience, what, w.describe())
		}
	}
	return testnet.Now() - start
}

// pass lets time go by: what is tested lasts so long.
func (w *world) pass(d time.Duration) {
	<-time.After(d)
}

// describe tells what the nodes that answer see.
func (w *world) describe() string {
	var b strings.Builder
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for name, n := range w.nodes {
		var v view
		if err := n.Ask(ctx, "view", struct{}{}, &v); err != nil {
			fmt.Fprintf(&b, "%s: %v\n", name, err)
			continue
		}
		fmt.Fprintf(&b, "%s: %+v\n", name, v)
	}
	return b.String()
}

// hear takes an event in.
func (n *node) hear(b json.RawMessage) {
	var e news
	if json.Unmarshal(b, &e) != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, e)
	close(n.told)
	n.told = make(chan struct{})
}

// ask asks what cannot fail.
func (n *node) ask(what string, args, result any) {
	n.w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	if err := n.Ask(ctx, what, args, result); err != nil {
		n.w.t.Errorf("%s: %s: %v", n.name, what, err)
	}
}

func (n *node) view() (v view) {
	n.w.t.Helper()
	n.ask("view", struct{}{}, &v)
	return v
}

func (n *node) content() (c map[string]string) {
	n.w.t.Helper()
	n.ask("content", struct{}{}, &c)
	return c
}

func (n *node) put(kv ...string) {
	n.w.t.Helper()
	rows := map[string]string{}
	for pair := range slices.Chunk(kv, 2) {
		rows[pair[0]] = pair[1]
	}
	n.ask("put", rows, nil)
}

func (n *node) sent(to string) (l ledger) {
	n.w.t.Helper()
	n.ask("sent", to, &l)
	return l
}

func (n *node) applied(from string) (numbers []uint64) {
	n.w.t.Helper()
	n.ask("applied", from, &numbers)
	return numbers
}

// mark is a place in what a node tells.
func (n *node) mark() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.events)
}

// moved says whether somebody came, went or was doubted since a mark.
func (n *node) moved(since int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.events[since:], func(e news) bool {
		return slices.Contains([]string{"member joined", "member left", "member died", "suspected", "fenced", "paused"}, e.Kind)
	})
}

// count counts events about a member since a mark.
func (n *node) count(since int, kind, name string) (c int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.events[since:] {
		if e.Kind == kind && e.Name == name {
			c++
		}
	}
	return c
}

func (n *node) tale() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var b strings.Builder
	for _, e := range n.events {
		fmt.Fprintf(&b, "  %s: %.3f %s %s#%d %s %s\n", n.name, e.At.Seconds(), e.Kind, e.Name, e.Incarnation, e.State, e.Reason)
	}
	return b.String()
}

// await waits for an event about a member since a mark.
func (n *node) await(since int, kind, name string) news {
	n.w.t.Helper()
	deadline := time.After(patience)
	for {
		n.mu.Lock()
		more := n.told
		for _, e := range n.events[since:] {
			if e.Kind == kind && e.Name == name {
				n.mu.Unlock()
				return e
			}
		}
		n.mu.Unlock()
		select {
		case <-more:
		case <-deadline:
			n.w.t.Fatalf("%s does not tell %q of %s:\n%s", n.name, kind, name, n.tale())
		}
	}
}

// leave lets a node leave.
func (n *node) leave() {
	n.w.t.Helper()
	n.ask("leave", struct{}{}, nil)
}

func (n *node) join() {
	n.w.t.Helper()
	n.ask("join", struct{}{}, nil)
}

// memory returns how much memory the node's process holds, in bytes.
func (n *node) memory() int {
	n.w.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.Pid()))
	m := regexp.MustCompile(`(?m)^VmRSS:\s+([0-9]+) kB`).FindSubmatch(b)
	if err != nil || m == nil {
		n.w.t.Fatalf("memory of %s: %v", n.name, err)
	}
	kib, _ := strconv.Atoi(string(m[1]))
	return kib << 10
}

// checkRecords holds what arrived against what was sent: in order, none twice, and each that was accepted arrived or
// came back.
func checkRecords(t *testing.T, l ledger, applied []uint64) {
	t.Helper()
	there := map[uint64]bool{}
	var last uint64
	for _, n := range applied {
		if n <= last {
			t.Errorf("record %d was applied after %d", n, last)
		}
		last = n
		there[n] = true
	}
	for _, n := range l.Back {
		there[n] = true
	}
	lost := 0
	for _, n := range l.Accepted {
		if !there[n] {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d records are lost: %d were applied, %d came back", lost, len(l.Accepted), len(applied), len(l.Back))
	}
}
