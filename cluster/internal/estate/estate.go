// Package estate finds out, for each dead incarnation of a node, which of the members that see each other has the most
// advanced copy of its rows, and when they agree that it is dead.
package estate

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/starling-im/starling/cluster/internal/frame"
)

const (
	askAgain = 2 * time.Second  // when no answer has come for so long
	maxTries = 5                // of asking for one copy; then this node does without it
	maxBooks = 1024             // incarnations remembered
	remember = 10 * time.Minute // and longer while there are rows
)

// Key names an incarnation.
type Key struct {
	ID  string
	Inc uint64
}

// Rank says how far a copy has come. Copies of one rank are equal.
type Rank struct {
	Seq  uint64 // all changes up to this one are in
	Torn uint64 // 0 for a copy that was whole when the owner died
}

// nothing is the rank of no copy.
var nothing = Rank{0, ^uint64(0)}

// Better says whether the copy is more advanced than another one.
func (r Rank) Better(o Rank) bool {
	if r.Seq != o.Seq {
		return r.Seq > o.Seq
	}
	return r.Torn < o.Torn
}

// View is what the owner of a Book knows of the members. Its methods are called by Hear and Tick only.
type View interface {
	// Life says how this node sees an incarnation. One that it has never heard is dead.
	Life(id string, inc uint64) Life
	// Rows says whether there are rows of the incarnation here.
	Rows(id string, inc uint64) bool
	// Members returns the ids of the members, without this node.
	Members() []string
}

// Life is how a node sees an incarnation.
type Life uint8

// The ways to see one.
const (
	Dead  Life = iota
	Heard      // it, or its successor, is there
	Over       // it said goodbye
)

// Ask is a request for rows of a dead incarnation.
type Ask struct {
	Key
	From string // a member
}

// Book holds what is known of the dead. All methods but Settled are called by one goroutine.
type Book struct {
	view View
	said map[string]*frame.Beacon // the last beacon of each node

	mu    sync.Mutex // guards what follows
	cases map[Key]*entry
}

// entry is one dead incarnation.
type entry struct {
	rank    Rank // of the copy here
	died    time.Time
	settled bool
	from    string // the member that was asked for a better one
	wanted  Rank   // what it has
	asked   time.Time
	tries   int
}

// New returns an empty book.
func New(v View) *Book {
	return &Book{view: v, said: map[string]*frame.Beacon{}, cases: map[Key]*entry{}}
}

// Died takes in that this node has declared an incarnation dead, and how far its copy is.
func (b *Book) Died(now time.Time, k Key, r Rank) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cases[k] = &entry{rank: r, died: now}
}

// Drop forgets an incarnation: it is alive, or its rows are of no use any more.
func (b *Book) Drop(k Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.cases, k)
}

// Gone forgets what a node said.
func (b *Book) Gone(id string) { delete(b.said, id) }

// Hear takes in a beacon.
func (b *Book) Hear(now time.Time, m *frame.Beacon) {
	b.said[m.ID] = m
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range m.Dead {
		k := Key{c.ID, c.Inc}
		if b.cases[k] == nil && c.Seq > 0 && len(b.cases) < maxBooks && b.view.Life(k.ID, k.Inc) == Dead {
			b.cases[k] = &entry{rank: nothing, died: now}
		}
	}
}

// Got takes in that the copy of an incarnation has been replaced.
func (b *Book) Got(k Key, r Rank) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.cases[k]; e != nil && r.Better(e.rank) {
		e.rank, e.from = r, ""
	}
}

// Rank returns how far the copy of an incarnation is; false if it is not in the book.
func (b *Book) Rank(k Key) (Rank, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.cases[k]
	if e == nil || e.rank == nothing {
		return Rank{}, false
	}
	return e.rank, true
}

