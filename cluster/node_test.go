package cluster_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/cluster/internal/mem"
)

func TestAlone(t *testing.T) {
	bubble(t, mem.Options{}, func(w *world) {
		n := w.start("a")
		put(t, n, "k", "v")
		if v, owner, ok := n.rows.Get("k"); v != "v" || owner != n.Self().ID || !ok {
			t.Errorf("Get: %q, %q, %v", v, owner, ok)
		}
		if n.State() != cluster.Standalone || n.Senior().ID != n.Self().ID || n.Home("x").ID != n.Self().ID || !n.sees("a") {
			t.Errorf("state %v, senior %v", n.State(), n.Senior())
		}
		if !n.rows.Delete("k") || n.rows.Delete("k") || n.rows.Len() != 0 {
			t.Error("the row is not deleted once")
		}
	})
}

// TestJoinAndLeave: what exists becomes shared at once, and one's own again.
func TestJoinAndLeave(t *testing.T) {
	bubble(t, mem.Options{MaxDelay: 3 * time.Millisecond}, func(w *world) {
		a, b := w.start("a"), w.start("b")
		put(t, a, "of-a", "1")
		put(t, b, "of-b", "2")
		ns := []*node{a, b}
		for _, n := range ns {
			go func() { _ = n.Join(context.Background()) }()
		}
		w.until("both have both rows", func() bool { return a.rows.Len() == 2 && b.rows.Len() == 2 && a.State() == cluster.Ready })
		if !equal(a, b) {
			t.Error("digests differ")
		}
		if err := a.Join(context.Background()); err != nil {
			t.Errorf("joining again: %v", err)
		}
		if err := b.Leave(context.Background()); err != nil {
			t.Fatal(err)
		}
		if took := w.until("a is alone", func() bool { return a.rows.Len() == 1 && a.sees("a") }); took > 100*time.Millisecond {
			t.Errorf("the goodbye took %v", took)
		}
		if b.rows.Len() != 1 || !b.sees("b") || b.State() != cluster.Standalone {
			t.Errorf("after leaving: %d rows, %s", b.rows.Len(), b.State())
		}
		if a.count(cluster.MemberLeft, "b") != 1 || a.count(cluster.MemberDied, "b") != 0 {
			t.Errorf("events of a: %v", a.all())
		}
		if err := b.Join(context.Background()); err != nil {
			t.Fatal(err)
		}
		w.until("both have both rows again", func() bool { return a.rows.Len() == 2 && b.rows.Len() == 2 })
	})
}

// TestTen: ten nodes at once; each sees the other nine within 5 s, no event twice, one senior.
func TestTen(t *testing.T) {
	bubble(t, mem.Options{Seed: 1, MaxDelay: 20 * time.Millisecond}, func(w *world) {
		names := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}
		start := time.Now()
		ns := w.join(names...)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
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
				if want := 1; other != n.name && n.count(cluster.MemberJoined, other) != want {
					t.Errorf("%s saw %s join %d times", n.name, other, n.count(cluster.MemberJoined, other))
				}
			}
		}
		senior := ns[0].Senior().Name
		w.kill(senior)
		took := w.until("another senior", func() bool {
			for _, n := range ns {
				if n.name != senior && (n.Senior().Name == senior || len(n.Members()) != 9) {
					return false
				}
			}
			return true
		})
		if took > 3*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// TestKill: a killed member is known dead within a second when the engine tells, within three when it does not, and
// its rows go, but for those that wait for it.
func TestKill(t *testing.T) {
	for _, c := range []struct {
		name  string
		hints bool
		most  time.Duration
	}{{"connection ends", true, time.Second}, {"silence", false, 3 * time.Second}} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, mem.Options{Hints: c.hints}, func(w *world) {
				ns := w.join("a", "b", "c")
				a, b, x := ns[0], ns[1], ns[2]
				put(t, x, "x/1", "gone")
				put(t, x, "x/2", "keep me")
				put(t, a, "a/1", "stays")
				w.until("equal", func() bool { return equal(ns...) && b.rows.Len() == 3 })
				w.kill("c")
				if took := w.until("c is dead", func() bool { return a.sees("a", "b") && b.sees("a", "b") }); took > c.most {
					t.Errorf("took %v", took)
				}
				for _, n := range []*node{a, b} {
					if r, ok := n.rows.Row("x/2"); !ok || !r.Orphan || r.Value != "keep me" || n.rows.Len() != 2 {
						t.Errorf("%s: orphan %+v, %d rows", n.name, r, n.rows.Len())
					}
				}
				put(t, b, "x/2", "taken over")
				w.until("the orphan is replaced", func() bool {
					r, _ := a.rows.Row("x/2")
					return !r.Orphan && r.Owner == b.Self().ID && len(a.rows.Rows("x/2")) == 1
				})
			})
		})
	}
}

