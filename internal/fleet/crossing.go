package fleet

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/session"
)

const (
	newFor   = 30 * time.Second // that a session is a newcomer: longer than rows are under way
	maxCross = 256              // newcomers that are looked at for one of another node
)

// newcomers are sessions of this node that have become available a short time ago, in the order of their stamps.
//
// Contacts may become available at the same moment on two nodes: each tells those whose rows are there, and the other's is
// not yet. A row that became available before another node's did, by the stamps, and comes there after it, was written
// without knowledge of that one: else its stamp would be larger. So the node of the later one, which sees this, and no
// other shows the two to each other.
type newcomers struct {
	count atomic.Int32 // len(all), to be read without the lock

	mu  sync.Mutex // guards all
	all []newcomer
}

type newcomer struct {
	s     *session.Session
	stamp uint64
	since time.Time
}

func (n *newcomers) any() bool { return n.count.Load() > 0 }

// add returns the stamp of a session that becomes available. It is called before its row is written.
func (n *newcomers) add(f *Fleet, s *session.Session) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	stamp := f.node.Stamp()
	n.all = append(n.all, newcomer{s, stamp, time.Now()})
	n.count.Store(int32(len(n.all)))
	return stamp
}

// sweep forgets those that have been there for a while.
func (n *newcomers) sweep(now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := 0
	for i < len(n.all) && now.Sub(n.all[i].since) > newFor {
		i++
	}
	if n.all = slices.Delete(n.all, 0, i); len(n.all) == 0 {
		n.all = nil
	}
	n.count.Store(int32(len(n.all)))
}

// later lists those that became available after a session of another node.
func (n *newcomers) later(than *seat) (list []*session.Session) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := len(n.all) - 1; i >= 0 && len(list) < maxCross; i-- {
		one := n.all[i]
		if cmp.Or(cmp.Compare(one.stamp, than.since), bytes.Compare(one.s.UID[:], than.uid[:])) < 0 {
			break
		}
		list = append(list, one.s)
	}
	return list
}

// cross shows a session of another node, whose row has just become available here, and those of this node to each other
// that became available without knowing of it.
func (f *Fleet) cross(key string) {
	row, ok := f.sessions.Row(key)
	if !ok || !row.Value.has(available) {
		return
	}
	theirs := f.session(&row)
	if theirs == nil {
		return
	}
	mine := f.newcomers.later(row.Value)
	if len(mine) == 0 {
		return
	}
	f.work(func(ctx context.Context) {
		for _, s := range mine {
			if s.Ended() || !s.State().Available() {
				continue
			}
			if err := f.core.Hooks.Crossed.Each(ctx, &module.Passage{Session: s, Other: theirs}); err != nil {
				f.o.Log.Error("sessions are not shown to each other", "one", s.JID.String(), "other", theirs.JID.String(), "err", err)
			}
		}
	})
}

const (
	movedFor = time.Minute // that it is remembered where a client was before
	maxMoves = 100_000
)

// moves tells on which node clients were that are on another one now.
type moves struct {
	count atomic.Int32 // len(all), to be read without the lock

	mu  sync.Mutex // guards all; taken with the table locked
	all map[string]move
}

type move struct {
	from string // Member.ID
	at   time.Time
}

func (m *moves) add(full, from string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.all == nil {
		m.all = map[string]move{}
	}
	if len(m.all) < maxMoves {
		m.all[full] = move{from, time.Now()}
	}
	m.count.Store(int32(len(m.all)))
}

// has tells whether the client with a full JID was on a node lately, and then on another one.
func (m *moves) has(full, from string) bool {
	if m.count.Load() == 0 {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.all[full].from == from
}

func (m *moves) sweep(now time.Time) {
	if m.count.Load() == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for full, one := range m.all {
		if now.Sub(one.at) > movedFor {
			delete(m.all, full)
		}
	}
	m.count.Store(int32(len(m.all)))
}
