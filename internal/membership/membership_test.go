package membership_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/internal/config"
	"github.com/starling-im/starling/internal/membership"
	"github.com/starling-im/starling/internal/settings"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/store/storetest"
)

const patience = 30 * time.Second

// node is a membership with what a server would be around it.
type node struct {
	*membership.Membership
	t    *testing.T
	node *cluster.Node

	mu      sync.Mutex // guards what follows
	open    bool
	cleared []membership.Farewell
}

// world is what nodes have in common.
type world struct {
	t     *testing.T
	token string
	peers []string
}

func newWorld(t *testing.T) *world { return &world{t: t, token: cluster.NewToken()} }

func database(t *testing.T, url string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), url, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Migrate(t.Context(), settings.Migrations(), membership.Migrations()); err != nil {
		t.Fatal(err)
	}
	return db
}

// fixed returns an address to listen on that stays the same when the node joins again.
func fixed(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start runs a node on a database.
func (w *world) start(name string, db *store.DB, change ...func(*config.Cluster)) *node {
	w.t.Helper()
	cfg := config.Cluster{
		Enabled: true, Name: "main", Token: config.Secret(w.token), Listen: "127.0.0.1:0", Peers: w.peers, WhenFailed: config.ServeAlone,
		AllowSharedSQLite: true, AdvertiseClient: name + ".test:5222",
	}
	for _, fn := range change {
		fn(&cfg)
	}
	log := slog.New(slog.NewTextHandler(w.t.Output(), nil)).With("on", name)
	c, err := cluster.Start(w.t.Context(), cluster.Config{
		Name: name, Cluster: cfg.Name, Token: cfg.Token.Reveal(), Listen: cfg.Listen, Peers: cfg.Peers, Log: membership.Quiet(log),
		Beacon: 50 * time.Millisecond, Suspect: time.Second, DeadAfter: 3 * time.Second,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	n := &node{t: w.t, node: c, open: true}
	n.Membership, err = membership.New(c, membership.Options{
		Config: cfg, DB: db, Settings: settings.New(db, time.Now), Version: "1.2.3", Domains: []string{"a.test"},
		Log: log, Metrics: prometheus.NewRegistry(), Now: time.Now,
		Admit: func(on bool) { n.mu.Lock(); defer n.mu.Unlock(); n.open = on },
		Clear: func(_ context.Context, f membership.Farewell) error {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.cleared = append(n.cleared, f)
			return nil
		},
		Flush: func(context.Context) error { return nil },
		Count: func() membership.Count { return membership.Count{} },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(n.stop)
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	n.Begin(ctx)
	if a := c.Self().Address; a != "" {
		w.peers = append(w.peers, a)
	}
	return n
}

func (n *node) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := errors.Join(n.Stop(ctx), n.node.Close()); err != nil {
		n.t.Error(err)
	}
}

// admits tells whether clients are let in, and what sessions were told at their end.
func (n *node) admits() (bool, []membership.Farewell) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.open, slices.Clone(n.cleared)
}

// await waits until a status is as wanted.
func (n *node) await(what string, fits func(membership.Status) bool) membership.Status {
	n.t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for begun := time.Now(); ; <-again.C {
		s := n.Status()
		if fits(s) {
			return s
		}
		if time.Since(begun) > patience {
			n.t.Fatalf("%s: not %s: %+v", s.Node, what, s)
		}
	}
}

// is waits until a node is in a state, and sees so many members and what each tells of itself.
func (n *node) is(state string, members int) membership.Status {
	n.t.Helper()
	return n.await(state, func(s membership.Status) bool {
		silent := func(m membership.Member) bool { return m.Version == "" }
		return s.State == state && len(s.Members) == members && !slices.ContainsFunc(s.Members, silent)
	})
}

// ask runs what an operator asks for.
func (n *node) ask(do func(context.Context) error) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	if err := do(ctx); err != nil {
		n.t.Fatal(err)
	}
}

func whole(do func(context.Context, bool) error, all bool) func(context.Context) error {
	return func(ctx context.Context) error { return do(ctx, all) }
}

// What is decided for one node is done at once, kept over a restart, and concerns nobody else.
func TestOneNode(t *testing.T) {
	for _, d := range []store.Dialect{store.SQLite, store.Postgres} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			url := storetest.URL(t, d)
			w := newWorld(t)
			a := w.start("a", database(t, url))
			b := w.start("b", database(t, url))
			s := a.is("ready", 2)
			b.is("ready", 2)
			if m := s.Members[1]; m.Name != "b" || m.Version != "1.2.3" || m.Client != "b.test:5222" || m.Self || m.Senior || s.Senior != "a" {
				t.Errorf("a sees %+v", m)
			}
			b.ask(whole(b.Leave, false))
			s = b.is("standalone", 1)
			if s.Wanted || s.DecidedBy != membership.DecidedHere || !s.Admits {
				t.Errorf("after leaving: %+v", s)
			}
			if _, told := b.admits(); len(told) != 1 || !slices.Equal(told[0].Elsewhere, []string{"a.test:5222"}) {
				t.Errorf("its clients were told %+v", told)
			}
			a.is("ready", 1)
			b.stop()
			b = w.start("b", database(t, url))
			b.is("standalone", 1)
			b.ask(whole(b.Join, false))
			b.is("ready", 2)
			if _, told := a.admits(); len(told) != 0 {
				t.Errorf("clients of a were told %+v", told)
			}
		})
	}
}

