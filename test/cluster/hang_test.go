package cluster_test

import (
	"testing"
	"time"
)

// TestHung: a node stands still for so long that the others take it for dead. When it goes on, who is connected to it is
// still connected, and there again for everybody, save for a resource that was bound elsewhere meanwhile.
func TestHung(t *testing.T) {
	t.Parallel()
	for _, pause := range append([]time.Duration{20 * time.Second}, map[bool][]time.Duration{true: {90 * time.Second}}[soaking()]...) {
		t.Run(pause.String(), func(t *testing.T) { hung(t, pause) })
	}
}

func hung(t *testing.T, pause time.Duration) {
	w := newNetwork(t, "one", "two", "three")
	all := gather(w, sixPeople())
	romeo, juliet, paris := all["one"][0], all["two"][0], all["three"][0]
	rosaline := w.join("three", "rosaline@a.test/window")
	befriend(rosaline, romeo)
	befriend(rosaline, paris)
	asleep := map[*person]bool{}
	for _, p := range all["three"] {
		asleep[p] = true
	}
	lost := func(who, of *person) int { return map[bool]int{true: 1}[asleep[of] && !asleep[who]] }
	never := func(_, _ *person) int { return 0 }

	stop := romeo.talk(juliet.jid.String())
	all.begin()
	three := w.nodes["three"]
	three.Hang()
	over := last(t, pause)
	for _, p := range []*person{romeo, juliet} {
		p.await("that paris is gone", unavailable(paris.jid))
	}
	const few = 10
	romeo.say(paris.jid.String(), 0, few)
	romeo.await("that rosaline is gone", unavailable(rosaline.jid))
	again := w.nodes["two"].login(rosaline.jid.String())
	romeo.await("that rosaline is back", available(rosaline.jid))
	over()
	all.awake(asleep, func(p *person) {
		p.settled()
		for _, of := range all["three"] {
			if n := p.count(unavailable(of.jid)); n != 1 {
				t.Errorf("%s was told %d times that %s is gone, once is right", p.jid, n, of.jid)
			}
			if n := p.count(available(of.jid)); n != 0 {
				t.Errorf("%s was told %d times that %s is there, who is not", p.jid, n, of.jid)
			}
		}
	})

	all.begin()
	three.Wake()
	took := w.together() + w.alike()
	t.Logf("alike %v after going on", took)
	if took > 10*time.Second {
		t.Errorf("alike only %v after going on", took)
	}
	rosaline.await("conflict", conflict)
	rosaline.ends()
	all.pairs(func(a, b *person) {
		if lost(a, b) > 0 {
			a.await("that "+b.jid.String()+" is back", available(b.jid))
		}
	})
	paris.hears(romeo.jid, few)
	romeo.say(paris.jid.String(), few, 2*few)
	paris.hears(romeo.jid, 2*few)
	said := stop()
	juliet.hears(romeo.jid, said)
	all.rest(t)
	inOrder(t, "paris", paris.numbers(romeo.jid), 0, 2*few)
	inOrder(t, "juliet", juliet.numbers(romeo.jid), 0, said)
	all.told("gone", gone, never)
	all.pairs(func(who, of *person) {
		// Who was on the node that stood still is told anew who is there: they may have missed it.
		if n := who.count(available(of.jid)); n != lost(who, of) && !(asleep[who] && !asleep[of] && n == 1) {
			t.Errorf("%s was told %d times that %s is there", who.jid, n, of.jid)
		}
	})
	all.each((*person).undisturbed)
	again.undisturbed()
	if n := rosaline.count(conflict); n != 1 {
		t.Errorf("who was replaced got %d conflicts", n)
	}
	romeo.sees(rosaline.jid)
	paris.sees(rosaline.jid)
}
