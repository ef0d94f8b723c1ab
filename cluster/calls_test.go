package cluster_test

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/cluster/internal/mem"
)

func upper(n *node) *cluster.Task[string, string] {
	return cluster.NewTask(n.Node, "upper", cluster.Text(), cluster.Text(), func(ctx context.Context, from cluster.Member, req string) (string, error) {
		switch req {
		case "fail":
			return "", errors.New("cannot do that")
		case "panic":
			panic("oh no")
		case "wait":
			<-ctx.Done()
			return "", ctx.Err()
		case "big":
			return strings.Repeat("x", 2<<20), nil
		}
		return n.name + ":" + strings.ToUpper(req) + " for " + from.Name, nil
	})
}

// tasks: each way in which a call can end is told from the others.
func tasks(w *world) {
	ns := w.join("a", "b", "c")
	ta := upper(ns[0])
	upper(ns[1])
	idB, idC := ns[1].Self().ID, ns[2].Self().ID
	ctx := context.Background()
	if v, err := ta.Call(ctx, idB, "hi"); err != nil || v != "b:HI for a" {
		w.t.Errorf("call: %q, %v", v, err)
	}
	if v, err := ta.Call(ctx, ns[0].Self().ID, "hi"); err != nil || v != "a:HI for a" {
		w.t.Errorf("call to itself: %q, %v", v, err)
	}
	if _, err := ta.Call(ctx, idC, "hi"); !errors.Is(err, cluster.ErrUnknownTask) {
		w.t.Errorf("unknown task: %v", err)
	}
	if _, err := ta.Call(ctx, "nobody", "hi"); !errors.Is(err, cluster.ErrGone) {
		w.t.Errorf("nobody: %v", err)
	}
	var remote *cluster.RemoteError
	for _, req := range []string{"fail", "panic", "big"} {
		for _, to := range []string{idB, ns[0].Self().ID} {
			if _, err := ta.Call(ctx, to, req); !errors.As(err, &remote) || remote.Panicked != (req == "panic") || remote.Task != "upper" {
				w.t.Errorf("%s: %v", req, err)
			}
		}
	}
	if _, err := ta.Call(ctx, idB, strings.Repeat("x", 2<<20)); !errors.Is(err, cluster.ErrTooBig) {
		w.t.Errorf("big request: %v", err)
	}
	for _, to := range []string{idB, ns[0].Self().ID} {
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		if _, err := ta.Call(short, to, "wait"); !errors.Is(err, context.DeadlineExceeded) {
			w.t.Errorf("deadline: %v", err)
		}
	}
	all := ta.CallAll(ctx, "x")
	ok := 0
	for _, r := range all {
		if r.Err == nil {
			ok++
		}
	}
	if len(all) != 3 || ok != 2 {
		w.t.Errorf("all: %+v", all)
	}
}

// slack is a context whose end is noticed late.
type slack struct {
	context.Context
	end time.Time
}

func (s slack) Deadline() (time.Time, bool) { return s.end, true }

