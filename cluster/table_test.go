package cluster_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/cluster/internal/mem"
)

// repair: a damaged copy is found and healed, whichever way it was damaged.
func repair(w *world) {
	ns := w.join("a", "b")
	for i := range 100 {
		put(w.t, ns[0], fmt.Sprint(i), "v")
	}
	w.until("copied", func() bool { return ns[1].rows.Len() == 100 && equal(ns...) })
	repairs := func() uint64 { return ns[1].Status().Peers[0].Repairs }
	before, wrong := repairs(), "wrong"
	for _, damage := range []*string{nil, &wrong} {
		if !ns[1].rows.Corrupt("42", damage) {
			w.t.Fatal("no such row")
		}
		w.within(11*time.Second, w.until("healed", func() bool {
			v, _, ok := ns[1].rows.Get("42")
			return ok && v == "v" && equal(ns...)
		}))
		if before++; w.exact() && repairs() != before {
			w.t.Errorf("%d repairs, want %d", repairs(), before)
		}
		w.beats(20)
	}
	if w.exact() && repairs() != before {
		w.t.Errorf("later %d repairs", repairs())
	}
}

// rowBeforeRecord: a row is there before anything that was sent after it was put, also one that comes with the
// snapshot, and with frames delayed and lost.
func rowBeforeRecord(w *world) {
	w.tune = func(c *cluster.Config) { c.Stuck = 20 * time.Second } // records wait for rows for the most part of that
	a, b := w.start("a"), w.start("b")
	const before, after = 2000, 2000
	for i := range before {
		put(w.t, a, fmt.Sprint(i), strings.Repeat("v", 1000))
	}
	var seen, missing atomic.Int64
	b.Channel("c", func(_ cluster.Member, rec []byte) {
		if _, _, ok := b.rows.Get(fmt.Sprint(binary.BigEndian.Uint32(rec))); !ok {
			missing.Add(1)
		}
		seen.Add(1)
	}, nil)
	ch := a.Channel("c", nil, nil)
	joined := w.joining(a, b)
	w.until("a sees b", func() bool { return a.sees("a", "b") })
	for i := range uint32(before + after) {
		if i >= before {
			put(w.t, a, fmt.Sprint(i), "v")
		}
		if err := ch.Send(context.Background(), b.Self().ID, binary.BigEndian.AppendUint32(nil, i)); err != nil {
			w.t.Fatal(err)
		}
	}
	w.until("all came", func() bool { return seen.Load() == before+after })
	if missing.Load() > 0 {
		w.t.Errorf("%d records came before their rows", missing.Load())
	}
	joined()
}

// TestLag: a member that falls behind what is kept of changes gets all rows anew.
func TestLag(t *testing.T) {
	bubble(t, mem.Options{}, func(w *world) {
		ns := w.join("a", "b")
		w.e.Hold("a", "b")
		big := strings.Repeat("x", 200_000)
		for i := range 100 { // 20 MB, more than is kept
			put(t, ns[0], fmt.Sprint(i), big)
		}
		w.pass(time.Second)
		w.e.HealAll()
		w.until("equal", func() bool { return equal(ns...) && ns[1].rows.Len() == 100 })
		if ns[0].count(cluster.MemberDied, "b") != 0 {
			t.Errorf("events: %v", ns[0].all())
		}
	})
}

func sameKey(w *world) {
	ns := w.join("a", "b", "c")
	put(w.t, ns[0], "k", "first")
	w.until("copied", func() bool { return ns[1].rows.Len() == 1 && ns[2].rows.Len() == 1 })
	put(w.t, ns[1], "k", "second")
	w.until("the later stamp is shown", func() bool {
		for _, n := range ns {
			if v, _, _ := n.rows.Get("k"); v != "second" || len(n.rows.Rows("k")) != 2 {
				return false
			}
		}
		return equal(ns...)
	})
	ns[1].rows.Delete("k")
	w.until("the other one is shown", func() bool {
		v, owner, _ := ns[2].rows.Get("k")
		return v == "first" && owner == ns[0].Self().ID
	})
}

