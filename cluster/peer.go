package cluster

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/starling-im/starling/cluster/internal/bus"
	"github.com/starling-im/starling/cluster/internal/frame"
	"github.com/starling-im/starling/cluster/internal/link"
	"github.com/starling-im/starling/cluster/internal/member"
)

// peer is a member that this node is linked to: in one incarnation of both, and one epoch.
type peer struct {
	s         *session
	id        string
	inc, self uint64 // incarnations
	epoch     uint64
	copy      *replica
	feed      *feed
	stanza    *link.Link   // records of channels, and changes of tables in front of them
	bulk      *link.Link   // snapshots
	life      atomic.Int64 // when a frame last came, in nanoseconds since the start of the session
	ctx       context.Context
	cancel    context.CancelFunc
	serving   context.CancelFunc // ends the snapshot being sent; used by the goroutine of the bulk link
}

// The names of the links in subjects.
const (
	stanzaName = "s"
	bulkName   = "b"
)

// carrier publishes what a link sends.
type carrier struct {
	bus          bus.Bus
	frames, acks string
}

func (c *carrier) Frame(b []byte) error { return c.bus.Publish(bus.Data, c.frames, b) }
func (c *carrier) Ack(b []byte) error   { return c.bus.Publish(bus.Data, c.acks, b) }

func (s *session) newPeer(c *member.Candidate, copy *replica) *peer {
	p := &peer{s: s, id: c.Node.ID, inc: c.Node.Incarnation, self: s.m.Self.Incarnation, epoch: c.Epoch, copy: copy}
	p.ctx, p.cancel = context.WithCancel(s.ctx)
	p.life.Store(int64(time.Since(s.began)))
	p.feed = s.n.journal.feed()
	make := func(name string, src link.Source, sink link.Sink) *link.Link {
		return link.New(link.Config{
			Self: p.self, Peer: p.inc, Epoch: p.epoch, Window: s.n.cfg.Window, Source: src, Sink: sink,
			Carrier: &carrier{s.bus, s.subject("l", p.id, s.n.id, name), s.subject("la", p.id, s.n.id, name)},
		})
	}
	p.stanza = make(stanzaName, p.feed, (*stanzaSink)(p))
	p.bulk = make(bulkName, nil, (*bulkSink)(p))
	return p
}

// ask asks for all rows of the peer. Two such records wait at most, so they need no window.
func (p *peer) ask(id uint64) {
	_ = p.bulk.Post(frame.WantRows, frame.AppendSnapshot(nil, frame.Snapshot{ID: id}))
}

// stop ends the links, and returns what the peer may not have got.
func (p *peer) stop() []link.Record {
	p.cancel()
	back := p.stanza.Close()
	p.bulk.Close()
	p.feed.close()
	p.s.n.work.Go(func() {
		p.stanza.Done()
		p.bulk.Done()
	})
	return back
}

func (p *peer) link(name string) *link.Link {
	switch name {
	case stanzaName:
		return p.stanza
	case bulkName:
		return p.bulk
	}
	return nil
}

func (p *peer) hold(on bool) {
	p.stanza.Hold(on)
	p.bulk.Hold(on)
}

// stanzaSink applies what comes over the stanza link.
type stanzaSink peer

func (k *stanzaSink) Wait(table uint64, done <-chan struct{}) { k.copy.wait(table, done) }

func (k *stanzaSink) Apply(kind frame.RecordKind, body []byte) {
	switch kind {
	case frame.Delta:
		b, err := frame.ParseBatch(body)
		if err != nil {
			k.s.n.log.Error("malformed changes from a member", slog.String("member", k.id))
			return // the copy will notice what it lacks
		}
		k.copy.delta(b)
	case frame.ChannelMsg:
		k.s.n.channels.deliver(k.s.n, k.id, body)
	}
}

// bulkSink applies what comes over the bulk link.
type bulkSink peer

func (k *bulkSink) Wait(uint64, <-chan struct{}) {}

func (k *bulkSink) Apply(kind frame.RecordKind, body []byte) {
	switch kind {
	case frame.WantRows:
		if head, err := frame.ParseSnapshot(body); err == nil {
			(*peer)(k).serve(head.ID)
		}
	case frame.RowsChunk:
		if b, err := frame.ParseBatch(body); err == nil {
			k.copy.chunk(b.Last, b.Ops)
		}
	case frame.RowsEnd:
		if head, err := frame.ParseSnapshot(body); err == nil && k.copy.finish(head) {
			k.s.post(func() { k.s.synced((*peer)(k)) })
		}
	}
}

const chunkSize = 64 << 10

// serve sends all rows of this node. A new request ends the answer to the one before.
func (p *peer) serve(id uint64) {
	if p.serving != nil {
		p.serving()
	}
	ctx, cancel := context.WithCancel(p.ctx)
	p.serving = cancel
	p.s.n.work.Go(func() {
		defer cancel()
		if err := p.sendRows(ctx, id); err != nil && ctx.Err() == nil {
			p.s.n.log.Error("snapshot was not sent", slog.String("member", p.id), slog.Any("err", err))
		}
	})
}

// sendRows lists the rows as they are at one moment, then encodes and sends them at the pace of the link.
func (p *peer) sendRows(ctx context.Context, id uint64) error {
	type listed struct {
		count  int
		append func([]byte, int) ([]byte, error)
	}
	n := p.s.n
	var lists []listed
	n.journal.mu.Lock()
	head := frame.Snapshot{ID: id, Seq: n.journal.seq, Rows: n.journal.tally.rows, Digest: n.journal.tally.digest}
	for _, t := range n.store.all() {
		count, appendRow := t.collect(n.owner)
		lists = append(lists, listed{count, appendRow})
	}
	n.journal.mu.Unlock()
	var ops frame.Ops
	flush := func() error {
		if len(ops) == 0 {
			return nil
		}
		body := frame.AppendBatch(nil, frame.Batch{Prev: id, Last: id, Ops: ops})
		ops = ops[:0]
		return p.bulk.Send(ctx, frame.RowsChunk, body)
	}
	for _, l := range lists {
		for i := range l.count {
			var err error
			if ops, err = l.append(ops, i); err != nil {
				return err
			}
			if len(ops) >= chunkSize {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	return p.bulk.Send(ctx, frame.RowsEnd, frame.AppendSnapshot(nil, head))
}
