package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// stream is how many messages a long conversation has.
const stream = 10_000

// TestStream: who is on different nodes talks in order, and whole, whatever other nodes come and go.
func TestStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "one", "two")
	w.nodes["one"].register("romeo", "juliet")
	romeo, juliet := w.nodes["one"].login("romeo@a.test/orchard"), w.nodes["two"].login("juliet@a.test/balcony")
	befriend(romeo, juliet)
	var talking sync.WaitGroup
	talking.Go(func() { romeo.say(juliet.jid.String(), 0, stream) })
	talking.Go(func() { juliet.say(romeo.jid.Bare().String(), 0, stream) })
	w.start("three")
	w.together()
	w.nodes["three"].leave()
	w.start("three")
	w.together()
	w.nodes["three"].kill()
	talking.Wait()
	juliet.hears(romeo.jid, stream)
	romeo.hears(juliet.jid, stream)
	inOrder(t, "romeo", romeo.numbers(juliet.jid), 0, stream)
	inOrder(t, "juliet", juliet.numbers(romeo.jid), 0, stream)
}

// TestKilled: a node dies without a word. What was on its way to it goes to another resource, or waits for the next
// log-in; contacts are told once; who is elsewhere notices nothing.
func TestKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "one", "two", "three")
	one, two, three := w.nodes["one"], w.nodes["two"], w.nodes["three"]
	one.register("romeo", "juliet", "mercutio", "paris")
	romeo, paris := one.login("romeo@a.test/orchard"), three.login("paris@a.test/hall")
	balcony, chamber := two.login("juliet@a.test/balcony"), three.login("juliet@a.test/chamber")
	mercutio := two.login("mercutio@a.test/street")
	for _, p := range []*person{balcony, mercutio, paris} {
		befriend(romeo, p)
	}
	befriend(paris, mercutio)

	// Nothing on the node goes on, so that none of what is said now can have reached a client there.
	two.Hang()
	var talking sync.WaitGroup
	talking.Go(func() { paris.say(romeo.jid.String(), 0, stream) })
	romeo.say(balcony.jid.String(), 0, 100)
	romeo.say(mercutio.jid.String(), 0, 100)
	romeo.settled()
	two.kill()

	chamber.hears(romeo.jid, 100)
	for _, who := range []*person{balcony, mercutio} {
		romeo.await("that "+who.jid.String()+" is gone", unavailable(who.jid))
	}
	talking.Wait()
	romeo.hears(paris.jid, stream)
	inOrder(t, "romeo", romeo.numbers(paris.jid), 0, stream)
	w.together()
	// He comes back while what is for him is being stored. Of that, something may come after what was stored later.
	mercutio = three.login("mercutio@a.test/street")
	mercutio.hears(romeo.jid, 100)
	eachOnce(t, "mercutio", mercutio.numbers(romeo.jid), 100)
	romeo.say(chamber.jid.String(), 100, 200)
	romeo.say(mercutio.jid.String(), 100, 200)
	chamber.hears(romeo.jid, 200)
	mercutio.hears(romeo.jid, 200)
	inOrder(t, "juliet", chamber.numbers(romeo.jid), 0, 200)
	inOrder(t, "mercutio", mercutio.numbers(romeo.jid)[100:], 100, 200)

	for _, p := range []*person{romeo, paris, chamber, mercutio} {
		p.settled()
	}
	for who, want := range map[*person]map[*person]int{
		romeo: {balcony: 1, chamber: 0, mercutio: 1, paris: 0}, paris: {romeo: 0, mercutio: 1}, chamber: {balcony: 1},
	} {
		for of, n := range want {
			if got := who.count(unavailable(of.jid)); got != n {
				t.Errorf("%s was told %d times that %s is gone, %d is right", who.jid, got, of.jid, n)
			}
		}
	}
	if n := romeo.count(func(e xml.Element) bool { return e.Attr("type") == "error" }); n > 0 {
		t.Errorf("romeo got %d errors", n)
	}
}

// conflict tells the stream error of a session whose resource was bound again.
func conflict(e xml.Element) bool {
	return e.Local == "error" && e.Space == xml.NSStream && e.First() != nil && e.First().Local == "conflict"
}

// TestConflict: a resource that is bound on several nodes stays where it was bound last.
func TestConflict(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "one", "two", "three")
	one, two, three := w.nodes["one"], w.nodes["two"], w.nodes["three"]
	one.register("romeo", "juliet")
	romeo := one.login("romeo@a.test/orchard")
	const balcony = "juliet@a.test/balcony"

	old := two.login(balcony)
	befriend(romeo, old)
	young := three.login(balcony)
	old.await("conflict", conflict)
	old.ends()
	romeo.say(balcony, 0, 10)
	young.hears(romeo.jid, 10)

	// The node of the old session hangs: binding does not wait for it, nor for anybody to declare it dead.
	// What was heard there must have been reported: her answer comes after that. Otherwise it would come once more.
	young.say(romeo.jid.String(), 0, 1)
	romeo.hears(young.jid, 1)
	three.Hang()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	begun := time.Now()
	youngest, err := one.bind(ctx, balcony)
	if err != nil {
		t.Fatalf("bind while the node of the old session hangs: %v", err)
	}
	t.Logf("bound in %v while the old node hung", time.Since(begun))
	youngest.send("<presence/>")
	youngest.settled()
	romeo.say(balcony, 10, 20)
	youngest.hears(romeo.jid, 10)
	three.Wake()
	young.await("conflict", conflict)
	young.ends()
	w.together()
	romeo.say(balcony, 20, 30)
	youngest.hears(romeo.jid, 20)
	inOrder(t, "juliet", append(young.numbers(romeo.jid), youngest.numbers(romeo.jid)...), 0, 30)
}

// TestAtOnce: many bind the same resource at the same time, everywhere. One of them stays.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "one", "two", "three")
	w.nodes["one"].register("romeo", "juliet")
	romeo := w.nodes["one"].login("romeo@a.test/orchard")
	for round := range 5 {
		const each = 3
		full := fmt.Sprintf("juliet@a.test/round%d", round)
		all := make([]*person, 0, each*len(w.nodes))
		var mu sync.Mutex
		var binding sync.WaitGroup
		for _, n := range w.nodes {
			for range each {
				binding.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					defer cancel()
					p, err := n.bind(ctx, full)
					var ended *client.StreamError
					if errors.As(err, &ended) && conflict(ended.Element) {
						return // before it knew that it was there
					}
					if err != nil {
						t.Errorf("%s at %s: %v", full, n.Name, err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					all = append(all, p)
				})
			}
		}
		binding.Wait()
		// A message finds the one that stays; the others end, and not it.
		w.until("all but one have ended", func() bool {
			left := 0
			for _, p := range all {
				if p.count(conflict) == 0 {
					left++
				}
			}
			return left == 1
		})
		romeo.say(full, round, round+1)
		for _, p := range all {
			if p.count(conflict) > 0 {
				p.ends()
				continue
			}
			p.hears(romeo.jid, 1)
			p.settled()
			if p.count(conflict) > 0 {
				t.Error("the last one has ended, too")
			}
		}
	}
}
