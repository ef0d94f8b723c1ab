package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/starling-im/starling/cluster/internal/frame"
	"github.com/starling-im/starling/cluster/internal/link"
)

// MaxRecord is the longest record of a channel, in bytes.
const MaxRecord = frame.MaxRecord - 4096

// ErrFull says that the window of the link to a member is full.
var ErrFull = errors.New("the window is full")

// Channel carries records from one node to another: in the order sent, each once, acknowledged after the receiver
// has applied it. All channels to one node share a link and its window, and so their order; those made by BulkChannel
// share another one.
type Channel struct {
	n       *Node
	name    string
	bulk    bool
	receive func(from Member, record []byte)
	unsent  func(to Member, records [][]byte)
}

// channels are those of a node, by name.
type channels struct {
	mu      sync.RWMutex // guards what follows
	byName  map[string]*Channel
	latest  map[string]chan struct{} // by member's id: closed when the latest link to it delivers nothing more
	unknown atomic.Int64             // records for channels that this program does not have
}

// Channel makes this node's end of the channel with this name. receive is called for the records of one node one after
// another; it must not wait for another node, and may keep the record. unsent is called when a member, in its
// incarnation, is gone: with the records to it that were not acknowledged, in order. It may have applied some of
// them. Both may be nil. Channel panics when the node has the channel already.
func (n *Node) Channel(name string, receive func(from Member, record []byte), unsent func(to Member, records [][]byte)) *Channel {
	return n.channel(&Channel{n, name, false, receive, unsent})
}

// BulkChannel is Channel for much that is not urgent: copies of whole objects, beside which single records of other
// channels shall not wait. Its records share a link and a window with the rows that nodes send each other when they
// join. They are not ordered with those of other channels, nor with changes of tables: a row that was put before a
// record was sent may come after it.
//
// Replicas, copies of objects on guardians, build on this: full copies go over a bulk channel and changes over another
// one; a guardian acknowledges with a record of its own; MemberDied, Settled and Fenced say when to look for another
// guardian, to take over, and to give up; a row names the guardian in force, and Homes proposes one.
func (n *Node) BulkChannel(name string, receive func(from Member, record []byte), unsent func(to Member, records [][]byte)) *Channel {
	return n.channel(&Channel{n, name, true, receive, unsent})
}

func (n *Node) channel(c *Channel) *Channel {
	name := c.name
	if name == "" || len(name) > frame.MaxName {
		panic(fmt.Sprintf("cluster: channel name %q", name))
	}
	n.channels.mu.Lock()
	defer n.channels.mu.Unlock()
	if n.channels.byName == nil {
		n.channels.byName = map[string]*Channel{}
	}
	if n.channels.byName[name] != nil {
		panic(fmt.Sprintf("cluster: channel %q exists already", name))
	}
	n.channels.byName[name] = c
	return c
}

// Send gives a record to the link to a member. While the link's window is full it waits until the context ends. ErrGone
// says that there is no such member, or that it went before the record was accepted; an accepted record is
// applied there or handed back here. Records to the node itself are not accepted.
func (c *Channel) Send(ctx context.Context, to string, record []byte) error {
	return c.give(to, record, func(l *link.Link, body []byte) error { return l.Send(ctx, frame.ChannelMsg, body) })
}

// TrySend is Send that does not wait: ErrFull says that the window is full, or that others wait for room already.
func (c *Channel) TrySend(to string, record []byte) error {
	err := c.give(to, record, func(l *link.Link, body []byte) error { return l.Try(frame.ChannelMsg, body) })
	if errors.Is(err, link.ErrFull) {
		return ErrFull
	}
	return err
}

// Reply gives a record to the link to a member beside its window, and never waits. It is for answers to records that
// came over the channel, whose number those bound. Under load it leaves up to 2 ms later, with what is sent then.
// ErrTooBig says that too many are on their way.
func (c *Channel) Reply(to string, record []byte) error {
	err := c.give(to, record, func(l *link.Link, body []byte) error { return l.Post(frame.ChannelMsg, body) })
	if errors.Is(err, link.ErrFull) {
		return ErrTooBig
	}
	return err
}

// give hands a record, with the name of the channel before it, to the link to a member.
func (c *Channel) give(to string, record []byte, hand func(*link.Link, []byte) error) error {
	if len(record) > MaxRecord {
		return ErrTooBig
	}
	l := c.link(to)
	if l == nil {
		return ErrGone
	}
	b := c.wrap(record)
	defer wrapped.Put(b)
	err := hand(l, *b)
	if errors.Is(err, link.ErrClosed) {
		return ErrGone
	}
	return err
}

// wrapped is memory for records with the name of their channel. A link copies what it is given.
var wrapped = sync.Pool{New: func() any { return new([]byte) }}

// wrap puts the name of the channel before a record.
func (c *Channel) wrap(record []byte) *[]byte {
	b := wrapped.Get().(*[]byte)
	if cap(*b) > 2*len(record)+(64<<10) { // what a long record took is not kept for short ones
		*b = nil
	}
	*b = frame.AppendChannel((*b)[:0], c.name, record)
	return b
}

// link returns what carries the channel to a member, nil if there is no such member.
func (c *Channel) link(to string) *link.Link {
	p := c.n.view.Load().peers[to]
	switch {
	case p == nil:
		return nil
	case c.bulk:
		return p.bulk
	}
	return p.stanza
}

func (cs *channels) get(name string) *Channel {
	cs.mu.RLock()
	defer cs.mu.RUnlock()
	return cs.byName[name]
}

// lineUp makes a link to a member the latest one. Unless the channel returned is nil, the link must not deliver before
// that is closed: what an earlier link has in hand comes first, however long it takes.
func (cs *channels) lineUp(id string, ended chan struct{}) (before <-chan struct{}) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.latest == nil {
		cs.latest = map[string]chan struct{}{}
	}
	if c, ok := cs.latest[id]; ok {
		before = c
	}
	cs.latest[id] = ended
	return before
}

// stepOut ends the time of a link.
func (cs *channels) stepOut(id string, ended chan struct{}) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	close(ended)
	if cs.latest[id] == ended {
		delete(cs.latest, id)
	}
}

// deliver gives a record that came to its channel.
func (cs *channels) deliver(n *Node, from string, body []byte) {
	name, record, err := frame.ParseChannel(body)
	c := cs.get(name)
	if err != nil || c == nil || c.receive == nil {
		if cs.unknown.Add(1) == 1 {
			n.log.Warn("record for a channel that is not here", slog.String("channel", name), slog.String("member", from))
		}
		return
	}
	m, ok := n.Member(from)
	if !ok {
		m = Member{ID: from}
	}
	c.receive(m, record)
}

// handBack gives records that were not acknowledged to their channels.
func (cs *channels) handBack(to Member, back []link.Record) {
	var order []string
	records := map[string][][]byte{}
	for _, r := range back {
		name, record, err := frame.ParseChannel(r.Body)
		if r.Kind != frame.ChannelMsg || err != nil {
			continue
		}
		if records[name] == nil {
			order = append(order, name)
		}
		records[name] = append(records[name], record)
	}
	for _, name := range order {
		if c := cs.get(name); c != nil && c.unsent != nil {
			c.unsent(to, records[name])
		}
	}
}
