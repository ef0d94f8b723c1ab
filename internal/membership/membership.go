// Package membership is a server's life in its cluster: whether it takes part, which operators decide and the database
// keeps, or else the configuration file; with whom, which is everybody who works on the same database; and how it comes
// and goes, which clients should notice as little as possible.
//
// One goroutine compares what should be with what is and takes the next step. It does so when an operator decides
// something here, when another node tells that one did there, when the cluster tells an event, and every few seconds,
// since a node that stands alone hears nothing from the others.
package membership

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/internal/config"
	"github.com/starling-im/starling/internal/settings"
	"github.com/starling-im/starling/internal/store"
)

//go:embed schema
var schema embed.FS

// Migrations returns the table of this package.
func Migrations() store.Migrations { return store.Migrations{Module: "membership", FS: schema} }

const (
	enabled     = "cluster.enabled" // the setting that is decided
	pollEvery   = 2 * time.Second   // between two looks at what is decided
	joinTimeout = 15 * time.Second  // of one attempt
	flushTime   = 5 * time.Second   // for what is on its way when a node leaves with its sessions
	retryFirst  = time.Second
	retryLast   = 30 * time.Second
	verifyAgain = 200 * time.Millisecond // as long as a member has not said whether it works on the same database
)

// Options are what a membership works with.
type Options struct {
	Config   config.Cluster
	DB       *store.DB
	Settings *settings.Settings
	Version  string // of the server
	Domains  []string
	Log      *slog.Logger
	Metrics  prometheus.Registerer
	Now      func() time.Time

	Admit func(bool)                            // lets clients in, or keeps new ones out
	Clear func(context.Context, Farewell) error // ends all sessions, and returns when they are gone
	Flush func(context.Context) error           // returns when what is on its way to other nodes has arrived
	Count func() Count                          // sessions, here and everywhere
}

// Farewell says how sessions are ended.
type Farewell struct {
	Over      time.Duration // in batches spread over this time
	Elsewhere []string      // host:port where clients may go instead; may be empty
}

// Membership is this node's. All methods may be called from any goroutine.
type Membership struct {
	o       Options
	node    *cluster.Node
	nodes   *cluster.Table[About]
	decided *cluster.Topic[string]
	shared  *cluster.Task[proof, verdict]
	boot    string // of the machine's kernel
	joins   *prometheus.CounterVec
	wake    chan struct{}
	started time.Time
	halt    context.CancelFunc // ends the loop; nil before Begin
	ended   chan struct{}      // closed when it has ended

	// Used by the loop only.
	verified   map[string]uint64 // incarnations of members that have seen this node's proof
	unverified bool              // there are others that should

	mu       sync.Mutex    // guards what follows
	changed  chan struct{} // closed at the next change
	want     want
	secret   string // the proof that is in the database
	try      bool   // an operator asked for an attempt, whatever failed before
	drain    bool   // an operator asked for a node without clients
	drained  bool   // it has none
	step     Step
	failure  *cluster.Failure
	joined   bool   // has been ready since it began to join
	trouble  string // why the last attempt did not succeed and will be repeated
	asked    uint64 // requests of operators
	answered uint64 // those that have been dealt with
	open     bool   // clients are let in
}

// want is whether this node is to be a member, and who says so.
type want struct {
	on   bool
	by   Source
	when time.Time // of an operator's decision
}

// Source says who decided whether a node takes part.
type Source string

// The sources of that decision, the strongest first.
const (
	DecidedHere Source = "operator, for this node"
	DecidedAll  Source = "operator, for all nodes"
	Configured  Source = "configuration"
)

// Step is what a node is doing about its membership.
type Step string

// The steps.
const (
	Resting  Step = ""
	Joining  Step = "joining"
	Draining Step = "draining"
	Leaving  Step = "leaving"
)

// New makes the membership of a node that stands alone. The database has been migrated.
func New(node *cluster.Node, o Options) (*Membership, error) {
	m := &Membership{
		o: o, node: node, boot: bootID(), wake: make(chan struct{}, 1),
		started: o.Now().UTC(), ended: make(chan struct{}), open: true, verified: map[string]uint64{}, changed: make(chan struct{}),
		want: want{on: o.Config.Enabled && o.Config.Configured(), by: Configured},
	}
	m.nodes = cluster.NewTable(node, "nodes", cluster.JSON[About]())
	m.decided = cluster.NewTopic(node, "config", cluster.Text())
	m.shared = cluster.NewTask(node, "starling shared database 1", cluster.JSON[proof](), cluster.JSON[verdict](), m.judge)
	m.joins = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "starling_cluster_joins_total", Help: "Attempts to join the cluster, by how they ended.",
	}, []string{"outcome"})
	if err := m.register(); err != nil {
		return nil, fmt.Errorf("membership: %w", err)
	}
	return m, m.tell()
}

// Begin keeps the membership as it should be from now on, until Stop. It returns when the node has joined, if it should,
// or cannot, or when the context ends. It is called before the server opens its doors: a node that knows the sessions of
// the others before it has any itself makes no storm of presence.
func (m *Membership) Begin(ctx context.Context) {
	loop, halt := context.WithCancel(context.Background())
	m.halt = halt
	go func() {
		defer close(m.ended)
		m.run(loop)
	}()
	err := m.request(ctx, func() {})
	if err == nil {
		err = m.await(ctx, func() bool { return m.trouble == "" })
	}
	if err != nil {
		m.o.Log.Warn("this node has not joined its cluster yet, and goes on trying")
	}
}