// TestOrphanExpires: an orphan that nobody takes over goes when its time is over.
func TestOrphanExpires(t *testing.T) {
	bubble(t, mem.Options{Hints: true}, func(w *world) {
		ns := w.join("a", "b")
		put(t, ns[1], "k", "keep")
		w.until("copied", func() bool { return ns[0].rows.Len() == 1 })
		w.kill("b")
		w.until("dead", func() bool { return ns[0].sees("a") })
		if took := w.until("expired", func() bool { return ns[0].rows.Len() == 0 }); took < 29*time.Second || took > 32*time.Second {
			t.Errorf("expired after %v", took)
		}
	})
}

// TestQuickRestart: a node that is started again under its name before it was missed is a new one; nothing of the new
// one is cleaned up in place of the old.
func TestQuickRestart(t *testing.T) {
	for _, gap := range []time.Duration{10 * time.Millisecond, 300 * time.Millisecond, 900 * time.Millisecond} {
		t.Run(gap.String(), func(t *testing.T) {
			bubble(t, mem.Options{}, func(w *world) {
				ns := w.join("a", "b")
				put(t, ns[1], "old", "1")
				w.until("copied", func() bool { return ns[0].rows.Len() == 1 })
				w.kill("b")
				w.pass(gap)
				again := w.start("b")
				put(t, again, "new", "2")
				if err := again.Join(context.Background()); err != nil {
					t.Fatal(err)
				}
				w.until("settled", func() bool {
					_, _, old := ns[0].rows.Get("old")
					_, _, fresh := ns[0].rows.Get("new")
					return !old && fresh && ns[0].sees("a", "b") && again.sees("a", "b")
				})
				w.pass(10 * time.Second)
				if ns[0].rows.Len() != 1 || again.rows.Len() != 1 || ns[0].count(cluster.MemberDied, "b") != 1 {
					t.Errorf("later: %v", ns[0].all())
				}
			})
		})
	}
}

// TestTwins: of two living nodes with one name the younger gives way, with a remedy, and the elder goes on.
func TestTwins(t *testing.T) {
	bubble(t, mem.Options{}, func(w *world) {
		ns := w.join("a", "b")
		w.pass(time.Second)
		twin := w.start("b")
		var f *cluster.Failure
		if err := twin.Join(context.Background()); !errors.As(err, &f) || f.Remedy == "" || twin.State() != cluster.Failed || twin.Failure() == nil {
			t.Fatalf("join: %v, state %s", err, twin.State())
		}
		w.pass(5 * time.Second)
		w.until("the elder stays", func() bool { return ns[0].sees("a", "b") && ns[1].sees("a", "b") })
		if ns[1].State() != cluster.Ready || ns[0].count(cluster.MemberDied, "b") != 0 && ns[0].count(cluster.MemberJoined, "b") > 2 {
			t.Errorf("events: %v", ns[0].all())
		}
	})
}

