package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
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

func TestTasks(t *testing.T) {
	bubble(t, mem.Options{MaxDelay: 5 * time.Millisecond}, func(w *world) {
		ns := w.join("a", "b", "c")
		ta := upper(ns[0])
		upper(ns[1])
		idB, idC := ns[1].Self().ID, ns[2].Self().ID
		ctx := context.Background()
		if v, err := ta.Call(ctx, idB, "hi"); err != nil || v != "b:HI for a" {
			t.Errorf("call: %q, %v", v, err)
		}
		if v, err := ta.Call(ctx, ns[0].Self().ID, "hi"); err != nil || v != "a:HI for a" {
			t.Errorf("call to itself: %q, %v", v, err)
		}
		if _, err := ta.Call(ctx, idC, "hi"); !errors.Is(err, cluster.ErrUnknownTask) {
			t.Errorf("unknown task: %v", err)
		}
		if _, err := ta.Call(ctx, "nobody", "hi"); !errors.Is(err, cluster.ErrGone) {
			t.Errorf("nobody: %v", err)
		}
		var remote *cluster.RemoteError
		for _, req := range []string{"fail", "panic", "big"} {
			for _, to := range []string{idB, ns[0].Self().ID} {
				if _, err := ta.Call(ctx, to, req); !errors.As(err, &remote) || remote.Panicked != (req == "panic") || remote.Task != "upper" {
					t.Errorf("%s: %v", req, err)
				}
			}
		}
		if _, err := ta.Call(ctx, idB, strings.Repeat("x", 2<<20)); !errors.Is(err, cluster.ErrTooBig) {
			t.Errorf("big request: %v", err)
		}
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		if _, err := ta.Call(short, idB, "wait"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("deadline: %v", err)
		}
		all := ta.CallAll(ctx, "x")
		ok := 0
		for _, r := range all {
			if r.Err == nil {
				ok++
			}
		}
		if len(all) != 3 || ok != 2 {
			t.Errorf("all: %+v", all)
		}
	})
}

// TestCallToDying: a call to a member that dies ends when it is known dead, not at the deadline.
func TestCallToDying(t *testing.T) {
	bubble(t, mem.Options{Hints: true}, func(w *world) {
		ns := w.join("a", "b")
		ta := upper(ns[0])
		upper(ns[1])
		time.AfterFunc(100*time.Millisecond, func() { w.kill("b") })
		start := time.Now()
		if _, err := ta.Call(context.Background(), ns[1].Self().ID, "wait"); !errors.Is(err, cluster.ErrGone) {
			t.Errorf("call: %v", err)
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("took %v", d)
		}
	})
}

func TestCallSenior(t *testing.T) {
	bubble(t, mem.Options{}, func(w *world) {
		ns := w.join("a")
		w.pass(time.Second)
		ns = append(ns, w.join("b")...)
		upper(ns[0])
		tb := upper(ns[1])
		w.until("b knows", func() bool { return ns[1].Senior().Name == "a" })
		if v, err := tb.CallSenior(context.Background(), "x"); err != nil || v != "a:X for b" {
			t.Errorf("%q, %v", v, err)
		}
	})
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
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.got), e.gaps
}

