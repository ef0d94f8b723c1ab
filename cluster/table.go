package cluster

import (
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/starling-im/starling/cluster/internal/frame"
)

// Table is a map that every node has a full copy of, so that reading is reading a map. Each row belongs to the node
// that put it: only that node changes it, and it vanishes when the node leaves or dies, unless it is resumable. Nodes may
// put rows under one key; then all keep all of them, and show the one with the latest stamp.
type Table[V any] struct {
	n     *Node
	name  string
	codec Codec[V]
	opts  tableOptions[V]
	raw   bool // a shelf: the program has not made the table yet
	watch hub[Change[V]]

	mu    sync.RWMutex // guards what follows, and next and gen of rows; taken under journal.mu or replica.mu, and hub.mu under it
	rows  map[string]*row[V]
	index map[string][]string // keys by term
	moved bool                // a shelf that a table has replaced
}

// shelf keeps the rows of a table that this program has not made yet.
type shelf = Table[[]byte]

// row is not changed once it is in the table, but for next and gen.
type row[V any] struct {
	key    string
	value  V
	owner  *owner
	next   *row[V] // of another owner, with the same key, shown if this one goes
	seq    uint64
	stamp  uint64
	sum    uint64
	ttl    uint32 // milliseconds
	gen    uint32
	orphan bool
	bad    bool // the value could not be decoded
}

// Row is a row with what the table knows about it.
type Row[V any] struct {
	Key    string
	Value  V
	Owner  string // Member.ID of the node that put it
	Stamp  uint64 // grows with every change on every node that has seen the earlier one
	Orphan bool   // the owner is dead, and the row waits for somebody to take over
}

func (r *row[V]) public() Row[V] { return Row[V]{r.key, r.value, r.owner.id, r.stamp, r.orphan} }

// Change tells what a key shows now. Old and New are nil where there was, or is, nothing. A change with Missed > 0
// says that so many changes before it are lost; then read the table anew.
type Change[V any] struct {
	Key      string
	Old, New *Row[V]
	Missed   int
}

// TableOption is a setting of a table.
type TableOption[V any] func(*tableOptions[V])

type tableOptions[V any] struct {
	ttl   func(V) time.Duration
	terms func(key string, v V) []string
}

// Resumable makes rows outlive the death of their owner, as orphans, for the time that ttl returns. They go sooner when
// another node puts a row under their key, or the owner returns.
func Resumable[V any](ttl func(V) time.Duration) TableOption[V] {
	return func(o *tableOptions[V]) { o.ttl = ttl }
}

// Indexed lets Lookup find rows by the terms that the function returns for them. It must be quick, and not use the table.
func Indexed[V any](terms func(key string, v V) []string) TableOption[V] {
	return func(o *tableOptions[V]) { o.terms = terms }
}

// ErrTooBig says that a row, message or request is longer than nodes accept.
var ErrTooBig = errors.New("too big")

var errMoved = errors.New("the table has been replaced")

// NewTable makes the node's end of the table with this name. All nodes must give it the same codec. Rows that
// other nodes have put already are there when it returns. It panics when the node has the table already.
func NewTable[V any](n *Node, name string, codec Codec[V], opts ...TableOption[V]) *Table[V] {
	t := newTable(n, name, codec)
	for _, o := range opts {
		o(&t.opts)
	}
	if name == "" || len(name) > frame.MaxName {
		panic(fmt.Sprintf("cluster: table name %q", name))
	}
	if err := n.store.add(name, t, t.adopt); err != nil {
		panic("cluster: " + err.Error())
	}
	return t
}

func newTable[V any](n *Node, name string, codec Codec[V]) *Table[V] {
	t := &Table[V]{n: n, name: name, codec: codec, rows: map[string]*row[V]{}, index: map[string][]string{}}
	t.watch.notice = func(missed int) Change[V] { return Change[V]{Missed: missed} }
	return t
}

func newShelf(name string) *shelf {
	t := newTable(nil, name, Bytes())
	t.raw = true
	return t
}

// adopt takes over the rows of a shelf.
func (t *Table[V]) adopt(old *shelf) error {
	old.mu.Lock()
	defer old.mu.Unlock()
	old.moved = true
	for _, first := range old.rows {
		for r := first; r != nil; r = r.next {
			mine := &row[V]{key: r.key, owner: r.owner, seq: r.seq, stamp: r.stamp, sum: r.sum, ttl: r.ttl, gen: r.gen, orphan: r.orphan}
			t.decode(mine, r.value)
			t.insert(mine)
		}
	}
	return nil
}

