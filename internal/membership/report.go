package membership

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/cluster"
)

// About is what a node tells the others of itself.
type About struct {
	Joined  uint64    `json:"joined"` // stamp of when it began to join
	Started time.Time `json:"started"`
	Version string    `json:"version"`
	Client  string    `json:"client,omitempty"` // host:port at which clients reach just this node
	Domains []string  `json:"domains"`
}

// Count is how many sessions there are.
type Count struct {
	Here       int            `json:"here"`
	Everywhere int            `json:"everywhere"`
	ByNode     map[string]int `json:"-"` // by Member.ID
}

// tell writes this node's row.
func (m *Membership) tell() error {
	return m.nodes.Put(m.node.Self().ID, About{
		Joined: m.node.Stamp(), Started: m.started, Version: m.o.Version, Client: m.o.Config.AdvertiseClient, Domains: m.o.Domains,
	})
}

// Status is a node's membership at a moment, for operators.
type Status struct {
	Node       string    `json:"node"` // name
	ID         string    `json:"id"`
	State      string    `json:"state"` // standalone, joining, ready, draining, drained, failed
	Cluster    string    `json:"cluster"`
	Configured bool      `json:"configured"` // the configuration says how to join
	Wanted     bool      `json:"wanted"`     // it is to be a member
	DecidedBy  Source    `json:"decided_by"`
	DecidedAt  time.Time `json:"decided_at,omitzero"`
	Admits     bool      `json:"admits"` // takes clients
	Failure    *Failure  `json:"failure,omitempty"`
	Trouble    string    `json:"trouble,omitempty"` // why the last attempt to join did not succeed and is repeated
	WhenFailed string    `json:"when_failed"`
	Senior     string    `json:"senior"` // name
	Sessions   Count     `json:"sessions"`
	Members    []Member  `json:"members"` // oldest first
}

// Failure is what a person must mend.
type Failure struct {
	Reason string `json:"reason"`
	Remedy string `json:"remedy"`
}

// Member is a node as this one sees it.
type Member struct {
	Name        string    `json:"name"`
	ID          string    `json:"id"`
	Self        bool      `json:"self"`
	Senior      bool      `json:"senior"`
	State       string    `json:"state"`
	Suspected   bool      `json:"suspected"` // was not heard for a while
	Address     string    `json:"address,omitempty"`
	Client      string    `json:"client,omitempty"`
	Incarnation uint64    `json:"incarnation"`
	Version     string    `json:"version,omitempty"` // of the server; empty as long as it is not known
	Started     time.Time `json:"started,omitzero"`
	Sessions    int       `json:"sessions"`
}

