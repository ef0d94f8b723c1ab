package cluster_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/cluster/internal/mem"
)

// world is a cluster that something is tested on.
type world struct {
	t      *testing.T
	site   site
	e      *mem.Engine // in fake time; nil in real time
	prompt bool        // nothing delays messages, so that times can be judged
	beacon time.Duration
	nodes  map[string]*node
	every  []*node
	tune   func(*cluster.Config)
	id     string // of the cluster
}

// node is a node with one table, and all its events so far.
type node struct {
	*cluster.Node
	name   string
	rows   *cluster.Table[string]
	events *cluster.Subscription[cluster.Event]
	told   []cluster.Event
}

func newWorld(t *testing.T, s site) *world {
	return &world{t: t, site: s, beacon: 500 * time.Millisecond, nodes: map[string]*node{}, id: "test-" + strings.ToLower(rand.Text())}
}

// bubble runs a test on the seeded engine, in fake time.
func bubble(t *testing.T, o mem.Options, fn func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := mem.New(o)
		w := newWorld(t, seeded{e})
		w.e, w.prompt = e, o.MaxDelay <= 5*time.Millisecond && o.Loss == 0
		defer w.close()
		fn(w)
	})
}

// close closes all nodes, the killed ones too, and looks at what they told.
func (w *world) close() {
	w.site.heal()
	if w.e != nil {
		for name := range w.nodes {
			w.e.Resume(name)
		}
	}
	var closing sync.WaitGroup
	for _, n := range w.every {
		closing.Go(func() { _ = n.Close() })
	}
	closing.Wait()
	for _, n := range w.every {
		if wrong := course(n.all()); wrong != nil {
			w.t.Errorf("%s: events %v make no sense in %v", n.name, wrong, n.all())
		}
	}
}

