// Package member decides who is a member of a cluster, as one node sees it: from the beacons it hears and from the time.
package member

import (
	"cmp"
	"slices"
	"time"

	"github.com/starling-im/starling/cluster/internal/frame"
)

// Node is a node of the cluster.
type Node struct {
	ID, Name, Address string
	Incarnation       uint64
	Start             uint64 // stamp: the smaller, the older the node
	State             uint8  // as it says
	Suspected         bool
	MinVersion        uint8 // of the wire encoding
	MaxVersion        uint8
}

// Before orders nodes by age.
func (m Node) Before(o Node) bool {
	return m.Start < o.Start || m.Start == o.Start && m.ID < o.ID
}

// Config holds the times that judgements rest on.
type Config struct {
	Beacon    time.Duration // between two beacons
	Suspect   time.Duration // of silence until a member is suspected
	DeadAfter time.Duration // of silence until it is dead
	HintGrace time.Duration // without beacon after its connection ended
	Left      uint8         // the state of a node that says goodbye
}

// Reason says why something happened to a member.
type Reason string

// The reasons.
const (
	Goodbye    Reason = "goodbye"
	Silence    Reason = "silence"
	Connection Reason = "connection lost"
	Deaf       Reason = "does not hear this node"
	Stuck      Reason = "acknowledges nothing"
	Restarted  Reason = "new incarnation"
	Reset      Reason = "gave the connection up"
	Declared   Reason = "others declared this node dead"
	Suspended  Reason = "this node did not run for a while"
)

// Judge is a plain state machine: it is told what is heard and what time it is, and leaves behind what is to be done. Times are those of the monotonic clock here; no clock is compared between nodes.
//
// A pair of nodes holds an epoch, which both name in their beacons. Who declares the other one dead raises it. A node
// that hears that an epoch was raised against it while it believed all was well has been dead for a while without
// knowing: it takes a new incarnation. When both have given each other up they meet again in the higher epoch.
type Judge struct {
	cfg     *Config
	Self    Node   // this node; its state and address are set from outside
	Seq     uint64 // of the last beacon, counted by who sends it
	Peers   map[string]*Candidate
	ticked  time.Time
	Every   time.Duration // between two ticks
	asleep  bool          // woken, and not yet known what the others think
	wakeSeq uint64        // a beacon sent after the wake-up
	twins   map[string]*twin
	stamp   func() uint64
	todo    []Effect
}

// Candidate is what is known of another node.
type Candidate struct {
	Node     Node
	Status   frame.Status
	left     bool // said goodbye in this incarnation
	clean    bool // of a dead one: declared while this node was sure to be in order itself
	Known    bool // it is a member for the users of this node; so it is while links are made anew
	Epoch    uint64
	heard    time.Time // of any sign of life
	answered time.Time // when it last named this node's incarnation and the epoch, or was heard for the first time
	hinted   time.Time // when the loss of its connection becomes its death; zero without one
	gated    bool      // nothing is sent to it before it has answered a beacon of now
	echo     uint64    // its last beacon
	table    uint64    // its table's sequence at that
}

// twin is another node of the same name as this one.
type twin struct {
	seq   uint64
	first time.Time
}

// Effect is something that follows from what membership found.
type Effect struct {
	Kind   Kind
	Peer   *Candidate // nil when it is about this node
	Node   Node       // of the peer, as it was then
	Again  bool       // it was a member already
	Reason Reason
}

// Kind is what is to be done.
type Kind uint8

// The kinds of effects.
const (
	DoAdmit   Kind = iota + 1 // make links
	DoDetach                  // end links, it stays a member
	DoRemove                  // end links, it is no member any more
	DoSuspect                 // suspected or trusted
	DoChange                  // state or address
	DoFence                   // this node has a new incarnation
	DoPause                   // send nothing but beacons
	DoRelease                 // to this one, again
	DoResume                  // to all
	DoBeacon                  // at once
	DoTwin                    // this node must not go on under its name
	DoOld                     // this node's version is too old for the others
)

// New returns a judge who has heard of nobody. stamp gives numbers that grow, for incarnations.
func New(cfg *Config, self Node, now time.Time, stamp func() uint64) *Judge {
	return &Judge{
		cfg: cfg, Self: self, Peers: map[string]*Candidate{}, ticked: now, Every: cfg.Beacon / 5, twins: map[string]*twin{}, stamp: stamp,
	}
}

