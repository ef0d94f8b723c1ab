package mem

import (
	"bytes"
	"context"
	"time"

	"github.com/starling-im/starling/cluster/internal/bus"
)

// Request implements bus.Bus.
func (b *Bus) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	if len(data) > maxPayload {
		return nil, bus.ErrTooBig
	}
	b.gate()
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	if closed {
		return nil, bus.ErrClosed
	}
	to, r := b.choose(subject)
	if r == nil {
		return nil, bus.ErrNoResponders
	}
	answer := make(chan []byte, 1)
	if !to.accept() {
		return nil, bus.ErrNoResponders
	}
	data = bytes.Clone(data)
	go func() {
		defer to.work.Done()
		b.exchange(to, r, data, answer)
	}()
	select {
	case out := <-answer:
		b.gate()
		return out, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-b.ctx.Done():
		return nil, bus.ErrClosed
	}
}

// accept takes a request in, unless the bus is closed; work.Done must follow.
func (b *Bus) accept() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.work.Add(1)
	return true
}

// choose picks one of the responders that can be reached.
func (b *Bus) choose(subject string) (*Bus, *responder) {
	type pair struct {
		at *Bus
		r  *responder
	}
	var found []pair
	for _, to := range b.engine.peers() {
		if to != b && b.severed(to) {
			continue
		}
		to.mu.Lock()
		for _, r := range to.responders {
			if bus.Match(r.subject, subject) {
				found = append(found, pair{to, r})
			}
		}
		to.mu.Unlock()
	}
	if len(found) == 0 {
		return nil, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.killed {
		return nil, nil
	}
	p := found[b.requests.IntN(len(found))]
	return p.at, p.r
}

// severed says whether requests to a bus, or the answers, do not get through.
func (b *Bus) severed(to *Bus) bool {
	there, _ := b.engine.state(b.self.Name, to.self.Name)
	back, _ := b.engine.state(to.self.Name, b.self.Name)
	return there != open || back != open
}

// exchange brings a request over, runs it, and brings the answer back.
func (b *Bus) exchange(to *Bus, r *responder, data []byte, answer chan<- []byte) {
	if !b.travel(to) {
		return
	}
	select {
	case to.busy <- struct{}{}:
		defer func() { <-to.busy }()
	case <-r.ctx.Done():
		return
	}
	to.gate()
	if r.ctx.Err() != nil {
		return
	}
	out := r.fn(r.ctx, data)
	if len(out) > maxPayload || !b.travel(to) {
		return
	}
	select {
	case <-to.dead:
	default:
		answer <- out
	}
}

// travel takes the time of one way. It reports whether the message arrives.
func (b *Bus) travel(to *Bus) bool {
	if b == to {
		return true
	}
	o := b.engine.options()
	b.mu.Lock()
	f := fate{b.requests}
	copies, delay := f.copies(o), f.delay(o)
	b.mu.Unlock()
	if copies == 0 || b.severed(to) {
		return false
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return !b.severed(to)
	case <-to.ctx.Done():
	case <-to.dead:
	}
	return false
}
