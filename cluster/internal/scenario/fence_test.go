package scenario_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/testnet"
)

// TestStoppedNodeComesBack: a node that stands still is declared dead, its rows go; when it goes on it learns that,
// takes a new incarnation and is back with its rows, without help. Nobody else is taken for dead, by it or by others.
func TestStoppedNodeComesBack(t *testing.T) {
	t.Parallel()
	for _, stop := range append([]time.Duration{20 * time.Second}, map[bool][]time.Duration{true: {90 * time.Second}}[soaking()]...) {
		w := newWorld(t, "a", "b", "c")
		ns := w.join("a", "b", "c")
		a, c := ns[0], ns[2]
		for _, n := range ns {
			n.put("of-"+n.name, "1")
		}
		w.whole(ns...)
		c.ask("flow", parcel{To: "a", Every: time.Millisecond}, nil)
		a.ask("flow", parcel{To: "c", Every: time.Millisecond}, nil)
		w.until("both streams flow", func() bool { return len(a.applied("c")) > 10 && len(c.applied("a")) > 10 })
		was := c.view().Self.Incarnation
		c.Stop()
		w.pass(stop)
		if got := a.content(); len(got) != 2 {
			t.Errorf("while c stands still there are the rows %v", got)
		}
		woken := c.Continue()
		c.await(0, "fenced", "c")
		took := w.whole(ns...)
		t.Logf("after %v: back %v after going on", stop, testnet.Now()-woken)
		if v := c.view(); v.Self.Incarnation <= was || v.Keys != 3 || took > 10*time.Second {
			t.Errorf("after %v: took %v, now %+v", stop, took, v)
		}
		for _, n := range []*node{a, c} {
			other := map[*node]string{a: "c", c: "a"}[n]
			n.ask("dry", other, nil)
		}
		w.until("all has arrived", func() bool { return a.view().Unacked+c.view().Unacked == 0 })
		checkRecords(t, a.sent("c"), c.applied("a"))
		checkRecords(t, c.sent("a"), a.applied("c"))
		for _, n := range ns {
			for _, of := range ns {
				died, fenced := n.count(0, "member died", of.name), n.count(0, "fenced", of.name)
				want := [2]int{map[bool]int{true: 1}[of == c && n != c], map[bool]int{true: 1}[of == c && n == c]}
				if died != want[0] || fenced != want[1] {
					t.Errorf("after %v: %s saw %s die %d times and be fenced %d times:\n%s", stop, n.name, of.name, died, fenced, n.tale())
				}
			}
		}
	}
}

// TestQuickRestart: a node that is killed and started again under its name within a second is a new incarnation. The
// old one's rows go, the new one's stay, however often that happens and whatever the order in which nodes are killed.
func TestQuickRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b", "c")
	ns := w.join("a", "b", "c")
	for round := range 6 {
		i := round % 3
		n := ns[i]
		n.put(fmt.Sprint("old", round), "gone with its incarnation")
		was := n.view().Self.Incarnation
		others := slices.Delete(slices.Clone(ns), i, i+1)
		marks := map[*node]int{others[0]: others[0].mark(), others[1]: others[1].mark()}
		killed := n.Kill()
		w.pass(time.Duration(round) * 150 * time.Millisecond)
		ns[i] = w.start(n.name)
		ns[i].put(fmt.Sprint("new", i), fmt.Sprint(round))
		again := testnet.Now() - killed
		w.joinAll(ns)
		if v := ns[i].view(); v.Self.Incarnation <= was {
			t.Errorf("round %d: incarnation %d after %d", round, v.Self.Incarnation, was)
		}
		w.until("the old row is gone", func() bool { return others[0].content()[fmt.Sprint("old", round)] == "" })
		for _, o := range others {
			if died, joined := o.count(marks[o], "member died", n.name), o.count(marks[o], "member joined", n.name); died != 1 || joined != 1 {
				t.Errorf("round %d, started again after %v: %s saw %s die %d times, join %d times:\n%s", round, again, o.name, n.name, died, joined, o.tale())
			}
		}
	}
	w.pass(5 * time.Second) // whoever cleans up late does so now
	for _, n := range ns {
		if got := n.content(); len(got) != 3 {
			t.Errorf("%s has the rows %v", n.name, got)
		}
		for _, o := range ns {
			if n.count(0, "fenced", o.name) > 0 {
				t.Errorf("%s was fenced:\n%s", o.name, n.tale())
			}
		}
	}
}

// TestFullRestart: when all nodes are killed at once and started again, they are a cluster again, without anything of
// the old one.
func TestFullRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b", "c")
	for round := range 3 {
		names := []string{"a", "b", "c"}
		for _, n := range w.nodes {
			n.Kill()
		}
		start := testnet.Now()
		ns := w.join(names...)
		t.Logf("round %d: whole after %v", round, testnet.Now()-start)
		for _, n := range ns {
			n.put(n.name, fmt.Sprint(round))
		}
		w.whole(ns...)
		for _, n := range ns {
			if got := n.content(); len(got) != 3 || got["a"] != fmt.Sprint(round) {
				t.Errorf("%s has %v", n.name, got)
			}
		}
	}
}
