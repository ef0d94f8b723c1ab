package cluster_test

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/cluster/internal/mem"
)

// settled says whether the nodes have settled the death of a member.
func settled(dead cluster.Member, ns ...*node) bool {
	for _, n := range ns {
		if !n.Settled(dead.ID, dead.Incarnation) {
			return false
		}
	}
	return true
}

// same says whether nodes show the same rows, orphans too.
func same(ns ...*node) bool {
	for _, n := range ns[1:] {
		if !maps.Equal(ns[0].content(), n.content()) {
			return false
		}
	}
	return true
}

// TestInherit: who has missed the last changes of a member that died takes the rows of one who has not.
func TestInherit(t *testing.T) {
	for _, loss := range []float64{0, 0.1} {
		t.Run(fmt.Sprint("loss ", loss), func(t *testing.T) {
			bubble(t, mem.Options{Seed: 9, Loss: loss, MaxDelay: 5 * time.Millisecond}, func(w *world) {
				ns := w.join("a", "b", "c", "x")
				a, b, c, x := ns[0], ns[1], ns[2], ns[3]
				for i := range 10 {
					put(t, x, fmt.Sprint("x/", i), "keep early")
				}
				put(t, x, "x/brief", "gone")
				w.until("all have the first rows", func() bool { return equal(ns...) && c.rows.Len() == 11 })
				w.e.Cut("x", "c")
				for i := 5; i < 15; i++ {
					put(t, x, fmt.Sprint("x/", i), "keep late")
				}
				x.rows.Delete("x/0")
				w.until("two have the last rows", func() bool { return a.rows.Len() == 15 && b.rows.Len() == 15 && equal(a, b) })
				dead := x.Self()
				w.kill("x")
				if settled(dead, a) || settled(dead, b) || settled(dead, c) {
					t.Error("settled before anybody knows of the death")
				}
				w.until("settled", func() bool { return settled(dead, a, b, c) })
				want := map[string]string{}
				for i := 1; i < 15; i++ {
					want[fmt.Sprint("x/", i)] = "keep early"
					if i >= 5 {
						want[fmt.Sprint("x/", i)] = "keep late"
					}
				}
				for _, n := range []*node{a, b, c} {
					if got := n.content(); !maps.Equal(got, want) {
						t.Errorf("%s sees %v", n.name, got)
					}
					if n.count(cluster.Settled, "x") != 1 {
						t.Errorf("%s: events %v", n.name, n.all())
					}
				}
				d := w.start("d")
				w.joinAll(a, b, c, d)
				w.until("who joins later has them, too", func() bool { return same(a, d) })
				left := w.until("they expire", func() bool { return a.rows.Len() == 0 })
				if left > 30*time.Second {
					t.Errorf("took %v", left)
				}
				if took := w.until("everywhere", func() bool { return b.rows.Len() == 0 && c.rows.Len() == 0 && d.rows.Len() == 0 }); took > 5*time.Second {
					t.Errorf("%v later than on the first node", took)
				}
				w.pass(time.Minute)
				if a.rows.Len()+b.rows.Len()+c.rows.Len()+d.rows.Len() > 0 {
					t.Error("they came back")
				}
			})
		})
	}
}

// TestInheritAfterPartition: a member whose last changes were seen on the other side only.
func TestInheritAfterPartition(t *testing.T) {
	bubble(t, mem.Options{Seed: 2}, func(w *world) {
		ns := w.join("a", "b", "c", "x")
		a, b, c, x := ns[0], ns[1], ns[2], ns[3]
		put(t, x, "x/1", "keep")
		w.until("copied", func() bool { return same(ns...) && a.rows.Len() == 1 })
		w.e.Partition([]string{"a", "b"}, []string{"c", "x"})
		w.until("two sides", func() bool { return a.sees("a", "b") && c.sees("c", "x") && x.sees("c", "x") })
		dead := x.Self()
		w.until("settled on one side", func() bool { return settled(dead, a, b) })
		put(t, x, "x/2", "keep")
		put(t, x, "x/1", "keep on")
		w.until("copied there", func() bool { return same(c, x) })
		w.kill("x")
		w.until("dead there, too", func() bool { return c.sees("c") && settled(dead, c) })
		w.e.HealAll()
		w.until("the rows are everywhere", func() bool {
			return same(a, b, c) && a.rows.Len() == 2 && a.content()["x/1"] == "keep on" && settled(dead, a, b, c)
		})
	})
}

// TestUnsettled: nothing is settled while one member sees the other, and no more once it is back.
func TestUnsettled(t *testing.T) {
	bubble(t, mem.Options{Seed: 3}, func(w *world) {
		ns := w.join("a", "b", "x")
		a, b, x := ns[0], ns[1], ns[2]
		put(t, x, "x/1", "keep")
		dead := x.Self()
		w.e.Cut("a", "x")
		w.e.Cut("x", "a")
		w.until("one declares it dead", func() bool { return a.sees("a", "b") })
		w.pass(20 * time.Second)
		if !b.sees("a", "b", "x") || settled(dead, a) || a.count(cluster.Settled, "x") != 0 {
			t.Errorf("settled %v, events %v", settled(dead, a), a.all())
		}
		w.e.Pause("x")
		w.until("settled", func() bool { return settled(dead, a, b) })
		w.e.HealAll()
		w.e.Resume("x")
		w.until("it is back", func() bool { return a.sees("a", "b", "x") && b.sees("a", "b", "x") && equal(a, b, x) })
		if settled(dead, a) || settled(dead, b) {
			t.Error("still settled")
		}
		if r, ok := a.rows.Row("x/1"); !ok || r.Orphan {
			t.Errorf("row %v, %v", r, ok)
		}
	})
}
