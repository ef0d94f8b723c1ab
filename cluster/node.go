package cluster

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/starling-im/starling/cluster/internal/bus"
	"github.com/starling-im/starling/cluster/internal/clock"
	"github.com/starling-im/starling/cluster/internal/frame"
	"github.com/starling-im/starling/cluster/internal/journal"
	"github.com/starling-im/starling/cluster/internal/member"
	"github.com/starling-im/starling/cluster/internal/rows"
	"github.com/starling-im/starling/cluster/internal/topic"
)

// Errors of nodes.
var (
	ErrClosed = errors.New("the node is closed")
	ErrGone   = errors.New("no such member")
)

// Failure is an error that only a person can mend: why joining failed, and what to do about it.
type Failure = bus.Failure

// Node is this program as a member of a cluster, or alone. All methods may be called by several goroutines at a time.
type Node struct {
	cfg      Config
	id       string
	log      *slog.Logger
	clock    *clock.Clock
	journal  *journal.Journal
	store    *rows.Store
	channels channels
	topics   topic.Set[Member]
	tasks    tasks
	metrics  metrics
	ring     ring
	events   hub[Event]
	view     atomic.Pointer[view]
	work     sync.WaitGroup
	turn     chan struct{}   // held by Join, Leave and Close, one at a time
	done     chan struct{}   // closed by Close, at its end
	ctx      context.Context // ends when Close begins
	stop     context.CancelFunc
	retry    chan struct{} // asks for another attempt to join

	next next // what the next version adds

	dropped, malformed, strange, scrubbing atomic.Int64

	mu      sync.Mutex // guards what follows, and orders views and events
	session *session
	failure *Failure
	warned  map[string]time.Time // when a node's clock was last complained about
	inc     uint64               // the last incarnation
}

// view is what a node sees at a moment. It is not changed once it is shown.
type view struct {
	self    Member
	members []Member // by age, with self
	ready   []Member // those that can be a home, by age
	senior  Member
	peers   map[string]*peer
	session *session // nil alone
}