// What is decided for all nodes reaches also those that stand alone, and replaces what was decided for one.
func TestAllNodes(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t, store.SQLite)
	w := newWorld(t)
	listen := fixed(t)
	a := w.start("a", database(t, url), func(c *config.Cluster) { c.Listen = listen })
	b := w.start("b", database(t, url))
	b.is("ready", 2)
	a.is("ready", 2)
	a.ask(whole(a.Leave, true))
	a.is("standalone", 1)
	s := b.is("standalone", 1)
	if s.Wanted || s.DecidedBy != membership.DecidedAll {
		t.Errorf("b: %+v", s)
	}
	for _, n := range []*node{a, b} {
		if _, told := n.admits(); len(told) != 0 {
			t.Errorf("clients were told %+v", told)
		}
	}
	b.ask(whole(b.Leave, false))
	a.ask(whole(a.Join, true))
	a.is("ready", 2)
	if s := b.is("ready", 2); s.DecidedBy != membership.DecidedAll {
		t.Errorf("b: %+v", s)
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t, store.SQLite)
	w := newWorld(t)
	a, b := w.start("a", database(t, url)), w.start("b", database(t, url))
	a.is("ready", 2)
	b.is("ready", 2)
	b.ask(b.Drain)
	s := b.is("drained", 1)
	open, told := b.admits()
	if open || s.Admits || len(told) != 1 || !slices.Equal(told[0].Elsewhere, []string{"a.test:5222"}) {
		t.Errorf("open: %v, told: %+v", open, told)
	}
	if err := b.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "drained") {
		t.Errorf("ready: %v", err)
	}
	a.is("ready", 1)
	b.ask(whole(b.Join, false))
	b.is("ready", 2)
	if open, _ := b.admits(); !open {
		t.Error("takes no clients after it has joined again")
	}
	if err := b.Ready(t.Context()); err != nil {
		t.Errorf("ready: %v", err)
	}
}

