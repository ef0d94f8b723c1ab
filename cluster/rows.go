package cluster

import (
	"slices"
	"time"

	"github.com/starling-im/starling/cluster/internal/frame"
)

// better says which of two rows with one key is shown.
func (r *row[V]) better(o *row[V]) bool {
	switch {
	case r.bad != o.bad:
		return o.bad
	case r.orphan != o.orphan:
		return o.orphan
	case r.stamp != o.stamp:
		return r.stamp > o.stamp
	}
	return r.owner.id < o.owner.id
}

// insert puts a row among those of its key, in the place of an earlier one of its owner, which it returns. Orphans
// that it follows go. It is called with mu held.
func (t *Table[V]) insert(r *row[V]) (old *row[V]) {
	shown := t.rows[r.key]
	var kept []*row[V]
	for q := shown; q != nil; q = q.next {
		switch {
		case q.owner == r.owner:
			old = q
		case q.orphan && !r.orphan && q.stamp <= r.stamp:
		default:
			kept = append(kept, q)
		}
	}
	if len(kept) == 0 {
		r.next = nil
		t.show(r.key, shown, r)
		return old
	}
	t.chain(r.key, shown, append(kept, r))
	return old
}

// extract takes the owner's row of a key out. It is called with mu held.
func (t *Table[V]) extract(o *owner, key string) (old *row[V]) {
	shown := t.rows[key]
	if shown == nil || shown.next == nil && shown.owner != o {
		return nil
	}
	var kept []*row[V]
	for q := shown; q != nil; q = q.next {
		if q.owner == o {
			old = q
		} else {
			kept = append(kept, q)
		}
	}
	if old != nil {
		t.chain(key, shown, kept)
	}
	return old
}

// chain makes rows those of the key.
func (t *Table[V]) chain(key string, shown *row[V], rows []*row[V]) {
	slices.SortFunc(rows, func(a, b *row[V]) int {
		if a.better(b) {
			return -1
		}
		return 1
	})
	for i, r := range rows {
		r.next = nil
		if i+1 < len(rows) {
			r.next = rows[i+1]
		}
	}
	if len(rows) == 0 {
		t.show(key, shown, nil)
	} else {
		t.show(key, shown, rows[0])
	}
}

// show makes a row the one that its key shows, and tells index and watchers.
func (t *Table[V]) show(key string, was, is *row[V]) {
	if is == nil {
		delete(t.rows, key)
	} else {
		t.rows[is.key] = is
	}
	if was == is {
		return
	}
	if t.opts.terms != nil {
		if was != nil {
			t.unindex(was)
		}
		if is != nil && !is.bad {
			for _, term := range t.opts.terms(key, is.value) {
				t.index[term] = append(t.index[term], key)
			}
		}
	}
	if t.watch.count.Load() == 0 {
		return
	}
	c := Change[V]{Key: key}
	if was != nil && !was.bad {
		old := was.public()
		c.Old = &old
	}
	if is != nil && !is.bad {
		now := is.public()
		c.New = &now
	}
	t.watch.publish(c)
}

func (t *Table[V]) unindex(r *row[V]) {
	if r.bad {
		return
	}
	for _, term := range t.opts.terms(r.key, r.value) {
		keys := t.index[term]
		if i := slices.Index(keys, r.key); i >= 0 {
			keys = slices.Delete(keys, i, i+1)
		}
		if len(keys) == 0 {
			delete(t.index, term)
		} else {
			t.index[term] = keys
		}
	}
}

// decode fills in the value. A row that cannot be decoded is kept, for the digest, and shown to nobody who could see
// another one.
func (t *Table[V]) decode(r *row[V], value []byte) error {
	v, err := t.codec.Decode(value)
	r.value, r.bad = v, err != nil
	return err
}

func (t *Table[V]) put(o *owner, op *frame.Op, gen uint32, sum *tally) error {
	r := &row[V]{key: op.Key, owner: o, seq: op.Seq, stamp: op.Stamp, ttl: uint32(min(op.TTL, 1<<31)), gen: gen}
	r.sum = rowSum(t.name, op.Key, op.Seq, op.Value)
	err := t.decode(r, op.Value)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.moved {
		return errMoved
	}
	if old := t.insert(r); old != nil && !old.orphan {
		sum.remove(old.sum)
	}
	sum.add(r.sum)
	return err
}

func (t *Table[V]) remove(o *owner, key string, sum *tally) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.extract(o, key); old != nil && !old.orphan {
		sum.remove(old.sum)
	}
}

func (t *Table[V]) seqOf(o *owner, key string) uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for r := t.rows[key]; r != nil; r = r.next {
		if r.owner == o && !r.orphan {
			return r.seq
		}
	}
	return 0
}

// of lists the owner's rows. It is called with mu held.
func (t *Table[V]) of(o *owner) []*row[V] {
	var rows []*row[V]
	for _, first := range t.rows {
		for r := first; r != nil; r = r.next {
			if r.owner == o {
				rows = append(rows, r)
			}
		}
	}
	return rows
}

func (t *Table[V]) sweep(o *owner, gen uint32, seq uint64, sum *tally) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.of(o) {
		if r.gen != gen && (r.seq <= seq || r.orphan) {
			t.extract(o, r.key)
			if !r.orphan {
				sum.remove(r.sum)
			}
		}
	}
}

func (t *Table[V]) drop(o *owner, orphans bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.of(o) {
		t.extract(o, r.key)
		if orphans && r.ttl > 0 && !r.bad {
			left := *r
			left.orphan, left.next = true, nil
			if live := t.rows[r.key]; live == nil || live.orphan || live.stamp < r.stamp {
				t.insert(&left)
			}
		}
	}
}

func (t *Table[V]) expire(o *owner, died, now time.Time) (left bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.of(o) {
		if r.orphan && now.Sub(died) >= time.Duration(r.ttl)*time.Millisecond {
			t.extract(o, r.key)
		} else {
			left = true
		}
	}
	return left
}

func (t *Table[V]) collect(o *owner) (int, func([]byte, int) ([]byte, error)) {
	t.mu.RLock()
	rows := t.of(o)
	t.mu.RUnlock()
	var value []byte
	return len(rows), func(dst []byte, i int) ([]byte, error) {
		r := rows[i]
		var err error
		if value, err = t.codec.Append(value[:0], r.value); err != nil {
			return dst, err
		}
		op := frame.Op{Seq: r.seq, Stamp: r.stamp, TTL: uint64(r.ttl), Table: t.name, Key: r.key, Value: value}
		return frame.AppendOp(dst, &op), nil
	}
}

func (t *Table[V]) recount(o *owner) (contents, claims tally) {
	t.mu.RLock()
	rows := t.of(o)
	t.mu.RUnlock()
	var value []byte
	for _, r := range rows {
		if r.orphan {
			continue
		}
		claims.add(r.sum)
		v, err := t.codec.Append(value[:0], r.value)
		if value = v; err != nil || r.bad {
			contents.add(r.sum) // what cannot be encoded cannot be compared
			continue
		}
		contents.add(rowSum(t.name, r.key, r.seq, value))
	}
	return contents, claims
}

func (t *Table[V]) stats() TableStatus {
	t.mu.RLock()
	defer t.mu.RUnlock()
	st := TableStatus{Keys: len(t.rows), Unmade: t.raw}
	for _, first := range t.rows {
		for r := first; r != nil; r = r.next {
			switch {
			case r.orphan:
				st.Orphans++
				continue
			case r.owner.self:
				st.Owned++
			}
			st.Rows++
			st.Digest ^= r.sum
		}
	}
	return st
}

func (t *Table[V]) close() { t.watch.close() }
