package fleet

import (
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
)

const (
	maxSends  = 8       // of a leg
	maxOpen   = 1000    // legs of one sender
	maxBytes  = 1 << 20 // of these
	maxUnsent = 1 << 20 // bytes for one node that its link has no room for, in each ledger
	maxAge    = 20      // ticks until a leg is routed anew
	maxIdle   = 2       // ticks until an empty lane is forgotten
)

// leg is one stanza on its way to one session.
type leg struct {
	st     *stanza.Stanza
	lane   *lane
	held   *session.Held
	fork   *session.Fork
	uid    session.UID // of the session that it was last sent to
	number uint64      // among the legs to its peer; 0 while it is not on its way
	at     int64       // tick at which it was sent
	sends  uint8
	tried  bool // it was sent to that session
	verb   verb
	final  bool // ends like one that nobody can take

	before, after *leg // in the list of its lane; after also in that of spare ones
}

// verb says what the recipient's node does with a leg.
type verb uint8

const (
	deliver verb = iota
	gated        // deliver, if the session has sent the stanza's sender directed presence
	probe        // answer with the session's presence
	inquire      // answer that the session is there, if it has sent the asker directed presence
	verbs
)

// laneKey names a lane: all from one session of this node, or nil for the node itself, to one full JID.
type laneKey struct {
	from *session.Session
	to   jid.JID
}

// lane keeps the order of its legs. It has unsettled ones at one node at most.
type lane struct {
	key         laneKey
	id          uint64
	flight      uint64
	peer        *peer // where the unsettled ones are
	first, last *leg  // of these
	parked      []*leg
	front       int // of the parked ones: that come from the batch in hand
	busy        bool
	load        *load
	used        int64 // tick
}

// load is what one sender has under way.
type load struct {
	from        *session.Session
	legs, bytes int
	lanes       int
	jammed      bool
	by          *peer // that had no room
}

// batch is legs of one lane to be routed anew, in order. Until it is done the lane is busy. A batch without a lane is a
// single leg whose end does not concern the others.
type batch struct {
	lane *lane
	legs []*leg
}

// ledger is the origin's book of legs: a state machine without locks, clock or input and output. What is to be done
// about its findings is collected in batches, ended and cleared.
type ledger struct {
	index   uint64
	now     int64 // ticks
	lanes   map[laneKey]*lane
	to      map[jid.JID]int // lanes by recipient
	loads   map[*session.Session]*load
	peers   map[string]*peer // by Member.ID
	lastID  uint64
	spare   *leg
	spares  int
	jammed  map[*load]struct{}
	batches []batch
	ended   []*session.Held
	cleared []*session.Session

	unsettled, parked int
	pauses            uint64
	returned          [reasons]uint64
}

// reason is why legs are routed anew.
type reason uint8

const (
	refused reason = iota
	gone
	timeout
	reasons
)

func newLedger(index uint64) ledger {
	return ledger{
		index: index, lanes: map[laneKey]*lane{}, to: map[jid.JID]int{}, loads: map[*session.Session]*load{},
		peers: map[string]*peer{}, jammed: map[*load]struct{}{},
	}
}

// outcome is what became of a leg that was given to the ledger.
type outcome uint8

const (
	direct outcome = iota // the recipient is here and nothing is before it
	sent
	parked
)

// enter begins a leg: to a peer, or with none to a session of this node. again is for legs that were routed anew and so
// come before those that wait.
func (l *ledger) enter(k laneKey, p *peer, g *leg, again bool) outcome {
	ln := l.lanes[k]
	if ln == nil {
		if p == nil {
			return direct
		}
		ln = l.open(k)
	}
	ln.used = l.now
	if l.mayPass(ln, p, again) {
		if p == nil {
			return direct
		}
		l.begin(ln, g)
		l.put(p, g)
		return sent
	}
	l.begin(ln, g)
	l.park(ln, g, again)
	return parked
}

// resume sends a leg of a batch again, or parks it.
func (l *ledger) resume(p *peer, g *leg) outcome {
	ln := g.lane
	ln.used = l.now
	if l.mayPass(ln, p, true) {
		if p == nil {
			return direct
		}
		l.parked-- // where batches are counted
		l.put(p, g)
		return sent
	}
	l.parked--
	l.park(ln, g, true)
	return parked
}

// mayPass tells whether a leg may leave the lane for a peer, or for a session here.
func (l *ledger) mayPass(ln *lane, p *peer, again bool) bool {
	if again {
		if ln.front > 0 {
			return false
		}
	} else if ln.busy || len(ln.parked) > 0 {
		return false
	}
	return ln.first == nil || ln.peer == p
}

func (l *ledger) park(ln *lane, g *leg, again bool) {
	l.parked++
	if !again || !ln.busy {
		ln.parked = append(ln.parked, g)
		return
	}
	ln.parked = append(ln.parked, nil)
	copy(ln.parked[ln.front+1:], ln.parked[ln.front:])
	ln.parked[ln.front] = g
	ln.front++
}

func (l *ledger) open(k laneKey) *lane {
	l.lastID++
	ln := &lane{key: k, id: l.lastID, flight: 1, load: l.loads[k.from]}
	if ln.load == nil {
		ln.load = &load{from: k.from}
		l.loads[k.from] = ln.load
	}
	ln.load.lanes++
	l.lanes[k] = ln
	l.to[k.to]++
	return ln
}

// newLeg returns a leg to be entered.
func (l *ledger) newLeg() *leg {
	g := l.spare
	if g == nil {
		return &leg{}
	}
	l.spare = g.after
	l.spares--
	*g = leg{}
	return g
}

