package cluster

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/starling-im/starling/cluster/internal/bus"
	"github.com/starling-im/starling/cluster/internal/estate"
	"github.com/starling-im/starling/cluster/internal/frame"
	"github.com/starling-im/starling/cluster/internal/journal"
	"github.com/starling-im/starling/cluster/internal/link"
	"github.com/starling-im/starling/cluster/internal/member"
	"github.com/starling-im/starling/cluster/internal/rows"
)

const (
	maxInbox   = 1024 // calls that wait for the loop
	syncWithin = 10 * time.Second
	scrubs     = time.Second // how often to look what is due for a recount
)

// session is the time between joining and leaving. Its loop owns the membership and the peers.
type session struct {
	n      *Node
	bus    bus.Bus
	began  time.Time
	ctx    context.Context
	cancel context.CancelFunc
	inbox  chan func()
	ended  chan struct{} // closed when the loop has ended
	ready  chan struct{} // closed when the node is ready for the first time, or the session is over
	once   sync.Once     // closes ready

	// Used by the loop only.
	m        *member.Judge
	peers    map[string]*peer
	copies   map[string]*rows.Replica // of members, also between two links to them
	book     *estate.Book
	joined   time.Time // when this incarnation began to join
	beaconed time.Time
	soon     bool // a beacon is due before its time
	events   []Event
	failure  *bus.Failure
	scrubbed time.Time
	expired  time.Time
}

