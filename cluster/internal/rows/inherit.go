package rows

import (
	"log/slog"
	"slices"
	"time"

	"github.com/starling-im/starling/cluster/internal/frame"
)

const (
	maxGone   = 1 << 18 // rows that ended, remembered while a better copy of a dead member's rows may come
	firstHeir = 1 << 31 // generation: those before it are of snapshots
)

// inheritor changes the rows of the dead.
type inheritor interface {
	// inherit stores an orphan from another copy, unless something later is known of its key.
	inherit(o *Owner, op *frame.Op, gen uint32) error
	// disown removes the owner's orphans that are not of the generation.
	disown(o *Owner, gen uint32)
	// calm forgets what kept orphans away.
	calm()
}

// end is that a row ended in order.
type end struct {
	stamp uint64
	own   bool // the row was this node's
}

// ended remembers that a row ended in order, so that nobody's older copy brings back what it followed. It is called with
// mu held.
func (t *Set[V]) ended(o *Owner, key string, stamp uint64) {
	if !t.store.mourning.Load() {
		return
	}
	if t.gone == nil {
		t.gone = map[string]end{}
	}
	if len(t.gone) < maxGone && t.gone[key].stamp < stamp {
		t.gone[key] = end{stamp, o.self}
	}
}

// ends lists the rows of this node that ended and are remembered. It is called with mu held.
func (t *Set[V]) ends() (list []frame.Op) {
	for key, e := range t.gone {
		if e.own {
			list = append(list, frame.Op{Delete: true, Stamp: e.stamp, Table: t.name, Key: key})
		}
	}
	return list
}

// release removes the orphans of a key that a row which has ended had followed. It is called with mu held.
func (t *Set[V]) release(key string, stamp uint64) {
	var over []*Owner
	for r := t.rows[key]; r != nil; r = r.next {
		if r.Orphan && r.Stamp <= stamp {
			over = append(over, r.Owner)
		}
	}
	for _, o := range over {
		t.extract(o, key)
	}
}

func (t *Set[V]) inherit(o *Owner, op *frame.Op, gen uint32) error {
	r := &Row[V]{Key: op.Key, Owner: o, seq: op.Seq, Stamp: op.Stamp, ttl: uint32(min(op.TTL, 1<<31)), gen: gen, Orphan: true}
	r.sum = sumOf(t.name, op)
	if err := t.decode(r, op.Value); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.moved:
		return errMoved
	case o.phase.Load() != orphaned, len(t.gone) >= maxGone, t.gone[r.Key].stamp >= r.Stamp:
		return nil
	}
	for q := t.rows[r.Key]; q != nil; q = q.next {
		if !q.Orphan && q.Stamp >= r.Stamp {
			return nil
		}
	}
	t.insert(r)
	return nil
}

func (t *Set[V]) disown(o *Owner, gen uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.of(o) {
		if r.Orphan && r.gen != gen {
			t.extract(o, r.Key)
		}
	}
}

func (t *Set[V]) calm() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gone = nil
}

// Dead returns the owner with a dead incarnation, nil if there is none.
func (s *Store) Dead(id string, inc uint64) *Owner {
	s.mu.RLock()
	defer s.mu.RUnlock()
	i := slices.IndexFunc(s.owners[id], func(o *Owner) bool { return o.Inc == inc && o.phase.Load() == orphaned })
	if i < 0 {
		return nil
	}
	return s.owners[id][i]
}

// Mourn says whether a better copy of a dead owner's rows may come.
func (s *Store) Mourn(on bool) {
	if s.mourning.Swap(on) && !on {
		for _, t := range s.all() {
			t.calm()
		}
	}
}

// Inherit puts the rows of another copy in the place of the dead owner's. They last as if it had died at the time given,
// if that is later than what is known here. It reports false for an owner that lives.
func (s *Store) Inherit(id string, inc uint64, died time.Time, ops []frame.Ops, log *slog.Logger) bool {
	s.mu.Lock()
	var o *Owner
	for _, x := range s.owners[id] {
		if x.Inc == inc {
			o = x
		}
	}
	if o == nil {
		o = &Owner{ID: id, Inc: inc}
		o.phase.Store(orphaned)
		s.owners[id] = append(s.owners[id], o)
	}
	if o.phase.Load() != orphaned {
		s.mu.Unlock()
		return false
	}
	if o.died.Before(died) {
		o.died = died
	}
	s.gens++
	gen := firstHeir | s.gens
	o.heirs++
	s.mu.Unlock()
	for _, list := range ops {
		for len(list) > 0 {
			var op frame.Op
			list.Read(&op)
			err := s.table(op.Table).inherit(o, &op, gen)
			if err == errMoved {
				err = s.table(op.Table).inherit(o, &op, gen)
			}
			if err != nil {
				log.Error("row of a dead member cannot be read", slog.String("table", op.Table), slog.String("member", id), slog.Any("err", err))
			}
		}
	}
	for _, t := range s.all() {
		t.disown(o, gen)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o.heirs--
	return true
}

// DiedAt returns since when an owner's rows are orphans.
func (s *Store) DiedAt(o *Owner) time.Time {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return o.died
}
