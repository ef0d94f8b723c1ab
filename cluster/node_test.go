package cluster_test

import (
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
