package cluster_test

import (
	"fmt"
	"testing"
	"time"
)

// TestRestart: a node is killed and started again under its name before anybody has missed it; then all are, at once.
func TestRestart(t *testing.T) {
	t.Parallel()
	w := newNetwork(t, "one", "two", "three")
	all := gather(w, sixPeople())
	romeo, juliet := all["one"][0], all["two"][0]
	never := func(_, _ *person) int { return 0 }

	all.begin()
	two := w.nodes["two"]
	two.Hang() // so that none of what is said now can have reached a client there
	const few = 50
	romeo.say(juliet.jid.String(), 0, few)
	romeo.settled()
	killed := time.Now()
	two.kill()
	two = w.launch("two")
	if since := time.Since(killed); since > time.Second {
		t.Errorf("the node is started again %v after it was killed", since)
	}
	two.runs()
	t.Logf("the node runs again %v after it was killed", time.Since(killed))
	for _, p := range all["two"] {
		p.ends()
	}
	left := company{"one": all["one"], "three": all["three"]}
	left.each(func(p *person) {
		for _, of := range all["two"] {
			p.await("that "+of.jid.String()+" is gone", unavailable(of.jid))
		}
	})
	w.together()
	w.alike()
	back := w.nodes["two"].login(juliet.jid.String())
	romeo.await("that juliet is back", available(juliet.jid))
	back.hears(romeo.jid, few)
	romeo.say(juliet.jid.String(), few, 2*few)
	back.hears(romeo.jid, 2*few)
	left.rest(t)
	eachOnce(t, "juliet", back.numbers(romeo.jid), 2*few)
	inOrder(t, "juliet", back.numbers(romeo.jid)[few:], few, 2*few)
	left.told("gone", gone, never)
	left.told("there", here, never)
	left.each(func(p *person) {
		for i, of := range all["two"] {
			if g, h := p.count(unavailable(of.jid)), p.count(available(of.jid)); g != 1 || h != 1-i {
				t.Errorf("%s was told %d times that %s is gone, %d times that they are there", p.jid, g, of.jid, h)
			}
		}
		p.undisturbed()
	})

	for round := range 2 {
		for _, n := range w.running() {
			n.kill()
		}
		begun := time.Now()
		w.startAll("one", "two", "three")
		w.together()
		t.Logf("round %d: together again after %v", round, time.Since(begun))
		everybodyReturns(t, w)
	}
}

// everybodyReturns has six people log in, on their nodes, and find each other.
func everybodyReturns(t *testing.T, w *world) {
	t.Helper()
	all := company{}
	for name, full := range sixPeople() {
		for _, f := range full {
			all[name] = append(all[name], w.nodes[name].login(f))
		}
	}
	all.pairs(func(a, b *person) {
		a.await("that "+b.jid.String()+" is there", available(b.jid))
		a.say(b.jid.String(), 0, 5)
		b.hears(a.jid, 5)
		inOrder(t, fmt.Sprintf("%s of %s", b.jid, a.jid), b.numbers(a.jid), 0, 5)
	})
	w.alike()
	for _, n := range w.running() {
		if s, err := n.Status(); err != nil || s.Sessions.Everywhere != 6 || s.Sessions.Here != 2 {
			t.Errorf("%s counts %+v sessions, %v", n.Name, s.Sessions, err)
		}
	}
}