// Name returns the name of the table.
func (t *Table[V]) Name() string { return t.name }

// Put writes a row of this node. It does not wait for other nodes.
func (t *Table[V]) Put(key string, v V) error {
	value, err := t.codec.Append(nil, v)
	if err != nil {
		return fmt.Errorf("encode row %q of table %s: %w", key, t.name, err)
	}
	if len(key) > frame.MaxKey || len(value) > maxRow {
		return fmt.Errorf("row %.40q of table %s: %w", key, t.name, ErrTooBig)
	}
	r := &row[V]{key: key, value: v, owner: t.n.owner}
	if t.opts.ttl != nil {
		r.ttl = uint32(min(max(t.opts.ttl(v).Milliseconds(), 0), 1<<31))
	}
	j := t.n.journal
	j.mu.Lock()
	j.seq++
	r.seq, r.stamp = j.seq, t.n.clock.stamp()
	r.sum = rowSum(t.name, key, r.seq, value)
	t.mu.Lock()
	if old := t.insert(r); old != nil {
		j.tally.remove(old.sum)
	}
	t.mu.Unlock()
	j.tally.add(r.sum)
	j.record(&frame.Op{Seq: r.seq, Stamp: r.stamp, TTL: uint64(r.ttl), Table: t.name, Key: key, Value: value})
	j.mu.Unlock()
	t.n.wakeLinks()
	return nil
}

// Delete removes this node's row. It reports whether there was one. Rows of others it does not touch.
func (t *Table[V]) Delete(key string) bool {
	j := t.n.journal
	j.mu.Lock()
	t.mu.Lock()
	old := t.extract(t.n.owner, key)
	t.mu.Unlock()
	if old != nil {
		j.seq++
		j.tally.remove(old.sum)
		j.record(&frame.Op{Delete: true, Seq: j.seq, Table: t.name, Key: key})
	}
	j.mu.Unlock()
	if old != nil {
		t.n.wakeLinks()
	}
	return old != nil
}

// Get returns what a key shows, and the ID of the member whose row that is.
func (t *Table[V]) Get(key string) (v V, owner string, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if r := t.rows[key]; r != nil && !r.bad {
		return r.value, r.owner.id, true
	}
	return v, "", false
}

// Row returns the row that a key shows.
func (t *Table[V]) Row(key string) (Row[V], bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if r := t.rows[key]; r != nil && !r.bad {
		return r.public(), true
	}
	return Row[V]{}, false
}

// Rows returns the rows of all owners under a key, the one that is shown first.
func (t *Table[V]) Rows(key string) []Row[V] {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var rows []Row[V]
	for r := t.rows[key]; r != nil && !r.bad; r = r.next {
		rows = append(rows, r.public())
	}
	return rows
}

// Lookup returns the rows that the index has for a term.
func (t *Table[V]) Lookup(term string) []Row[V] {
	t.mu.RLock()
	defer t.mu.RUnlock()
	keys := t.index[term]
	if len(keys) == 0 {
		return nil
	}
	rows := make([]Row[V], 0, len(keys))
	for _, key := range keys {
		rows = append(rows, t.rows[key].public())
	}
	return rows
}

// Len returns how many keys show a row.
func (t *Table[V]) Len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.rows)
}

// All iterates over the rows shown when it begins, in no order and without holding a lock meanwhile.
func (t *Table[V]) All() iter.Seq[Row[V]] {
	return t.each(func(r *row[V]) bool { return true })
}

// Owned iterates over this node's rows that are shown.
func (t *Table[V]) Owned() iter.Seq[Row[V]] {
	return t.each(func(r *row[V]) bool { return r.owner == t.n.owner })
}

func (t *Table[V]) each(want func(*row[V]) bool) iter.Seq[Row[V]] {
	return func(yield func(Row[V]) bool) {
		t.mu.RLock()
		rows := make([]*row[V], 0, len(t.rows))
		for _, r := range t.rows {
			if !r.bad && want(r) {
				rows = append(rows, r)
			}
		}
		t.mu.RUnlock()
		for _, r := range rows {
			if !yield(r.public()) {
				return
			}
		}
	}
}

// Watch tells of the changes from now on, in order, with room for some that were not taken yet.
func (t *Table[V]) Watch(buffer int) *Subscription[Change[V]] { return t.watch.subscribe(buffer) }
