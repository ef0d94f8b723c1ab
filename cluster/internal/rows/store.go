// Package rows keeps the tables of a node: its own rows, and copies of those of the other nodes. Every row has one
// writer, its owner, who numbers its changes. A Replica is the copy of one owner's rows.
package rows

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/starling-im/starling/cluster/internal/clock"
	"github.com/starling-im/starling/cluster/internal/frame"
	"github.com/starling-im/starling/cluster/internal/journal"
)

// tally is how many rows there are, and their digest.
type tally = journal.Tally

// Owner is a node's incarnation, as the writer of rows.
type Owner struct {
	ID    string
	Inc   uint64
	self  bool
	phase atomic.Int32 // changed with Store.mu held
	died  time.Time    // its rows are orphans since then; zero while it lives. Guarded by Store.mu
	heirs int          // how often its rows are being replaced just now. Guarded by Store.mu
}

// The phases of an owner.
const (
	living   int32 = iota
	orphaned       // it is dead, and has left rows
	buried         // it has no rows, and gets none
)

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
	put(o *Owner, op *frame.Op, gen uint32, t *tally) error
	// remove removes the row of an operation's key, unless it is newer, and tells likewise.
	remove(o *Owner, op *frame.Op, t *tally) error
	// seqOf returns the sequence of an owner's row, 0 when there is none.
	seqOf(o *Owner, key string) uint64
	// sweep removes the owner's orphans, and its rows that are neither of the generation nor newer than the sequence.
	sweep(o *Owner, gen uint32, seq uint64, t *tally)
}

// undertaker deals with the rows of owners that are gone.
type undertaker interface {
	inheritor
	// drop removes the owner's rows when it is gone; with orphans it leaves those that outlive it.
	drop(o *Owner, orphans bool)
	// expire removes orphans whose time is over. It reports whether the owner has rows left.
	expire(o *Owner, died, now time.Time) bool
	close()
}

// reader tells about rows.
type reader interface {
	// collect lists the owner's rows: how many, and what appends one of them as an operation, in a version. Those of
	// this node are followed by the ends of rows that it remembers, whose operations have no sequence.
	collect(o *Owner, version uint8) (int, func(dst []byte, i int) ([]byte, error))
	// recount counts the owner's rows by their contents, and by what the rows say of themselves.
	recount(o *Owner) (contents, claims tally)
	stats() Stats
}

// Store holds the tables of a node, and the owners of their rows.
type Store struct {
	self    *Owner
	journal *journal.Journal
	clock   *clock.Clock

	mourning atomic.Bool // some have died lately: a better copy of their rows may come

	mu     sync.RWMutex // guards what follows
	tables map[string]core
	owners map[string][]*Owner // by id
	gens   uint32              // of rows inherited
}

// New returns the store of a node, whose own rows are numbered by the journal.
func New(id string, j *journal.Journal, c *clock.Clock) *Store {
	return &Store{
		self: &Owner{ID: id, self: true}, journal: j, clock: c,
		tables: map[string]core{}, owners: map[string][]*Owner{},
	}
}

// Close ends the tables' streams of changes.
func (s *Store) Close() {
	for _, t := range s.all() {
		t.close()
	}
}

// Stats describes a table.
type Stats struct {
	Name    string
	Keys    int    // with a row
	Rows    int    // of living members, also those that another one with their key hides
	Owned   int    // of this node
	Orphans int    // of dead members
	Digest  uint64 // of Rows: equal on all members once they have synchronised
	Unmade  bool   // other nodes have it, but this program has not made it
}

// table returns the table of the name. One that this program has not made yet keeps the bytes of its rows until it is.
func (s *Store) table(name string) core {
	s.mu.RLock()
	t := s.tables[name]
	s.mu.RUnlock()
	if t != nil {
		return t
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t = s.tables[name]; t == nil {
		t = newShelf(s, name)
		s.tables[name] = t
	}
	return t
}

func (s *Store) all() map[string]core {
	s.mu.RLock()
	defer s.mu.RUnlock()
	m := make(map[string]core, len(s.tables))
	for name, t := range s.tables {
		m[name] = t
	}
	return m
}

// Living returns the owner with this incarnation, which is alive now.
func (s *Store) Living(id string, inc uint64) *Owner {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.owners[id] {
		if o.Inc == inc {
			o.died = time.Time{}
			o.phase.Store(living)
			return o
		}
	}
	o := &Owner{ID: id, Inc: inc}
	s.owners[id] = append(s.owners[id], o)
	return o
}

// Bury drops the rows of an owner, or makes orphans of those that outlive it.
func (s *Store) Bury(o *Owner, orphans bool) {
	s.mu.Lock()
	if orphans {
		o.died = time.Now()
		o.phase.Store(orphaned)
	} else {
		s.forget(o)
	}
	s.mu.Unlock()
	for _, t := range s.all() {
		t.drop(o, orphans)
	}
}

// forget is called with mu held.
func (s *Store) forget(o *Owner) {
	o.phase.Store(buried)
	s.owners[o.ID] = slices.DeleteFunc(s.owners[o.ID], func(x *Owner) bool { return x == o })
	if len(s.owners[o.ID]) == 0 {
		delete(s.owners, o.ID)
	}
}

// Clear drops the rows of all the dead.
func (s *Store) Clear() {
	var dead []*Owner
	s.mu.RLock()
	for _, os := range s.owners {
		for _, o := range os {
			if o.phase.Load() == orphaned {
				dead = append(dead, o)
			}
		}
	}
	s.mu.RUnlock()
	for _, o := range dead {
		s.Bury(o, false)
	}
	s.Mourn(false)
}

// Older returns the owners with earlier incarnations of a node.
func (s *Store) Older(o *Owner) []*Owner {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.DeleteFunc(slices.Clone(s.owners[o.ID]), func(x *Owner) bool { return x.Inc >= o.Inc })
}

// Expire ends orphans whose time is over.
func (s *Store) Expire(now time.Time) {
	type dead struct {
		o    *Owner
		died time.Time
		busy bool
	}
	var gone []dead
	s.mu.RLock()
	gens := s.gens
	for _, os := range s.owners {
		for _, o := range os {
			if !o.died.IsZero() {
				gone = append(gone, dead{o, o.died, o.heirs > 0})
			}
		}
	}
	s.mu.RUnlock()
	for _, d := range gone {
		left := false
		for _, t := range s.all() {
			left = t.expire(d.o, d.died, now) || left
		}
		if left || d.busy {
			continue
		}
		s.mu.Lock()
		if s.gens == gens && d.o.phase.Load() == orphaned { // nothing has been inherited meanwhile
			s.forget(d.o)
		}
		s.mu.Unlock()
	}
}

// add puts a table in the place of the shelf that stood for it.
func (s *Store) add(name string, t core, adopt func(old *shelf) error) error {
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
func (s *Store) recount(o *Owner) (contents, claims tally) {
	for _, t := range s.all() {
		a, b := t.recount(o)
		contents.Rows += a.Rows
		contents.Digest ^= a.Digest
		claims.Rows += b.Rows
		claims.Digest ^= b.Digest
	}
	return contents, claims
}

// Stats describes the tables, in the order of their names.
func (s *Store) Stats() []Stats {
	var list []Stats
	for name, t := range s.all() {
		st := t.stats()
		st.Name = name
		list = append(list, st)
	}
	slices.SortFunc(list, func(a, b Stats) int { return cmp.Compare(a.Name, b.Name) })
	return list
}
