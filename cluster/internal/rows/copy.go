package rows

import (
	"time"

	"github.com/starling-im/starling/cluster/internal/frame"
	"github.com/starling-im/starling/cluster/internal/journal"
)

// decode fills in the value. A row that cannot be decoded is kept, for the digest, and shown to nobody who could see
// another one.
func (t *Set[V]) decode(r *Row[V], value []byte) error {
	v, err := t.codec.Decode(value)
	r.Value, r.bad = v, err != nil
	return err
}

// sumOf is the share of an operation's row in digests.
func sumOf(table string, op *frame.Op) uint64 { return journal.Sum(table, op.Key, op.Seq, op.Value) }

func (t *Set[V]) put(o *Owner, op *frame.Op, gen uint32, sum *tally) error {
	r := &Row[V]{Key: op.Key, Owner: o, seq: op.Seq, Stamp: op.Stamp, ttl: uint32(min(op.TTL, 1<<31)), gen: gen}
	r.sum = sumOf(t.name, op)
	err := t.decode(r, op.Value)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.moved {
		return errMoved
	}
	if old := t.insert(r); old != nil && !old.Orphan {
		sum.Remove(old.sum)
	}
	sum.Add(r.sum)
	return err
}

func (t *Set[V]) remove(o *Owner, op *frame.Op, sum *tally) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.moved {
		return errMoved
	}
	stamp := op.Stamp
	for r := t.rows[op.Key]; r != nil; r = r.next {
		if r.Owner == o && (r.Orphan || r.seq <= op.Seq) {
			t.extract(o, op.Key)
			if !r.Orphan {
				sum.Remove(r.sum)
				stamp = max(stamp, r.Stamp)
			}
			break
		}
	}
	t.ended(o, op.Key, stamp)
	t.release(op.Key, stamp)
	return nil
}

func (t *Set[V]) seqOf(o *Owner, key string) uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for r := t.rows[key]; r != nil; r = r.next {
		if r.Owner == o && !r.Orphan {
			return r.seq
		}
	}
	return 0
}

// of lists the owner's rows. It is called with mu held.
func (t *Set[V]) of(o *Owner) []*Row[V] {
	var rows []*Row[V]
	for _, first := range t.rows {
		for r := first; r != nil; r = r.next {
			if r.Owner == o {
				rows = append(rows, r)
			}
		}
	}
	return rows
}

func (t *Set[V]) sweep(o *Owner, gen uint32, seq uint64, sum *tally) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.of(o) {
		if r.Orphan || r.gen != gen && r.seq <= seq {
			t.extract(o, r.Key)
			if !r.Orphan {
				sum.Remove(r.sum)
				t.ended(o, r.Key, r.Stamp)
			}
		}
	}
}

func (t *Set[V]) drop(o *Owner, orphans bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.of(o) {
		t.extract(o, r.Key)
		if !orphans && !r.Orphan {
			t.ended(o, r.Key, r.Stamp)
		} else if orphans && r.ttl > 0 && !r.bad {
			left := *r
			left.Orphan, left.next = true, nil
			if live := t.rows[r.Key]; live == nil || live.Orphan || live.Stamp < r.Stamp {
				t.insert(&left)
			}
		}
	}
}

func (t *Set[V]) expire(o *Owner, died, now time.Time) (left bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.of(o) {
		if r.Orphan && now.Sub(died) >= time.Duration(r.ttl)*time.Millisecond {
			t.extract(o, r.Key)
		} else {
			left = true
		}
	}
	return left
}

func (t *Set[V]) collect(o *Owner, version uint8) (int, func([]byte, int) ([]byte, error)) {
	t.mu.RLock()
	rows := t.of(o)
	var ends []frame.Op
	if o.self {
		ends = t.ends()
	}
	t.mu.RUnlock()
	var value []byte
	return len(rows) + len(ends), func(dst []byte, i int) ([]byte, error) {
		if i >= len(rows) {
			return frame.AppendOp(dst, &ends[i-len(rows)], version), nil
		}
		r := rows[i]
		var err error
		if value, err = t.codec.Append(value[:0], r.Value); err != nil {
			return dst, err
		}
		op := frame.Op{Seq: r.seq, Stamp: r.Stamp, TTL: uint64(r.ttl), Table: t.name, Key: r.Key, Value: value, More: frame.MoreOf(r.sum)}
		return frame.AppendOp(dst, &op, version), nil
	}
}

func (t *Set[V]) recount(o *Owner) (contents, claims tally) {
	t.mu.RLock()
	rows := t.of(o)
	t.mu.RUnlock()
	var value []byte
	for _, r := range rows {
		if r.Orphan {
			continue
		}
		claims.Add(r.sum)
		v, err := t.codec.Append(value[:0], r.Value)
		if value = v; err != nil || r.bad {
			contents.Add(r.sum) // what cannot be encoded cannot be compared
			continue
		}
		contents.Add(journal.Sum(t.name, r.Key, r.seq, value))
	}
	return contents, claims
}

func (t *Set[V]) stats() Stats {
	t.mu.RLock()
	defer t.mu.RUnlock()
	st := Stats{Keys: len(t.rows), Unmade: t.raw}
	for _, first := range t.rows {
		for r := first; r != nil; r = r.next {
			switch {
			case r.Orphan:
				st.Orphans++
				continue
			case r.Owner.self:
				st.Owned++
			}
			st.Rows++
			st.Digest ^= r.sum
		}
	}
	return st
}

func (t *Set[V]) close() {
	if t.opts.Close != nil {
		t.opts.Close()
	}
}