// A node that works on another database is refused, though it is a copy of the first one; those that were there stay.
func TestOtherDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := database(t, storetest.URL(t, store.SQLite))
	copied := filepath.Join(t.TempDir(), "copy.db")
	a := w.start("a", first)
	a.is("ready", 1)
	// A copy has the proofs of all nodes that were there before it was made.
	err := first.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO nodes (node, proof, proved_at) VALUES ('b', 'old', 0)`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b := w.start("b", database(t, "sqlite:"+copied), func(c *config.Cluster) { c.WhenFailed = config.Refuse })
	s := b.is("failed", 1)
	if s.Failure == nil || !strings.Contains(s.Failure.Reason, "node a works on another database") || !strings.Contains(s.Failure.Remedy, "database.url") {
		t.Errorf("failure: %+v", s.Failure)
	}
	if open, _ := b.admits(); open || s.Admits {
		t.Error("takes clients though it should refuse them")
	}
	if err := b.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "another database") {
		t.Errorf("ready: %v", err)
	}
	if s := a.is("ready", 1); s.Failure != nil {
		t.Errorf("a: %+v", s.Failure)
	}
}

// Those that were there first stay, also if the one with the other database was started before them.
func TestOtherDatabaseJoinsLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	url := storetest.URL(t, store.SQLite)
	oldest := w.start("z", database(t, storetest.URL(t, store.SQLite)), func(c *config.Cluster) { c.Enabled = false })
	a, b := w.start("a", database(t, url)), w.start("b", database(t, url))
	oldest.is("standalone", 1)
	late := w.start("y", database(t, storetest.URL(t, store.SQLite)))
	if s := late.is("failed", 1); !strings.Contains(s.Failure.Reason, "another database") {
		t.Errorf("late: %+v", s.Failure)
	}
	a.is("ready", 2)
	b.is("ready", 2)
}

func TestWrongToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	url := storetest.URL(t, store.SQLite)
	a := w.start("a", database(t, url))
	b := w.start("b", database(t, url), func(c *config.Cluster) { c.Token = config.Secret(cluster.NewToken()) })
	s := b.is("failed", 1)
	if s.Failure == nil || !strings.Contains(s.Failure.Reason+s.Failure.Remedy, "token") || !s.Admits {
		t.Errorf("%+v", s)
	}
	if err := b.Ready(t.Context()); err != nil {
		t.Errorf("it serves alone, but is not ready: %v", err)
	}
	if note := b.Note(); !strings.HasPrefix(note, "failed: ") {
		t.Errorf("note: %s", note)
	}
	// The same again: it fails for the same reason, and does not try by itself in between.
	b.ask(whole(b.Join, false))
	b.is("failed", 1)
	b.ask(whole(b.Leave, false))
	if s := b.await("alone", func(s membership.Status) bool { return s.Failure == nil }); s.Wanted {
		t.Errorf("after leaving: %+v", s)
	}
	a.is("ready", 1)
}

func TestSQLiteIsNotShared(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.start("a", database(t, storetest.URL(t, store.SQLite)), func(c *config.Cluster) { c.AllowSharedSQLite = false })
	s := n.is("failed", 1)
	for _, want := range []string{"SQLite", "PostgreSQL", "--allow-shared-sqlite"} {
		if !strings.Contains(s.Failure.Reason+s.Failure.Remedy, want) {
			t.Errorf("no %q in %+v", want, s.Failure)
		}
	}
}

func TestNotConfigured(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.start("a", database(t, storetest.URL(t, store.SQLite)), func(c *config.Cluster) { c.Token = "" })
	s := n.is("standalone", 1)
	if s.Configured || s.Wanted || s.Members[0].Address != "" || !s.Admits {
		t.Errorf("%+v", s)
	}
	for _, err := range []error{n.Join(t.Context(), false), n.Leave(t.Context(), true)} {
		if !errors.Is(err, membership.ErrNotConfigured) {
			t.Errorf("got %v", err)
		}
	}
	n.ask(n.Drain)
	if open, told := n.admits(); open || len(told) != 1 || len(told[0].Elsewhere) != 0 {
		t.Errorf("drained: open %v, told %+v", open, told)
	}
}

// While the database is away nothing is decided, and nothing changes.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	db := database(t, storetest.URL(t, store.SQLite))
	n := w.start("a", db)
	n.is("ready", 1)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.Leave(t.Context(), false); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	n.is("ready", 1)
}

// A server that stops sends its clients to the others, in time that is left.
func TestStop(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t, store.SQLite)
	w := newWorld(t)
	a := w.start("a", database(t, url))
	b := w.start("b", database(t, url), func(c *config.Cluster) { c.DrainTime = time.Hour })
	a.is("ready", 2)
	b.is("ready", 2)
	b.stop()
	_, told := b.admits()
	if len(told) != 1 || told[0].Over > patience/2 || !slices.Equal(told[0].Elsewhere, []string{"a.test:5222"}) {
		t.Errorf("told: %+v", told)
	}
	a.is("ready", 1)
	if err := b.Drain(t.Context()); !errors.Is(err, membership.ErrStopping) {
		t.Errorf("asked after its end: %v", err)
	}
	b.mu.Lock()
	b.cleared = nil
	b.mu.Unlock()
}

func TestQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b strings.Builder
		log := membership.Quiet(slog.New(slog.NewTextHandler(&b, nil))).With("node", "a")
		log.Info("one")
		log.Warn("two")
		log.Info("join tokens changed")
		if got := b.String(); strings.Contains(got, "one") || !strings.Contains(got, "join tokens changed") || !strings.Contains(got, "two") || !strings.Contains(got, "node=a") {
			t.Error(got)
		}
	})
}
