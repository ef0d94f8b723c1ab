package c2s

import (
	"sync"
	"sync/atomic"

	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/stanza"
)

// maxUnsettled is how many of a client's stanzas may be unacknowledged; then nothing is read until it gets less. The same
// holds when the oldest one waits for long (Management.SettlePause, SettleTimeout).
const maxUnsettled = 64

// inbound counts a client's stanzas for stream management (XEP-0198 §4): h is how many of them are settled, with all
// before them. Positions are those in the session's stream since it was bound.
type inbound struct {
	line *line // is told when an acknowledgement is due, reading may go on, or a stanza is lost

	mu        sync.Mutex  // guards what follows
	low       uint64      // all up to this position are settled
	base      uint32      // the last digits of the position at which counting began
	crowded   atomic.Bool // nothing is to be read; set with mu held, and read without
	*handling             // nil while the client rests: all that has come is settled, and no other state differs from that
}

// handling is what an inbound has only while stanzas of the client are on their way.
type handling struct {
	last  uint64           // of the last stanza that has come
	n     uint64           // of the last one over the present connection: less than last while the client sends again
	open  []*ticket        // of all after low
	again []*stanza.Stanza // after a resumption: the last ones before it
	free  *ticket          // to be used again
	loss  func()           // lose, made once
	owed  uint64           // an acknowledgement is owed when all up to this position are settled; 0 for none
	full  bool             // reading was stopped
	slow  bool             // the oldest that is not settled has waited for SettlePause
	lost  bool             // one of them never will be
	head  uint64           // position before that one, as the last tick saw it, and
	since int64            // since when, in microseconds since 1970; 0 when all was settled
}

// ticket is one stanza that must be settled.
type ticket struct {
	*session.Held
	in   *inbound
	st   *stanza.Stanza
	done bool
}

// begin starts to count after a position.
func (in *inbound) begin(l *line, n uint64) { in.line, in.low, in.base = l, n, uint32(n) }

// wake ends the client's rest. mu is held.
func (in *inbound) wake() {
	if in.handling == nil {
		in.handling = &handling{last: in.low, n: in.low, loss: in.lose}
	}
}

// settled has the line look at what has become due.
func (in *inbound) settled() { in.line.srv.keeper.acks.add(in.line) }

// judge finds out whether anything is to be read. mu is held, and the client does not rest.
func (in *inbound) judge() {
	if crowded := len(in.open) >= maxUnsettled || in.slow; crowded != in.crowded.Load() {
		in.crowded.Store(crowded)
	}
}

// receive counts a stanza, which is at position n. It has a ticket, unless it came already before the session was
// resumed, and is being dealt with.
func (in *inbound) receive(st *stanza.Stanza) (n uint64, t *ticket) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.wake()
	in.n++
	if in.n <= in.last {
		if same(in.again[len(in.again)-int(in.last-in.n)-1], st) {
			return in.n, nil
		}
		in.forget()
	}
	t = in.free
	if in.free = nil; t == nil {
		t = &ticket{in: in}
		t.Held = session.Hold(t.settle).OnLoss(in.loss)
	} else {
		t.Again()
	}
	t.st, t.done = st, false
	in.open = append(in.open, t)
	in.last = in.n
	in.again = nil
	in.judge()
	return in.n, t
}

// forget gives up what the client does not send again, from position n on. mu is held.
func (in *inbound) forget() {
	in.low = min(in.low, in.n-1)
	in.open = in.open[:min(len(in.open), int(in.n-1-in.low))]
	in.last = in.n - 1
}

// same compares what a client has sent with what it sends again, for which it may have noted when it was sent first
// (XEP-0198 §4).
func same(a, b *stanza.Stanza) bool {
	f := session.Flow{Session: &session.Session{}}
	return f.Key(a) == f.Key(b)
}

// settle is called when all have settled who had to.
func (t *ticket) settle() {
	in := t.in
	in.mu.Lock()
	in.wake() // it may be given up for long
	t.done = true
	k := 0
	for k < len(in.open) && in.open[k].done {
		in.open[k].st = nil
		k++
	}
	if k > 0 {
		if len(in.open) == 1 && in.open[0] == t {
			in.free = t
		}
		in.low += uint64(k)
		rest := copy(in.open, in.open[k:])
		clear(in.open[rest:])
		in.open = in.open[:rest]
		in.slow = false
		in.judge()
	}
	due := in.owes()
	if in.full && !in.crowded.Load() {
		in.full, due = false, true
	}
	in.mu.Unlock()
	if due {
		in.settled()
	}
}

// owes tells whether an acknowledgement is due that the client has asked for. mu is held.
func (in *inbound) owes() bool { return in.owed != 0 && in.low >= in.owed }

// answer is the h with which a request is answered (XEP-0198 §4): at once, with what is settled. If that is not all,
// another acknowledgement follows when it is.
func (in *inbound) answer() (h uint32) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.handling != nil {
		if in.owed = 0; in.low < in.n {
			in.owed = in.n
		}
	}
	return in.h()
}

// h is what may be acknowledged. mu is held.
func (in *inbound) h() uint32 {
	if in.handling == nil {
		return uint32(in.low) - in.base
	}
	return uint32(min(in.low, in.n)) - in.base
}

// handled is the present h.
func (in *inbound) handled() uint32 {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.h()
}

// follow is the h of an acknowledgement that has become due; false when none has.
func (in *inbound) follow() (h uint32, due bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if due = in.handling != nil && in.owes(); due {
		in.owed = 0
	}
	return in.h(), due
}

// pause tells whether nothing may be read until more is settled, and calls stop if so.
func (in *inbound) pause(stop func()) bool {
	if !in.crowded.Load() { // for each stanza, so without the lock
		return false
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.crowded.Load() {
		in.full = true
		stop()
		return true
	}
	return false
}

// resume prepares for what the client sends over another connection: all after h, which it has to be told.
func (in *inbound) resume() (h uint32) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.handling == nil {
		return in.h()
	}
	in.again = nil
	for _, t := range in.open {
		in.again = append(in.again, t.st)
	}
	in.n, in.owed = in.low, 0
	in.since, in.slow, in.full = 0, false, false // it waits anew
	in.judge()
	return in.h()
}

// tick looks at how long the oldest stanza has waited. stuck means: for SettleTimeout.
func (in *inbound) tick(now int64) (stuck bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.handling == nil:
		return false
	case len(in.open) == 0:
		if in.since == 0 && in.n == in.low && in.owed == 0 && !in.lost {
			in.handling = nil
			return false
		}
		in.since = 0
		return false
	case in.since == 0 || in.head != in.low:
		in.since, in.head = now, in.low
		return false
	}
	waited := now - in.since
	o := &in.line.srv.opts.Management
	in.slow = waited >= o.SettlePause.Microseconds()
	in.judge()
	return waited >= o.SettleTimeout.Microseconds()
}

// lose is called when a stanza will never be settled.
func (in *inbound) lose() {
	in.mu.Lock()
	in.wake()
	in.lost = true
	in.mu.Unlock()
	in.settled()
}

// hasLost tells whether a stanza will never be settled.
func (in *inbound) hasLost() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.handling != nil && in.lost
}
