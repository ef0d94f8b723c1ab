package mem

import (
	"context"
	"sync"
	"time"

	"github.com/starling-im/starling/cluster/internal/bus"
)

const (
	maxQueued = 1 << 16 // messages that wait for one subscription
	maxHeld   = 1 << 16 // messages that wait on one route
)

// subscription calls its function for one message after another.
type subscription struct {
	lane    bus.Lane
	subject string
	fn      func(bus.Message)
	ctx     context.Context
	wake    chan struct{}

	mu    sync.Mutex // guards queue
	queue []bus.Message
}

func (s *subscription) push(m bus.Message) {
	s.mu.Lock()
	if len(s.queue) < maxQueued {
		s.queue = append(s.queue, m)
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *subscription) run(gate func()) {
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.wake:
		}
		s.mu.Lock()
		batch := s.queue
		s.queue = nil
		s.mu.Unlock()
		for _, m := range batch {
			gate()
			if s.ctx.Err() != nil {
				return
			}
			s.fn(m)
		}
	}
}

type pipeKey struct {
	to   *Bus
	lane bus.Lane
}

// pipe carries the messages of one lane from one bus to another, in order.
type pipe struct {
	from, to *Bus
	lane     bus.Lane
	wake     chan struct{}

	mu    sync.Mutex // guards what follows
	fate  fate
	last  time.Time // when the last message arrives
	queue []parcel
}

type parcel struct {
	at time.Time
	m  bus.Message
}

func newPipe(from, to *Bus, lane bus.Lane) *pipe {
	p := &pipe{
		from: from, to: to, lane: lane, wake: make(chan struct{}, 1),
		fate: newFate(from.engine.options().Seed, from.self.Name, to.self.Name, lane.String()),
	}
	go p.run() // ends with either bus, after what the sender left behind
	return p
}

func (p *pipe) send(m bus.Message) {
	o := p.from.engine.options()
	if p.from == p.to {
		o = Options{}
	}
	if c, _ := p.from.engine.state(p.from.self.Name, p.to.self.Name); c == dropping && p.from != p.to {
		return
	}
	p.mu.Lock()
	for range p.fate.copies(o) {
		at := time.Now().Add(p.fate.delay(o))
		if at.Before(p.last) {
			at = p.last
		}
		p.last = at
		if len(p.queue) < maxHeld {
			p.queue = append(p.queue, parcel{at, m})
		}
	}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *pipe) take() []parcel {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.queue
	p.queue = nil
	return q
}

func (p *pipe) run() {
	for {
		q := p.take()
		if len(q) == 0 {
			select {
			case <-p.wake:
				continue
			case <-p.from.ctx.Done():
				if q = p.take(); len(q) == 0 {
					return
				}
			case <-p.to.ctx.Done():
				return
			}
		}
		for _, parcel := range q {
			if !p.carry(parcel) {
				return
			}
		}
	}
}

// carry brings one message over. It reports whether the way still exists.
func (p *pipe) carry(m parcel) bool {
	if d := time.Until(m.at); d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-p.to.ctx.Done():
			return false
		}
	}
	for {
		c, changed := p.from.engine.state(p.from.self.Name, p.to.self.Name)
		switch {
		case c == open || p.from == p.to:
			p.to.deliver(p.lane, m.m)
			return true
		case c == dropping:
			return true
		}
		select {
		case <-changed:
		case <-p.from.ctx.Done(): // a connection ends with its node, and with it what it held
			return false
		case <-p.from.dead:
			return false
		case <-p.to.ctx.Done():
			return false
		}
	}
}
