package mem

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/starling-im/starling/cluster/internal/bus"
)

const (
	maxPayload  = 1 << 20
	maxRequests = 64 // that one bus answers at a time
	maxHints    = 256
)

// Bus is a node's connection to the engine.
type Bus struct {
	engine *Engine
	self   bus.Identity
	hints  chan bus.Hint
	ctx    context.Context // ends when the bus is closed
	stop   context.CancelFunc
	dead   chan struct{} // closed by Kill
	busy   chan struct{} // a token for each running responder
	work   sync.WaitGroup

	mu         sync.Mutex // guards what follows
	closed     bool
	killed     bool
	subs       []*subscription
	responders []*responder
	pipes      map[pipeKey]*pipe
	requests   *rand.Rand
}

type responder struct {
	subject string
	fn      func(context.Context, []byte) []byte
	ctx     context.Context
}

func newBus(e *Engine, self bus.Identity) *Bus {
	ctx, stop := context.WithCancel(context.Background())
	return &Bus{
		engine: e, self: self, hints: make(chan bus.Hint, maxHints), ctx: ctx, stop: stop, dead: make(chan struct{}),
		busy: make(chan struct{}, maxRequests), pipes: map[pipeKey]*pipe{},
		requests: newFate(e.options().Seed, self.Name, "", "request").rng,
	}
}

// MaxPayload is 1 MiB.
func (b *Bus) MaxPayload() int { return maxPayload }

// Hints tells of nodes opened, closed and killed, if the options say so.
func (b *Bus) Hints() <-chan bus.Hint { return b.hints }

// Faults is nil: nothing here needs a person.
func (b *Bus) Faults() <-chan *bus.Failure { return nil }

func (b *Bus) hint(h bus.Hint) {
	select {
	case b.hints <- h:
	default:
	}
}

// gate waits while the node is paused.
func (b *Bus) gate() {
	for {
		ch := b.engine.pause(b.self.Name)
		if ch == nil {
			return
		}
		select {
		case <-ch:
		case <-b.ctx.Done():
			return
		case <-b.dead:
			return
		}
	}
}

// Publish implements bus.Bus.
func (b *Bus) Publish(lane bus.Lane, subject string, data []byte) error {
	if len(data) > maxPayload {
		return bus.ErrTooBig
	}
	b.gate()
	data = bytes.Clone(data)
	for _, to := range b.engine.peers() {
		if !to.interested(lane, subject) {
			continue
		}
		p, err := b.pipe(to, lane)
		if err != nil {
			return err
		}
		if p != nil {
			p.send(bus.Message{Subject: subject, Data: data})
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return bus.ErrClosed
	}
	return nil
}

// pipe returns the way to another bus; nil for a bus that was killed.
func (b *Bus) pipe(to *Bus, lane bus.Lane) (*pipe, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return nil, bus.ErrClosed
	case b.killed:
		return nil, nil
	}
	key := pipeKey{to, lane}
	p := b.pipes[key]
	if p == nil {
		p = newPipe(b, to, lane)
		b.pipes[key] = p
	}
	return p, nil
}

func (b *Bus) interested(lane bus.Lane, subject string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.subs, func(s *subscription) bool { return s.lane == lane && bus.Match(s.subject, subject) })
}

// deliver hands an arrived message to the subscriptions.
func (b *Bus) deliver(lane bus.Lane, m bus.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.killed {
		return
	}
	for _, s := range b.subs {
		if s.lane == lane && bus.Match(s.subject, m.Subject) {
			s.push(m)
		}
	}
}

// Subscribe implements bus.Bus.
func (b *Bus) Subscribe(lane bus.Lane, subject string, fn func(bus.Message)) (func(), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, bus.ErrClosed
	}
	ctx, cancel := context.WithCancel(b.ctx)
	s := &subscription{lane: lane, subject: subject, fn: fn, ctx: ctx, wake: make(chan struct{}, 1)}
	b.subs = append(b.subs, s)
	b.work.Go(func() { s.run(b.gate) })
	return func() {
		cancel()
		b.mu.Lock()
		defer b.mu.Unlock()
		b.subs = slices.DeleteFunc(b.subs, func(o *subscription) bool { return o == s })
	}, nil
}

// Respond implements bus.Bus.
func (b *Bus) Respond(subject string, fn func(context.Context, []byte) []byte) (func(), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, bus.ErrClosed
	}
	ctx, cancel := context.WithCancel(b.ctx)
	r := &responder{subject, fn, ctx}
	b.responders = append(b.responders, r)
	return func() {
		cancel()
		b.mu.Lock()
		defer b.mu.Unlock()
		b.responders = slices.DeleteFunc(b.responders, func(o *responder) bool { return o == r })
	}, nil
}

// Close implements bus.Bus.
func (b *Bus) Close(context.Context) error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	b.subs, b.responders = nil, nil
	b.mu.Unlock()
	b.engine.remove(b)
	b.stop()
	b.work.Wait()
	return nil
}

func (b *Bus) kill() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.killed {
		b.killed = true
		close(b.dead)
	}
}
