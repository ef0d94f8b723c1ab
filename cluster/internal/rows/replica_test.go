package rows

import (
	"log/slog"
	"testing"
	"time"

	"github.com/starling-im/starling/cluster/internal/clock"
	"github.com/starling-im/starling/cluster/internal/frame"
	"github.com/starling-im/starling/cluster/internal/journal"
)

// copied is a replica with what it asked for.
type copied struct {
	*Replica
	asked []uint64
}

func newCopied() *copied {
	c := &copied{}
	s := New("self", journal.New(1, frame.MaxVersion), clock.New(time.Now))
	c.Replica = NewReplica(s, clock.New(time.Now), slog.New(slog.DiscardHandler), s.Living("peer", 1), time.Second)
	c.Start(func(id uint64) { c.asked = append(c.asked, id) })
	return c
}

func ops(list ...frame.Op) (o frame.Ops, t tally) {
	for _, op := range list {
		op.Table = "t"
		o = frame.AppendOp(o, &op, frame.MaxVersion)
		if !op.Delete {
			t.Add(journal.Sum("t", op.Key, op.Seq, op.Value))
		}
	}
	return o, t
}

func putOp(key string, seq uint64) frame.Op { return frame.Op{Key: key, Seq: seq, Value: []byte(key)} }
func delOp(key string, seq uint64) frame.Op { return frame.Op{Delete: true, Key: key, Seq: seq} }

// snapshot gives the replica all rows as they were at a sequence.
func (c *copied) snapshot(seq uint64, rows ...frame.Op) {
	id := c.asked[len(c.asked)-1]
	o, t := ops(rows...)
	c.Chunk(id, o)
	c.Finish(frame.Snapshot{ID: id, Seq: seq, Rows: t.Rows, Digest: t.Digest})
}

// change gives it changes, with the tally of the owner after them.
func (c *copied) change(prev, last uint64, after tally, list ...frame.Op) {
	o, _ := ops(list...)
	c.Delta(frame.Batch{Prev: prev, Last: last, Rows: after.Rows, Digest: after.Digest, Ops: o})
}

func (c *copied) keys() (keys string) {
	for _, k := range []string{"a", "b", "c", "d"} {
		if c.store.table("t").seqOf(c.owner, k) > 0 {
			keys += k
		}
	}
	return keys
}

func TestReplica(t *testing.T) {
	_, onlyA := ops(putOp("a", 1))
	_, aAndC := ops(putOp("a", 1), putOp("c", 4))
	for _, test := range []struct {
		name  string
		run   func(c *copied)
		keys  string
		seq   uint64
		asked int
	}{
		{"snapshot alone", func(c *copied) { c.snapshot(2, putOp("a", 1), putOp("b", 2)) }, "ab", 2, 1},
		{"changes after it", func(c *copied) {
			c.snapshot(2, putOp("a", 1), putOp("b", 2))
			c.change(2, 4, aAndC, delOp("b", 3), putOp("c", 4))
		}, "ac", 4, 1},
		{"deletion overtakes the snapshot", func(c *copied) {
			c.change(2, 3, onlyA, delOp("b", 3))
			c.snapshot(2, putOp("a", 1), putOp("b", 2))
		}, "a", 3, 1},
		{"row overtakes the snapshot", func(c *copied) {
			c.change(2, 4, aAndC, delOp("b", 3), putOp("c", 4))
			c.snapshot(2, putOp("a", 1), putOp("b", 2))
		}, "ac", 4, 1},
		{"changes twice", func(c *copied) {
			c.snapshot(1, putOp("a", 1))
			c.change(1, 4, aAndC, putOp("c", 4))
			c.change(1, 4, aAndC, putOp("c", 4))
		}, "ac", 4, 1},
		{"gap", func(c *copied) {
			c.snapshot(1, putOp("a", 1))
			c.change(3, 4, aAndC, putOp("c", 4))
		}, "ac", 1, 2},
		{"gap, then all rows", func(c *copied) {
			c.snapshot(2, putOp("a", 1), putOp("b", 2))
			c.change(3, 4, aAndC, putOp("c", 4)) // without the deletion of b
			c.snapshot(4, putOp("a", 1), putOp("c", 4))
		}, "ac", 4, 2},
		{"gap between the snapshot and what overtook it", func(c *copied) {
			c.change(3, 4, aAndC, putOp("c", 4))
			c.snapshot(2, putOp("a", 1))
		}, "ac", 0, 2},
		{"other digest", func(c *copied) {
			c.snapshot(1, putOp("a", 1))
			c.change(1, 4, onlyA, putOp("c", 4))
		}, "ac", 4, 2},
		{"rows that are gone", func(c *copied) {
			c.snapshot(2, putOp("a", 1), putOp("b", 2))
			c.Compare(3, tally{})
			c.Compare(3, tally{})
			for range maxStood {
				c.Compare(3, tally{})
			}
			c.snapshot(3, putOp("a", 1))
		}, "a", 3, 2},
		{"snapshot that was not asked for", func(c *copied) {
			o, _ := ops(putOp("d", 1))
			c.Chunk(77, o)
			c.Finish(frame.Snapshot{ID: 77, Seq: 1})
		}, "", 0, 1},
		{"after the end", func(c *copied) {
			c.End(1)
			c.snapshot(1, putOp("a", 1))
			c.change(0, 1, onlyA, putOp("a", 1))
		}, "", 0, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCopied()
			test.run(c)
			if c.keys() != test.keys || c.seq != test.seq || len(c.asked) != test.asked {
				t.Errorf("rows %q at %d, asked %d times; want %q at %d, %d times", c.keys(), c.seq, len(c.asked), test.keys, test.seq, test.asked)
			}
			if _, claims := c.store.recount(c.owner); claims != c.tally {
				t.Errorf("tally %v, counted %v", c.tally, claims)
			}
		})
	}
}

