package rows

import (
	"errors"
	"sync"
	"time"

	"github.com/starling-im/starling/cluster/internal/frame"
	"github.com/starling-im/starling/cluster/internal/journal"
)

// Codec turns values into bytes and back.
type Codec[V any] interface {
	Append(dst []byte, v V) ([]byte, error)
	Decode(b []byte) (V, error)
}

// Set is a table: rows by key. Nodes may have rows under one key; then all are kept, and one is shown.
type Set[V any] struct {
	store *Store
	name  string
	codec Codec[V]
	opts  Options[V]
	raw   bool // a shelf: the program has not made the table yet

	mu    sync.RWMutex // guards what follows, and next and gen of rows; taken under the journal or Replica.mu
	rows  map[string]*Row[V]
	index map[string][]string // keys by term
	moved bool                // a shelf that a table has replaced
	gone  map[string]end      // rows that ended while there is mourning
}

// Options are what a table may have. Nil functions are left out.
type Options[V any] struct {
	TTL     func(V) time.Duration             // how long a row outlives its owner
	Terms   func(key string, v V) []string    // that Lookup finds the row by
	Changed func(key string, was, is *Row[V]) // is called, in order, with the table locked; a row that is Bad counts as none
	Observe func(was, is *Row[V])             // is called before it
	Close   func()                            // is called by Store.Close
}

// shelf keeps the rows of a table that this program has not made yet.
type shelf = Set[[]byte]

// Row is not changed once it is in the table, but for next and gen.
type Row[V any] struct {
	Key    string
	Value  V
	Owner  *Owner
	next   *Row[V] // of another owner, with the same key, shown if this one goes
	seq    uint64
	Stamp  uint64
	sum    uint64
	ttl    uint32 // milliseconds
	gen    uint32
	Orphan bool // its owner is dead
	bad    bool
}

// Bad says whether the value could not be decoded.
func (r *Row[V]) Bad() bool { return r.bad }

var errMoved = errors.New("the table has been replaced")

// NewSet makes the table of a name, with the rows of it that have come already. It fails when the table exists.
func NewSet[V any](s *Store, name string, codec Codec[V], o Options[V]) (*Set[V], error) {
	t := newSet(s, name, codec)
	t.opts = o
	return t, s.add(name, t, t.adopt)
}

func newSet[V any](s *Store, name string, codec Codec[V]) *Set[V] {
	return &Set[V]{store: s, name: name, codec: codec, rows: map[string]*Row[V]{}, index: map[string][]string{}}
}

// plain is the codec of shelves.
type plain struct{}

func (plain) Append(dst []byte, v []byte) ([]byte, error) { return append(dst, v...), nil }
func (plain) Decode(b []byte) ([]byte, error)             { return append([]byte(nil), b...), nil }

func newShelf(s *Store, name string) *shelf {
	t := newSet(s, name, Codec[[]byte](plain{}))
	t.raw = true
	return t
}

// adopt takes over the rows of a shelf.
func (t *Set[V]) adopt(old *shelf) error {
	old.mu.Lock()
	defer old.mu.Unlock()
	old.moved, t.gone = true, old.gone
	for _, first := range old.rows {
		for r := first; r != nil; r = r.next {
			mine := &Row[V]{Key: r.Key, Owner: r.Owner, seq: r.seq, Stamp: r.Stamp, sum: r.sum, ttl: r.ttl, gen: r.gen, Orphan: r.Orphan}
			_ = t.decode(mine, r.Value) // a row that cannot be read is kept all the same
			t.insert(mine)
		}
	}
	return nil
}

// Put writes a row of this node: the value, and its encoding.
func (t *Set[V]) Put(key string, v V, value []byte) {
	r := &Row[V]{Key: key, Value: v, Owner: t.store.self}
	if t.opts.TTL != nil {
		r.ttl = uint32(min(max(t.opts.TTL(v).Milliseconds(), 0), 1<<31))
	}
	j := t.store.journal
	last, sum := j.Begin()
	r.seq, r.Stamp = last+1, t.store.clock.Stamp()
	r.sum = journal.Sum(t.name, key, r.seq, value)
	t.mu.Lock()
	if old := t.insert(r); old != nil {
		sum.Remove(old.sum)
	}
	t.mu.Unlock()
	sum.Add(r.sum)
	j.Record(&frame.Op{Seq: r.seq, Stamp: r.Stamp, TTL: uint64(r.ttl), Table: t.name, Key: key, Value: value, More: frame.MoreOf(r.sum)})
	j.End()
}

// Delete removes this node's row. It reports whether there was one.
func (t *Set[V]) Delete(key string) bool {
	j := t.store.journal
	last, sum := j.Begin()
	defer j.End()
	t.mu.Lock()
	old := t.extract(t.store.self, key)
	if old != nil {
		t.ended(t.store.self, key, old.Stamp)
	}
	t.mu.Unlock()
	if old == nil {
		return false
	}
	sum.Remove(old.sum)
	j.Record(&frame.Op{Delete: true, Seq: last + 1, Stamp: old.Stamp, Table: t.name, Key: key})
	return true
}

// Get returns the row that a key shows, nil if there is none.
func (t *Set[V]) Get(key string) *Row[V] {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if r := t.rows[key]; r != nil && !r.bad {
		return r
	}
	return nil
}

// Rows returns the rows of all owners under a key, the one that is shown first.
func (t *Set[V]) Rows(key string) (rows []*Row[V]) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for r := t.rows[key]; r != nil && !r.bad; r = r.next {
		rows = append(rows, r)
	}
	return rows
}

// Lookup calls fn, with the table locked, for the rows that the index has for a term.
func (t *Set[V]) Lookup(term string, fn func(*Row[V])) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, key := range t.index[term] {
		fn(t.rows[key])
	}
}

// Len returns how many keys show a row.
func (t *Set[V]) Len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.rows)
}

// Shown returns the rows that are shown, in no order: all of them, or this node's.
func (t *Set[V]) Shown(own bool) []*Row[V] {
	t.mu.RLock()
	defer t.mu.RUnlock()
	rows := make([]*Row[V], 0, len(t.rows))
	for _, r := range t.rows {
		if !r.bad && (!own || r.Owner == t.store.self) {
			rows = append(rows, r)
		}
	}
	return rows
}

// Damage makes a row vanish, or its value another one, without anybody's knowledge: for tests of repair.
func (t *Set[V]) Damage(key string, v *V) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.rows[key]
	switch {
	case r == nil:
		return false
	case v == nil:
		delete(t.rows, key)
		return true
	}
	bad := *r
	bad.Value = *v
	t.rows[key] = &bad
	return true
}
