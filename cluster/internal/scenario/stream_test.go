package scenario_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/testnet"
)

// TestStreamWhileOthersComeAndGo: ten thousand records from a to b arrive in order, each once, while c joins and leaves.
func TestStreamWhileOthersComeAndGo(t *testing.T) {
	t.Parallel()
	const count = 10_000
	w := newWorld(t, "a", "b", "c")
	ns := w.join("a", "b")
	a, b, c := ns[0], ns[1], w.start("c")
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.ask("send", parcel{To: "b", Count: count, Size: 300, Every: 500 * time.Microsecond}, nil)
	}()
	for round := 0; ; round++ {
		joined, left := b.mark(), 0
		c.join()
		b.await(joined, "member joined", "c")
		left = b.mark()
		c.leave()
		b.await(left, "member left", "c")
		select {
		case <-done:
		default:
			continue
		}
		t.Logf("c joined and left %d times meanwhile", round+1)
		break
	}
	w.until("all is applied", func() bool { return len(b.applied("a")) == count })
	l := a.sent("b")
	checkRecords(t, l, b.applied("a"))
	if len(l.Accepted) != count || len(l.Back) != 0 || b.count(0, "member died", "a") != 0 {
		t.Errorf("%d accepted, %d came back\n%s", len(l.Accepted), len(l.Back), b.tale())
	}
}

// TestConnectionsBreak: records of many sizes from all to all arrive as they were sent, in order, each once, though the
// connections break now and then, since two nodes at a time are cut off from the third for a while. These nodes are
// told to be so patient that they take nobody for dead meanwhile.
func TestConnectionsBreak(t *testing.T) {
	t.Parallel()
	const count = 250
	w := newWorld(t, "a", "b", "c")
	ns := w.startAll(letters(3), func(s *settings) { s.Patient = true })
	w.joinAll(ns)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var all sync.WaitGroup
		for _, n := range ns {
			for _, o := range ns {
				if n != o {
					all.Go(func() {
						n.ask("send", parcel{To: o.name, Count: count, Size: 1 << 17, Mixed: true, Every: 10 * time.Millisecond}, nil)
					})
				}
			}
		}
		all.Wait()
	}()
	for i := 0; ; i++ {
		w.net.Partition([][]string{{"a", "b"}, {"b", "c"}, {"a", "c"}}[i%3])
		w.pass(4 * time.Second) // the engine ends a connection that is silent for three
		w.net.Heal()
		w.until("all are trusted again", func() bool {
			for _, n := range ns {
				if v := n.view(); v.Unsynced > 0 || slices.ContainsFunc(v.Members, func(m person) bool { return m.Suspected }) {
					return false
				}
			}
			return true
		})
		select {
		case <-done:
		default:
			continue
		}
		failed := 0 // a dial is tried only while there is no connection
		for _, n := range ns {
			failed += strings.Count(n.Notes(), "i/o timeout")
		}
		if t.Logf("cut %d times meanwhile, %d dials failed", i+1, failed); failed == 0 {
			t.Error("no connection broke")
		}
		break
	}
	for _, n := range ns {
		for _, o := range ns {
			if n == o {
				continue
			}
			w.until("all is applied", func() bool { return len(o.applied(n.name)) >= count })
			l := n.sent(o.name)
			if checkRecords(t, l, o.applied(n.name)); len(l.Back) > 0 || o.count(0, "member died", n.name) > 0 {
				t.Errorf("%s to %s: %d came back:\n%s", n.name, o.name, len(l.Back), o.tale())
			}
		}
	}
}

// numbers reads a diary.
func numbers(t *testing.T, path string) (list []uint64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for r := range slices.Chunk(b, 8) {
		list = append(list, binary.BigEndian.Uint64(r))
	}
	return list
}