// TestLateContext: when the time is over on both sides, it does not depend on which one notices first how a call ends.
func TestLateContext(t *testing.T) {
	bubble(t, mem.Options{Hints: true}, func(w *world) {
		ns := w.join("a", "b")
		ta := upper(ns[0])
		upper(ns[1])
		ctx := slack{context.Background(), time.Now().Add(100 * time.Millisecond)}
		if _, err := ta.Call(ctx, ns[1].Self().ID, "wait"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

// callToDying: a call to a member that dies ends when it is known dead, not at the deadline.
func callToDying(w *world) {
	ns := w.join("a", "b")
	ta := upper(ns[0])
	upper(ns[1])
	time.AfterFunc(100*time.Millisecond, func() { w.kill("b") })
	start := time.Now()
	if _, err := ta.Call(context.Background(), ns[1].Self().ID, "wait"); !errors.Is(err, cluster.ErrGone) {
		w.t.Errorf("call: %v", err)
	}
	w.within(3*time.Second, time.Since(start))
}

// callSenior: a task can be sent to the oldest member.
func callSenior(w *world) {
	ns := w.join("a")
	w.beats(2)
	ns = append(ns, w.join("b")...)
	upper(ns[0])
	tb := upper(ns[1])
	w.until("b knows", func() bool { return ns[1].Senior().Name == "a" })
	if v, err := tb.CallSenior(context.Background(), "x"); err != nil || v != "a:X for b" {
		w.t.Errorf("%q, %v", v, err)
	}
}

// listener collects what comes on a topic.
type ear struct {
	mu   sync.Mutex
	got  []string
	gaps int
}

func (e *ear) on(topic *cluster.Topic[string]) {
	topic.Subscribe(func(from cluster.Member, v string) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.got = append(e.got, from.Name+":"+v)
	}, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.gaps++
	})
}

func (e *ear) state() (got []string, gaps int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.got), e.gaps
}

// topicGaps: messages arrive in order, here and there, and what is missed is told: at once when another message follows,
// by the beacons when none does, and after a partition.
func topicGaps(w *world) {
	ns := w.join("a", "b")
	ta, tb := cluster.NewTopic(ns[0].Node, "t", cluster.Text()), cluster.NewTopic(ns[1].Node, "t", cluster.Text())
	var here, there ear
	here.on(ta)
	there.on(tb)
	say := func(v string) {
		w.t.Helper()
		if err := ta.Publish(v); err != nil {
			w.t.Fatal(err)
		}
	}
	hears := func(e *ear, gaps int, want ...string) {
		w.t.Helper()
		w.until(fmt.Sprint(want, " and ", gaps, " gaps"), func() bool {
			got, n := e.state()
			if !w.exact() { // there may be other gaps, which take messages with them
				return n >= gaps && (n > gaps || slices.Equal(got, want))
			}
			return slices.Equal(got, want) && n == gaps
		})
	}
	lose := func(v string) {
		w.site.partition([]string{"a"}, []string{"b"})
		say(v)
		w.beats(1)
		w.site.heal()
	}
	say("1")
	say("2")
	hears(&here, 0, "a:1", "a:2")
	hears(&there, 0, "a:1", "a:2")
	lose("lost")
	say("3")
	hears(&there, 1, "a:1", "a:2", "a:3")
	lose("lost, and nothing after it")
	hears(&there, 2, "a:1", "a:2", "a:3")
	w.beats(10)
	hears(&there, 2, "a:1", "a:2", "a:3")
	w.site.partition([]string{"a"}, []string{"b"})
	w.until("they miss each other", func() bool { return ns[0].sees("a") && ns[1].sees("b") })
	w.site.heal()
	w.until("a gap after the partition", func() bool { _, gaps := there.state(); return gaps >= 3 })
}

// handBack: of what was sent to a member that is killed in the middle, each record was applied or comes back.
func handBack(w *world) {
	ns := w.join("a", "b", "c")
	var mu sync.Mutex
	applied, back := map[string]bool{}, []string{}
	ch := ns[0].Channel("c", nil, func(to cluster.Member, records [][]byte) {
		mu.Lock()
		defer mu.Unlock()
		if to.Name != "b" {
			w.t.Errorf("records to %s come back", to.Name)
		}
		for _, r := range records {
			back = append(back, string(r))
		}
	})
	ns[1].Channel("c", func(_ cluster.Member, r []byte) {
		mu.Lock()
		defer mu.Unlock()
		applied[string(r)] = true
	}, nil)
	to := ns[1].Self().ID
	time.AfterFunc(500*time.Millisecond, func() { w.kill("b") })
	sent := 0
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		err := ch.Send(ctx, to, fmt.Append(nil, sent))
		cancel()
		if errors.Is(err, cluster.ErrGone) {
			break
		}
		if err != nil {
			w.t.Fatal(err)
		}
		if sent++; sent%10 == 0 {
			w.moment()
		}
	}
	w.until("every record was applied or is back", func() bool {
		mu.Lock()
		defer mu.Unlock()
		for i := range sent {
			if s := fmt.Sprint(i); !applied[s] && !slices.Contains(back, s) {
				return false
			}
		}
		return true
	})
	mu.Lock()
	defer mu.Unlock()
	inOrder := slices.IsSortedFunc(back, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) })
	if len(back) == 0 || !inOrder {
		w.t.Errorf("%d records came back: %v", len(back), back)
	}
}

// orderWhileOthersMove: records keep their order, and none is lost or doubled, while another member joins, leaves,
// joins again and is killed.
func orderWhileOthersMove(w *world) {
	ns := w.join("a", "b")
	c := w.start("c")
	var next, wrong atomic.Uint32
	ns[1].Channel("c", func(_ cluster.Member, rec []byte) {
		if binary.BigEndian.Uint32(rec) != next.Add(1)-1 {
			wrong.Add(1)
		}
	}, nil)
	ch := ns[0].Channel("c", nil, nil)
	moved := make(chan error, 1)
	go func() {
		for range 2 {
			if err := c.Join(context.Background()); err != nil {
				moved <- err
				return
			}
			if err := c.Leave(context.Background()); err != nil {
				moved <- err
				return
			}
		}
		moved <- c.Join(context.Background())
	}()
	moving, sent := true, uint32(0)
	for ; moving || sent < 10_000; sent++ {
		if sent%50 == 0 {
			w.moment()
		}
		if err := ch.Send(context.Background(), ns[1].Self().ID, binary.BigEndian.AppendUint32(nil, sent)); err != nil {
			w.t.Fatal(err)
		}
		select {
		case err := <-moved:
			moving = false
			if err != nil {
				w.t.Errorf("move: %v", err)
			}
			w.kill("c")
		default:
		}
	}
	w.until("all came", func() bool { return next.Load() == sent })
	if wrong.Load() > 0 {
		w.t.Errorf("%d of %d records at the wrong place", wrong.Load(), sent)
	}
}