func (m *Judge) do(k Kind, p *Candidate, why Reason) {
	e := Effect{Kind: k, Peer: p, Reason: why}
	if p != nil {
		e.Node, e.Again = p.Node, p.Known
	}
	m.todo = append(m.todo, e)
}

// Take returns what is to be done, in order.
func (m *Judge) Take() []Effect {
	t := m.todo
	m.todo = nil
	return t
}

// Sorted returns the candidates in the order of their ids, so that the same input has the same effects.
func (m *Judge) Sorted() []*Candidate {
	var ps []*Candidate
	for _, p := range m.Peers {
		ps = append(ps, p)
	}
	slices.SortFunc(ps, func(a, b *Candidate) int { return cmp.Compare(a.Node.ID, b.Node.ID) })
	return ps
}

// Hear takes in a beacon.
func (m *Judge) Hear(now time.Time, b *frame.Beacon) {
	if b.ID == m.Self.ID || !m.compatible(b) {
		return
	}
	p := m.Peers[b.ID]
	if p != nil && (b.Inc < p.Node.Incarnation || p.left && b.Inc == p.Node.Incarnation) {
		return // of a former life
	}
	if p != nil && b.Inc > p.Node.Incarnation {
		m.remove(p, Restarted)
		p = nil
	}
	if b.State == m.cfg.Left {
		m.goodbye(p)
		return
	}
	if p == nil {
		p = &Candidate{Status: frame.Heard, Epoch: 1, answered: now}
		p.Node = Node{ID: b.ID, Incarnation: b.Inc}
		m.Peers[b.ID] = p
		m.do(DoBeacon, nil, "")
	}
	m.note(p, now, b)
	m.namesakes(p, now, b)
	for i := range b.Peers {
		if e := &b.Peers[i]; e.ID == m.Self.ID && e.Inc == m.Self.Incarnation {
			m.judged(p, now, e)
			break
		}
	}
}

// compatible says whether this node and another one speak a version in common.
func (m *Judge) compatible(b *frame.Beacon) bool {
	if b.MinVer > m.Self.MaxVersion {
		m.do(DoOld, nil, "")
		return false
	}
	return b.MaxVer >= m.Self.MinVersion
}

// note keeps what a beacon says about its sender.
func (m *Judge) note(p *Candidate, now time.Time, b *frame.Beacon) {
	was := p.Node
	p.heard, p.hinted, p.echo, p.table = now, time.Time{}, b.Seq, b.Table
	p.Node = Node{
		ID: b.ID, Name: b.Name, Address: b.Address, Incarnation: b.Inc, Start: b.Start, State: b.State,
		MinVersion: b.MinVer, MaxVersion: b.MaxVer,
	}
	if !p.Known {
		return
	}
	if was.Suspected {
		m.do(DoSuspect, p, "")
		was.Suspected = false
	}
	if was != p.Node {
		m.do(DoChange, p, "")
	}
}

// namesakes looks for nodes of one name. An older life of a node that was started again is missed sooner; if it is
// this node's own name, and the other one is older and goes on sending, this node must give way.
func (m *Judge) namesakes(p *Candidate, now time.Time, b *frame.Beacon) {
	for _, q := range m.Peers {
		if q != p && q.Status == frame.Alive && q.Node.Name == b.Name && q.Node.Before(p.Node) && q.hinted.IsZero() {
			q.hinted = now.Add(m.cfg.Beacon + m.cfg.HintGrace)
		}
	}
	if b.Name != m.Self.Name || m.Self.Before(p.Node) {
		return
	}
	t := m.twins[b.ID]
	if t == nil {
		m.twins[b.ID] = &twin{b.Seq, now}
		return
	}
	if b.Seq > t.seq && now.Sub(t.first) >= m.cfg.Beacon/2 {
		m.do(DoTwin, p, "")
	}
}

// Doubtful says whether there may be an older node of this node's name: it was heard, and has neither gone on nor been
// missed yet.
func (m *Judge) Doubtful() bool {
	for id := range m.twins {
		if p := m.Peers[id]; p != nil && p.Status != frame.Dead && p.Node.Before(m.Self) {
			return true
		}
	}
	return false
}

