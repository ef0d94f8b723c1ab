package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/starling-im/starling/cluster/internal/frame"
)

// owner is a node's incarnation, as the writer of rows.
type owner struct {
	id   string
	inc  uint64
	self bool
	died time.Time // its rows are orphans since then; zero while it lives. Guarded by store.mu
}

// core is a Table of any type of values, as the node sees it. Changes of one owner's rows are made by one goroutine at
// a time.
type core interface {
	copier
	undertaker
	reader
}

// copier changes the copy of another node's rows.
type copier interface {
	// put stores a row, and tells how the tally of the owner's rows changed.
	put(o *owner, op *frame.Op, gen uint32, t *tally) error
	remove(o *owner, key string, t *tally)
	// seqOf returns the sequence of an owner's row, 0 when there is none.
	seqOf(o *owner, key string) uint64
	// sweep removes the rows of the owner that are neither of the generation nor newer than the sequence.
	sweep(o *owner, gen uint32, seq uint64, t *tally)
}

// undertaker deals with the rows of owners that are gone.
type undertaker interface {
	// drop removes the owner's rows when it is gone; with orphans it leaves those that outlive it.
	drop(o *owner, orphans bool)
	// expire removes orphans whose time is over. It reports whether the owner has rows left.
	expire(o *owner, died, now time.Time) bool
	close()
}

// reader tells about rows.
type reader interface {
	// collect lists the owner's rows: how many, and what appends one of them as an operation.
	collect(o *owner) (int, func(dst []byte, i int) ([]byte, error))
	// recount counts the owner's rows by their contents, and by what the rows say of themselves.
	recount(o *owner) (contents, claims tally)
	stats() TableStatus
}

// store holds the tables of a node, and the owners of their rows.
type store struct {
	mu     sync.RWMutex // guards what follows
	tables map[string]core
	owners map[string][]*owner // by id
}

func newStore() *store { return &store{tables: map[string]core{}, owners: map[string][]*owner{}} }

// table returns the table of the name. One that this program has not made yet keeps the bytes of its rows until it is.
func (s *store) table(name string) core {
	s.mu.RLock()
	t := s.tables[name]
	s.mu.RUnlock()
	if t != nil {
		return t
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t = s.tables[name]; t == nil {
		t = newShelf(name)
		s.tables[name] = t
	}
	return t
}

func (s *store) all() map[string]core {
	s.mu.RLock()
	defer s.mu.RUnlock()
	m := make(map[string]core, len(s.tables))
	for name, t := range s.tables {
		m[name] = t
	}
	return m
}

// owner returns the owner with this incarnation, which is alive now.
func (s *store) owner(id string, inc uint64) *owner {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.owners[id] {
		if o.inc == inc {
			o.died = time.Time{}
			return o
		}
	}
	o := &owner{id: id, inc: inc}
	s.owners[id] = append(s.owners[id], o)
	return o
}

// bury drops the rows of an owner, or makes orphans of those that outlive it.
func (s *store) bury(o *owner, orphans bool) {
	if orphans {
		s.mu.Lock()
		o.died = time.Now()
		s.mu.Unlock()
	}
	for _, t := range s.all() {
		t.drop(o, orphans)
	}
	if !orphans {
		s.forget(o)
	}
}

func (s *store) forget(o *owner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owners[o.id] = slices.DeleteFunc(s.owners[o.id], func(x *owner) bool { return x == o })
	if len(s.owners[o.id]) == 0 {
		delete(s.owners, o.id)
	}
}

// older returns the owners with earlier incarnations of a node.
func (s *store) older(o *owner) []*owner {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.DeleteFunc(slices.Clone(s.owners[o.id]), func(x *owner) bool { return x.inc >= o.inc })
}

// expire ends orphans whose time is over.
func (s *store) expire(now time.Time) {
	type dead struct {
		o    *owner
		died time.Time
	}
	var gone []dead
	s.mu.RLock()
	for _, os := range s.owners {
		for _, o := range os {
			if !o.died.IsZero() {
				gone = append(gone, dead{o, o.died})
			}
		}
	}
	s.mu.RUnlock()
	for _, d := range gone {
		left := false
		for _, t := range s.all() {
			left = t.expire(d.o, d.died, now) || left
		}
		if !left {
			s.forget(d.o)
		}
	}
}

// add puts a table in the place of the shelf that stood for it.
func (s *store) add(name string, t core, adopt func(old *shelf) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch old := s.tables[name].(type) {
	case nil:
	case *shelf:
		if !old.raw {
			return fmt.Errorf("table %q exists already", name)
		}
		if err := adopt(old); err != nil {
			return err
		}
	default:
		return fmt.Errorf("table %q exists already", name)
	}
	s.tables[name] = t
	return nil
}

// recount counts an owner's rows in all tables.
func (s *store) recount(o *owner) (contents, claims tally) {
	for _, t := range s.all() {
		a, b := t.recount(o)
		contents.rows += a.rows
		contents.digest ^= a.digest
		claims.rows += b.rows
		claims.digest ^= b.digest
	}
	return contents, claims
}

// status describes the tables, in the order of their names.
func (s *store) status() []TableStatus {
	var list []TableStatus
	for name, t := range s.all() {
		st := t.stats()
		st.Name = name
		list = append(list, st)
	}
	slices.SortFunc(list, func(a, b TableStatus) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// rowSum is the share of a row in digests. It is the same on all nodes.
func rowSum(table, key string, seq uint64, value []byte) uint64 {
	const prime = 1099511628211
	h := uint64(14695981039346656037)
	for i := 0; i < len(table); i++ {
		h = (h ^ uint64(table[i])) * prime
	}
	h = (h ^ 0xff) * prime
	for i := 0; i < len(key); i++ {
		h = (h ^ uint64(key[i])) * prime
	}
	h = (h ^ seq) * prime
	for _, c := range value {
		h = (h ^ uint64(c)) * prime
	}
	h ^= h >> 32 // spread: exclusive or of plain FNV values is weak
	h *= 0xd6e8feb86659fd93
	return h ^ h>>32
}
