package cluster_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/cluster/internal/mem"
)

// joinAndLeave: what exists becomes shared at once, and one's own again.
func joinAndLeave(w *world) {
	a, b := w.start("a"), w.start("b")
	put(w.t, a, "of-a", "1")
	put(w.t, b, "of-b", "2")
	w.joinAll(a, b)
	w.until("both have both rows", func() bool { return a.rows.Len() == 2 && b.rows.Len() == 2 && equal(a, b) })
	if err := a.Join(context.Background()); err != nil {
		w.t.Errorf("joining again: %v", err)
	}
	if err := b.Leave(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	w.within(100*time.Millisecond, w.until("a is alone", func() bool { return a.rows.Len() == 1 && a.sees("a") }))
	if b.rows.Len() != 1 || !b.sees("b") || b.State() != cluster.Standalone {
		w.t.Errorf("after leaving: %d rows, %s", b.rows.Len(), b.State())
	}
	if a.count(cluster.MemberLeft, "b") != 1 || a.count(cluster.MemberDied, "b") != 0 {
		w.t.Errorf("events of a: %v", a.all())
	}
	if err := b.Join(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	w.until("both have both rows again", func() bool { return a.rows.Len() == 2 && b.rows.Len() == 2 })
}

// manyAtOnce: each sees each other one join once, all name one senior and the same homes, and another senior when that
// one dies.
func manyAtOnce(w *world) {
	names := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}
	if w.e == nil {
		names = names[:5]
	}
	start := time.Now()
	ns := w.join(names...)
	w.within(5*time.Second, time.Since(start))
	w.until("one senior", func() bool {
		for _, n := range ns {
			if n.Senior().ID != ns[0].Senior().ID || n.Home("key").ID != ns[0].Home("key").ID {
				return false
			}
		}
		return true
	})
	for _, n := range ns {
		for _, other := range names {
			if joined := n.count(cluster.MemberJoined, other); other != n.name && (joined == 0 || w.exact() && joined > 1) {
				w.t.Errorf("%s saw %s join %d times", n.name, other, joined)
			}
		}
	}
	senior := ns[0].Senior().Name
	w.kill(senior)
	w.within(3*time.Second, w.until("another senior", func() bool {
		for _, n := range ns {
			if n.name != senior && (n.Senior().Name == senior || len(n.Members()) != len(names)-1) {
				return false
			}
		}
		return true
	}))
}

// kill: the rows of a killed member go, but for those that wait for it; another node may take these over.
func kill(w *world) {
	ns := w.join("a", "b", "c")
	a, b, c := ns[0], ns[1], ns[2]
	put(w.t, c, "c/1", "gone")
	put(w.t, c, "c/2", "keep me")
	put(w.t, a, "a/1", "stays")
	w.until("equal", func() bool { return equal(ns...) && b.rows.Len() == 3 })
	w.kill("c")
	w.within(3*time.Second, w.until("c is dead", func() bool { return a.sees("a", "b") && b.sees("a", "b") }))
	for _, n := range []*node{a, b} {
		if r, ok := n.rows.Row("c/2"); !ok || !r.Orphan || r.Value != "keep me" || n.rows.Len() != 2 {
			w.t.Errorf("%s: orphan %+v, %d rows", n.name, r, n.rows.Len())
		}
		if died := n.count(cluster.MemberDied, "c"); died == 0 || w.exact() && died > 1 {
			w.t.Errorf("%s: %v", n.name, n.all())
		}
	}
	put(w.t, b, "c/2", "taken over")
	w.until("the orphan is replaced", func() bool {
		r, _ := a.rows.Row("c/2")
		return !r.Orphan && r.Owner == b.Self().ID && len(a.rows.Rows("c/2")) == 1
	})
}

// mostAdvanced: when a member dies, one that had missed its last changes takes them from one that had not.
func mostAdvanced(w *world) {
	ns := w.join("a", "b", "c")
	a, b, c := ns[0], ns[1], ns[2]
	put(w.t, c, "c/1", "keep")
	put(w.t, c, "c/2", "keep the old one")
	w.until("copied", func() bool { return equal(ns...) && b.rows.Len() == 2 && a.whole() && b.whole() })
	w.site.partition([]string{"b"}, []string{"c"})
	put(w.t, c, "c/2", "keep the new one")
	put(w.t, c, "c/3", "keep")
	c.rows.Delete("c/1")
	w.until("a has it", func() bool { _, _, old := a.rows.Get("c/1"); _, _, fresh := a.rows.Get("c/3"); return fresh && !old })
	w.kill("c")
	w.site.heal()
	w.until("c is dead", func() bool { return a.sees("a", "b") && b.sees("a", "b") })
	w.until("both have what a had", func() bool {
		for _, n := range []*node{a, b} {
			r, _ := n.rows.Row("c/2")
			if _, _, old := n.rows.Get("c/1"); old || n.rows.Len() != 2 || !r.Orphan || r.Value != "keep the new one" {
				return false
			}
		}
		return true
	})
}

// orphanExpires: an orphan that nobody takes over goes when its time is over.
func orphanExpires(w *world) {
	ns := w.join("a", "b")
	put(w.t, ns[1], "k", "brief")
	w.until("copied", func() bool { return ns[0].rows.Len() == 1 })
	w.kill("b")
	w.until("dead", func() bool { return ns[0].sees("a") })
	took := w.until("expired", func() bool { return ns[0].rows.Len() == 0 })
	if took < 800*time.Millisecond {
		w.t.Errorf("expired after %v", took)
	}
	w.within(3*time.Second, took)
}

// quickRestart: a node that is started again under its name before it was missed is a new one; nothing of the new
// one is cleaned up in place of the old.
func quickRestart(w *world) {
	ns := w.join("a", "b")
	put(w.t, ns[1], "old", "1")
	w.until("copied", func() bool { return ns[0].rows.Len() == 1 })
	w.kill("b")
	again := w.start("b")
	put(w.t, again, "new", "2")
	if err := again.Join(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	w.until("settled", func() bool {
		_, _, old := ns[0].rows.Get("old")
		_, _, fresh := ns[0].rows.Get("new")
		return !old && fresh && ns[0].sees("a", "b") && again.sees("a", "b")
	})
	w.beats(10)
	if ns[0].rows.Len() != 1 || again.rows.Len() != 1 || w.exact() && ns[0].count(cluster.MemberDied, "b") != 1 {
		w.t.Errorf("later: %v", ns[0].all())
	}
}

// twins: of two living nodes with one name the younger gives way, with a remedy, and the elder goes on.
func twins(w *world) {
	ns := w.join("a", "b")
	w.beats(2)
	twin := w.start("b")
	var f *cluster.Failure
	if err := twin.Join(context.Background()); err != nil && !errors.As(err, &f) || err == nil && w.prompt {
		w.t.Errorf("join: %v", err)
	}
	w.until("the younger gives way", func() bool { return twin.State() == cluster.Failed })
	if f = twin.Failure(); f == nil || f.Remedy == "" {
		w.t.Errorf("failure %+v", f)
	}
	w.beats(10)
	w.until("the elder stays", func() bool { return ns[0].sees("a", "b") && ns[1].sees("a", "b") })
	if ns[1].State() != cluster.Ready || ns[0].count(cluster.MemberDied, "b") != 0 && ns[0].count(cluster.MemberJoined, "b") > 2 {
		w.t.Errorf("events: %v", ns[0].all())
	}
}

// TestTwinHesitates: a node that has heard an older one of its name is not ready before it knows whether that one goes on,
// however long beacons are on their way.
func TestTwinHesitates(t *testing.T) {
	for seed := range uint64(100) {
		bubble(t, mem.Options{Seed: seed, MaxDelay: 450 * time.Millisecond}, func(w *world) {
			elder, twin := w.join("a")[0], w.start("a")
			if err := twin.Join(context.Background()); err == nil {
				t.Errorf("seed %d: the twin has joined: %v", seed, twin.all())
			}
			if elder.State() != cluster.Ready {
				t.Errorf("seed %d: the elder: %v", seed, elder.all())
			}
		})
	}
}

// partition: each side goes on alone; after the heal all have all rows, none of the deleted ones.
func partition(w *world) {
	ns := w.join("a", "b", "c")
	for _, n := range ns {
		put(w.t, n, n.name+"/old", "1")
		put(w.t, n, n.name+"/stays", "1")
	}
	w.until("equal", func() bool { return equal(ns...) && ns[0].rows.Len() == 6 })
	for _, sides := range [][][]string{{{"a", "b"}, {"c"}}, {{"a"}, {"b"}, {"c"}}} {
		w.site.partition(sides...)
		w.until("each side is alone", func() bool {
			for _, side := range sides {
				for _, name := range side {
					if !w.nodes[name].sees(side...) {
						return false
					}
				}
			}
			return true
		})
		for _, n := range ns {
			n.rows.Delete(n.name + "/old")
			put(w.t, n, n.name+"/new", "2")
		}
		w.beats(5)
		for _, side := range sides {
			if n := w.nodes[side[0]]; n.rows.Len() != 2*len(side) || n.Senior().Name == "" {
				w.t.Errorf("%v: %s has %d rows, senior %q", sides, n.name, n.rows.Len(), n.Senior().Name)
			}
		}
		w.site.heal()
		w.within(2*time.Second, w.until("equal again", func() bool {
			return equal(ns...) && ns[0].rows.Len() == 6 && ns[0].ready() == 3
		}))
		for _, n := range ns {
			if _, _, ok := n.rows.Get("a/old"); ok {
				w.t.Errorf("%s: a deleted row is back", n.name)
			}
		}
	}
}

// pairCut: two nodes that do not reach each other treat each other as gone, and the third keeps both.
func pairCut(w *world) {
	ns := w.join("a", "b", "c")
	put(w.t, ns[0], "of-a", "1")
	put(w.t, ns[1], "of-b", "1")
	w.until("equal", func() bool { return equal(ns...) && ns[2].rows.Len() == 2 })
	w.site.partition([]string{"a"}, []string{"b"})
	w.until("they miss each other", func() bool { return ns[0].sees("a", "c") && ns[1].sees("b", "c") })
	w.beats(10)
	if !ns[2].sees("a", "b", "c") || ns[2].rows.Len() != 2 || ns[0].rows.Len() != 1 || ns[1].rows.Len() != 1 {
		w.t.Errorf("views: %s", w.describe())
	}
	w.site.heal()
	w.within(2*time.Second, w.until("equal again", func() bool { return equal(ns...) && ns[0].rows.Len() == 2 && ns[1].rows.Len() == 2 }))
}

// clustersApart: nodes of another cluster are never members, though the engine and the token are the same.
func clustersApart(w *world) {
	n := w.join("a")[0]
	w.tune = func(c *cluster.Config) { c.Cluster += "-other" }
	other := w.start("b")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = other.Join(ctx) // an engine may find that it has been led to the wrong place
	put(w.t, n, "k", "v")
	w.beats(5)
	if !n.sees("a") || !other.sees("b") || other.rows.Len() != 0 {
		w.t.Errorf("they met: %s", w.describe())
	}
}

// clocks: clocks that differ by minutes harm nothing, and later stamps are larger all the same.
func clocks(w *world) {
	off := map[string]time.Duration{"a": -10 * time.Minute, "b": 0, "c": 10 * time.Minute}
	w.tune = func(c *cluster.Config) {
		d := off[c.Name]
		c.Now = func() time.Time { return time.Now().Add(d) }
	}
	ns := w.join("c", "b", "a")
	put(w.t, ns[0], "k", "from c")
	w.until("copied", func() bool { return ns[2].rows.Len() == 1 })
	put(w.t, ns[2], "k", "from a, later")
	w.until("the later one is shown", func() bool { v, _, _ := ns[0].rows.Get("k"); return v == "from a, later" })
	w.beats(20)
	for _, n := range ns {
		if w.exact() && n.count(cluster.Fenced, n.name) > 0 || !n.sees("a", "b", "c") {
			w.t.Errorf("%s: %v", n.name, n.all())
		}
	}
}

// retry: a node that is to join by its configuration does so.
func retry(w *world) {
	w.tune = func(c *cluster.Config) { c.Join = true }
	n := w.start("a")
	w.until("ready", func() bool { return n.State() == cluster.Ready })
}
