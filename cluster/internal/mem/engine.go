// Package mem is an engine that carries the messages of a cluster within one process, for tests: it loses, doubles and
// delays them as a seed has it, cuts nodes off from each other, stops them and kills them. All of it works in the fake
// time of testing/synctest.
package mem

import (
	"cmp"
	"context"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/starling-im/starling/cluster/internal/bus"
)

// Options say how the engine treats messages. The zero value loses nothing and delays nothing.
type Options struct {
	Seed      uint64
	Loss      float64       // share of messages that vanish, 0 to 1
	Duplicate float64       // share of messages that arrive twice
	MinDelay  time.Duration // each message takes at least this long,
	MaxDelay  time.Duration // and at most this long; those of one sender and lane do not overtake each other
	Hints     bool          // tell nodes when the connection to another one begins or ends
}

// Engine connects the nodes that were opened on it. Nodes are known by the Name of their Identity.
type Engine struct {
	mu      sync.Mutex // guards what follows
	opts    Options
	buses   []*Bus
	cuts    map[route]cut
	paused  map[string]chan struct{} // closed at the end of the pause
	changed chan struct{}            // closed when a cut begins or ends
}

// route is a direction between two nodes.
type route struct{ from, to string }

// cut is what happens to messages on a route.
type cut uint8

const (
	open cut = iota
	dropping
	holding
)

// New returns an engine without nodes.
func New(o Options) *Engine {
	return &Engine{opts: o, cuts: map[route]cut{}, paused: map[string]chan struct{}{}, changed: make(chan struct{})}
}

// Open connects a node.
func (e *Engine) Open(_ context.Context, self bus.Identity, _ *slog.Logger) (bus.Bus, error) {
	b := newBus(e, self)
	e.mu.Lock()
	peers := slices.Clone(e.buses)
	e.buses = append(e.buses, b)
	hints := e.opts.Hints
	e.mu.Unlock()
	if hints {
		for _, p := range peers {
			p.hint(bus.Hint{Peer: self.ID, Up: true})
			b.hint(bus.Hint{Peer: p.self.ID, Up: true})
		}
	}
	return b, nil
}

// Set changes how messages are treated from now on. The seed stays as it was.
func (e *Engine) Set(o Options) {
	e.mu.Lock()
	defer e.mu.Unlock()
	o.Seed = e.opts.Seed
	e.opts = o
}

// Cut makes what one node sends to another vanish, in this direction only.
func (e *Engine) Cut(from, to string) { e.setCut(dropping, route{from, to}) }

// Hold keeps back what one node sends to another, and lets it go when the cut is healed, as a TCP connection does that
// survives an outage.
func (e *Engine) Hold(from, to string) { e.setCut(holding, route{from, to}) }

// Heal ends the cut in this direction.
func (e *Engine) Heal(from, to string) { e.setCut(open, route{from, to}) }

// Partition cuts the sides off from each other, both ways. Nodes that are on no side keep their connections.
func (e *Engine) Partition(sides ...[]string) {
	var rs []route
	for i, side := range sides {
		for j, other := range sides {
			if i == j {
				continue
			}
			for _, from := range side {
				for _, to := range other {
					rs = append(rs, route{from, to})
				}
			}
		}
	}
	e.setCut(dropping, rs...)
}

// HealAll ends all cuts.
func (e *Engine) HealAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.cuts)
	close(e.changed)
	e.changed = make(chan struct{})
}

func (e *Engine) setCut(c cut, rs ...route) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range rs {
		if e.cuts[r] = c; c == open {
			delete(e.cuts, r)
		}
	}
	close(e.changed)
	e.changed = make(chan struct{})
}

// Pause stops a node, as SIGSTOP does: what it publishes waits, and what reaches it waits, until Resume.
func (e *Engine) Pause(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.paused[name] == nil {
		e.paused[name] = make(chan struct{})
	}
}

// Resume ends a pause.
func (e *Engine) Resume(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if ch := e.paused[name]; ch != nil {
		close(ch)
		delete(e.paused, name)
	}
}

// Kill ends the present bus of a node without a word: nothing leaves it and nothing arrives any more. The node's
// program goes on and must still be closed. The name can be opened again.
func (e *Engine) Kill(name string) {
	e.mu.Lock()
	var killed, others []*Bus
	for _, b := range e.buses {
		if b.self.Name == name {
			killed = append(killed, b)
		} else {
			others = append(others, b)
		}
	}
	e.buses = others
	hints := e.opts.Hints
	e.mu.Unlock()
	for _, b := range killed {
		b.kill()
		for _, p := range others {
			if hints {
				p.hint(bus.Hint{Peer: b.self.ID})
			}
		}
	}
	e.Resume(name)
}

// remove forgets a bus that was closed, and tells whom to hint.
func (e *Engine) remove(b *Bus) {
	e.mu.Lock()
	had := slices.Contains(e.buses, b)
	e.buses = slices.DeleteFunc(slices.Clone(e.buses), func(o *Bus) bool { return o == b })
	peers, hints := slices.Clone(e.buses), e.opts.Hints
	e.mu.Unlock()
	if !had || !hints {
		return
	}
	for _, p := range peers {
		p.hint(bus.Hint{Peer: b.self.ID})
	}
}

// peers returns all connected buses, in the order of their names, so that the fate of messages depends on the seed
// alone.
func (e *Engine) peers() []*Bus {
	e.mu.Lock()
	bs := slices.Clone(e.buses)
	e.mu.Unlock()
	slices.SortFunc(bs, func(a, b *Bus) int {
		return cmp.Or(cmp.Compare(a.self.Name, b.self.Name), cmp.Compare(a.self.ID, b.self.ID))
	})
	return bs
}

// state returns how a route is, and a channel that is closed when that changes.
func (e *Engine) state(from, to string) (cut, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cuts[route{from, to}], e.changed
}

// pause returns the channel that ends a node's pause, nil when it runs.
func (e *Engine) pause(name string) chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.paused[name]
}

func (e *Engine) options() Options {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.opts
}

// fate decides about messages of one route and lane.
type fate struct{ rng *rand.Rand }

func newFate(seed uint64, from, to, lane string) fate {
	h := fnv.New64a()
	for _, s := range []string{from, to, lane} {
		_, _ = h.Write([]byte(s))
		_, _ = h.Write([]byte{0})
	}
	return fate{rand.New(rand.NewPCG(seed, h.Sum64()))}
}

// copies returns how often a message arrives.
func (f fate) copies(o Options) int {
	lost, doubled := f.rng.Float64() < o.Loss, f.rng.Float64() < o.Duplicate
	switch {
	case lost:
		return 0
	case doubled:
		return 2
	}
	return 1
}

// delay returns how long a message takes.
func (f fate) delay(o Options) time.Duration {
	if o.MaxDelay <= o.MinDelay {
		return o.MinDelay
	}
	return o.MinDelay + time.Duration(f.rng.Int64N(int64(o.MaxDelay-o.MinDelay)))
}
