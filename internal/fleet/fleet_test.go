package fleet_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/internal/account"
	"github.com/starling-im/starling/internal/cache"
	"github.com/starling-im/starling/internal/fleet"
	"github.com/starling-im/starling/internal/hook"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/router"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// patience bounds what takes real time.
const patience = 20 * time.Second

// node is a server without doors: sessions are bound by hand.
type node struct {
	*cluster.Node
	core   *module.Core
	router *router.Router
	fleet  *fleet.Fleet
}

// start joins nodes on embedded servers that share a database.
func start(t testing.TB, names ...string) []*node {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(ctx, "sqlite:"+filepath.Join(t.TempDir(), "test.db"), store.Options{Log: log, Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Migrate(ctx, account.Migrations()); err != nil {
		t.Fatal(err)
	}
	token := cluster.NewToken()
	var all []*node
	for _, name := range names {
		cfg := cluster.Config{Name: name, Cluster: "test", Token: token, Listen: "127.0.0.1:0", Log: log}
		if len(all) > 0 {
			cfg.Peers = []string{all[0].Self().Address}
		}
		n := one(t, db, cfg)
		if err := n.Join(ctx); err != nil {
			t.Fatal(err)
		}
		all = append(all, n)
	}
	await(t, "all see all", func() bool {
		for _, n := range all {
			if len(n.Members()) != len(all) {
				return false
			}
		}
		return true
	})
	return all
}

func one(t testing.TB, db *store.DB, cfg cluster.Config) *node {
	cn, err := cluster.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	core := &module.Core{
		DB: db, Sessions: session.NewTable(), Hooks: &module.Hooks{}, Metrics: reg, Now: time.Now,
		Accounts: account.New(db, account.Options{Registerer: reg}), Domains: []jid.JID{jid.MustParse("a.test")},
	}
	n := &node{Node: cn, core: core, router: router.New(core, cfg.Log)}
	n.fleet = fleet.New(core, cn, n.router, fleet.Options{Log: cfg.Log})
	ctx, cancel := context.WithCancel(context.Background())
	var loop sync.WaitGroup
	loop.Go(func() { n.fleet.Run(ctx) })
	t.Cleanup(func() {
		cn.Close()
		cancel()
		loop.Wait()
	})
	return n
}

// await looks again and again until something is so.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// inbox is the Out of a session.
type inbox struct {
	mu    sync.Mutex // guards all
	got   []string
	ended error
	come  chan struct{}
}

func (b *inbox) Append(st string) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got = append(b.got, st)
	return true, nil
}

func (b *inbox) Flush() {
	select {
	case b.come <- struct{}{}:
	default:
	}
}

func (b *inbox) End(reason error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = reason
}

func (b *inbox) end() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ended
}

func (b *inbox) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.got)
}

// bind enters a session that is available.
func (n *node) bind(t testing.TB, full string) (*session.Session, *inbox) {
	t.Helper()
	b := &inbox{come: make(chan struct{}, 1)}
	s := session.New(jid.MustParse(full), b)
	if _, err := n.core.Sessions.Add(s, nil); err != nil {
		t.Fatal(err)
	}
	s.Update(func(st *session.State) { st.Presence = stanza.New(stanza.Presence, stanza.Available, "", jid.JID{}) })
	return s, b
}

// unbind takes a session out, as a door does.
func (n *node) unbind(s *session.Session) {
	n.core.Sessions.Remove(s)
	n.core.Sessions.Gone(s)
}

// say sends a chat message, as a connection does.
func (n *node) say(from *session.Session, to, id string) {
	f := session.Flow{Session: from}
	ctx := session.WithFlow(context.Background(), &f)
	st := stanza.New(stanza.Message, stanza.Chat, id, jid.MustParse(to), xml.New(xml.NSClient, "body").WithText("hi")).WithFrom(from.JID)
	n.router.FromClient(ctx, from, st)
	f.Flush()
}

func (n *node) sees(full string) bool { return n.core.Sessions.Find(jid.MustParse(full)) != nil }

