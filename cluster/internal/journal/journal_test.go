package journal_test

import (
	"fmt"
	"testing"

	"github.com/starling-im/starling/cluster/internal/frame"
	"github.com/starling-im/starling/cluster/internal/journal"
)

// change puts a row, and returns the tally after it.
func change(j *journal.Journal, value string) journal.Tally {
	last, t := j.Begin()
	defer j.End()
	t.Add(journal.Sum("t", "k", last+1, []byte(value)))
	j.Record(&frame.Op{Seq: last + 1, Table: "t", Key: "k", Value: []byte(value)})
	return *t
}

// pull takes one batch, and returns its operations' numbers.
func pull(t *testing.T, f *journal.Feed, most int) (b frame.Batch, seqs []uint64) {
	t.Helper()
	data, seq, _ := f.Pull(most)
	if data == nil {
		return b, nil
	}
	b, err := frame.ParseBatch(data)
	if err != nil || b.Last != seq {
		t.Fatalf("batch up to %d, feed at %d: %v", b.Last, seq, err)
	}
	for ops := b.Ops; len(ops) > 0; {
		seqs = append(seqs, ops.Next().Seq)
	}
	return b, seqs
}

// TestFeeds: each feed gets every change once, in order, with the tally after the last one, however they take turns.
func TestFeeds(t *testing.T) {
	j := journal.New(1<<20, frame.MaxVersion)
	change(j, "before anybody listens")
	fast, slow := j.Feed(frame.MaxVersion), j.Feed(frame.MaxVersion)
	next := map[*journal.Feed]uint64{fast: 2, slow: 2}
	take := func(f *journal.Feed, most int) {
		b, seqs := pull(t, f, most)
		for _, s := range seqs {
			if s != next[f] {
				t.Fatalf("change %d, want %d", s, next[f])
			}
			next[f]++
		}
		if len(seqs) > 0 && b.Prev+uint64(len(seqs)) != b.Last {
			t.Errorf("%d changes from %d to %d", len(seqs), b.Prev, b.Last)
		}
	}
	var last journal.Tally
	for i := range 5000 {
		last = change(j, fmt.Sprint("value ", i))
		take(fast, 100)
		if i%7 == 0 {
			take(slow, 150)
		}
	}
	for next[slow] < 5002 {
		take(slow, 64<<10)
	}
	take(fast, 64<<10)
	if next[fast] != 5002 {
		t.Errorf("the fast feed is at %d", next[fast])
	}
	if seq, tally := j.State(); seq != 5001 || tally != last {
		t.Errorf("state %d, %v", seq, tally)
	}
	if data, seq, more := slow.Pull(0); data != nil || seq != 5001 || more {
		t.Errorf("at the end: %d bytes, %d, %v", len(data), seq, more)
	}
	after := change(j, "last")
	if b, _ := pull(t, slow, 1); (journal.Tally{Rows: b.Rows, Digest: b.Digest}) != after {
		t.Errorf("tally %d, %d, want %v", b.Rows, b.Digest, after)
	}
}

// TestLag: a feed that falls behind what is kept goes on with a gap, and does not hold up the others.
func TestLag(t *testing.T) {
	j := journal.New(1000, frame.MaxVersion)
	lazy, eager := j.Feed(frame.MaxVersion), j.Feed(frame.MaxVersion)
	for range 100 {
		change(j, "a value of some length")
		if _, seqs := pull(t, eager, 1000); len(seqs) != 1 {
			t.Fatalf("the eager feed got %v", seqs)
		}
	}
	if _, seqs := pull(t, lazy, 1000); seqs != nil {
		t.Errorf("the lazy feed got %v", seqs)
	}
	change(j, "x")
	if b, seqs := pull(t, lazy, 1000); b.Prev != 100 || len(seqs) != 1 {
		t.Errorf("then it got %v after %d", seqs, b.Prev)
	}
	lazy.Close()
	eager.Close()
	change(j, "for nobody")
	if seq, _ := j.State(); seq != 102 {
		t.Errorf("at %d", seq)
	}
}

// TestSum: the share of a row depends on all of it.
func TestSum(t *testing.T) {
	seen := map[uint64]string{}
	for _, c := range []struct {
		table, key string
		seq        uint64
		value      string
	}{
		{"t", "k", 1, "v"}, {"t", "k", 2, "v"}, {"t", "k", 1, "w"}, {"t", "l", 1, "v"}, {"u", "k", 1, "v"},
		{"tk", "", 1, "v"}, {"", "tk", 1, "v"}, {"t", "", 1, "kv"}, {"t", "k", 1, "v\x00"}, {"t", "k", 1, ""},
		{"t", "k", 0, "12345678"}, {"t", "k", 0, "123456789"}, {"t", "12345678", 0, ""}, {"t", "k\x00", 1, "v"},
	} {
		h, what := journal.Sum(c.table, c.key, c.seq, []byte(c.value)), fmt.Sprintf("%+v", c)
		if other, ok := seen[h]; ok || h == 0 {
			t.Errorf("%s and %s are both %x", what, other, h)
		}
		seen[h] = what
	}
}
