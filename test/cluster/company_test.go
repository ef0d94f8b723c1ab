package cluster_test

import (
	"testing"
	"time"

	"github.com/starling-im/starling/internal/xmpp/xml"
)

// company is people who all see each other's presence, by the node they are on.
type company map[string][]*person

// gather registers people, logs them in, and makes them all friends.
func gather(w *world, resources map[string][]string) company {
	w.t.Helper()
	c := company{}
	var all []*person
	for name, full := range resources {
		for _, f := range full {
			p := w.join(name, f)
			for _, other := range all {
				befriend(p, other)
			}
			all = append(all, p)
			c[name] = append(c[name], p)
		}
	}
	return c
}

// three pairs, one on each node.
func sixPeople() map[string][]string {
	return map[string][]string{
		"one":   {"romeo@a.test/orchard", "benvolio@a.test/street"},
		"two":   {"juliet@a.test/balcony", "nurse@a.test/house"},
		"three": {"paris@a.test/hall", "mercutio@a.test/square"},
	}
}

// pairs calls fn for each two people, in both orders.
func (c company) pairs(fn func(a, b *person)) {
	c.each(func(a *person) {
		c.each(func(b *person) {
			if a != b {
				fn(a, b)
			}
		})
	})
}

func (c company) each(fn func(p *person)) {
	for _, all := range c {
		for _, p := range all {
			fn(p)
		}
	}
}

// begin lets everybody look only at what comes from now on.
func (c company) begin() { c.each((*person).begin) }

// rest lets whoever would tell something late, or twice, do so.
func (c company) rest(t testing.TB) {
	t.Helper()
	last(t, 4*time.Second)()
	c.each((*person).settled)
}

// told checks how often everybody was told of each of the others, since begin.
func (c company) told(what string, is func(of *person) func(xml.Element) bool, want func(who, of *person) int) {
	c.pairs(func(who, of *person) {
		who.t.Helper()
		if got, right := who.count(is(of)), want(who, of); got != right {
			who.t.Errorf("%s was told %d times that %s is %s, %d is right", who.jid, got, of.jid, what, right)
		}
	})
}

func here(of *person) func(xml.Element) bool { return available(of.jid) }
func gone(of *person) func(xml.Element) bool { return unavailable(of.jid) }

// awake calls fn for everybody who is not asleep.
func (c company) awake(asleep map[*person]bool, fn func(p *person)) {
	c.each(func(p *person) {
		if !asleep[p] {
			fn(p)
		}
	})
}