// TestFence: a node that was stopped for long enough to be declared dead finds out, takes a new incarnation, and is back
// without help. One that was stopped for a moment only goes on as it is.
func TestFence(t *testing.T) {
	for _, c := range []struct {
		stop   time.Duration
		fenced int
	}{{1700 * time.Millisecond, 0}, {20 * time.Second, 1}, {90 * time.Second, 1}} {
		t.Run(c.stop.String(), func(t *testing.T) {
			bubble(t, mem.Options{MaxDelay: 2 * time.Millisecond}, func(w *world) {
				ns := w.join("a", "b", "c")
				put(t, ns[0], "of-a", "1")
				put(t, ns[2], "of-c", "2")
				w.until("equal", func() bool { return equal(ns...) && ns[1].rows.Len() == 2 })
				before := ns[2].Self().Incarnation
				w.e.Pause("c")
				w.pass(c.stop)
				if _, _, ok := ns[0].rows.Get("of-c"); ok != (c.fenced == 0) {
					t.Errorf("row of the stopped node is there: %v", ok)
				}
				w.e.Resume("c")
				w.until("all is well", func() bool {
					for _, n := range ns {
						if !n.sees("a", "b", "c") || n.State() != cluster.Ready || n.rows.Len() != 2 {
							return false
						}
					}
					return equal(ns...) && (c.fenced == 0 || ns[2].Self().Incarnation > before)
				})
				w.pass(10 * time.Second)
				if got := ns[2].count(cluster.Fenced, "c"); got != c.fenced {
					t.Errorf("fenced %d times: %v", got, ns[2].all())
				}
				for _, n := range ns[:2] {
					if n.count(cluster.MemberDied, "c") != c.fenced || n.count(cluster.Fenced, n.name) != 0 {
						t.Errorf("%s: %v", n.name, n.all())
					}
				}
				if ns[2].count(cluster.MemberDied, "a") != 0 {
					t.Errorf("the stopped node declared others dead: %v", ns[2].all())
				}
				if ns[2].count(cluster.Paused, "c") != 1 {
					t.Errorf("no notice of the pause: %v", ns[2].all())
				}
			})
		})
	}
}

// TestPartition: each side goes on alone; after the heal all have all rows, none of the deleted ones.
func TestPartition(t *testing.T) {
	for _, sides := range [][][]string{{{"a", "b"}, {"c"}}, {{"a"}, {"b"}, {"c"}}, {{"a"}, {"b", "c"}}} {
		bubble(t, mem.Options{MaxDelay: 2 * time.Millisecond}, func(w *world) {
			ns := w.join("a", "b", "c")
			for _, n := range ns {
				put(t, n, n.name+"/old", "1")
				put(t, n, n.name+"/stays", "1")
			}
			w.until("equal", func() bool { return equal(ns...) && ns[0].rows.Len() == 6 })
			w.e.Partition(sides...)
			w.pass(15 * time.Second)
			for _, n := range ns {
				n.rows.Delete(n.name + "/old")
				put(t, n, n.name+"/new", "2")
			}
			for _, side := range sides {
				if n := w.nodes[side[0]]; n.rows.Len() != 2*len(side) || n.Senior().Name == "" || len(n.Members()) != len(side) {
					t.Errorf("%v: %s has %d rows", sides, n.name, n.rows.Len())
				}
			}
			w.e.HealAll()
			took := w.until("equal again", func() bool { return equal(ns...) && ns[0].rows.Len() == 6 && ns[0].State() == cluster.Ready })
			if took > 2*time.Second {
				t.Errorf("%v: took %v", sides, took)
			}
			for _, n := range ns {
				if n.count(cluster.Fenced, n.name) != 0 {
					t.Errorf("%v: %s took a new incarnation, though it had given up the others as they did it", sides, n.name)
				}
				if _, _, ok := n.rows.Get("a/old"); ok {
					t.Errorf("%s: a deleted row is back", n.name)
				}
			}
		})
	}
}

// TestAsymmetric: when one of a pair does not hear the other, both come to treat each other as gone, the third keeps
// both, and nothing flaps.
func TestAsymmetric(t *testing.T) {
	for _, both := range []bool{false, true} {
		bubble(t, mem.Options{}, func(w *world) {
			ns := w.join("a", "b", "c")
			put(t, ns[0], "of-a", "1")
			put(t, ns[1], "of-b", "1")
			w.until("equal", func() bool { return equal(ns...) && ns[2].rows.Len() == 2 })
			w.e.Cut("a", "b")
			if both {
				w.e.Cut("b", "a")
			}
			w.pass(60 * time.Second)
			if !ns[0].sees("a", "c") || !ns[1].sees("b", "c") || !ns[2].sees("a", "b", "c") {
				t.Errorf("views: %s", w.describe())
			}
			fences := ns[0].count(cluster.Fenced, "a") + ns[1].count(cluster.Fenced, "b") + ns[2].count(cluster.Fenced, "c")
			if fences > 1 {
				t.Errorf("%d fences: %s", fences, w.describe())
			}
			w.e.HealAll()
			took := w.until("equal again", func() bool { return equal(ns...) && ns[0].rows.Len() == 2 && ns[1].rows.Len() == 2 })
			if took > 2*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}
