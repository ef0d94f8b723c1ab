package cluster_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/cluster/internal/mem"
)

// world is a cluster on the seeded engine, in fake time.
type world struct {
	t     *testing.T
	e     *mem.Engine
	nodes map[string]*node
	tune  func(*cluster.Config)
}

// node is a node with one table, and all its events so far.
type node struct {
	*cluster.Node
	name   string
	rows   *cluster.Table[string]
	events *cluster.Subscription[cluster.Event]
	told   []cluster.Event
	dead   bool // killed: the others must not see it
}

// bubble runs a test in fake time.
func bubble(t *testing.T, o mem.Options, fn func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, e: mem.New(o), nodes: map[string]*node{}}
		defer w.close()
		fn(w)
	})
}

func (w *world) close() {
	w.e.HealAll()
	for _, n := range w.nodes {
		w.e.Resume(n.name)
		_ = n.Close()
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
	cfg := cluster.Config{Name: name, Log: logger()}
	if w.tune != nil {
		w.tune(&cfg)
	}
	n, err := cluster.Start(context.Background(), cfg.On(w.e))
	if err != nil {
		w.t.Fatal(err)
	}
	x := &node{Node: n, name: name, events: n.Events(4096)}
	x.rows = cluster.NewTable(n, "rows", cluster.Text(), cluster.Resumable(func(v string) time.Duration {
		if strings.HasPrefix(v, "keep") {
			return 30 * time.Second
		}
		return 0
	}), cluster.Indexed(func(key, v string) []string { return strings.SplitN(key, "/", 2)[:1] }))
	if old := w.nodes[name]; old != nil {
		w.nodes[name+fmt.Sprint("-dead", len(w.nodes))] = old
	}
	w.nodes[name] = x
	return x
}

// join starts nodes and joins them all.
func (w *world) join(names ...string) []*node {
	w.t.Helper()
	var ns []*node
	for _, name := range names {
		n := w.start(name)
		ns = append(ns, n)
		go func() {
			if err := n.Join(context.Background()); err != nil {
				w.t.Errorf("%s: %v", name, err)
			}
		}()
	}
	w.until("all are ready", func() bool {
		return !slices.ContainsFunc(ns, func(n *node) bool { return n.State() != cluster.Ready || len(n.Members()) < len(ns) })
	})
	return ns
}

// kill ends a node as kill -9 does.
func (w *world) kill(name string) {
	w.e.Kill(name)
	w.nodes[name].dead = true
}

// pass lets fake time go by.
func (w *world) pass(d time.Duration) { time.Sleep(d) }

// until waits, in fake time, until something is so.
func (w *world) until(what string, ok func() bool) time.Duration {
	w.t.Helper()
	start := time.Now()
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

func (w *world) describe() string {
	var b strings.Builder
	for name, n := range w.nodes {
		fmt.Fprintf(&b, "%s: %s, members", name, n.State())
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

func put(t *testing.T, n *node, key, value string) {
	t.Helper()
	if err := n.rows.Put(key, value); err != nil {
		t.Fatalf("put %q: %v", key, err)
	}
}