// TestEndsInSnapshot: a snapshot tells of rows that ended in order, for those whose orphans they followed.
func TestEndsInSnapshot(t *testing.T) {
	s := New("self", journal.New(1, frame.MaxVersion), clock.New(time.Now))
	rows, err := NewSet(s, "t", Codec[string](text{}), Options[string]{})
	if err != nil {
		t.Fatal(err)
	}
	s.Mourn(true)
	rows.Put("k", "mine", []byte("mine"))
	rows.Delete("k")
	rows.Put("still", "here", []byte("here"))
	c := newCopied()
	dead := c.store.Living("x", 1)
	_, _ = NewSet(c.store, "t", Codec[string](text{}), Options[string]{})
	_ = c.store.table("t").put(dead, &frame.Op{Key: "k", Seq: 1, Stamp: 1, TTL: 1e6, Value: []byte("old")}, 1, &tally{})
	c.store.Bury(dead, true)
	c.store.Mourn(true)
	for _, l := range s.ListOwn(frame.MaxVersion) {
		var ops frame.Ops
		for i := range l.Count {
			if ops, err = l.Append(ops, i); err != nil {
				t.Fatal(err)
			}
		}
		c.Chunk(c.asked[0], ops)
	}
	seq, sum := s.journal.State()
	c.Finish(frame.Snapshot{ID: c.asked[0], Seq: seq, Rows: sum.Rows, Digest: sum.Digest})
	if st := c.store.Stats()[0]; st.Keys != 1 || st.Rows != 1 || st.Orphans != 0 {
		t.Errorf("the copy is %+v", st)
	}
}

// TestEnd: how far a copy was when its owner died counts what came while a snapshot was awaited, so that nobody with
// less is taken for more advanced.
func TestEnd(t *testing.T) {
	_, aAndC := ops(putOp("a", 1), putOp("c", 4))
	for _, test := range []struct {
		name  string
		run   func(c *copied)
		seq   uint64
		whole bool
	}{
		{"whole", func(c *copied) { c.snapshot(4, putOp("a", 1), putOp("c", 4)) }, 4, true},
		{"nothing yet", func(*copied) {}, 0, false},
		{"all changes from the first one, no snapshot", func(c *copied) {
			c.change(0, 1, aAndC, putOp("a", 1))
			c.change(1, 4, aAndC, putOp("c", 4))
		}, 4, false},
		{"changes without what was before them", func(c *copied) { c.change(1, 4, aAndC, putOp("c", 4)) }, 0, false},
		{"changes while the copy is repaired", func(c *copied) {
			c.snapshot(1, putOp("a", 1))
			c.load("test")
			c.change(1, 4, aAndC, putOp("c", 4))
		}, 4, false},
		{"a gap", func(c *copied) {
			c.snapshot(1, putOp("a", 1))
			c.change(3, 4, aAndC, putOp("c", 4))
		}, 1, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCopied()
			test.run(c)
			if seq, torn := c.End(7); seq != test.seq || (torn == 0) != test.whole {
				t.Errorf("at %d, torn %d; want %d, whole %v", seq, torn, test.seq, test.whole)
			}
		})
	}
}