// Start makes a node. It works alone, unless cfg.Join is set: then it begins to join, and Start does not wait for that.
// The context bounds Start only.
func Start(ctx context.Context, cfg Config) (*Node, error) {
	var seed [10]byte
	_, _ = rand.Read(seed[:]) // never fails
	id := strings.ToLower(base32.StdEncoding.EncodeToString(seed[:]))
	cfg, err := cfg.withDefaults(id)
	if err != nil {
		return nil, fmt.Errorf("cluster configuration: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, id: id, log: cfg.Log.With(slog.String("node", cfg.Name)),
		journal: journal.New(journalBytes, cfg.maxVersion), clock: clock.New(cfg.Now), turn: make(chan struct{}, 1), done: make(chan struct{}),
		retry: make(chan struct{}, 1), warned: map[string]time.Time{},
	}
	n.ctx, n.stop = context.WithCancel(context.Background())
	n.store = rows.New(id, n.journal, n.clock)
	n.events.notice = func(missed int) Event { return Event{Kind: Missed, Time: time.Now(), Count: missed} }
	n.inc = n.clock.Stamp()
	self := Member{
		ID: id, Name: cfg.Name, Incarnation: n.inc, Start: n.inc, State: Standalone,
		MinVersion: cfg.minVersion, MaxVersion: cfg.maxVersion,
	}
	n.view.Store(alone(self))
	n.tasks.node = n
	if err := n.metrics.register(n); err != nil {
		return nil, err
	}
	n.next.start(n)
	if cfg.Join {
		n.retry <- struct{}{}
	}
	n.work.Go(n.keepJoining)
	return n, nil
}

// alone is the view of a node that has no others.
func alone(self Member) *view {
	return &view{self: self, members: []Member{self}, ready: []Member{self}, senior: self, peers: map[string]*peer{}}
}

// keepJoining joins when asked to, and tries again with growing pauses.
func (n *Node) keepJoining() {
	for {
		select {
		case <-n.retry:
		case <-n.ctx.Done():
			return
		}
		for pause := n.cfg.Retry; ; pause = min(2*pause, 30*time.Second) {
			err := n.join(n.ctx)
			if err == nil || errors.Is(err, ErrClosed) || errors.As(err, new(*Failure)) {
				break
			}
			n.log.Warn("joining failed, will be tried again", slog.Any("err", err), slog.Duration("after", pause))
			timer := time.NewTimer(pause)
			select {
			case <-timer.C:
			case <-n.ctx.Done():
				timer.Stop()
				return
			}
		}
	}
}

// hold takes the turn to join or leave.
func (n *Node) hold(ctx context.Context) error {
	select {
	case n.turn <- struct{}{}:
	case <-n.ctx.Done():
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	if n.ctx.Err() != nil {
		<-n.turn
		return ErrClosed
	}
	return nil
}

// Join makes the node a member of its cluster and waits until it is ready. A *Failure says what a person must do; after
// any other error Join may be called again. When the context ends before the node is ready, it goes on joining. On
// a member Join only waits.
func (n *Node) Join(ctx context.Context) error {
	if err := n.join(ctx); err != nil {
		return err
	}
	s := n.current()
	if s == nil {
		return ErrClosed
	}
	select {
	case <-s.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	if f := n.Failure(); f != nil {
		return f
	}
	if n.current() != s {
		return ErrClosed
	}
	return nil
}

func (n *Node) join(ctx context.Context) error {
	if err := n.hold(ctx); err != nil {
		return err
	}
	defer func() { <-n.turn }()
	if n.current() != nil {
		return nil
	}
	if err := n.open(ctx); err != nil {
		n.alone(err)
		return fmt.Errorf("join cluster %s: %w", n.cfg.Cluster, err)
	}
	return nil
}

// open begins a session.
func (n *Node) open(ctx context.Context) error {
	engine, err := n.cfg.open()
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.inc = max(n.inc+1, n.clock.Stamp())
	inc := n.inc
	n.failure = nil
	n.mu.Unlock()
	n.change(Joining, ReasonOperator)
	b, err := engine.Open(ctx, bus.Identity{ID: n.id, Name: n.cfg.Name, Cluster: n.cfg.Cluster, Incarnation: inc}, n.log)
	if err != nil {
		return err
	}
	s := n.newSession(b, inc)
	n.mu.Lock()
	n.session = s
	n.mu.Unlock()
	s.show()
	if err := s.listen(); err != nil {
		close(s.ended)
		n.endSession(ctx)
		return err
	}
	n.work.Go(s.run)
	n.work.Go(func() { n.supervise(s) })
	return nil
}

// supervise ends a session that failed.
func (n *Node) supervise(s *session) {
	<-s.ended
	if s.failure == nil {
		return
	}
	if n.hold(n.ctx) != nil {
		return
	}
	defer func() { <-n.turn }()
	if n.current() != s {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	n.endSession(ctx)
	n.alone(s.failure)
	s.once.Do(func() { close(s.ready) })
}

// alone goes back to working alone after an error.
func (n *Node) alone(err error) {
	var f *Failure
	if !errors.As(err, &f) {
		n.change(Standalone, ReasonRetry)
		return
	}
	n.mu.Lock()
	n.failure = f
	n.mu.Unlock()
	n.log.Error("joining the cluster failed", slog.String("reason", f.Reason), slog.String("remedy", f.Remedy))
	n.change(Failed, ReasonGaveUp)
}

// endSession closes the session and shows the node alone.
func (n *Node) endSession(ctx context.Context) {
	n.mu.Lock()
	s := n.session
	n.session = nil
	n.mu.Unlock()
	s.cancel()
	<-s.ended
	n.showView(alone(public(s.m.Self))) // nobody sends any more
	if err := s.close(ctx); err != nil {
		n.log.Warn("engine did not close in order", slog.Any("err", err))
	}
	for _, e := range s.events {
		n.tell(e)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.inc = max(n.inc, s.m.Self.Incarnation)
}

// Leave says goodbye to the others, after they have acknowledged what was sent to them or the context has ended, and
// goes on alone.
func (n *Node) Leave(ctx context.Context) error {
	if err := n.hold(ctx); err != nil {
		return err
	}
	defer func() { <-n.turn }()
	n.leave(ctx)
	n.change(Standalone, ReasonOperator)
	return nil
}

func (n *Node) leave(ctx context.Context) {
	s := n.current()
	if s == nil {
		return
	}
	told := make(chan struct{})
	s.post(func() {
		s.setState(Draining, ReasonOperator)
		close(told)
	})
	select {
	case <-told:
		s.drain(ctx)
	case <-ctx.Done():
	case <-s.ended:
	}
	n.endSession(ctx)
	s.once.Do(func() { close(s.ready) })
}

// Close leaves, if the node is a member, waiting at most some seconds, and ends the node for good.
func (n *Node) Close() error {
	n.stop()
	n.turn <- struct{}{}
	defer func() { <-n.turn }()
	select {
	case <-n.done:
		return nil
	default:
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	n.leave(ctx)
	n.change(Left, ReasonOperator)
	close(n.done)
	n.work.Wait()
	n.events.close()
	n.store.Close()
	n.topics.Close()
	n.metrics.unregister()
	return nil
}

func (n *Node) current() *session {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.session
}

// change changes the state of a node without session.
func (n *Node) change(st State, why Reason) {
	self := n.view.Load().self
	if self.State == st {
		return
	}
	self.State = st
	n.showView(alone(self))
	n.tell(Event{Kind: StateChanged, Member: self, State: st, Reason: why})
}

// showView shows a view, and tells when there is another senior.
func (n *Node) showView(v *view) {
	sortMembers(v.members)
	v.ready = nil
	for _, m := range v.members {
		if m.State == Ready {
			v.ready = append(v.ready, m)
		}
	}
	if len(v.peers) == 0 && len(v.ready) == 0 {
		v.ready = []Member{v.self}
	}
	if len(v.ready) > 0 {
		v.senior = v.ready[0]
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	was := n.view.Swap(v)
	if was.senior.ID != v.senior.ID || was.senior.Incarnation != v.senior.Incarnation {
		n.emit(Event{Kind: SeniorChanged, Member: v.senior})
	}
}

// tell publishes an event.
func (n *Node) tell(e Event) {
	n.mu.Lock()
	n.emit(e)
	n.mu.Unlock()
	if e.Kind == MemberJoined || e.Kind == Fenced {
		n.topics.Gap()
	}
	n.log.Info("cluster", slog.String("event", e.String()))
}

// emit is called with mu held.
func (n *Node) emit(e Event) {
	e.Time = time.Now()
	if e.Kind != StateChanged {
		e.State = n.view.Load().self.State
	}
	n.ring.add(e)
	n.events.publish(e)
}

// State returns what the node is doing.
func (n *Node) State() State { return n.view.Load().self.State }

// Failure returns why the state is Failed, nil in all other states.
func (n *Node) Failure() *Failure {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.failure
}

// Self returns this node as the others see it.
func (n *Node) Self() Member { return n.view.Load().self }

// Members returns the members that this node sees, itself among them, oldest first.
func (n *Node) Members() []Member { return slices.Clone(n.view.Load().members) }

// Member returns the member with an ID.
func (n *Node) Member(id string) (Member, bool) {
	for _, m := range n.view.Load().members {
		if m.ID == id {
			return m, true
		}
	}
	return Member{}, false
}

// Senior returns the oldest ready member that this node sees; the zero Member while there is none. It is meant for
// chores that should be done once: in a partition each side has one.
func (n *Node) Senior() Member { return n.view.Load().senior }

// Events tells what happens from now on, in order, with room for some events that were not taken yet.
func (n *Node) Events(buffer int) *Subscription[Event] { return n.events.subscribe(buffer) }

// Stamp returns a number that is larger than every stamp that this node has made or seen, and is near the time in
// microseconds when clocks are in order.
func (n *Node) Stamp() uint64 { return n.clock.Stamp() }

func (n *Node) wakeLinks() {
	for _, p := range n.view.Load().peers {
		p.stanza.Wake()
	}
}

// warnClock tells, now and then, that another node's clock is far off.
func (n *Node) warnClock(name string, d time.Duration) {
	n.mu.Lock()
	last := n.warned[name]
	due := time.Since(last) > 10*time.Minute && len(n.warned) < frame.MaxPeers
	if due {
		n.warned[name] = time.Now()
	}
	n.mu.Unlock()
	if due {
		n.log.Warn("clocks differ", slog.String("member", name), slog.Duration("ahead", d.Round(time.Second)))
	}
}

// scrub recounts copies, one run at a time, beside the loop.
func (n *Node) scrub(copies []*rows.Replica) {
	if !n.scrubbing.CompareAndSwap(0, 1) {
		return
	}
	n.work.Go(func() {
		defer n.scrubbing.Store(0)
		for _, c := range copies {
			c.Scrub()
		}
	})
}

func (n *Node) encodeBeacon(m *member.Judge, dead []frame.Copy) []byte {
	seq, t := n.journal.State()
	return frame.AppendBeacon(nil, &frame.Beacon{
		ID: n.id, Name: m.Self.Name, Address: m.Self.Address, Inc: m.Self.Incarnation, Start: m.Self.Start, Now: n.clock.Stamp(),
		Seq: m.Seq, State: m.Self.State, MinVer: m.Self.MinVersion, MaxVer: m.Self.MaxVersion,
		Table: seq, Rows: t.Rows, Digest: t.Digest, Peers: m.Mentions(), Topics: n.topics.Sequences(), Dead: dead,
	})
}