// judged takes in what a peer's beacon says about this node in its present incarnation.
func (m *Judge) judged(p *Candidate, now time.Time, e *frame.Peer) {
	if e.Status == frame.Dead {
		m.declared(p, e)
		return
	}
	if e.Epoch < p.Epoch {
		return // it does not know yet
	}
	p.answered = now
	if p.gated && e.Echo >= m.wakeSeq {
		p.gated = false
		m.do(DoRelease, p, "")
		m.settleWake()
	}
	switch {
	case p.Status != frame.Alive:
		p.Epoch = e.Epoch
		m.admit(p)
	case e.Epoch > p.Epoch:
		m.remove(p, Reset)
		p.Epoch = e.Epoch
		m.admit(p)
	}
}

// declared learns that a peer has declared this node dead.
func (m *Judge) declared(p *Candidate, e *frame.Peer) {
	switch {
	case p.Status == frame.Dead && e.Epoch >= p.Epoch:
		if !p.clean {
			m.fence()
			return
		}
		p.Status, p.Epoch = frame.Heard, e.Epoch // it was mutual: meet in the higher epoch
		m.do(DoBeacon, nil, "")
	case p.Status == frame.Heard && e.Epoch > p.Epoch:
		p.Epoch = e.Epoch
		m.do(DoBeacon, nil, "")
	case p.Status == frame.Alive && e.Epoch > p.Epoch:
		m.fence()
	}
}

// admit makes a Candidate a member that is linked to.
func (m *Judge) admit(p *Candidate) {
	p.Status, p.clean = frame.Alive, false
	p.answered = p.heard
	m.do(DoAdmit, p, "")
	p.Known = true
	m.do(DoBeacon, nil, "")
}

// remove ends what there is with a peer, in view of a new incarnation or epoch.
func (m *Judge) remove(p *Candidate, why Reason) {
	if p.Known {
		m.do(DoRemove, p, why)
	}
	p.Known, p.gated = false, false
	m.settleWake()
}

// die declares a peer dead, and raises the epoch.
func (m *Judge) die(p *Candidate, why Reason) {
	p.clean = !m.asleep
	m.remove(p, why)
	p.Status = frame.Dead
	p.hinted = time.Time{}
	p.Epoch++
	m.do(DoBeacon, nil, "")
}

func (m *Judge) goodbye(p *Candidate) {
	if p == nil || p.left {
		return
	}
	m.remove(p, Goodbye)
	p.left, p.Status = true, frame.Dead
}

// fence gives this node a new incarnation. Members stay members, if they take the new incarnation in soon.
func (m *Judge) fence() {
	m.Self.Incarnation = max(m.Self.Incarnation+1, m.stamp())
	m.Seq, m.wakeSeq, m.asleep = 0, 0, false
	for _, p := range m.Sorted() {
		p.gated = false
		if p.Status == frame.Dead {
			continue
		}
		if p.Status == frame.Alive {
			m.do(DoDetach, p, Declared)
		}
		p.Status, p.Epoch, p.answered = frame.Heard, 1, m.ticked
	}
	m.do(DoFence, nil, Declared)
	m.do(DoBeacon, nil, "")
}

// Contact takes in a frame that fits no link: from a peer that knows more than this node.
func (m *Judge) Contact(now time.Time, id string, h frame.Link) {
	p := m.Peers[id]
	if p == nil || p.left || h.From != p.Node.Incarnation || h.To != m.Self.Incarnation || h.Epoch < p.Epoch {
		return
	}
	p.heard = now
	switch {
	case p.Status != frame.Alive:
		p.Epoch = h.Epoch
		m.admit(p)
	case h.Epoch > p.Epoch:
		m.remove(p, Reset)
		p.Epoch = h.Epoch
		m.admit(p)
	}
}

// Hint takes in that the engine lost the connection to a peer, or has it again.
func (m *Judge) Hint(now time.Time, id string, up bool) {
	p := m.Peers[id]
	switch {
	case p == nil || p.Status != frame.Alive:
	case up:
		p.hinted = time.Time{}
	case p.hinted.IsZero():
		p.hinted = now.Add(m.cfg.HintGrace)
	}
}