// hung: a member whose handler hangs fills its window, and nothing else; after a while it is given up, and told.
func hung(w *world) {
	w.tune = func(c *cluster.Config) { c.Window, c.Stuck = 64<<10, 2*time.Second }
	ns := w.join("a", "b", "c")
	hang := make(chan struct{})
	release := sync.OnceFunc(func() { close(hang) })
	defer release()
	ns[1].Channel("c", func(cluster.Member, []byte) { <-hang }, nil)
	var got, back atomic.Int64
	ns[2].Channel("c", func(cluster.Member, []byte) { got.Add(1) }, nil)
	ch := ns[0].Channel("c", nil, func(_ cluster.Member, rs [][]byte) { back.Store(int64(len(rs))) })
	before := ns[1].Self().Incarnation
	sent := 0
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		err := ch.Send(ctx, ns[1].Self().ID, make([]byte, 1000))
		cancel()
		if err != nil {
			break
		}
		sent++
	}
	if sent < 50 || sent > 70 {
		w.t.Errorf("%d records fit a window of 64 KiB", sent)
	}
	put(w.t, ns[0], "k", "v") // changes of tables and records to others pass
	if err := ch.Send(context.Background(), ns[2].Self().ID, []byte("x")); err != nil {
		w.t.Fatal(err)
	}
	w.until("others are not affected", func() bool { return got.Load() == 1 && ns[2].rows.Len() == 1 })
	w.until("given up", func() bool { return back.Load() > 0 })
	if back.Load() != int64(sent) {
		w.t.Errorf("%d of %d records came back", back.Load(), sent)
	}
	w.until("fenced", func() bool { return ns[1].Self().Incarnation > before })
	release()
	w.until("back", func() bool { return ns[0].sees("a", "b", "c") && ns[1].State() == cluster.Ready && equal(ns...) })
}

func TestMetricsAndStatus(t *testing.T) {
	bubble(t, mem.Options{}, func(w *world) {
		reg := prometheus.NewRegistry()
		w.tune = func(c *cluster.Config) {
			if c.Name == "a" {
				c.Registerer = reg
			}
		}
		ns := w.join("a", "b")
		put(t, ns[1], "k", "v")
		_, _ = upper(ns[0]).Call(context.Background(), ns[1].Self().ID, "x")
		w.until("copied", func() bool { return ns[0].rows.Len() == 1 })
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		have := map[string]bool{}
		for _, f := range families {
			have[f.GetName()] = true
		}
		for _, want := range []string{"cluster_members", "cluster_state", "cluster_rows_copied", "cluster_link_round_trip_seconds", "cluster_link_window_full_total", "cluster_task_call_seconds"} {
			if !have[want] {
				t.Errorf("no metric %s", want)
			}
		}
		s := ns[0].Status()
		if len(s.Members) != 2 || len(s.Peers) != 1 || s.Peers[0].Name != "b" || !s.Peers[0].Synced || s.Peers[0].Rows != 1 || len(s.Events) == 0 {
			t.Errorf("status: %+v", s)
		}
		if err := ns[0].Close(); err != nil {
			t.Fatal(err)
		}
		if families, _ = reg.Gather(); len(families) != 0 {
			t.Error("metrics remain after Close")
		}
		if err := ns[0].Join(context.Background()); !errors.Is(err, cluster.ErrClosed) {
			t.Errorf("join after close: %v", err)
		}
	})
}

// homes: every node names the same home, and a member that goes takes along only its own keys.
func homes(w *world) {
	ns := w.join("a", "b", "c", "d")
	w.until("all know that all are ready", func() bool {
		for _, n := range ns {
			for _, m := range n.Members() {
				if m.State != cluster.Ready {
					return false
				}
			}
		}
		return true
	})
	before, share := map[string]string{}, map[string]int{}
	for i := range 1000 {
		key := fmt.Sprint("key", i)
		before[key] = ns[0].Home(key).Name
		share[before[key]]++
		if other := ns[3].Home(key).Name; other != before[key] {
			w.t.Fatalf("%s is at %s and %s", key, before[key], other)
		}
		if h := ns[0].Homes(key, 2); len(h) != 2 || h[0].Name != before[key] || h[1].Name == h[0].Name {
			w.t.Fatalf("homes of %s: %v", key, h)
		}
	}
	for name, n := range share {
		if n < 150 || n > 350 {
			w.t.Errorf("%s is home of %d keys of 1000", name, n)
		}
	}
	if err := ns[3].Leave(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	w.until("gone", func() bool { return ns[0].sees("a", "b", "c") })
	for key, was := range before {
		if is := ns[0].Home(key).Name; is != was && was != "d" {
			w.t.Errorf("%s moved from %s to %s", key, was, is)
		}
	}
}

func TestConfig(t *testing.T) {
	for name, c := range map[string]cluster.Config{
		"cluster name": {Cluster: "No Dots."},
		"intervals":    {Beacon: time.Second, Suspect: time.Second},
		"window":       {Window: 1},
	} {
		if _, err := cluster.Start(context.Background(), c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	n, err := cluster.Start(context.Background(), cluster.Config{Log: logger()})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	var f *cluster.Failure
	if err := n.Join(context.Background()); !errors.As(err, &f) || n.State() != cluster.Failed || n.Failure() == nil {
		t.Errorf("join without engine: %v, %s", err, n.State())
	}
}