// Status returns what this node knows of itself and the others.
func (m *Membership) Status() Status {
	self, senior, count := m.node.Self(), m.node.Senior(), m.o.Count()
	s := Status{
		Node: self.Name, ID: self.ID, Cluster: m.o.Config.Name, Configured: m.o.Config.Configured(), WhenFailed: m.o.Config.WhenFailed,
		Senior: senior.Name, Sessions: count,
	}
	for _, o := range m.node.Members() {
		about, _, _ := m.nodes.Get(o.ID)
		s.Members = append(s.Members, Member{
			Name: o.Name, ID: o.ID, Self: o.ID == self.ID, Senior: o.ID == senior.ID, State: o.State.String(), Suspected: o.Suspected,
			Address: o.Address, Client: about.Client, Incarnation: o.Incarnation, Version: about.Version, Started: about.Started,
			Sessions: count.ByNode[o.ID],
		})
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s.State, s.Wanted, s.DecidedBy, s.DecidedAt, s.Admits, s.Trouble = m.state(), m.want.on, m.want.by, m.want.when, m.open, m.trouble
	if m.failure != nil {
		s.Failure = &Failure{m.failure.Reason, m.failure.Remedy}
	}
	return s
}

// state names what the node is doing; mu is held.
func (m *Membership) state() string {
	switch {
	case m.drained:
		return "drained"
	case m.step == Draining:
		return "draining"
	case m.failure != nil:
		return "failed"
	case m.step == Joining:
		return "joining"
	}
	return m.node.State().String()
}

// Note describes the state in one line.
func (m *Membership) Note() string {
	members := len(m.node.Members())
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.state()
	switch {
	case m.failure != nil && !m.drained:
		return fmt.Sprintf("%s: %v", s, m.failure)
	case m.trouble != "":
		return fmt.Sprintf("%s: %s", s, m.trouble)
	case members > 1:
		return fmt.Sprintf("%s, %d members", s, members)
	}
	return s
}

// Table is a replicated table as this node has it.
type Table struct {
	Name    string `json:"name"`
	Keys    int    `json:"keys"`    // with a row
	Rows    int    `json:"rows"`    // of living members
	Owned   int    `json:"owned"`   // of this node
	Orphans int    `json:"orphans"` // of dead members
	Digest  string `json:"digest"`  // equal on all members once they have synchronised
	Unknown bool   `json:"unknown"` // other nodes have it, but this version of the server does not know it
}

// Tables returns the tables of this node. It walks through all rows.
func (m *Membership) Tables() []Table {
	all := []Table{}
	for _, t := range m.node.Status().Tables {
		all = append(all, Table{t.Name, t.Keys, t.Rows, t.Owned, t.Orphans, fmt.Sprintf("%016x", t.Digest), t.Unmade})
	}
	return all
}

// Link is the traffic from this node to a member, and back.
type Link struct {
	Member         string        `json:"member"`
	Kind           string        `json:"kind"`           // stanzas, or bulk for copies of tables
	Synced         bool          `json:"synced"`         // the copy of the member's tables is complete
	Repairs        uint64        `json:"repairs"`        // how often it was not
	Unacknowledged int           `json:"unacknowledged"` // bytes
	Waiting        int           `json:"waiting"`        // senders that wait for room
	RoundTrip      time.Duration `json:"round_trip_ns"`
	Sent           uint64        `json:"bytes_sent"`
	Received       uint64        `json:"bytes_received"`
	Resent         uint64        `json:"frames_resent"`
}

// Links returns the links of this node.
func (m *Membership) Links() []Link {
	all := []Link{}
	for _, p := range m.node.Status().Peers {
		for _, l := range []struct {
			kind string
			cluster.LinkStatus
		}{{"stanzas", p.Stanza}, {"bulk", p.Bulk}} {
			all = append(all, Link{
				Member: p.Name, Kind: l.kind, Synced: p.Synced, Repairs: p.Repairs, Unacknowledged: l.Unacked, Waiting: l.Waiting,
				RoundTrip: l.RTT, Sent: l.Bytes, Received: l.Received, Resent: l.Resent,
			})
		}
	}
	return all
}

// Event is something that happened in the cluster, as this node saw it.
type Event struct {
	Time time.Time `json:"time"`
	Text string    `json:"text"`
}

// Events returns the latest events, oldest first.
func (m *Membership) Events() []Event {
	all := []Event{}
	for _, e := range m.node.Status().Events {
		all = append(all, Event{e.Time, words(e)})
	}
	return all
}

func (m *Membership) register() error {
	gauge := func(name, help string, value func() bool) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			m.mu.Lock()
			defer m.mu.Unlock()
			if value() {
				return 1
			}
			return 0
		})
	}
	for _, c := range []prometheus.Collector{
		m.joins,
		gauge("starling_cluster_wanted", "1 if this node is to be a member of its cluster.", func() bool { return m.want.on }),
		gauge("starling_cluster_failed", "1 if it is not, and a person must mend something.", func() bool { return m.failure != nil }),
		gauge("starling_cluster_drained", "1 if an operator keeps clients away from this node.", func() bool { return m.drain }),
	} {
		if err := m.o.Metrics.Register(c); err != nil {
			return err
		}
	}
	return nil
}
