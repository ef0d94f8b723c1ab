package scenario_test

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/testnet"
)

// TestDetection measures how long two nodes take to know that the third was killed, or stands still.
func TestDetection(t *testing.T) {
	kills, stops, slack := 5, 3, 3*time.Second // of a machine that does other things, too, with the race detector
	if soaking() {
		kills, stops, slack = 20, 20, 0
	}
	w := newWorld(t, "a", "b", "c")
	ns := w.join("a", "b", "c")
	measure := func(at time.Duration, mark [2]int) (took []time.Duration) {
		for i, n := range ns[:2] {
			took = append(took, n.await(mark[i], "member died", "c").At-at)
		}
		return took
	}
	marks := func() [2]int { return [2]int{ns[0].mark(), ns[1].mark()} }
	var killed, stopped []time.Duration
	for i := range kills {
		w.pass(time.Duration(i*97%500) * time.Millisecond) // anywhere between two beacons
		m := marks()
		killed = append(killed, measure(ns[2].Kill(), m)...)
		ns[2] = w.start("c")
		w.joinAll(ns)
	}
	for i := range stops {
		w.pass(time.Duration(i*97%500) * time.Millisecond)
		m := marks()
		stopped = append(stopped, measure(ns[2].Stop(), m)...)
		ns[2].Continue()
		ns[2].await(0, "fenced", "c")
		w.whole(ns...)
	}
	for _, c := range []struct {
		name   string
		took   []time.Duration
		median time.Duration
	}{{"killed", killed, time.Second}, {"stopped", stopped, 3 * time.Second}} {
		slices.Sort(c.took)
		median, worst := c.took[len(c.took)/2], c.took[len(c.took)-1]
		t.Logf("%s: median %v, worst %v of %d", c.name, median, worst, len(c.took))
		if median > c.median+slack || worst > c.median+slack+500*time.Millisecond {
			t.Errorf("%s: median %v, worst %v: %v", c.name, median, worst, c.took)
		}
	}
	for _, n := range ns[:2] {
		if n.count(0, "fenced", n.name)+n.count(0, "member died", "a")+n.count(0, "member died", "b") > 0 {
			t.Errorf("one that lived was taken for dead:\n%s", n.tale())
		}
	}
}

// TestNoFalseDeath: while both processors are busy with other things nobody is taken for dead.
func TestNoFalseDeath(t *testing.T) {
	lasts := 20 * time.Second
	if soaking() {
		lasts = 5 * time.Minute
	}
	w := newWorld(t, "a", "b", "c")
	ns := w.join("a", "b", "c")
	cmd := w.net.Host("a").Command(os.Args[0])
	cmd.Env = append(os.Environ(), programEnv+"=1")
	busy := &node{Program: testnet.Start(t, "busy", cmd, nil), w: w, name: "busy"}
	busy.ask("burn", struct{ Threads int }{2}, nil)
	ns[0].ask("flow", parcel{To: "b", Size: 300, Every: time.Millisecond}, nil)
	w.pass(lasts)
	ns[0].ask("dry", "b", nil)
	for _, n := range ns {
		for _, o := range ns {
			if n.count(0, "member died", o.name)+n.count(0, "fenced", o.name) > 0 {
				t.Errorf("%s took %s for dead:\n%s", n.name, o.name, n.tale())
			}
		}
	}
	w.until("all is applied", func() bool { return ns[0].view().Unacked == 0 })
	l := ns[0].sent("b")
	checkRecords(t, l, ns[1].applied("a"))
	t.Logf("%d records in %v; suspected: %s", len(l.Accepted), lasts, fmt.Sprint(ns[0].count(0, "suspected", "b"), ns[1].count(0, "suspected", "a")))
}