// TestReceiverIsKilled: of a stream to a node that is killed in the middle, all that does not come back was applied
// there, and what comes back is the end of the stream, in order.
func TestReceiverIsKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b", "c")
	diary := filepath.Join(t.TempDir(), "diary")
	ns := []*node{w.start("a"), w.start("b", func(s *settings) { s.Diary = diary }), w.start("c")}
	w.joinAll(ns)
	a, b, c := ns[0], ns[1], ns[2]
	a.ask("flow", parcel{To: "b", Size: 300}, nil)
	a.ask("flow", parcel{To: "c", Size: 300, Every: time.Millisecond}, nil)
	w.until("the stream flows", func() bool { return len(b.applied("a")) > 5000 })
	mark := a.mark()
	b.Kill()
	a.await(mark, "member died", "b")
	a.ask("dry", "b", nil)
	a.ask("dry", "c", nil)
	var l ledger
	w.until("the rest comes back", func() bool {
		l = a.sent("b")
		return len(l.Back) > 0 && l.Back[len(l.Back)-1] == l.Accepted[len(l.Accepted)-1]
	})
	applied := numbers(t, diary)
	checkRecords(t, l, applied)
	if first := int(l.Back[0]); !slices.IsSorted(l.Back) || len(l.Back) != len(l.Accepted)-first+1 || first > len(applied)+1 {
		t.Errorf("%d records came back from %d on, of %d; %d were applied", len(l.Back), first, len(l.Accepted), len(applied))
	}
	t.Logf("%d accepted, %d applied, %d came back", len(l.Accepted), len(applied), len(l.Back))
	w.until("the other stream has arrived", func() bool { return len(c.applied("a")) == len(a.sent("c").Accepted) })
	checkRecords(t, a.sent("c"), c.applied("a"))
}

// TestSenderIsKilled: a node that is killed in the middle of a stream has got through what it sent up to some record,
// without a gap; and started again under its name at once, it is another one.
func TestSenderIsKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	ns := w.join("a", "b")
	a, b := ns[0], ns[1]
	a.ask("flow", parcel{To: "b", Size: 300}, nil)
	w.until("the stream flows", func() bool { return len(b.applied("a")) > 5000 })
	mark := b.mark()
	a.Kill()
	b.await(mark, "member died", "a")
	got := b.applied("a")
	if len(got) != int(got[len(got)-1]) || !slices.IsSorted(got) {
		t.Errorf("%d records, the last one is number %d", len(got), got[len(got)-1])
	}
	again := w.start("a")
	w.joinAll([]*node{again, b})
	again.ask("send", parcel{To: "b", Count: 100}, nil)
	w.until("its records are applied", func() bool { return len(b.applied("a")) == len(got)+100 })
}

// TestHungPeer: a node whose receiver hangs holds one sender back, and nobody else: it is treated as dead after a while
// by this sender, takes a new incarnation, what waits for it comes back, and memory stays bounded though that is tried
// again. When the receiver goes on, what it had in hand comes before all that was sent later.
func TestHungPeer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b", "c")
	ns := []*node{w.start("a"), w.start("b", func(s *settings) { s.Hang = true }), w.start("c")}
	w.joinAll(ns)
	a, b, c := ns[0], ns[1], ns[2]
	a.ask("flow", parcel{To: "b", Size: 1 << 14}, nil)
	a.ask("flow", parcel{To: "c", Size: 300, Every: time.Millisecond}, nil)
	bound := 96 << 20
	if raced {
		bound *= 3
	}
	before, most := [2]int{a.memory(), b.memory()}, [2]int{}
	var count int
	var slowest time.Duration
	last := testnet.Now()
	w.until("b is given up twice", func() bool {
		most = [2]int{max(most[0], a.memory()), max(most[1], b.memory())}
		now := testnet.Now()
		if n := len(c.applied("a")); n > count {
			count, slowest, last = n, max(slowest, now-last), now
		}
		return a.count(0, "member died", "b") > 1
	})
	for i, who := range []string{"the sender's", "the receiver's"} {
		t.Logf("%s memory grew by %d KiB at most, from %d", who, (most[i]-before[i])>>10, before[i]>>10)
		if grown := most[i] - before[i]; grown > bound {
			t.Errorf("%s memory grew by %d MiB", who, grown>>20)
		}
	}
	t.Logf("%d records of the other stream; it stood still for %v at most", count, slowest)
	if slowest > 2*time.Second || count < 1000 {
		t.Errorf("%d records of the other stream in this time, it stood still for %v", count, slowest)
	}
	if a.count(0, "member died", "c")+c.count(0, "member died", "a") > 0 {
		t.Errorf("others are affected:\n%s%s", a.tale(), c.tale())
	}
	b.ask("resume", struct{}{}, nil)
	had := len(b.applied("a"))
	w.until("b applies again what it is sent", func() bool { return len(b.applied("a")) > had+1000 })
	a.ask("dry", "b", nil)
	a.ask("dry", "c", nil)
	w.whole(ns...)
	w.until("all has arrived", func() bool { return a.view().Unacked == 0 })
	checkRecords(t, a.sent("b"), b.applied("a"))
	checkRecords(t, a.sent("c"), c.applied("a"))
}
