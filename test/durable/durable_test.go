// Package durable_test has a server, in a process of its own, lose its database or its life while people chat, and looks for
// what was acknowledged. With SOAK=1 in the environment, as `make soak` sets it, the stories last longer.
package durable_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/store/storetest"
	"github.com/starling-im/starling/internal/xmpptest"
)

func TestMain(m *testing.M) { os.Exit(xmpptest.Main(m)) }

// rounds is a number of rounds, ten times as many when the stories last longer.
func rounds(n int) int {
	if os.Getenv("SOAK") != "" {
		return 10 * n
	}
	return n
}

// serve starts a server on a data folder and a database.
func serve(t *testing.T, data, database string) *xmpptest.Process {
	t.Helper()
	p := xmpptest.Serve(t, "server", data, exec.Command(xmpptest.Program(t)), "domains="+domain, "database.url="+database,
		"registration.open=true", "registration.free_loopback=true", "auth.allow_plaintext=true", "limits.rate_bytes=0",
		"limits.pre_auth_per_address=1000", "offline.max_messages=100000", "log.level=info")
	p.Runs()
	return p
}

func address(p *xmpptest.Process) string { return p.Info.Addresses["c2s"] }

// company is several pairs of people.
func company(t *testing.T) (all []*person) {
	for i := range 3 {
		all = append(all, pair(t, fmt.Sprintf("romeo%d", i), fmt.Sprintf("juliet%d", i))...)
	}
	return all
}

// TestDatabaseRestarts: the database crashes and comes back while people chat. They go on hearing each other, and nobody
// gets an error. Nothing is acknowledged meanwhile. In the end everything is, and is in both archives.
func TestDatabaseRestarts(t *testing.T) {
	t.Parallel()
	database := storetest.Server(t)
	p := serve(t, t.TempDir(), database.URL)
	all := company(t)
	for _, who := range all {
		who.register(address(p))
		who.login(address(p))
	}
	for _, who := range all {
		who.talk()
	}
	const while = 20 // messages
	for range rounds(3) {
		said := make([]int, len(all))
		for _, who := range all {
			_, known := who.acknowledged()
			xmpptest.Until(t, "acknowledgements for "+who.name, func() bool { _, n := who.acknowledged(); return n > known })
		}
		if err := database.Crash(); err != nil {
			t.Fatal(err)
		}
		for i, who := range all {
			said[i] = who.said()
		}
		for i, who := range all {
			who.hears(said[i^1] + while) // a pair's other half
		}
		for i, who := range all {
			if _, n := who.acknowledged(); n > said[i] {
				t.Errorf("%s has an acknowledgement of %d messages, of which %d were said without a database", who.name, n, n-said[i])
			}
		}
		if err := database.Resume(); err != nil {
			t.Fatal(err)
		}
	}
	for _, who := range all {
		who.stop()
	}
	for i, who := range all {
		who.hears(all[i^1].said() - 1)
		xmpptest.Until(t, "all is acknowledged to "+who.name, func() bool {
			// What is heard is acknowledged, too: else it moves to the end of the archive while that is read.
			if err := errors.Join(who.stream.Acknowledge(t.Context()), who.stream.Ask(t.Context())); err != nil {
				t.Fatal(err)
			}
			_, n := who.acknowledged()
			return n == who.said()
		})
		who.innocent()
		if len(who.heard) != all[i^1].said() {
			t.Errorf("%s heard %d of %d messages", who.name, len(who.heard), all[i^1].said())
		}
	}
	for i, who := range all {
		kept := read(t, address(p), who.name)
		for _, one := range []*person{who, all[i^1]} {
			if n := len(kept[one.name]); n != one.said() {
				t.Errorf("the archive of %s has %d of the %d messages of %s", who.name, n, one.said(), one.name)
			}
		}
	}
}

// TestKilled: the server is killed at any moment while people chat, and started again. What was acknowledged is in both
// archives, once and in order, and waits for a person who is not there. Nobody takes up a stream of the dead server.
func TestKilled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		dialect store.Dialect
		kills   int
		seed    uint64
	}{{store.SQLite, 8, 1}, {store.Postgres, 4, 2}} {
		t.Run(c.dialect.String(), func(t *testing.T) {
			t.Parallel()
			k := &killing{T: t, data: t.TempDir(), database: storetest.URL(t, c.dialect), all: company(t), known: map[string][]int{}}
			k.all = append(k.all, newPerson(t, "nurse", "late"))
			seed := c.seed
			if os.Getenv("SOAK") != "" {
				seed = rand.Uint64()
				t.Logf("seed %d", seed)
			}
			random := rand.New(rand.NewPCG(seed, 0))
			for round := range rounds(c.kills) {
				k.round(round == 0, time.Duration(random.IntN(900))*time.Millisecond)
			}
			k.check()
		})
	}
}

// killing is a server that is killed again and again.
type killing struct {
	*testing.T
	data, database string
	all            []*person
	known          map[string][]int // numbers of the messages that were acknowledged, by sender
	unknown        int              // messages that were not
}

// round has people talk for a time, and kills the server.
func (k *killing) round(first bool, after time.Duration) {
	p := serve(k.T, k.data, k.database)
	for _, who := range k.all {
		if first {
			who.register(address(p))
		}
		who.comeBack(address(p))
		who.login(address(p))
	}
	if first {
		newPerson(k.T, "late", "nurse").register(address(p))
	}
	for _, who := range k.all {
		who.talk()
	}
	<-time.After(after)
	p.Kill()
	for _, who := range k.all {
		who.stop()
		who.busy.Wait()
		from, upTo := who.acknowledged()
		for n := from; n < upTo; n++ {
			k.known[who.name] = append(k.known[who.name], n)
		}
		k.unknown += who.said() - upTo
		who.innocent()
	}
}

// check looks for all that was acknowledged.
func (k *killing) check() {
	p := serve(k.T, k.data, k.database)
	total := 0
	for _, who := range k.all {
		known := k.known[who.name]
		total += len(known)
		for _, owner := range []string{who.name, who.to} {
			kept := read(k.T, address(p), owner)[who.name]
			for _, n := range known {
				if _, found := slices.BinarySearch(kept, n); !found {
					k.Errorf("message %d of %s was acknowledged and is not in the archive of %s", n, who.name, owner)
				}
			}
			if len(kept) > who.said() {
				k.Errorf("%s has said %d messages, and %s has %d of them", who.name, who.said(), owner, len(kept))
			}
		}
	}
	if total == 0 || k.unknown == 0 {
		k.Errorf("%d messages were acknowledged and %d were not: nothing is shown", total, k.unknown)
	}
	late := newPerson(k.T, "late", "nurse")
	late.login(address(p))
	if known := k.known["nurse"]; len(known) > 0 {
		late.hears(known[len(known)-1])
		late.mu.Lock()
		for _, n := range known {
			if _, found := slices.BinarySearch(late.heard, n); !found {
				k.Errorf("message %d was acknowledged and does not come", n)
			}
		}
		late.mu.Unlock()
	}
	late.innocent()
	k.Logf("%d messages were acknowledged, %d were not", total, k.unknown)
}