func (m *Membership) run(ctx context.Context) {
	events := m.node.Events(64)
	defer events.Close()
	cancel := m.decided.Subscribe(func(cluster.Member, string) { m.nudge() }, m.nudge)
	defer cancel()
	for pause := retryFirst; ctx.Err() == nil; {
		err := m.reconcile(ctx)
		wait := pollEvery
		switch {
		case err != nil:
			m.o.Log.Warn("this node could not join its cluster and will try again", slog.Any("err", err), slog.Duration("after", pause))
			wait, pause = pause, min(2*pause, retryLast)
		case m.unverified:
			wait, pause = verifyAgain, retryFirst
		default:
			pause = retryFirst
		}
		again := time.NewTimer(wait)
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				waiting = false
			case <-again.C:
				waiting = false
			case <-m.wake:
				waiting = false
			case e, ok := <-events.C:
				if !ok {
					<-ctx.Done() // the node is closed: nothing happens any more
				}
				waiting = !m.heard(e)
			}
		}
		again.Stop()
	}
}

func (m *Membership) nudge() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// reconcile takes the steps from what is to what should be. The error says that it has to be tried again.
func (m *Membership) reconcile(ctx context.Context) error {
	m.mu.Lock()
	asked := m.asked
	m.mu.Unlock()
	m.read(ctx)
	m.doors()
	err := m.steps(ctx)
	m.update(func() {
		m.trouble = ""
		if err != nil {
			m.trouble = err.Error()
		}
		m.step, m.answered = Resting, asked
	})
	m.doors()
	return err
}

func (m *Membership) steps(ctx context.Context) error {
	m.mu.Lock()
	want, try, failure, drain, drained := m.want, m.try, m.failure, m.drain, m.drained
	m.try = false
	m.mu.Unlock()
	state := m.node.State()
	member := state == cluster.Joining || state == cluster.Ready || state == cluster.Draining
	switch {
	case state == cluster.Failed && !want.on:
		return m.node.Leave(ctx) // nobody minds any more
	case state == cluster.Failed && failure == nil && !try: // by itself
		return m.fail(ctx, m.node.Failure())
	case drain && !drained:
		return m.empty(ctx)
	case drain:
		return nil
	case member && !want.on:
		return m.depart(ctx, want.by == DecidedHere)
	case want.on && !member && failure == nil:
		return m.join(ctx)
	case state == cluster.Ready:
		return m.arrived(ctx)
	}
	return nil
}

// read looks up what is decided. When the database does not answer, the last decision stays in force.
func (m *Membership) read(ctx context.Context) {
	if !m.o.Config.Configured() {
		return
	}
	d, err := m.o.Settings.Lookup(ctx, m.Name(), enabled)
	next := want{on: m.o.Config.Enabled, by: Configured}
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		m.o.Log.Debug("cannot look up whether this node is to be in its cluster", slog.Any("err", err))
		return
	default:
		next = want{on: d.Value == "on", by: DecidedAll, when: d.Changed}
		if d.Node != settings.AllNodes {
			next.by = DecidedHere
		}
	}
	m.update(func() {
		if next.on != m.want.on || next.when.After(m.want.when) {
			m.failure, m.try = nil, true // decided anew
		}
		m.want = next
	})
}

// join makes this node a member, and proves to the others that it works on their database.
func (m *Membership) join(ctx context.Context) error {
	m.update(func() { m.step, m.joined = Joining, false })
	if f := m.unshareable(); f != nil {
		return m.fail(ctx, f)
	}
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	err := m.prove(ctx)
	if err == nil {
		err = m.tell()
	}
	if err == nil {
		err = m.node.Join(ctx)
	}
	if f, ok := errors.AsType[*cluster.Failure](err); ok {
		return m.fail(ctx, f)
	}
	if err == nil {
		err = m.arrived(ctx)
	}
	if err != nil {
		m.joins.WithLabelValues("error").Inc()
	}
	return err
}

// arrived looks whether a node that is ready may stay.
func (m *Membership) arrived(ctx context.Context) error {
	if err := m.verify(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	news := !m.joined && m.failure == nil
	m.mu.Unlock()
	if news {
		m.joins.WithLabelValues("ready").Inc()
		m.update(func() { m.joined = true })
		m.o.Log.Info("this node is in its cluster", slog.String("cluster", m.o.Config.Name), slog.Int("members", len(m.node.Members())))
	}
	return nil
}

// fail gives up for a reason that a person must mend.
func (m *Membership) fail(ctx context.Context, f *cluster.Failure) error {
	m.joins.WithLabelValues("failed").Inc()
	m.update(func() { m.failure, m.joined = f, false })
	m.doors()
	alone := "clients are served, but do not see those of other nodes"
	if m.o.Config.WhenFailed == config.Refuse {
		alone = "no clients are served"
	}
	level := slog.LevelError
	if m.node.State() == cluster.Failed {
		level = slog.LevelWarn // the node has told it already
	}
	m.o.Log.Log(ctx, level, "this node is not in its cluster", slog.String("reason", f.Reason), slog.String("remedy", f.Remedy), slog.String("meanwhile", alone))
	if s := m.node.State(); s == cluster.Joining || s == cluster.Ready {
		leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
		defer cancel()
		if err := m.node.Leave(leaving); err != nil {
			return err
		}
	}
	if m.o.Config.WhenFailed == config.Refuse {
		return m.o.Clear(ctx, Farewell{})
	}
	return nil
}

// update changes what is shown, and tells those who wait for it.
func (m *Membership) update(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
	close(m.changed)
	m.changed = make(chan struct{})
}

// doors opens or closes the server to clients.
func (m *Membership) doors() {
	m.mu.Lock()
	waits := m.o.Config.WhenFailed == config.Refuse && m.want.on && !m.joined
	open := !m.drain && !waits && m.step != Draining
	changed := open != m.open
	m.open = open
	m.mu.Unlock()
	if changed {
		m.o.Admit(open)
	}
}

// Name is the node's.
func (m *Membership) Name() string { return m.node.Self().Name }