// Stuck takes in that a link makes no progress.
func (m *Judge) Stuck(now time.Time, id string) {
	p := m.Peers[id]
	if p != nil && p.Status == frame.Alive && !p.gated && now.Sub(p.heard) < m.cfg.Suspect {
		m.die(p, Stuck)
	}
}

// Tick judges by the time. life tells when frames of a peer last came.
func (m *Judge) Tick(now time.Time, life func(id string) time.Time) {
	late := now.Sub(m.ticked) - m.Every
	m.ticked = now
	if late > m.cfg.Beacon/2 {
		m.excuse(late)
	}
	if late > 2*m.cfg.Beacon {
		m.wake()
	}
	for _, p := range m.Sorted() {
		if t := life(p.Node.ID); t.After(p.heard) { // who sends frames to this incarnation hears it
			p.heard, p.answered = t, t
		}
		m.judge(p, now)
	}
}

// excuse gives all others the time that this node did not run.
func (m *Judge) excuse(late time.Duration) {
	for _, p := range m.Peers {
		p.heard, p.answered = p.heard.Add(late), p.answered.Add(late)
		if !p.hinted.IsZero() {
			p.hinted = p.hinted.Add(late)
		}
	}
}

// wake begins the time in which this node does not know what the others think of it.
func (m *Judge) wake() {
	some := false
	m.wakeSeq = m.Seq + 1
	for _, p := range m.Peers {
		if p.Status == frame.Alive {
			p.gated, some = true, true
		}
	}
	if !some {
		return
	}
	if !m.asleep {
		m.do(DoPause, nil, Suspended)
	}
	m.asleep = true
	m.do(DoBeacon, nil, "")
}

// settleWake ends that time, once each member has answered or is gone.
func (m *Judge) settleWake() {
	if !m.asleep {
		return
	}
	for _, p := range m.Peers {
		if p.gated {
			return
		}
	}
	m.asleep = false
	m.do(DoResume, nil, "")
}

const (
	forgetDead  = time.Hour // after which a dead incarnation is not mentioned any more
	maxMentions = 256       // candidates in a beacon that are not alive
)

func (m *Judge) judge(p *Candidate, now time.Time) {
	silence := now.Sub(p.heard)
	switch {
	case p.Status == frame.Dead:
		if silence > forgetDead {
			delete(m.Peers, p.Node.ID)
		}
	case p.Status == frame.Heard:
		switch {
		case silence > m.cfg.DeadAfter:
			m.die(p, Silence)
		case p.Known && now.Sub(p.answered) > 2*m.cfg.DeadAfter: // since this node was fenced
			m.die(p, Deaf)
			p.Status = frame.Heard
		}
	case silence > m.cfg.DeadAfter:
		m.die(p, Silence)
	case !p.hinted.IsZero() && !now.Before(p.hinted):
		m.die(p, Connection)
	case now.Sub(p.answered) > m.cfg.DeadAfter+m.cfg.Beacon:
		m.die(p, Deaf)
	case silence > m.cfg.Suspect && !p.Node.Suspected:
		p.Node.Suspected = true
		m.do(DoSuspect, p, Silence)
	}
}

// Life says how this node sees an incarnation of another one: whether it is heard, it or its successor, and whether it
// said goodbye.
func (m *Judge) Life(id string, inc uint64) (heard, left bool) {
	p := m.Peers[id]
	switch {
	case p == nil || p.Node.Incarnation < inc:
		return false, false
	case p.left:
		return false, true
	}
	return p.Status != frame.Dead, false
}

// Asleep says whether this node was suspended, and does not know yet what the others think of it.
func (m *Judge) Asleep() bool { return m.asleep }

// Mentions returns what the next beacon says about the others.
func (m *Judge) Mentions() []frame.Peer {
	var alive, rest []frame.Peer
	for _, p := range m.Sorted() {
		if p.left {
			continue
		}
		e := frame.Peer{ID: p.Node.ID, Inc: p.Node.Incarnation, Status: p.Status, Epoch: p.Epoch, Echo: p.echo}
		if p.Status == frame.Alive {
			alive = append(alive, e)
		} else if len(rest) < maxMentions {
			rest = append(rest, e)
		}
	}
	return append(alive, rest...)
}
