package cluster_test

import (
	"sync"
	"testing"
	"time"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/cluster/internal/mem"
)

// behaviour is something that every engine must give.
type behaviour struct {
	name  string
	run   func(w *world)
	lossy bool // holds also when the engine loses messages
}

var behaviours = []behaviour{
	{"tables become shared by joining and one's own by leaving", joinAndLeave, false},
	{"many nodes at once, one senior, the next one when it dies", manyAtOnce, false},
	{"rows of the dead vanish or become orphans", kill, true},
	{"the most advanced copy of the rows of the dead", mostAdvanced, true},
	{"an orphan that nobody takes over expires", orphanExpires, true},
	{"a node that restarts at once is a new one", quickRestart, true},
	{"of two nodes with one name the younger gives way", twins, true},
	{"each side of a partition goes on, and they meet again", partition, true},
	{"two that do not reach each other, and a third that reaches both", pairCut, true},
	{"clusters on one engine do not meet", clustersApart, false},
	{"clocks that differ harm nothing", clocks, true},
	{"a damaged copy heals", repair, true},
	{"a row is there before the record sent after it", rowBeforeRecord, true},
	{"rows of two nodes under one key", sameKey, true},
	{"an index, and changes in order", indexAndWatch, true},
	{"a table that a program makes late", lateTable, true},
	{"tasks and how they end", tasks, false},
	{"a call to a member that dies", callToDying, false},
	{"the senior is called", callSenior, false},
	{"topics, and gaps that are told", topicGaps, false},
	{"records in order while others come and go", orderWhileOthersMove, true},
	{"records to the dead come back", handBack, true},
	{"a member that hangs pushes back, is given up, and returns", hung, false},
	{"homes move only with their member", homes, false},
	{"joining is tried again", retry, false},
}

// TestSuite runs all behaviours on three kinds of engine: the seeded one in fake time, prompt and calm, slow, and losing
// and doubling messages; embedded servers; and an operator's server, which is a process of its own and uses TLS.
func TestSuite(t *testing.T) {
	for name, o := range map[string]mem.Options{
		"prompt": {Hints: true},
		"slow":   {Seed: 4, MinDelay: 2 * time.Millisecond, MaxDelay: 20 * time.Millisecond, Duplicate: 0.1},
		"lossy":  {Seed: 5, Loss: 0.05, Duplicate: 0.05, MinDelay: time.Millisecond, MaxDelay: 5 * time.Millisecond},
	} {
		t.Run("seeded/"+name, func(t *testing.T) {
			each(t, func(t *testing.T, b behaviour) {
				if b.lossy || o.Loss == 0 {
					bubble(t, o, b.run)
				}
			})
		})
	}
	t.Run("embedded", func(t *testing.T) {
		abreast(t, func(t *testing.T, b behaviour) { inRealTime(t, embedded(), b.run) })
	})
	t.Run("operator", func(t *testing.T) {
		url, trust := operator(t)
		abreast(t, func(t *testing.T, b behaviour) { inRealTime(t, operated(url, trust), b.run) })
	})
}

func each(t *testing.T, run func(*testing.T, behaviour)) {
	for _, b := range behaviours {
		t.Run(b.name, func(t *testing.T) { run(t, b) })
	}
}

// abreast runs some behaviours at a time: in real time they do little but wait.
func abreast(t *testing.T, run func(*testing.T, behaviour)) {
	var work sync.WaitGroup
	defer work.Wait()
	room := make(chan struct{}, 4)
	for _, b := range behaviours {
		room <- struct{}{}
		work.Go(func() {
			defer func() { <-room }()
			t.Run(b.name, func(t *testing.T) { run(t, b) })
		})
	}
}

func inRealTime(t *testing.T, s site, fn func(w *world)) {
	w := newWorld(t, s)
	w.beacon = realBeacon
	defer w.close()
	fn(w)
}

// course says whether a node's events about each other one make sense: it joins before anything else is told of it, and
// not twice without having gone.
func course(events []cluster.Event) (wrong []cluster.Event) {
	there := map[string]bool{}
	for _, e := range events {
		id := e.Member.ID
		switch e.Kind {
		case cluster.MemberJoined:
			if there[id] {
				wrong = append(wrong, e)
			}
			there[id] = true
		case cluster.MemberLeft, cluster.MemberDied:
			if !there[id] {
				wrong = append(wrong, e)
			}
			there[id] = false
		case cluster.MemberChanged, cluster.Suspected, cluster.Trusted:
			if !there[id] {
				wrong = append(wrong, e)
			}
		}
	}
	return wrong
}
