package scenario_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/testnet"
)

// letters names n nodes.
func letters(n int) (names []string) {
	for i := range n {
		names = append(names, string(rune('a'+i)))
	}
	return names
}

// TestTenAtOnce: ten nodes join at once, of which each knows the address of one only. Each sees the nine others, is
// told of each once, and all agree on a senior; when that is killed, and the next one leaves, they agree on the next.
func TestTenAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, letters(10)...)
	ns := w.startAll(letters(10), func(s *settings) { s.Peers = []string{w.address("a")} })
	start := testnet.Now()
	w.joinAll(ns)
	took := testnet.Now() - start
	t.Logf("whole after %v", took)
	if most := map[bool]time.Duration{true: 5 * time.Second, false: 20 * time.Second}[soaking()]; took > most {
		t.Errorf("whole after %v", took)
	}
	for _, n := range ns {
		n.put(n.name, "1")
		for _, o := range ns {
			want := 1
			if n == o {
				want = 0
			}
			if got := n.count(0, "member joined", o.name); got != want {
				t.Errorf("%s is told %d times that %s joined", n.name, got, o.name)
			}
		}
	}
	w.whole(ns...)
	for i, end := range []func(*node){func(n *node) { n.Kill() }, (*node).leave} {
		name := ns[0].view().Senior.Name
		at := slices.IndexFunc(ns, func(n *node) bool { return n.name == name })
		end(ns[at])
		ns = slices.Delete(ns, at, at+1)
		t.Logf("the end of senior %s: whole after %v", name, w.whole(ns...))
		if v := ns[0].view(); v.Senior.Name == name || v.Keys != 9-i {
			t.Errorf("after the end of %s: %+v", name, v)
		}
	}
	for _, n := range ns {
		for _, o := range ns {
			if n.count(0, "member died", o.name) > 0 {
				t.Errorf("%s took %s for dead:\n%s", n.name, o.name, n.tale())
			}
		}
	}
}

// TestTwoAtOneMoment: two nodes join a running one at the same moment, again and again. They see each other, too.
func TestTwoAtOneMoment(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b", "c")
	ns := w.startAll(letters(3), func(s *settings) { s.Peers = []string{w.address("a")} })
	ns[0].join()
	for round := range 5 {
		w.joinAll(ns)
		for i, n := range ns {
			n.put(fmt.Sprint("of ", n.name), fmt.Sprint(round))
			if joined := n.count(0, "member joined", ns[1+i%2].name); i > 0 && n.count(0, "member joined", ns[3-i].name) != round+1 {
				t.Errorf("%s is told %d times that %s joined:\n%s", n.name, joined, ns[3-i].name, n.tale())
			}
		}
		w.whole(ns...)
		if v := ns[0].view(); v.Keys != 3 {
			t.Errorf("%d rows", v.Keys)
		}
		ns[1].leave()
		ns[2].leave()
		w.whole(ns[0])
	}
}

// TestOneAlone: a node without others works, becomes a cluster of one, and is alone again, with what it has. Joining or
// leaving twice is as once.
func TestOneAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	a := w.start("a")
	for i, step := range []func(){func() {}, a.join, a.join, a.leave, a.leave, a.join} {
		step()
		a.put("k", fmt.Sprint(i))
		var v view
		w.until("it is its own senior", func() bool { v = a.view(); return v.Senior.Name == "a" })
		if got := a.content(); got["k"] != fmt.Sprint(i) || !v.sees("a") {
			t.Errorf("step %d: %v, %+v", i, got, v)
		}
		var greeting string
		if a.ask("call", call{"greet", "a", "hi"}, &greeting); greeting != "a greets a: hi" {
			t.Errorf("step %d: %q", i, greeting)
		}
	}
}

// TestMulticast: nodes on one network that are told nothing but a group find each other, after a cut, too.
func TestMulticast(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b", "c")
	w.net.Partition([]string{"a", "b"}, []string{"c"})
	ns := w.startAll(letters(3), func(s *settings) { s.Peers, s.Multicast = nil, "239.255.42.99:7421" })
	w.joinAll(ns[:2])
	ns[2].join()
	w.whole(ns[2])
	w.net.Heal()
	t.Logf("the third one is found %v after the heal", w.whole(ns...))
}

// TestClocks: nodes whose clocks differ by twenty minutes form a cluster, keep order among their rows, and complain.
func TestClocks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b", "c")
	offset := map[string]time.Duration{"a": -10 * time.Minute, "c": 10 * time.Minute}
	ns := w.startAll(letters(3), func(s *settings) { s.Offset = offset[s.Name] })
	w.joinAll(ns)
	for i := range 9 { // each write comes after the one before was seen, so it is the later one for all
		ns[i%3].put("contended", fmt.Sprint(i))
		for _, n := range ns {
			w.until("the latest row is shown", func() bool { return n.content()["contended"] == fmt.Sprint(i) })
		}
	}
	c := ns[2]
	c.Kill()
	w.until("c is missed", func() bool { return ns[0].view().sees("a", "b") && ns[1].view().sees("a", "b") })
	for _, n := range ns[:2] { // its row went with it; below was the one of b
		w.until("the row before shows", func() bool { return n.content()["contended"] == "7" })
		wantNotes(t, n, 1, "clocks differ", "member=c")
	}
	ns[2] = w.start("c", func(s *settings) { s.Offset = -10 * time.Minute }) // the clock was set back meanwhile
	ns[2].put("of-c", "1")
	w.joinAll(ns)
	for _, n := range ns {
		if got := n.content(); len(got) != 2 {
			t.Errorf("%s has %v", n.name, got)
		}
	}
	for _, n := range ns[:2] {
		if died := n.count(0, "member died", "c"); died != 1 {
			t.Errorf("%s saw c die %d times:\n%s", n.name, died, n.tale())
		}
	}
}
