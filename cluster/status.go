package cluster

import (
	"cmp"
	"slices"
	"sync"

	"github.com/starling-im/starling/cluster/internal/journal"
	"github.com/starling-im/starling/cluster/internal/link"
	"github.com/starling-im/starling/cluster/internal/rows"
	"github.com/starling-im/starling/cluster/internal/topic"
)

// Status is a node at a moment, for people to look at.
type Status struct {
	Self    Member
	Senior  Member
	Failure *Failure // nil if joining has not failed
	Members []Member
	Peers   []PeerStatus
	Tables  []TableStatus
	Topics  []TopicStatus
	Events  []Event // the latest ones, oldest first

	Table, Rows, Digest uint64 // of this node's own rows: sequence of the last change, number, digest
	Malformed           int64  // messages that could not be read
	Dropped             int64  // beacons and such that were left out because the node lagged
	Unknown             int64  // records for channels that this program does not have
	Strange             int64  // records of kinds that this version does not know
}

// PeerStatus is a member that this node is linked to.
type PeerStatus struct {
	ID, Name    string
	Incarnation uint64
	Epoch       uint64
	Table       uint64 // how far the copy of its rows is
	Rows        uint64
	Digest      uint64
	Synced      bool   // the copy is complete
	Repairs     uint64 // how often it was not, after the first time
	Stanza      LinkStatus
	Bulk        LinkStatus
}

// LinkStatus describes a link from this node to a member.
type LinkStatus = link.Stats

// TableStatus describes a table.
type TableStatus struct {
	Name    string
	Keys    int    // with a row
	Rows    int    // of living members, also those that another one with their key hides
	Owned   int    // of this node
	Orphans int    // of dead members
	Digest  uint64 // of Rows: equal on all members once they have synchronised
	Unmade  bool   // other nodes have it, but this program has not made it
}

// TopicStatus says how far a topic is.
type TopicStatus = topic.Stats

// Status describes the node. It walks through all rows: it is not for every second.
func (n *Node) Status() Status {
	v := n.view.Load()
	seq, t := n.journal.State()
	s := Status{
		Self: v.self, Senior: v.senior, Failure: n.Failure(), Members: slices.Clone(v.members), Tables: tables(n.store), Topics: n.topics.Stats(), Events: n.ring.list(),
		Table: seq, Rows: t.Rows, Digest: t.Digest,
		Malformed: n.malformed.Load(), Dropped: n.dropped.Load(), Unknown: n.channels.unknown.Load(), Strange: n.strange.Load(),
	}
	for _, m := range v.members {
		if p := v.peers[m.ID]; p != nil {
			s.Peers = append(s.Peers, p.status(m.Name))
		}
	}
	slices.SortFunc(s.Peers, func(a, b PeerStatus) int { return cmp.Compare(a.Name, b.Name) })
	return s
}

func tables(s *rows.Store) (list []TableStatus) {
	for _, st := range s.Stats() {
		list = append(list, TableStatus(st))
	}
	return list
}

func (p *peer) status(name string) PeerStatus {
	s := PeerStatus{ID: p.id, Name: name, Incarnation: p.inc, Epoch: p.epoch, Stanza: p.stanza.Stats(), Bulk: p.bulk.Stats()}
	var t journal.Tally
	s.Table, t, s.Synced, s.Repairs = p.copy.State()
	s.Rows, s.Digest = t.Rows, t.Digest
	return s
}

// maxRing is how many events Status shows.
const maxRing = 256

// ring keeps the latest events.
type ring struct {
	mu     sync.Mutex // guards what follows
	events []Event
	next   int
}

func (r *ring) add(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.events) < maxRing {
		r.events = append(r.events, e)
		return
	}
	r.events[r.next] = e
	r.next = (r.next + 1) % maxRing
}

func (r *ring) list() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append(slices.Clone(r.events[r.next:]), r.events[:r.next]...)
}
