package c2s

import (
	"sync"

	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/stanza"
)

// maxUnsettled is how many of a client's stanzas may be unacknowledged; then nothing is read until it gets less. The same
// holds when the oldest one waits for long (Management.SettlePause, SettleTimeout).
const maxUnsettled = 64

// inbound counts a client's stanzas for stream management (XEP-0198 §4): h is how many of them are settled, with all
// before them. Positions are those in the session's stream since it was bound.
type inbound struct {
	opts    *Management
	settled func() // called when an acknowledgement is due, reading may go on, or a stanza is lost
	loss    func() // lose, made once

	mu    sync.Mutex
	base  uint64           // position at which counting began
	low   uint64           // all up to this position are settled
	last  uint64           // of the last stanza that has come
	n     uint64           // of the last one over the present connection: less than last while the client sends again
	open  []*ticket        // of all after low
	again []*stanza.Stanza // after a resumption: the last ones before it
	free  *ticket          // to be used again
	owed  uint64           // an acknowledgement is owed when all up to this position are settled; 0 for none
	full  bool             // nothing is read
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

// newInbound starts to count after a position.
func newInbound(o *Management, n uint64, settled func()) *inbound {
	in := &inbound{opts: o, settled: settled, base: n, low: n, last: n, n: n}
	in.loss = in.lose
	return in
}

// receive counts a stanza, which is at position n. It has a ticket, unless it came already before the session was
// resumed, and is being dealt with.
func (in *inbound) receive(st *stanza.Stanza) (n uint64, t *ticket) {
	in.mu.Lock()
	defer in.mu.Unlock()
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
	}
	due := in.owes() || in.full && len(in.open) < maxUnsettled
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
	if in.owed = 0; in.low < in.n {
		in.owed = in.n
	}
	return in.h()
}

// h is what may be acknowledged. mu is held.
func (in *inbound) h() uint32 { return uint32(min(in.low, in.n) - in.base) }

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
	if due = in.owes(); due {
		in.owed = 0
	}
	return in.h(), due
}

// pause tells whether nothing may be read until more is settled, and calls stop if so.
func (in *inbound) pause(stop func()) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.full = len(in.open) >= maxUnsettled || in.slow
	if in.full {
		stop()
	}
	return in.full
}

// resume prepares for what the client sends over another connection: all after h, which it has to be told.
func (in *inbound) resume() (h uint32) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.again = nil
	for _, t := range in.open {
		in.again = append(in.again, t.st)
	}
	in.n, in.owed = in.low, 0
	in.since, in.slow = 0, false // it waits anew
	return in.h()
}

// tick looks at how long the oldest stanza has waited. stuck means: for SettleTimeout.
func (in *inbound) tick(now int64) (stuck bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case len(in.open) == 0:
		if in.since == 0 {
			in.open, in.free = nil, nil // the client rests
		}
		in.since = 0
		return false
	case in.since == 0 || in.head != in.low:
		in.since, in.head = now, in.low
		return false
	}
	waited := now - in.since
	in.slow = waited >= in.opts.SettlePause.Microseconds()
	return waited >= in.opts.SettleTimeout.Microseconds()
}

// lose is called when a stanza will never be settled.
func (in *inbound) lose() {
	in.mu.Lock()
	in.lost = true
	in.mu.Unlock()
	in.settled()
}

// hasLost tells whether a stanza will never be settled.
func (in *inbound) hasLost() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.lost
}
