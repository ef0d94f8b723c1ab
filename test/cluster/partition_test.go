package cluster_test

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestPartition: nodes are cut apart for 15 s. Each side is a server by itself meanwhile; then all are one again, and
// nobody has lost a message, or the connection.
func TestPartition(t *testing.T) {
	for _, sides := range [][][]string{{{"one", "two"}, {"three"}}, {{"one"}, {"two"}, {"three"}}} {
		t.Run(fmt.Sprint(sides), func(t *testing.T) {
			t.Parallel()
			partition(t, sides)
		})
	}
}

func partition(t *testing.T, sides [][]string) {
	w := newNetwork(t, "one", "two", "three")
	all := gather(w, sixPeople())
	romeo, paris := all["one"][0], all["three"][0]
	rosaline := w.join("two", "rosaline@a.test/window")
	befriend(rosaline, romeo)
	befriend(rosaline, paris)
	side := map[*person]int{}
	for name, people := range all {
		for _, p := range people {
			side[p] = slices.IndexFunc(sides, func(names []string) bool { return slices.Contains(names, name) })
		}
	}
	across := func(who, of *person) int { return map[bool]int{true: 1}[side[who] != side[of]] }
	never := func(_, _ *person) int { return 0 }

	stop, back := romeo.talk(paris.jid.String()), paris.talk(romeo.jid.Bare().String())
	romeo.hears(paris.jid, 10)
	paris.hears(romeo.jid, 10)
	all.begin()
	w.net.Partition(sides...)
	over := last(t, 15*time.Second)
	all.pairs(func(a, b *person) {
		if across(a, b) > 0 {
			a.await("that "+b.jid.String()+" is gone", unavailable(b.jid))
		}
	})
	// The same resource again, on a side that does not see the other one.
	paris.await("that rosaline is gone", unavailable(rosaline.jid))
	again := w.nodes["three"].login(rosaline.jid.String())
	paris.await("that rosaline is back", available(rosaline.jid))
	const few = 10
	talking := func(a, b *person) bool { return a == romeo && b == paris || a == paris && b == romeo }
	all.pairs(func(a, b *person) {
		switch {
		case talking(a, b):
		case across(a, b) > 0:
			a.say(b.jid.Bare().String(), 0, few)
		default:
			a.say(b.jid.String(), 0, few)
			b.hears(a.jid, few)
		}
	})
	over()
	all.told("gone", gone, across)
	all.told("there", here, never)

	all.begin()
	w.net.Heal()
	took := w.together() + w.alike()
	t.Logf("alike %v after the heal", took)
	if took > 10*time.Second {
		t.Errorf("alike only %v after the heal", took)
	}
	rosaline.await("conflict", conflict)
	rosaline.ends()
	all.pairs(func(a, b *person) {
		if across(a, b) > 0 {
			a.await("that "+b.jid.String()+" is back", available(b.jid))
		}
		if !talking(a, b) {
			b.hears(a.jid, few)
			whole(t, fmt.Sprintf("%s of %s", b.jid, a.jid), b.numbers(a.jid), few)
		}
	})
	said, answered := stop(), back()
	paris.hears(romeo.jid, said)
	romeo.hears(paris.jid, answered)
	all.rest(t)
	whole(t, "paris", paris.numbers(romeo.jid), said)
	whole(t, "romeo", romeo.numbers(paris.jid), answered)
	all.told("there", here, across)
	all.told("gone", gone, never)
	all.each((*person).undisturbed)
	again.undisturbed()
	if n := rosaline.count(conflict); n != 1 {
		t.Errorf("who was replaced got %d conflicts", n)
	}
	romeo.sees(rosaline.jid)
	paris.sees(rosaline.jid)
}
