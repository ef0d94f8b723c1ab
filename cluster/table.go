package cluster

import (
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/starling-im/starling/cluster/internal/frame"
	"github.com/starling-im/starling/cluster/internal/rows"
)

// Table is a map that every node has a full copy of, so that reading is reading a map. Each row belongs to the node
// that put it: only that node changes it, and it vanishes when the node leaves or dies, unless it is resumable. Nodes may
// put rows under one key; then all keep all of them, and show the one with the latest stamp.
type Table[V any] struct {
	n     *Node
	name  string
	codec Codec[V]
	set   *rows.Set[V]
	watch hub[Change[V]]
}

// Row is a row with what the table knows about it.
type Row[V any] struct {
	Key    string
	Value  V
	Owner  string // Member.ID of the node that put it
	Stamp  uint64 // grows with every change on every node that has seen the earlier one
	Orphan bool   // the owner is dead, and the row waits for somebody to take over
}

func shown[V any](r *rows.Row[V]) Row[V] {
	return Row[V]{r.Key, r.Value, r.Owner.ID, r.Stamp, r.Orphan}
}

// Change tells what a key shows now. Old and New are nil where there was, or is, nothing. A change with Missed > 0
// says that so many changes before it are lost; then read the table anew.
type Change[V any] struct {
	Key      string
	Old, New *Row[V]
	Missed   int
}

// TableOption is a setting of a table.
type TableOption[V any] func(*rows.Options[V])

// Resumable makes rows outlive the death of their owner, as orphans, for the time that ttl returns. They go sooner when
// another node puts a row under their key, or the owner returns.
func Resumable[V any](ttl func(V) time.Duration) TableOption[V] {
	return func(o *rows.Options[V]) { o.TTL = ttl }
}

// Indexed lets Lookup find rows by the terms that the function returns for them. It must be quick, and not use the table.
func Indexed[V any](terms func(key string, v V) []string) TableOption[V] {
	return func(o *rows.Options[V]) { o.Terms = terms }
}

// Observed has fn called for every change of what a key shows, none missed, in the order in which they are seen here; what
// there was, or is, not has an empty Owner. fn is called with the table locked: it must be quick, and not use the table.
func Observed[V any](fn func(was, is Row[V])) TableOption[V] {
	return func(o *rows.Options[V]) {
		o.Observe = func(was, is *rows.Row[V]) { fn(visible(was), visible(is)) }
	}
}

// visible returns the row as observers see it.
func visible[V any](r *rows.Row[V]) Row[V] {
	if r == nil || r.Bad() {
		return Row[V]{}
	}
	return shown(r)
}

// ErrTooBig says that a row, message or request is longer than nodes accept.
var ErrTooBig = errors.New("too big")

// NewTable makes the node's end of the table with this name. All nodes must give it the same codec. Rows that
// other nodes have put already are there when it returns. It panics when the node has the table already.
func NewTable[V any](n *Node, name string, codec Codec[V], opts ...TableOption[V]) *Table[V] {
	if name == "" || len(name) > frame.MaxName {
		panic(fmt.Sprintf("cluster: table name %q", name))
	}
	t := &Table[V]{n: n, name: name, codec: codec}
	t.watch.notice = func(missed int) Change[V] { return Change[V]{Missed: missed} }
	o := rows.Options[V]{Changed: t.changed, Close: t.watch.close}
	for _, set := range opts {
		set(&o)
	}
	var err error
	if t.set, err = rows.NewSet(n.store, name, rows.Codec[V](codec), o); err != nil {
		panic("cluster: " + err.Error())
	}
	return t
}

// changed tells the watchers.
func (t *Table[V]) changed(key string, was, is *rows.Row[V]) {
	if t.watch.count.Load() == 0 {
		return
	}
	c := Change[V]{Key: key}
	if was != nil && !was.Bad() {
		old := shown(was)
		c.Old = &old
	}
	if is != nil && !is.Bad() {
		now := shown(is)
		c.New = &now
	}
	t.watch.publish(c)
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
	t.set.Put(key, v, value)
	t.n.wakeLinks()
	return nil
}

// Delete removes this node's row. It reports whether there was one. Rows of others it does not touch.
func (t *Table[V]) Delete(key string) bool {
	had := t.set.Delete(key)
	if had {
		t.n.wakeLinks()
	}
	return had
}

// Get returns what a key shows, and the ID of the member whose row that is.
func (t *Table[V]) Get(key string) (v V, owner string, ok bool) {
	if r := t.set.Get(key); r != nil {
		return r.Value, r.Owner.ID, true
	}
	return v, "", false
}

// Row returns the row that a key shows.
func (t *Table[V]) Row(key string) (Row[V], bool) {
	if r := t.set.Get(key); r != nil {
		return shown(r), true
	}
	return Row[V]{}, false
}

// Rows returns the rows of all owners under a key, the one that is shown first.
func (t *Table[V]) Rows(key string) []Row[V] { return list(t.set.Rows(key)) }

// Lookup returns the rows that the index has for a term.
func (t *Table[V]) Lookup(term string) []Row[V] { return t.AppendLookup(nil, term) }

// AppendLookup appends the rows that the index has for a term.
func (t *Table[V]) AppendLookup(dst []Row[V], term string) []Row[V] {
	t.set.Lookup(term, func(r *rows.Row[V]) { dst = append(dst, shown(r)) })
	return dst
}

func list[V any](rs []*rows.Row[V]) []Row[V] {
	if len(rs) == 0 {
		return nil
	}
	out := make([]Row[V], len(rs))
	for i, r := range rs {
		out[i] = shown(r)
	}
	return out
}

// Len returns how many keys show a row.
func (t *Table[V]) Len() int { return t.set.Len() }

// All iterates over the rows shown when it begins, in no order and without holding a lock meanwhile.
func (t *Table[V]) All() iter.Seq[Row[V]] { return t.each(false) }

// Owned iterates over this node's rows that are shown.
func (t *Table[V]) Owned() iter.Seq[Row[V]] { return t.each(true) }

func (t *Table[V]) each(own bool) iter.Seq[Row[V]] {
	return func(yield func(Row[V]) bool) {
		for _, r := range t.set.Shown(own) {
			if !yield(shown(r)) {
				return
			}
		}
	}
}

// Watch tells of the changes from now on, in order, with room for some that were not taken yet.
func (t *Table[V]) Watch(buffer int) *Subscription[Change[V]] { return t.watch.subscribe(buffer) }