func logger() *slog.Logger {
	if os.Getenv("CLUSTER_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

// start starts a node that stands alone.
func (w *world) start(name string) *node {
	w.t.Helper()
	cfg := cluster.Config{Name: name, Cluster: w.id, Log: logger()}
	if w.tune != nil {
		w.tune(&cfg)
	}
	n, err := cluster.Start(context.Background(), w.site.config(cfg))
	if err != nil {
		w.t.Fatal(err)
	}
	x := &node{Node: n, name: name, events: n.Events(4096)}
	x.rows = cluster.NewTable(n, "rows", cluster.Text(), cluster.Resumable(outlive), cluster.Indexed(func(key, v string) []string {
		return strings.SplitN(key, "/", 2)[:1]
	}))
	w.nodes[name] = x
	w.every = append(w.every, x)
	return x
}

// outlive says how long a row waits for its dead owner.
func outlive(v string) time.Duration {
	switch {
	case strings.HasPrefix(v, "keep"):
		return 30 * time.Second
	case strings.HasPrefix(v, "brief"):
		return time.Second
	}
	return 0
}

// join starts nodes and joins them all.
func (w *world) join(names ...string) []*node {
	w.t.Helper()
	var ns []*node
	for _, name := range names {
		ns = append(ns, w.start(name))
	}
	w.joinAll(ns...)
	return ns
}

// joinAll joins nodes, and waits until each knows that all are ready.
func (w *world) joinAll(ns ...*node) {
	w.t.Helper()
	w.joining(ns...)()
	w.until("all are ready and know it", func() bool {
		return !slices.ContainsFunc(ns, func(n *node) bool { return n.ready() < len(ns) })
	})
}

// joining begins to join nodes at the same moment, but for the first one in real time, since the others must know an
// address. done waits for them.
func (w *world) joining(ns ...*node) (done func()) {
	first := make(chan struct{})
	var work sync.WaitGroup
	for i, n := range ns {
		work.Go(func() {
			if i > 0 && w.e == nil {
				<-first
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := n.Join(ctx); err != nil {
				w.t.Errorf("%s: %v", n.name, err)
			}
			if i == 0 {
				close(first)
			}
		})
	}
	return work.Wait
}

// ready counts the ready members that a node sees.
func (n *node) ready() (count int) {
	for _, m := range n.Members() {
		if m.State == cluster.Ready {
			count++
		}
	}
	return count
}

// kill ends a node as kill -9 does.
func (w *world) kill(name string) { w.site.kill(name) }

// pass lets fake time go by.
func (w *world) pass(d time.Duration) { time.Sleep(d) }

// beats lets some beacons go by, to see that nothing else comes.
func (w *world) beats(n int) {
	if w.e != nil {
		w.pass(time.Duration(n) * w.beacon)
		return
	}
	<-time.After(time.Duration(n) * w.beacon)
}

// moment lets something else happen.
func (w *world) moment() {
	if w.e != nil {
		w.pass(time.Millisecond)
		return
	}
	<-time.After(time.Millisecond)
}

// exact says that nobody can be taken for dead because this machine is busy.
func (w *world) exact() bool { return w.e != nil }

// within judges how long something took where nothing slows it down that is not the cluster's own.
func (w *world) within(most, took time.Duration) {
	w.t.Helper()
	if w.e != nil && w.prompt && took > most {
		w.t.Errorf("took %v, at most %v is right", took, most)
	}
}

// patience bounds what takes real time.
const patience = 30 * time.Second

// until waits until something is so.
func (w *world) until(what string, ok func() bool) time.Duration {
	w.t.Helper()
	start := time.Now()
	if w.e == nil {
		w.untilReal(what, ok)
		return time.Since(start)
	}
	for time.Since(start) < 2*time.Minute {
		synctest.Wait()
		if ok() {
			return time.Since(start)
		}
		time.Sleep(5 * time.Millisecond)
	}
	w.t.Fatalf("not within two minutes: %s\n%s", what, w.describe())
	return 0
}

func (w *world) untilReal(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.After(patience)
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for !ok() {
		select {
		case <-look.C:
		case <-deadline:
			w.t.Fatalf("not within %v: %s\n%s", patience, what, w.describe())
		}
	}
}

func (w *world) describe() string {
	var b strings.Builder
	for _, n := range w.every {
		fmt.Fprintf(&b, "%s: %s, members", n.name, n.State())
		for _, m := range n.Members() {
			fmt.Fprintf(&b, " %s#%d(%s)", m.Name, m.Incarnation%1e6, m.State)
		}
		fmt.Fprintf(&b, "; %+v\n", n.Status().Tables)
		for _, e := range n.all() {
			fmt.Fprintf(&b, "   %s %s\n", e.Time.Format("05.000"), e)
		}
	}
	return b.String()
}

// all returns all events so far.
func (n *node) all() []cluster.Event {
	for {
		select {
		case e, ok := <-n.events.C:
			if !ok {
				return n.told
			}
			n.told = append(n.told, e)
		default:
			return n.told
		}
	}
}

// count counts events of a kind about a member.
func (n *node) count(k cluster.Kind, name string) (c int) {
	for _, e := range n.all() {
		if e.Kind == k && e.Member.Name == name {
			c++
		}
	}
	return c
}

func (n *node) sees(names ...string) bool {
	var got []string
	for _, m := range n.Members() {
		got = append(got, m.Name)
	}
	slices.Sort(got)
	slices.Sort(names)
	return slices.Equal(got, names)
}

// content returns all rows a node sees, with their owners' names.
func (n *node) content() map[string]string {
	c := map[string]string{}
	for r := range n.rows.All() {
		c[r.Key] = r.Value
	}
	return c
}

// digest returns the digest of the table.
func (n *node) digest() uint64 {
	for _, t := range n.Status().Tables {
		if t.Name == "rows" {
			return t.Digest
		}
	}
	return 0
}

// equal says whether nodes have the same rows.
func equal(ns ...*node) bool {
	for _, n := range ns[1:] {
		if n.digest() != ns[0].digest() || n.rows.Len() != ns[0].rows.Len() {
			return false
		}
	}
	return true
}

// whole says whether the node's copies of the others' rows are complete, not just equal as far as they go.
func (n *node) whole() bool {
	return !slices.ContainsFunc(n.Status().Peers, func(p cluster.PeerStatus) bool { return !p.Synced })
}

func put(t *testing.T, n *node, key, value string) {
	t.Helper()
	if err := n.rows.Put(key, value); err != nil {
		t.Fatalf("put %q: %v", key, err)
	}
}