func indexAndWatch(w *world) {
	ns := w.join("a", "b")
	watch := ns[1].rows.Watch(16)
	defer watch.Close()
	put(w.t, ns[0], "juliet/balcony", "1")
	put(w.t, ns[0], "juliet/chamber", "2")
	put(w.t, ns[0], "romeo/orchard", "3")
	put(w.t, ns[0], "juliet/balcony", "4")
	ns[0].rows.Delete("juliet/chamber")
	w.until("copied", func() bool { return ns[1].rows.Len() == 2 && equal(ns...) })
	if rows := ns[1].rows.Lookup("juliet"); len(rows) != 1 || rows[0].Value != "4" {
		w.t.Errorf("lookup: %v", rows)
	}
	if rows := ns[1].rows.Lookup("nurse"); rows != nil {
		w.t.Errorf("lookup of nobody: %v", rows)
	}
	var got []string
	for range 5 {
		c := <-watch.C
		s := c.Key + ":"
		if c.Old != nil {
			s += c.Old.Value
		}
		s += ">"
		if c.New != nil {
			s += c.New.Value
		}
		got = append(got, s)
	}
	want := []string{"juliet/balcony:>1", "juliet/chamber:>2", "romeo/orchard:>3", "juliet/balcony:1>4", "juliet/chamber:2>"}
	if !slices.Equal(got, want) {
		w.t.Errorf("changes %v, want %v", got, want)
	}
}

// lateTable: rows of a table that a program makes later are there when it does.
func lateTable(w *world) {
	ns := w.join("a", "b")
	late := cluster.NewTable(ns[0].Node, "late", cluster.JSON[[]int]())
	if err := late.Put("k", []int{1, 2}); err != nil {
		w.t.Fatal(err)
	}
	w.until("kept", func() bool {
		return slices.ContainsFunc(ns[1].Status().Tables, func(s cluster.TableStatus) bool { return s.Name == "late" && s.Unmade && s.Rows == 1 })
	})
	other := cluster.NewTable(ns[1].Node, "late", cluster.JSON[[]int]())
	if v, _, ok := other.Get("k"); !ok || !slices.Equal(v, []int{1, 2}) {
		w.t.Errorf("Get: %v, %v", v, ok)
	}
	if err := late.Put("k", []int{3}); err != nil {
		w.t.Fatal(err)
	}
	w.until("changed", func() bool { v, _, _ := other.Get("k"); return slices.Equal(v, []int{3}) })
}

func TestTooBig(t *testing.T) {
	bubble(t, mem.Options{}, func(w *world) {
		n := w.start("a")
		if err := n.rows.Put("k", strings.Repeat("x", 300_000)); !errors.Is(err, cluster.ErrTooBig) {
			t.Errorf("large value: %v", err)
		}
		if err := n.rows.Put(strings.Repeat("x", 10_000), ""); !errors.Is(err, cluster.ErrTooBig) {
			t.Errorf("large key: %v", err)
		}
	})
}

// TestSlowSubscriber: one that does not keep up is told how many events it missed, and then hears what follows.
func TestSlowSubscriber(t *testing.T) {
	bubble(t, mem.Options{}, func(w *world) {
		n := w.start("a")
		slow := n.rows.Watch(4)
		for i := range 100 {
			put(t, n, fmt.Sprint(i), "v")
		}
		for i := range 4 {
			if c := <-slow.C; c.Key != fmt.Sprint(i) {
				t.Errorf("change %d is of %q", i, c.Key)
			}
		}
		put(t, n, "last", "v")
		if c := <-slow.C; c.Missed != 96 {
			t.Errorf("missed %d", c.Missed)
		}
		if c := <-slow.C; c.Key != "last" {
			t.Errorf("then came %q", c.Key)
		}
		slow.Close()
		if _, ok := <-slow.C; ok {
			t.Error("not closed")
		}
	})
}