// TestAcross: sessions are seen everywhere, and get messages in order.
func TestAcross(t *testing.T) {
	ns := start(t, "a", "b", "c")
	romeo, _ := ns[0].bind(t, "romeo@a.test/orchard")
	juliet, box := ns[1].bind(t, "juliet@a.test/balcony")
	await(t, "juliet is seen", func() bool { s := ns[0].core.Sessions.Find(juliet.JID); return s != nil && s.State().Reachable() })
	const count = 3000
	for i := range count {
		to := "juliet@a.test"
		if i%2 == 0 {
			to += "/balcony"
		}
		ns[0].say(romeo, to, fmt.Sprint(i))
	}
	await(t, "all came", func() bool { return box.count() == count })
	for i, st := range box.got {
		if !strings.Contains(st, fmt.Sprintf("id='%d'", i)) {
			t.Fatalf("at place %d came %s", i, st)
		}
	}
	if err := ns[0].fleet.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := ns[2].fleet.Status(); s.Everywhere != 2 || s.Here != 0 {
		t.Errorf("the third node sees %+v", s)
	}
	ns[1].unbind(juliet)
	await(t, "juliet is gone", func() bool { return !ns[0].sees("juliet@a.test/balcony") && !ns[2].sees("juliet@a.test/balcony") })
}

// TestBindSendAnswer: a session is known before anything that it sends arrives.
func TestBindSendAnswer(t *testing.T) {
	ns := start(t, "a", "b")
	echo, asked := ns[1].bind(t, "echo@a.test/x")
	await(t, "echo is seen", func() bool { s := ns[0].core.Sessions.Find(echo.JID); return s != nil && s.State().Reachable() })
	count := 10_000
	if testing.Short() {
		count = 1000
	}
	for i := range count {
		full := fmt.Sprintf("user@a.test/%d", i)
		s, box := ns[0].bind(t, full)
		ns[0].say(s, "echo@a.test/x", fmt.Sprint(i))
		for asked.count() <= i {
			<-asked.come
		}
		ns[1].say(echo, full, "r")
		deadline := time.After(patience)
		for box.count() == 0 {
			select {
			case <-box.come:
			case <-deadline:
				t.Fatalf("no answer to number %d", i)
			}
		}
		if !strings.Contains(box.got[0], "id='r'") || strings.Contains(box.got[0], "type='error'") {
			t.Fatalf("the answer is %s", box.got[0])
		}
		ns[0].unbind(s)
	}
}

// TestConflict: of two sessions with one full JID the later one stays.
func TestConflict(t *testing.T) {
	ns := start(t, "a", "b")
	_, first := ns[0].bind(t, "juliet@a.test/balcony")
	await(t, "she is seen", func() bool { return ns[1].sees("juliet@a.test/balcony") })
	second, box := ns[1].bind(t, "juliet@a.test/balcony")
	await(t, "the first one is ended", func() bool { return first.end() != nil })
	if s := ns[0].core.Sessions.Find(second.JID); s == nil || s.UID != second.UID {
		t.Errorf("the first node shows %v", s)
	}
	if box.end() != nil || !second.Took {
		t.Errorf("the later one ended with %v, took %v", box.end(), second.Took)
	}
	if n := ns[0].fleet.Status().Conflicts; n != 1 {
		t.Errorf("%d conflicts", n)
	}
}