// begin counts a leg for its sender.
func (l *ledger) begin(ln *lane, g *leg) {
	g.lane = ln
	d := ln.load
	d.legs++
	d.bytes += len(g.st.String())
	if d.from != nil && (d.jammed || d.legs > maxOpen || d.bytes > maxBytes) {
		l.jam(d, nil)
	}
}

func (l *ledger) jam(d *load, by *peer) {
	if !d.jammed {
		d.jammed = true
		l.jammed[d] = struct{}{}
		l.pauses++
	}
	if by != nil {
		d.by = by
	}
	d.from.Jam()
}

// ease lets a sender go on that is not over half of what it may have.
func (l *ledger) ease(d *load) {
	if !d.jammed || d.legs > maxOpen/2 || d.bytes > maxBytes/2 {
		return
	}
	if d.by != nil && l.peers[d.by.id] == d.by && d.by.unsent() > maxUnsent/2 {
		return
	}
	d.jammed, d.by = false, nil
	delete(l.jammed, d)
	l.cleared = append(l.cleared, d.from)
}

// easeAll looks at all senders that wait, since a peer has room again.
func (l *ledger) easeAll() {
	for d := range l.jammed {
		l.ease(d)
	}
}

// put sends a leg.
func (l *ledger) put(p *peer, g *leg) {
	ln := g.lane
	ln.peer = p
	g.before, g.after = ln.last, nil
	if ln.last == nil {
		ln.first = g
	} else {
		ln.last.after = g
	}
	ln.last = g
	g.at, g.tried = l.now, true
	g.sends++
	l.unsettled++
	p.add(g)
	if d := ln.load; d.from != nil && p.unsent() > maxUnsent {
		l.jam(d, p)
	}
}

// unlink takes an unsettled leg out of its lane.
func (l *ledger) unlink(g *leg) {
	ln := g.lane
	if g.before == nil {
		ln.first = g.after
	} else {
		g.before.after = g.after
	}
	if g.after == nil {
		ln.last = g.before
	} else {
		g.after.before = g.before
	}
	g.before, g.after, g.number = nil, nil, 0
	l.unsettled--
}

// end ends a leg for good.
func (l *ledger) end(g *leg) {
	d := g.lane.load
	d.legs--
	d.bytes -= len(g.st.String())
	if g.held != nil {
		l.ended = append(l.ended, g.held)
	}
	l.ease(d)
	if l.spares < 4096 {
		*g = leg{after: l.spare}
		l.spare = g
		l.spares++
	}
}

// finish ends a leg of a batch.
func (l *ledger) finish(g *leg) {
	l.parked--
	l.end(g)
}

// settle ends legs that their recipients have.
func (l *ledger) settle(p *peer, first, last uint64) {
	last = min(last, p.number)
	for n := max(first, p.first); n <= last; n++ {
		g := p.take(n)
		if g == nil {
			continue
		}
		ln := g.lane
		l.unlink(g)
		if g.fork != nil {
			g.fork.Close(true)
		}
		l.end(g)
		l.relieve(ln)
	}
}

// relieve routes what is parked once nothing is before it.
func (l *ledger) relieve(ln *lane) {
	ln.used = l.now
	if ln.first != nil || ln.busy {
		return
	}
	ln.front = 0
	if len(ln.parked) == 0 {
		return
	}
	ln.busy = true
	l.batches = append(l.batches, batch{ln, ln.parked})
	ln.parked = nil
}

// done ends a batch.
func (l *ledger) done(ln *lane) {
	ln.busy = false
	ln.front = 0
	l.relieve(ln)
}

// refuse has a lane routed anew, one of whose legs could not be taken.
func (l *ledger) refuse(p *peer, number uint64, why reason) {
	if g := p.take(number); g != nil {
		l.turnBack(g.lane, why)
	}
}

// reject ends one leg that its recipient does not want; those behind it are not concerned.
func (l *ledger) reject(p *peer, number uint64) {
	g := p.take(number)
	if g == nil {
		return
	}
	l.unlink(g)
	g.final = true
	l.parked++
	l.batches = append(l.batches, batch{nil, []*leg{g}})
	l.relieve(g.lane)
}

// turnBack takes all unsettled legs of a lane back, to be routed anew before what is parked.
func (l *ledger) turnBack(ln *lane, why reason) {
	ln.flight++
	var back []*leg
	for g := ln.first; g != nil; g = ln.first {
		if g.number != 0 {
			ln.peer.take(g.number)
		}
		l.unlink(g)
		g.final = why == timeout
		back = append(back, g)
	}
	l.parked += len(back)
	l.returned[why] += uint64(len(back))
	ln.parked = append(back, ln.parked...)
	if ln.busy {
		ln.front += len(back)
		return
	}
	l.relieve(ln)
}

// die has everything routed anew that is unsettled at a peer.
func (l *ledger) die(p *peer) {
	if l.peers[p.id] == p {
		delete(l.peers, p.id)
	}
	p.dead = true
	for n := p.first; n <= p.number; n++ {
		if g := p.take(n); g != nil {
			l.turnBack(g.lane, gone)
		}
	}
	p.drop()
	l.easeAll()
}

// tick moves the clock on by one.
func (l *ledger) tick() {
	l.now++
	for _, p := range l.peers {
		for n := p.first; n <= p.number; n++ {
			g := p.look(n)
			if g == nil {
				continue
			}
			if l.now-g.at <= maxAge {
				break
			}
			l.turnBack(g.lane, timeout)
		}
	}
	for k, ln := range l.lanes {
		if ln.first != nil || ln.busy || len(ln.parked) > 0 || l.now-ln.used < maxIdle {
			continue
		}
		delete(l.lanes, k)
		if l.to[k.to]--; l.to[k.to] == 0 {
			delete(l.to, k.to)
		}
		if ln.load.lanes--; ln.load.lanes == 0 && ln.load.legs == 0 {
			delete(l.loads, k.from)
		}
	}
}