func TestTopic(t *testing.T) {
	bubble(t, mem.Options{}, func(w *world) {
		ns := w.join("a", "b")
		ta, tb := cluster.NewTopic(ns[0].Node, "t", cluster.Text()), cluster.NewTopic(ns[1].Node, "t", cluster.Text())
		var here, there ear
		here.on(ta)
		there.on(tb)
		say := func(v string) {
			t.Helper()
			if err := ta.Publish(v); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		say("1")
		say("2")
		for _, e := range []*ear{&here, &there} {
			if got, gaps := e.state(); !slices.Equal(got, []string{"a:1", "a:2"}) || gaps != 0 {
				t.Errorf("got %v, %d gaps", got, gaps)
			}
		}
		w.e.Cut("a", "b")
		say("lost")
		w.e.HealAll()
		say("3")
		if got, gaps := there.state(); !slices.Equal(got, []string{"a:1", "a:2", "a:3"}) || gaps != 1 {
			t.Errorf("after a loss: %v, %d gaps", got, gaps)
		}
		w.e.Cut("a", "b")
		say("lost, and nothing after it")
		w.e.HealAll()
		w.pass(1100 * time.Millisecond)
		if _, gaps := there.state(); gaps != 2 {
			t.Errorf("after a loss at the end: %d gaps", gaps)
		}
		w.pass(10 * time.Second)
		if _, gaps := there.state(); gaps != 2 {
			t.Errorf("later: %d gaps", gaps)
		}
		w.e.Partition([]string{"a"}, []string{"b"})
		w.pass(5 * time.Second)
		w.e.HealAll()
		w.until("healed", func() bool { return ns[1].sees("a", "b") })
		if _, gaps := there.state(); gaps < 3 {
			t.Errorf("after a partition: %d gaps", gaps)
		}
	})
}

// TestChannelHandBack: of what was sent to a member that is killed in the middle, each record was applied or comes back.
func TestChannelHandBack(t *testing.T) {
	bubble(t, mem.Options{MinDelay: time.Millisecond, MaxDelay: 3 * time.Millisecond, Hints: true}, func(w *world) {
		ns := w.join("a", "b", "c")
		var mu sync.Mutex
		applied, back := map[string]bool{}, []string{}
		ch := ns[0].Channel("c", nil, func(to cluster.Member, records [][]byte) {
			mu.Lock()
			defer mu.Unlock()
			if to.Name != "b" {
				t.Errorf("records to %s come back", to.Name)
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
				t.Fatal(err)
			}
			sent++
			w.pass(100 * time.Microsecond)
		}
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		for i := range sent {
			if s := fmt.Sprint(i); !applied[s] && !slices.Contains(back, s) {
				t.Errorf("record %d of %d is lost", i, sent)
			}
		}
		if len(back) == 0 || !slices.IsSortedFunc(back, func(a, b string) int { return len(a) - len(b) }) {
			t.Errorf("%d records came back: %v", len(back), back)
		}
	})
}

// TestHung: a member whose handler hangs fills its window, and nothing else; after a while it is given up, and told.
func TestHung(t *testing.T) {
	bubble(t, mem.Options{}, func(w *world) {
		w.tune = func(c *cluster.Config) { c.Window = 64 << 10 }
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
			t.Errorf("%d records fit a window of 64 KiB", sent)
		}
		put(t, ns[0], "k", "v") // changes of tables and records to others pass
		if err := ch.Send(context.Background(), ns[2].Self().ID, []byte("x")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got.Load() != 1 || ns[2].rows.Len() != 1 {
			t.Error("others are affected")
		}
		w.until("given up", func() bool { return back.Load() > 0 })
		if back.Load() != int64(sent) {
			t.Errorf("%d of %d records came back", back.Load(), sent)
		}
		w.until("fenced", func() bool { return ns[1].Self().Incarnation > before })
		release()
		w.until("back", func() bool { return ns[0].sees("a", "b", "c") && ns[1].State() == cluster.Ready && equal(ns...) })
	})
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

// TestClocks: clocks that differ by minutes harm nothing, and later stamps are larger all the same.
func TestClocks(t *testing.T) {
	bubble(t, mem.Options{}, func(w *world) {
		off := map[string]time.Duration{"a": -10 * time.Minute, "b": 0, "c": 10 * time.Minute}
		w.tune = func(c *cluster.Config) {
			d := off[c.Name]
			c.Now = func() time.Time { return time.Now().Add(d) }
		}
		ns := w.join("c", "b", "a")
		put(t, ns[0], "k", "from c")
		w.until("copied", func() bool { return ns[2].rows.Len() == 1 })
		put(t, ns[2], "k", "from a, later")
		w.until("the later one is shown", func() bool { v, _, _ := ns[0].rows.Get("k"); return v == "from a, later" })
		w.pass(time.Minute)
		for _, n := range ns {
			if n.count(cluster.Fenced, n.name) > 0 || !n.sees("a", "b", "c") {
				t.Errorf("%s: %v", n.name, n.all())
			}
		}
	})
}

// TestHome: every node names the same home, and a member that goes takes along only its own keys.
func TestHome(t *testing.T) {
	bubble(t, mem.Options{}, func(w *world) {
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
				t.Fatalf("%s is at %s and %s", key, before[key], other)
			}
			if h := ns[0].Homes(key, 2); len(h) != 2 || h[0].Name != before[key] || h[1].Name == h[0].Name {
				t.Fatalf("homes of %s: %v", key, h)
			}
		}
		for name, n := range share {
			if n < 150 || n > 350 {
				t.Errorf("%s is home of %d keys of 1000", name, n)
			}
		}
		if err := ns[3].Leave(context.Background()); err != nil {
			t.Fatal(err)
		}
		w.until("gone", func() bool { return ns[0].sees("a", "b", "c") })
		for key, was := range before {
			if is := ns[0].Home(key).Name; is != was && was != "d" {
				t.Errorf("%s moved from %s to %s", key, was, is)
			}
		}
	})
}

// TestRetry: a node that is to join tries again until it can, and the state says so.
func TestRetry(t *testing.T) {
	bubble(t, mem.Options{}, func(w *world) {
		w.tune = func(c *cluster.Config) { c.Join = true }
		n := w.start("a")
		w.until("ready", func() bool { return n.State() == cluster.Ready })
	})
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