func (n *Node) newSession(b bus.Bus, inc uint64) *session {
	s := &session{
		n: n, bus: b, began: time.Now(), inbox: make(chan func(), maxInbox), ended: make(chan struct{}), ready: make(chan struct{}),
		peers: map[string]*peer{}, copies: map[string]*rows.Replica{}, joined: time.Now(),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	was := n.view.Load().self
	self := member.Node{
		ID: n.id, Name: was.Name, Incarnation: inc, Start: was.Start, State: uint8(Joining), MinVersion: was.MinVersion, MaxVersion: was.MaxVersion,
	}
	if a, ok := b.(bus.Addresser); ok {
		self.Address = a.Address()
	}
	times := member.Config{
		Beacon: n.cfg.Beacon, Suspect: n.cfg.Suspect, DeadAfter: n.cfg.DeadAfter, HintGrace: n.cfg.HintGrace, Left: uint8(Left),
	}
	s.book = estate.New((*lookout)(s))
	s.m = member.New(&times, self, time.Now(), n.clock.Stamp)
	return s
}

// subject returns a subject of this cluster.
func (s *session) subject(tokens ...string) string {
	return "v1." + s.n.cfg.Cluster + "." + strings.Join(tokens, ".")
}

// listen subscribes to what concerns this node.
func (s *session) listen() error {
	for _, sub := range []struct {
		lane    bus.Lane
		subject string
		fn      func(bus.Message)
	}{
		{bus.Data, s.subject("l", s.n.id, "*", "*"), s.onFrame},
		{bus.Data, s.subject("la", s.n.id, "*", "*"), s.onAck},
		{bus.Control, s.subject("hb", "*"), s.onBeacon},
		{bus.Control, s.subject("tp", "*"), s.onTopic},
	} {
		if _, err := s.bus.Subscribe(sub.lane, sub.subject, sub.fn); err != nil {
			return err
		}
	}
	_, err := s.bus.Respond(s.subject("t", s.n.id), s.n.tasks.answer)
	return err
}

// post runs fn in the loop, soon. When the loop lags too far behind it is left out: what it tells will be told again.
func (s *session) post(fn func()) {
	select {
	case s.inbox <- fn:
	default:
		s.n.dropped.Add(1)
	}
}

// tail returns the last two tokens of a subject.
func tail(subject string) (a, b string) {
	i := strings.LastIndexByte(subject, '.')
	j := strings.LastIndexByte(subject[:max(i, 0)], '.')
	return subject[j+1 : max(i, 0)], subject[i+1:]
}

func (s *session) onFrame(m bus.Message) {
	src, name := tail(m.Subject)
	h, rs, err := frame.ParseLink(m.Data)
	if err != nil {
		s.n.malformed.Add(1)
		return
	}
	p := s.n.view.Load().peers[src]
	if p == nil || p.inc != h.From || p.self != h.To || p.epoch != h.Epoch {
		s.post(func() { s.m.Contact(time.Now(), src, h) })
		return
	}
	p.life.Store(int64(time.Since(s.began)))
	if l := p.link(name); l != nil {
		l.OnFrame(h, rs)
	}
}

func (s *session) onAck(m bus.Message) {
	src, name := tail(m.Subject)
	a, err := frame.ParseAck(m.Data)
	if err != nil {
		s.n.malformed.Add(1)
		return
	}
	p := s.n.view.Load().peers[src]
	if p == nil || p.inc != a.From || p.self != a.To || p.epoch != a.Epoch {
		return
	}
	p.life.Store(int64(time.Since(s.began)))
	if l := p.link(name); l != nil {
		l.OnAck(a)
	}
}

func (s *session) onBeacon(m bus.Message) {
	b, err := frame.ParseBeacon(m.Data)
	if err != nil {
		s.n.malformed.Add(1)
		return
	}
	if b.ID != s.n.id {
		s.post(func() { s.hear(b) })
	}
}

// run is the loop.
func (s *session) run() {
	defer close(s.ended)
	tick := time.NewTicker(s.m.Every)
	defer tick.Stop()
	beat := time.NewTimer(0)
	defer beat.Stop()
	faults := s.bus.Faults()
	for s.failure == nil {
		select {
		case <-s.ctx.Done():
			return
		case fn := <-s.inbox:
			fn()
		case h := <-s.bus.Hints():
			s.m.Hint(time.Now(), h.Peer, h.Up)
			if p := s.peers[h.Peer]; p != nil && h.Up {
				p.hurry()
			}
		case f := <-faults:
			if f == nil {
				faults = nil
			} else if len(s.peers) == 0 { // with members around it is not this node that is wrong
				s.failure = f
			}
		case <-beat.C:
			s.beacon()
			beat.Reset(s.n.cfg.Beacon)
		case <-tick.C:
			s.tick(time.Now())
		}
		s.settle()
		if s.soon {
			s.soon = false
			beat.Reset(max(0, s.n.cfg.Beacon/20-time.Since(s.beaconed)))
		}
	}
}

// hear takes in a beacon.
func (s *session) hear(b *frame.Beacon) {
	if d := s.n.clock.Ahead(b.Now); d > time.Minute || d < -time.Minute {
		s.n.warnClock(b.Name, d)
	}
	s.n.clock.Observe(b.Now)
	s.m.Hear(time.Now(), b)
	s.book.Hear(time.Now(), b)
	if c := s.copies[b.ID]; c != nil && s.peers[b.ID] != nil && s.peers[b.ID].inc == b.Inc {
		c.Compare(b.Table, journal.Tally{Rows: b.Rows, Digest: b.Digest})
	}
	s.n.topics.Compare(b)
}

// beacon sends what this node says about itself.
func (s *session) beacon() {
	s.beaconed = time.Now()
	s.m.Seq++
	_ = s.bus.Publish(bus.Control, s.subject("hb", s.n.id), s.n.encodeBeacon(s.m, s.book.List()))
}

// tick judges by the time.
func (s *session) tick(now time.Time) {
	s.m.Tick(now, func(id string) time.Time {
		if p := s.peers[id]; p != nil {
			return s.began.Add(time.Duration(p.life.Load()))
		}
		return time.Time{}
	})
	for id, p := range s.peers {
		if max(p.stanza.Stalled(), p.bulk.Stalled()) > s.n.cfg.Stuck {
			s.m.Stuck(now, id)
		}
	}
	if s.state() == Joining {
		s.settled(now)
	}
	s.bequeath(now)
	if now.Sub(s.expired) >= scrubs {
		s.expired = now
		s.n.store.Expire(now)
	}
	if now.Sub(s.scrubbed) >= s.n.cfg.Scrub {
		s.scrubbed = now
		var cs []*rows.Replica
		for _, c := range s.copies {
			cs = append(cs, c)
		}
		s.n.scrub(cs)
	}
}

// settled makes a joining node ready: when it has listened for a while, nobody else has its name, and it has the tables of
// all it has heard.
func (s *session) settled(now time.Time) {
	waited := now.Sub(s.joined)
	if waited < s.n.cfg.Settle {
		return
	}
	if waited < syncWithin {
		if s.m.Doubtful() {
			return
		}
		for _, c := range s.m.Peers {
			if c.Status == frame.Heard {
				return
			}
			if c.Status == frame.Alive {
				if r := s.copies[c.Node.ID]; r == nil {
					return
				} else if _, _, synced, _ := r.State(); !synced {
					return
				}
			}
		}
	}
	s.setState(Ready, ReasonSynced)
}

func (s *session) state() State { return State(s.m.Self.State) }

func (s *session) setState(st State, why Reason) {
	if s.state() == st {
		return
	}
	s.m.Self.State = uint8(st)
	s.soon = true
	s.note(Event{Kind: StateChanged, Member: public(s.m.Self), State: st, Reason: why})
}

func (s *session) note(e Event) { s.events = append(s.events, e) }

// settle does what the membership found, shows the new view, and tells.
func (s *session) settle() {
	todo := s.m.Take()
	if len(todo) == 0 && len(s.events) == 0 {
		return
	}
	for _, e := range todo {
		s.effect(e)
	}
	s.show()
	if s.state() == Ready { // not before everybody can see it
		s.once.Do(func() { close(s.ready) })
	}
	events := s.events
	s.events = nil
	for _, e := range events {
		s.n.tell(e)
	}
}

func (s *session) effect(e member.Effect) {
	switch e.Kind {
	case member.DoAdmit:
		s.admit(e)
	case member.DoDetach:
		s.detach(public(e.Node))
	case member.DoRemove:
		s.remove(public(e.Node), Reason(e.Reason))
	case member.DoSuspect:
		k := Trusted
		if e.Reason != "" {
			k = Suspected
		}
		s.note(Event{Kind: k, Member: public(e.Node), Reason: Reason(e.Reason)})
	case member.DoChange:
		s.note(Event{Kind: MemberChanged, Member: public(e.Node)})
	case member.DoFence:
		s.joined = time.Now()
		s.note(Event{Kind: Fenced, Member: public(s.m.Self), Reason: Reason(e.Reason)})
		s.setState(Joining, Reason(e.Reason))
	case member.DoPause:
		for _, p := range s.peers {
			p.hold(true)
		}
		s.note(Event{Kind: Paused, Member: public(s.m.Self), Reason: Reason(e.Reason)})
	case member.DoRelease:
		if p := s.peers[e.Node.ID]; p != nil {
			p.hold(false)
		}
	case member.DoResume:
		s.note(Event{Kind: Resumed, Member: public(s.m.Self)})
	case member.DoBeacon:
		s.soon = true
	case member.DoTwin:
		s.failure = &bus.Failure{
			Reason: "another node of the cluster has the name " + s.m.Self.Name,
			Remedy: "give each node a name of its own, and join again",
		}
	case member.DoOld:
		if len(s.peers) == 0 {
			s.failure = &bus.Failure{Reason: "the other nodes do not speak this version any more", Remedy: "install the version that they run"}
		}
	}
}

func (s *session) admit(e member.Effect) {
	m := public(e.Node)
	s.book.Drop(estate.Key{ID: m.ID, Inc: m.Incarnation})
	o := s.n.store.Living(m.ID, m.Incarnation)
	c := s.copies[m.ID]
	if c == nil || c.Owner() != o {
		c = rows.NewReplica(s.n.store, s.n.clock, s.n.log, o, s.n.cfg.Stuck*4/5)
		s.n.next.watch(c)
		s.copies[m.ID] = c
	}
	p := s.newPeer(e.Peer, c)
	s.peers[m.ID] = p
	c.Start(p.ask)
	s.n.next.greet(p)
	if !e.Again {
		s.note(Event{Kind: MemberJoined, Member: m})
	}
}

// detach ends the links to a member.
func (s *session) detach(m Member) {
	p := s.peers[m.ID]
	if p == nil {
		return
	}
	delete(s.peers, m.ID)
	s.handBack(m, p.stop())
}

// remove ends what there is with a member.
func (s *session) remove(m Member, why Reason) {
	s.detach(m)
	left := why == ReasonGoodbye || why == ReasonLeave
	s.book.Gone(m.ID)
	if c := s.copies[m.ID]; c != nil {
		delete(s.copies, m.ID)
		seq, tornAt := c.End(torn(s.n.id))
		s.n.store.Bury(c.Owner(), !left)
		if !left {
			s.book.Died(time.Now(), estate.Key{ID: c.Owner().ID, Inc: c.Owner().Inc}, estate.Rank{Seq: seq, Torn: tornAt})
			s.n.store.Mourn(true)
		}
	}
	k := MemberDied
	if left {
		k = MemberLeft
	}
	s.note(Event{Kind: k, Member: m, Reason: why})
}

// synced knows that the tables of a member are complete: what its earlier incarnations left behind goes.
func (s *session) synced(p *peer) {
	if s.peers[p.id] != p {
		return
	}
	for _, o := range s.n.store.Older(p.copy.Owner()) {
		s.book.Drop(estate.Key{ID: o.ID, Inc: o.Inc})
		s.n.store.Bury(o, false)
	}
}

// handBack gives the records that a member may not have got back to their channels.
func (s *session) handBack(m Member, back []link.Record) {
	s.n.work.Go(func() { s.n.channels.handBack(m, back) })
}

// show publishes the present view.
func (s *session) show() {
	v := &view{self: public(s.m.Self), peers: make(map[string]*peer, len(s.peers)), session: s}
	v.members = append(v.members, v.self)
	for id, p := range s.peers {
		v.peers[id] = p
	}
	for _, c := range s.m.Peers {
		if c.Known {
			v.members = append(v.members, public(c.Node))
		}
	}
	s.n.showView(v)
}

// drain waits until the peers have everything, or the context ends.
func (s *session) drain(ctx context.Context) {
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		rest := 0
		for _, p := range s.n.view.Load().peers {
			rest += p.stanza.Stats().Unacked + p.bulk.Stats().Unacked
		}
		if rest == 0 {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		case <-s.ended:
			return
		}
	}
}

// close ends the session with a goodbye. The loop must have ended.
func (s *session) close(ctx context.Context) error {
	s.m.Self.State = uint8(Left)
	s.beacon()
	for _, c := range s.m.Sorted() {
		if c.Known {
			c.Known = false
			s.remove(public(c.Node), ReasonLeave)
		}
	}
	s.n.store.Clear()
	err := s.bus.Close(ctx)
	if errors.Is(err, bus.ErrClosed) {
		err = nil
	}
	return err
}

// public returns a node as users see it.
func public(n member.Node) Member {
	return Member{
		ID: n.ID, Name: n.Name, Address: n.Address, Incarnation: n.Incarnation, Start: n.Start, State: State(n.State),
		Suspected: n.Suspected, MinVersion: n.MinVersion, MaxVersion: n.MaxVersion,
	}
}

// sortMembers orders members by age.
func sortMembers(ms []Member) {
	slices.SortFunc(ms, func(a, b Member) int {
		if a.before(b) {
			return -1
		}
		return 1
	})
}
