package scenario_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"
)

// writers lets each node write and delete rows, and keeps what there must be in the end.
type writers struct {
	w    *world
	want map[string]string
}

// write puts rows under names of their own with each node, and deletes half of what it put the round before.
func (x *writers) write(round int, ns ...*node) {
	for _, n := range ns {
		var kv, drop []string
		for i := range 20 {
			key, v := fmt.Sprintf("%s/%d/%d", n.name, round, i), fmt.Sprint(round)
			kv = append(kv, key, v)
			x.want[key] = v
			if old := fmt.Sprintf("%s/%d/%d", n.name, round-1, i); i%2 == 0 && x.want[old] != "" {
				drop = append(drop, old)
				delete(x.want, old)
			}
		}
		kv = append(kv, n.name+"/same", fmt.Sprint(round))
		x.want[n.name+"/same"] = fmt.Sprint(round)
		n.put(kv...)
		n.ask("delete", drop, nil)
	}
}

// check holds what nodes see against what they wrote: no row lost, doubled or resurrected.
func (x *writers) check(ns ...*node) {
	x.w.t.Helper()
	for _, n := range ns {
		if got := n.content(); !maps.Equal(got, x.want) {
			for key, v := range x.want {
				if got[key] != v {
					x.w.t.Errorf("%s sees %s = %q, want %q", n.name, key, got[key], v)
				}
			}
			for key, v := range got {
				if x.want[key] == "" {
					x.w.t.Errorf("%s sees %s = %q, which is deleted", n.name, key, v)
				}
			}
		}
		if v := n.view(); v.Rows != v.Keys {
			x.w.t.Errorf("%s has %d rows under %d keys", n.name, v.Rows, v.Keys)
		}
	}
}

// TestPartition: three nodes are cut apart for 15 s and go on writing, deleting and sending. Each side sees itself only.
// Two seconds after the cut is healed all have the same rows.
func TestPartition(t *testing.T) {
	for _, sides := range [][][]string{{{"a", "b"}, {"c"}}, {{"a"}, {"b"}, {"c"}}} {
		t.Run(fmt.Sprint(sides), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "a", "b", "c")
			ns := w.join("a", "b", "c")
			x := &writers{w, map[string]string{}}
			x.write(0, ns...)
			w.whole(ns...)
			a, b, c := ns[0], ns[1], ns[2]
			for _, to := range []string{"b", "c"} {
				a.ask("flow", parcel{To: to, Every: time.Millisecond}, nil)
			}
			w.until("streams flow", func() bool { return len(b.applied("a")) > 10 && len(c.applied("a")) > 10 })
			w.net.Partition(sides...)
			over := time.After(15 * time.Second)
			x.write(1, ns...)
			for _, side := range sides {
				for _, name := range side {
					took := w.until(name+" sees its side", func() bool { return w.nodes[name].view().sees(side...) })
					t.Logf("%s sees its side after %v more", name, took)
				}
			}
			x.write(2, ns...)
			for _, side := range sides {
				for _, name := range side {
					w.until(name+" has the rows of its side", func() bool { return w.nodes[name].view().Keys == 41*len(side) })
					if v := w.nodes[name].view(); v.Senior.Name != side[0] {
						t.Errorf("%s sees the senior %s", name, v.Senior.Name)
					}
				}
			}
			<-over
			mark := len(c.applied("a"))
			w.net.Heal()
			took := w.whole(ns...)
			t.Logf("tables are equal %v after the heal", took)
			if most := map[bool]time.Duration{true: 2 * time.Second, false: 10 * time.Second}[soaking()]; took > most {
				t.Errorf("tables are equal %v after the heal", took)
			}
			x.check(ns...)
			again := w.until("the stream flows again", func() bool { return len(c.applied("a")) > mark+100 })
			t.Logf("the stream to c flows again %v later", again)
			for _, to := range []string{"b", "c"} {
				a.ask("dry", to, nil)
			}
			w.until("all has arrived", func() bool { return a.view().Unacked == 0 })
			checkRecords(t, a.sent("b"), b.applied("a"))
			checkRecords(t, a.sent("c"), c.applied("a"))
			if l := a.sent("b"); len(sides) == 2 && len(l.Back) > 0 {
				t.Errorf("%d records to b came back, though b was on the same side", len(l.Back))
			}
			if t.Failed() {
				t.Log(a.tale(), b.tale(), c.tale())
			}
		})
	}
}

// TestPairCut: when two of three nodes cannot reach each other, in one direction or in both, they treat each other as
// gone, the third keeps both, and nothing flaps. After the heal all have all rows.
func TestPairCut(t *testing.T) {
	for _, both := range []bool{true, false} {
		t.Run(map[bool]string{true: "both directions", false: "one direction"}[both], func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "a", "b", "c")
			ns := w.join("a", "b", "c")
			a, b, c := ns[0], ns[1], ns[2]
			x := &writers{w, map[string]string{}}
			x.write(0, ns...)
			w.whole(ns...)
			a.ask("flow", parcel{To: "c", Every: time.Millisecond}, nil)
			w.net.Cut("a", "b")
			if both {
				w.net.Cut("b", "a")
			}
			over := time.After(15 * time.Second)
			w.until("a and b see c only", func() bool { return a.view().sees("a", "c") && b.view().sees("b", "c") })
			x.write(1, ns...)
			w.until("c has all rows", func() bool { return c.view().Keys == 31*3 })
			mark := [3]int{a.mark(), b.mark(), c.mark()}
			<-over
			if !a.view().sees("a", "c") || !b.view().sees("b", "c") || !c.view().sees("a", "b", "c") {
				t.Errorf("views: %s", w.describe())
			}
			for i, n := range ns {
				if n.moved(mark[i]) {
					t.Errorf("%s does not rest:\n%s", n.name, n.tale())
				}
			}
			w.net.Heal()
			took := w.whole(ns...)
			t.Logf("tables are equal %v after the heal", took)
			if most := map[bool]time.Duration{true: 2 * time.Second, false: 10 * time.Second}[soaking()]; took > most {
				t.Errorf("tables are equal %v after the heal", took)
			}
			x.check(ns...)
			a.ask("dry", "c", nil)
			w.until("all has arrived", func() bool { return a.view().Unacked == 0 })
			checkRecords(t, a.sent("c"), c.applied("a"))
			if l := a.sent("c"); len(l.Back) > 0 || strings.Contains(c.tale(), "died") {
				t.Errorf("%d records to c came back\n%s", len(l.Back), c.tale())
			}
		})
	}
}
