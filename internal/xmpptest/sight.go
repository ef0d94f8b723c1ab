package xmpptest

import (
	"fmt"
	"maps"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/internal/fleet"
)

// sight is what one look at a node tells of its work with the others.
type sight struct {
	cluster.Status
	fleet fleet.Status
}

// look looks at all nodes, one after another.
func (c *Cluster) look() []sight {
	all := make([]sight, len(c.Nodes))
	for i, s := range c.Nodes {
		all[i] = sight{s.Node().Status(), s.Fleet().Status()}
	}
	return all
}

// busy says what nodes have yet to do for each other; nothing if they are through.
func busy(all []sight) string {
	for _, s := range all {
		if s.Self.State != cluster.Ready || len(s.Members) != len(all) || len(s.Peers) != len(all)-1 {
			return fmt.Sprintf("%s is %s and sees %d members", s.Self.Name, s.Self.State, len(s.Members))
		}
		if f := &s.fleet; f.Unsettled+f.Parked+f.Busy > 0 {
			return fmt.Sprintf("%s has %d legs unsettled, %d parked, %d tasks", s.Self.Name, f.Unsettled, f.Parked, f.Busy)
		}
		if why := s.directory(); why != "" {
			return s.Self.Name + why
		}
		for _, p := range s.Peers {
			if p.Stanza.Unacked+p.Stanza.Waiting+p.Bulk.Unacked+p.Bulk.Waiting > 0 {
				return fmt.Sprintf("%s waits for acknowledgements of %s", s.Self.Name, p.Name)
			}
		}
		for _, t := range s.Topics {
			if t.Waiting > 0 {
				return fmt.Sprintf("%s has not handled all messages on %s", s.Self.Name, t.Name)
			}
		}
		for _, o := range all {
			if why := s.lacks(&o); why != "" {
				return fmt.Sprintf("%s has not %s of %s", s.Self.Name, why, o.Self.Name)
			}
		}
	}
	return ""
}

// directory says what is not as it should be in the table of sessions. A session that ends has a row until all that has to
// be done about its end is done; one that was bound again elsewhere has a second one until then.
func (s *sight) directory() string {
	for _, t := range s.Tables {
		switch {
		case t.Name != "sessions":
		case t.Owned != s.fleet.Here:
			return fmt.Sprintf(" has %d sessions and shows %d", s.fleet.Here, t.Owned)
		case t.Rows != t.Keys:
			return fmt.Sprintf(" sees %d sessions with %d addresses", t.Rows, t.Keys)
		}
	}
	return ""
}

// lacks says what of another node's doings has not come here.
func (s *sight) lacks(o *sight) string {
	for _, p := range s.Peers {
		if p.ID == o.Self.ID && (!p.Synced || p.Table != o.Table || p.Rows != o.Rows || p.Digest != o.Digest) {
			return "the tables"
		}
	}
	for i, t := range o.Topics {
		if t.Published > 0 && (i >= len(s.Topics) || s.Topics[i].Name != t.Name || s.Topics[i].Heard[o.Self.ID] != t.Published) && s.Self.ID != o.Self.ID {
			return "the messages on " + t.Name
		}
	}
	return ""
}

// equal reports whether nothing has come, gone or changed between two looks at a node.
func (s sight) equal(o sight) bool {
	return s.Table == o.Table && maps.Equal(s.traffic(), o.traffic())
}

// traffic counts the frames by member and link: sent and applied.
func (s *sight) traffic() map[string][4]uint64 {
	m := map[string][4]uint64{}
	for _, p := range s.Peers {
		m[p.ID] = [4]uint64{p.Stanza.Sent, p.Stanza.Applied, p.Bulk.Sent, p.Bulk.Applied}
	}
	return m
}