// TestMoves: messages to a session that comes and goes on all nodes reach it, or come back as errors; in order.
func TestMoves(t *testing.T) {
	ns := start(t, "a", "b", "c")
	romeo, answers := ns[0].bind(t, "romeo@a.test/orchard")
	var mu sync.Mutex
	var boxes []*inbox
	stop := make(chan struct{})
	var moving sync.WaitGroup
	moving.Go(func() {
		for i := 0; ; i++ {
			n := ns[i%3]
			s, b := n.bind(t, "juliet@a.test/balcony")
			mu.Lock()
			boxes = append(boxes, b)
			mu.Unlock()
			deadline := time.After(3 * time.Millisecond)
			for b.count() < 50 {
				select {
				case <-b.come:
					continue
				case <-deadline:
				case <-stop:
				}
				break
			}
			s.End(nil)
			n.unbind(s)
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	const count = 20_000
	for i := range count {
		ns[0].say(romeo, "juliet@a.test/balcony", fmt.Sprint(i))
	}
	if err := ns[0].fleet.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(stop)
	moving.Wait()
	seen := make([]int, count)
	tally := func(b *inbox, ordered bool) {
		last := -1
		for _, text := range b.got {
			st, err := stanza.Decode(text)
			if err != nil {
				t.Fatal(err)
			}
			var id int
			fmt.Sscan(st.ID, &id)
			seen[id]++
			if ordered && id <= last {
				t.Errorf("%d came after %d", id, last)
			}
			last = id
		}
	}
	got := 0
	for _, b := range boxes {
		tally(b, true)
		got += len(b.got)
	}
	tally(answers, false)
	for id, n := range seen {
		if n != 1 {
			t.Fatalf("message %d was seen %d times", id, n)
		}
	}
	t.Logf("%d messages were delivered to %d sessions, %d came back", got, len(boxes), len(answers.got))
}

// TestDeath: what is on its way to a node that goes is routed anew.
func TestDeath(t *testing.T) {
	ns := start(t, "a", "b", "c")
	romeo, answers := ns[0].bind(t, "romeo@a.test/orchard")
	_, there := ns[1].bind(t, "juliet@a.test/balcony")
	_, other := ns[2].bind(t, "juliet@a.test/chamber")
	await(t, "both are seen", func() bool { return len(ns[0].core.Sessions.Account(jid.MustParse("juliet@a.test"))) == 2 })
	var lost sync.Map
	for _, n := range []*node{ns[0], ns[2]} {
		n.core.Hooks.Lost.Add("test", hook.Record, func(_ context.Context, e *module.Passage) error {
			if by, twice := lost.LoadOrStore(e.Session.JID, n); twice {
				t.Errorf("%s is told of twice, by %s and %s: %v", e.Session.JID, by.(*node).Self().Name, n.Self().Name, n.Status().Events)
			}
			return nil
		})
	}
	const count = 5000
	for i := range count {
		if i == count/2 {
			go ns[1].Close()
		}
		ns[0].say(romeo, "juliet@a.test/balcony", fmt.Sprint(i))
	}
	await(t, "the node is gone", func() bool { return len(ns[0].Members()) == 2 })
	if err := ns[0].fleet.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, b := range []*inbox{there, other, answers} {
		b.mu.Lock()
		for _, text := range b.got {
			st, err := stanza.Decode(text)
			if err != nil {
				t.Fatal(err)
			}
			seen[st.ID]++
		}
		b.mu.Unlock()
	}
	if len(seen) != count {
		t.Errorf("%d of %d messages were seen", len(seen), count)
	}
	await(t, "her session is gone", func() bool { return !ns[2].sees("juliet@a.test/balcony") })
	await(t, "somebody is told", func() bool { _, ok := lost.Load(jid.MustParse("juliet@a.test/balcony")); return ok })
}

// TestMeet: nodes that had sessions before they met ask for the presence of each other's.
func TestMeet(t *testing.T) {
	ns := start(t, "a", "b")
	var seen [2]sync.Map
	for i, n := range ns {
		n.core.Hooks.Appeared.Add("test", hook.Record, func(_ context.Context, e *module.Passage) error {
			if _, twice := seen[i].LoadOrStore(e.Session.JID, true); twice {
				t.Errorf("%s has appeared twice", e.Session.JID)
			}
			return nil
		})
	}
	if err := ns[1].Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	romeo, _ := ns[0].bind(t, "romeo@a.test/orchard")
	juliet, box := ns[1].bind(t, "juliet@a.test/balcony")
	if ns[0].sees("juliet@a.test/balcony") || ns[1].sees("romeo@a.test/orchard") {
		t.Fatal("they see each other")
	}
	if err := ns[1].Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "both have appeared", func() bool {
		_, one := seen[0].Load(juliet.JID)
		_, two := seen[1].Load(romeo.JID)
		return one && two
	})
	ns[0].say(romeo, "juliet@a.test", "m")
	await(t, "a message comes", func() bool { return box.count() == 1 })
}

// TestCaches: what one node stores the others forget before anything that it sends later arrives.
func TestCaches(t *testing.T) {
	ns := start(t, "a", "b")
	var caches []*cache.Cache[int]
	for _, n := range ns {
		caches = append(caches, cache.New[int](&n.core.Caches, "numbers", "Numbers", 100, prometheus.NewRegistry()))
	}
	owner := jid.MustParse("juliet@a.test")
	stored := 1
	read := func(context.Context, jid.JID) (int, error) { return stored, nil }
	romeo, _ := ns[0].bind(t, "romeo@a.test/orchard")
	_, box := ns[1].bind(t, "juliet@a.test/balcony")
	await(t, "juliet is seen", func() bool { return ns[0].sees("juliet@a.test/balcony") })
	for i := range 500 {
		if _, err := caches[1].Load(t.Context(), owner, read); err != nil {
			t.Fatal(err)
		}
		stored++
		caches[0].Put(owner, stored)
		ns[0].say(romeo, "juliet@a.test/balcony", fmt.Sprint(i))
		for box.count() <= i {
			<-box.come
		}
		if n, _ := caches[1].Load(t.Context(), owner, read); n != stored {
			t.Fatalf("read %d, stored is %d", n, stored)
		}
	}
}

// TestNudge: who becomes reachable on another node is found although something was stored for the account before.
func TestNudge(t *testing.T) {
	ns := start(t, "a", "b")
	var told atomic.Int32
	ns[1].core.Hooks.Reachable.Add("test", hook.Record, func(context.Context, *module.Passage) error { told.Add(1); return nil })
	bare := jid.MustParse("juliet@a.test")
	ns[0].core.Sessions.Nudge(bare)
	ns[1].bind(t, "juliet@a.test/balcony")
	await(t, "the later session is told", func() bool { return told.Load() == 1 })
	ns[0].core.Sessions.Nudge(bare)
	await(t, "the session that is there is told", func() bool { return told.Load() == 2 })
}

// TestJam: a sender whose messages nobody takes is held, and let go.
func TestJam(t *testing.T) {
	ns := start(t, "a", "b")
	romeo, _ := ns[0].bind(t, "romeo@a.test/orchard")
	_, box := ns[1].bind(t, "juliet@a.test/balcony")
	await(t, "juliet is seen", func() bool { return ns[0].sees("juliet@a.test/balcony") })
	f := session.Flow{Session: romeo}
	to := ns[0].core.Sessions.Find(jid.MustParse("juliet@a.test/balcony"))
	st := stanza.New(stanza.Message, stanza.Chat, "m", to.JID).WithFrom(romeo.JID)
	for range 1001 {
		if !f.Send(to, st) {
			t.Fatal("not taken")
		}
	}
	resumed := make(chan struct{})
	if !romeo.Jammed(func() { close(resumed) }) {
		t.Fatal("with 1001 messages under way the sender is not held")
	}
	f.Flush()
	select {
	case <-resumed:
	case <-time.After(patience):
		t.Fatal("the sender is not let go")
	}
	await(t, "all came", func() bool { return box.count() == 1001 })
	if n := ns[0].fleet.Status().Pauses; n != 1 {
		t.Errorf("%d pauses", n)
	}
}

// TestBinds: 20,000 sessions bound on each of three nodes are seen by all within a second.
func TestBinds(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	const each = 20_000
	ns := start(t, "a", "b", "c")
	all := make([]*session.Session, 0, 3*each)
	out := &inbox{}
	for i := range ns {
		for j := range each {
			all = append(all, session.New(jid.MustParse(fmt.Sprintf("user%d@node%d.example.org/phone", j, i)), out))
		}
	}
	var binding sync.WaitGroup
	for i, n := range ns {
		binding.Go(func() {
			for _, s := range all[i*each : (i+1)*each] {
				if _, err := n.core.Sessions.Add(s, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	binding.Wait()
	last := time.Now()
	await(t, "all are seen everywhere", func() bool {
		for _, n := range ns {
			if n.core.Sessions.LenEverywhere() != 3*each {
				return false
			}
		}
		return true
	})
	took := time.Since(last)
	t.Logf("all are seen everywhere %v after the last", took)
	if took > time.Second {
		t.Errorf("it took %v", took)
	}
}
