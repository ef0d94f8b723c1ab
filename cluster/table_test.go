package cluster_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/cluster/internal/mem"
)

// TestRepair: a damaged copy is found and healed, whichever way it was damaged.
func TestRepair(t *testing.T) {
	wrong := "wrong"
	for name, damage := range map[string]*string{"row vanished": nil, "value changed": &wrong} {
		t.Run(name, func(t *testing.T) {
			bubble(t, mem.Options{}, func(w *world) {
				ns := w.join("a", "b")
				for i := range 100 {
					put(t, ns[0], fmt.Sprint(i), "v")
				}
				w.until("copied", func() bool { return ns[1].rows.Len() == 100 })
				if !ns[1].rows.Corrupt("42", damage) {
					t.Fatal("no such row")
				}
				took := w.until("healed", func() bool {
					v, _, ok := ns[1].rows.Get("42")
					return ok && v == "v" && equal(ns...)
				})
				if took > 11*time.Second {
					t.Errorf("took %v", took)
				}
				if r := ns[1].Status().Peers[0].Repairs; r != 1 {
					t.Errorf("%d repairs", r)
				}
				w.pass(time.Minute)
				if r := ns[1].Status().Peers[0].Repairs; r != 1 {
					t.Errorf("later %d repairs", r)
				}
			})
		})
	}
}

// TestRowBeforeRecord: a row is there before anything that was sent after it was put, also one that comes with the
// snapshot, and with frames delayed and lost.
func TestRowBeforeRecord(t *testing.T) {
	for name, o := range map[string]mem.Options{
		"slow":  {Seed: 4, MinDelay: 10 * time.Millisecond, MaxDelay: 30 * time.Millisecond},
		"lossy": {Seed: 5, Loss: 0.05, MinDelay: time.Millisecond, MaxDelay: 5 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) { bubble(t, o, func(w *world) { rowBeforeRecord(t, w) }) })
	}
}

func rowBeforeRecord(t *testing.T, w *world) {
	a, b := w.start("a"), w.start("b")
	const before, after = 2000, 2000
	for i := range before {
		put(t, a, fmt.Sprint(i), strings.Repeat("v", 1000))
	}
	var mu sync.Mutex
	seen, missing := 0, 0
	b.Channel("c", func(_ cluster.Member, rec []byte) {
		_, _, ok := b.rows.Get(fmt.Sprint(binary.BigEndian.Uint32(rec)))
		mu.Lock()
		defer mu.Unlock()
		if seen++; !ok {
			missing++
		}
	}, nil)
	ch := a.Channel("c", nil, nil)
	for _, n := range []*node{a, b} {
		go func() { _ = n.Join(context.Background()) }()
	}
	w.until("a sees b", func() bool { return a.sees("a", "b") })
	for i := range uint32(before + after) {
		if i >= before {
			put(t, a, fmt.Sprint(i), "v")
		}
		if err := ch.Send(context.Background(), b.Self().ID, binary.BigEndian.AppendUint32(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	w.until("all came", func() bool { mu.Lock(); defer mu.Unlock(); return seen == before+after })
	if missing > 0 {
		t.Errorf("%d records came before their rows", missing)
	}
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

func TestSameKey(t *testing.T) {
	bubble(t, mem.Options{}, func(w *world) {
		ns := w.join("a", "b", "c")
		put(t, ns[0], "k", "first")
		w.until("copied", func() bool { return ns[1].rows.Len() == 1 && ns[2].rows.Len() == 1 })
		put(t, ns[1], "k", "second")
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
	})
}

func TestIndexAndWatch(t *testing.T) {
	bubble(t, mem.Options{}, func(w *world) {
		ns := w.join("a", "b")
		watch := ns[1].rows.Watch(16)
		defer watch.Close()
		put(t, ns[0], "juliet/balcony", "1")
		put(t, ns[0], "juliet/chamber", "2")
		put(t, ns[0], "romeo/orchard", "3")
		put(t, ns[0], "juliet/balcony", "4")
		ns[0].rows.Delete("juliet/chamber")
		w.until("copied", func() bool { return ns[1].rows.Len() == 2 && equal(ns...) })
		if rows := ns[1].rows.Lookup("juliet"); len(rows) != 1 || rows[0].Value != "4" {
			t.Errorf("lookup: %v", rows)
		}
		if rows := ns[1].rows.Lookup("nurse"); rows != nil {
			t.Errorf("lookup of nobody: %v", rows)
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
			t.Errorf("changes %v, want %v", got, want)
		}
	})
}

// TestLateTable: rows of a table that a program makes later are there when it does.
func TestLateTable(t *testing.T) {
	bubble(t, mem.Options{}, func(w *world) {
		ns := w.join("a", "b")
		late := cluster.NewTable(ns[0].Node, "late", cluster.JSON[[]int]())
		if err := late.Put("k", []int{1, 2}); err != nil {
			t.Fatal(err)
		}
		w.until("kept", func() bool {
			return slices.ContainsFunc(ns[1].Status().Tables, func(s cluster.TableStatus) bool { return s.Name == "late" && s.Unmade && s.Rows == 1 })
		})
		other := cluster.NewTable(ns[1].Node, "late", cluster.JSON[[]int]())
		if v, _, ok := other.Get("k"); !ok || !slices.Equal(v, []int{1, 2}) {
			t.Errorf("Get: %v, %v", v, ok)
		}
		if err := late.Put("k", []int{3}); err != nil {
			t.Fatal(err)
		}
		w.until("changed", func() bool { v, _, _ := other.Get("k"); return slices.Equal(v, []int{3}) })
	})
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