// List returns what the next beacon tells of the copies, the latest deaths first, and how many there are.
func (b *Book) List() []frame.Copy {
	b.mu.Lock()
	defer b.mu.Unlock()
	keys := slices.SortedFunc(maps.Keys(b.cases), func(x, y Key) int {
		return cmp.Or(b.cases[y].died.Compare(b.cases[x].died), cmp.Compare(x.ID, y.ID), cmp.Compare(x.Inc, y.Inc))
	})
	var list []frame.Copy
	for _, k := range keys[:min(len(keys), frame.MaxDead)] {
		if r := b.cases[k].rank; r != nothing {
			list = append(list, frame.Copy{ID: k.ID, Inc: k.Inc, Seq: r.Seq, Torn: r.Torn})
		}
	}
	return list
}

// Len returns how many incarnations are in the book.
func (b *Book) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.cases)
}

// Settled says whether, as far as is known here, all members take the incarnation for dead and none of them has a
// better copy of its rows.
func (b *Book) Settled(k Key) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.cases[k]
	return e != nil && e.settled
}

// Unsettle makes nothing settled, until the next Tick.
func (b *Book) Unsettle() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.cases {
		e.settled = false
	}
}

// Tick returns whom to ask for rows, and what has been settled since the last time. Each member is asked for one thing
// at a time.
func (b *Book) Tick(now time.Time) (asks []Ask, settled []Key) {
	if len(b.cases) == 0 && len(b.said) < maxBooks { // changed by this goroutine only
		return nil, nil
	}
	members := b.view.Members()
	if len(b.said) > 2*len(members)+64 { // nodes that came and went without becoming members
		maps.DeleteFunc(b.said, func(id string, _ *frame.Beacon) bool { return !slices.Contains(members, id) })
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	busy := map[string]bool{}
	for _, e := range b.cases {
		if e.from != "" && now.Sub(e.asked) < askAgain {
			busy[e.from] = true
		}
	}
	for k, e := range b.cases {
		life := b.view.Life(k.ID, k.Inc)
		switch {
		case life == Over, now.Sub(e.died) > remember && !b.view.Rows(k.ID, k.Inc):
			delete(b.cases, k)
			continue
		case life == Heard:
			e.settled = false
			continue
		}
		from, best := b.best(k, e, members)
		lags := best.Better(e.rank) && (best != e.wanted || e.tries < maxTries || now.Sub(e.asked) < askAgain)
		if lags && !busy[from] && (e.from == "" || now.Sub(e.asked) >= askAgain) {
			if best != e.wanted {
				e.wanted, e.tries = best, 0
			}
			e.from, e.asked = from, now
			e.tries++
			busy[from] = true
			asks = append(asks, Ask{k, from})
		}
		was := e.settled
		if e.settled = !lags && b.agreed(k, members); e.settled && !was {
			settled = append(settled, k)
		}
	}
	return asks, settled
}

// best returns the best copy among the members, and one of those who have it: another one each time.
func (b *Book) best(k Key, e *entry, members []string) (from string, best Rank) {
	best = nothing
	var have []string
	for _, id := range members {
		m := b.said[id]
		if m == nil {
			continue
		}
		i := slices.IndexFunc(m.Dead, func(c frame.Copy) bool { return c.ID == k.ID && c.Inc == k.Inc })
		if i < 0 {
			continue
		}
		r := Rank{m.Dead[i].Seq, m.Dead[i].Torn}
		if r.Better(best) {
			best, have = r, nil
		}
		if r == best {
			have = append(have, id)
		}
	}
	if len(have) == 0 {
		return "", best
	}
	slices.Sort(have)
	return have[e.tries%len(have)], best
}

// agreed says whether no member has said last that the incarnation is there.
func (b *Book) agreed(k Key, members []string) bool {
	for _, id := range members {
		m := b.said[id]
		if m == nil || slices.ContainsFunc(m.Peers, func(p frame.Peer) bool {
			return p.ID == k.ID && p.Inc == k.Inc && p.Status != frame.Dead
		}) {
			return false
		}
	}
	return true
}
