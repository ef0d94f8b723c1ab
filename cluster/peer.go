package cluster

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/starling-im/starling/cluster/internal/bus"
	"github.com/starling-im/starling/cluster/internal/frame"
	"github.com/starling-im/starling/cluster/internal/journal"
	"github.com/starling-im/starling/cluster/internal/link"
	"github.com/starling-im/starling/cluster/internal/member"
	"github.com/starling-im/starling/cluster/internal/rows"
)

// peer is a member that this node is linked to: in one incarnation of both, and one epoch.
type peer struct {
	s         *session
	id        string
	inc, self uint64 // incarnations
	epoch     uint64
	version   uint8 // of the encoding: the highest that both speak
	copy      *rows.Replica
	feed      *journal.Feed
	stanza    *link.Link   // records of channels, and changes of tables in front of them
	bulk      *link.Link   // rows asked for, and records of bulk channels
	life      atomic.Int64 // when a frame last came, in nanoseconds since the start of the session
	ctx       context.Context
	cancel    context.CancelFunc
	serving   context.CancelFunc // ends the snapshot being sent; this, too, is used by the goroutine of the bulk link
	lending   context.CancelFunc // ends the sending of a dead member's rows
	taking    taking
	before    <-chan struct{} // if not nil: closed when the earlier links to this member deliver nothing more
	ended     chan struct{}   // closed when that is so for this one, too
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

func (s *session) newPeer(c *member.Candidate, copy *rows.Replica) *peer {
	p := &peer{s: s, id: c.Node.ID, inc: c.Node.Incarnation, self: s.m.Self.Incarnation, epoch: c.Epoch, version: min(s.m.Self.MaxVersion, c.Node.MaxVersion), copy: copy}
	p.ctx, p.cancel = context.WithCancel(s.ctx)
	p.life.Store(int64(time.Since(s.began)))
	p.feed = s.n.journal.Feed(p.version)
	p.ended = make(chan struct{})
	p.before = s.n.channels.lineUp(p.id, p.ended)
	newLink := func(name string, src link.Source, sink link.Sink) *link.Link {
		return link.New(link.Config{
			Version: p.version, Self: p.self, Peer: p.inc, Epoch: p.epoch, Window: s.n.cfg.Window, Source: src, Sink: sink,
			Carrier: &carrier{s.bus, s.subject("l", p.id, s.n.id, name), s.subject("la", p.id, s.n.id, name)},
		})
	}
	p.stanza = newLink(stanzaName, p.feed, (*stanzaSink)(p))
	p.bulk = newLink(bulkName, nil, (*bulkSink)(p))
	return p
}

// ask asks for all rows of the peer. Two such records wait at most, so they need no window.
func (p *peer) ask(id uint64) {
	_ = p.bulk.Post(frame.WantRows, frame.AppendSnapshot(nil, frame.Snapshot{ID: id}))
}

// stop ends the links, and returns what the peer may not have got.
func (p *peer) stop() []link.Record {
	p.cancel()
	back := append(p.stanza.Close(), p.bulk.Close()...)
	p.feed.Close()
	p.s.n.work.Go(func() {
		p.stanza.Done()
		p.bulk.Done()
		if p.before != nil {
			<-p.before
		}
		p.s.n.channels.stepOut(p.id, p.ended)
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

func (p *peer) hurry() {
	p.stanza.Hurry()
	p.bulk.Hurry()
}

func (p *peer) hold(on bool) {
	p.stanza.Hold(on)
	p.bulk.Hold(on)
}

// queue waits until the earlier links to the member deliver nothing more. It reports false when this one ends first.
func (p *peer) queue(done <-chan struct{}) bool {
	if p.before == nil {
		return true
	}
	select {
	case <-p.before:
		return true
	case <-done:
		return false
	}
}

// stanzaSink applies what comes over the stanza link.
type stanzaSink peer

func (k *stanzaSink) Wait(table uint64, done <-chan struct{}) {
	if (*peer)(k).queue(done) {
		k.copy.Wait(table, done)
	}
}

func (k *stanzaSink) Apply(kind frame.RecordKind, body []byte) {
	switch kind {
	case frame.Delta:
		b, err := frame.ParseBatch(body)
		if err != nil {
			k.s.n.log.Error("malformed changes from a member", slog.String("member", k.id))
			return // the copy will notice what it lacks
		}
		k.copy.Delta(b)
	case frame.ChannelMsg:
		k.s.n.channels.deliver(k.s.n, k.id, body)
	default: // of a later version
		k.s.n.strange.Add(1)
	}
}

// bulkSink applies what comes over the bulk link.
type bulkSink peer

func (k *bulkSink) Wait(_ uint64, done <-chan struct{}) { (*peer)(k).queue(done) }

func (k *bulkSink) Apply(kind frame.RecordKind, body []byte) {
	switch kind {
	case frame.WantRows:
		if head, err := frame.ParseSnapshot(body); err == nil {
			(*peer)(k).serve(head.ID)
		}
	case frame.RowsChunk:
		if b, err := frame.ParseBatch(body); err == nil {
			k.copy.Chunk(b.Last, b.Ops)
		}
	case frame.WantDead:
		if e, err := frame.ParseEstate(body); err == nil {
			(*peer)(k).lend(e)
		}
	case frame.DeadChunk:
		if b, err := frame.ParseBatch(body); err == nil {
			k.taking.take(b)
		}
	case frame.DeadEnd:
		if e, err := frame.ParseEstate(body); err == nil {
			(*peer)(k).taken(e)
		}
	case frame.RowsEnd:
		if head, err := frame.ParseSnapshot(body); err == nil && k.copy.Finish(head) {
			k.s.post(func() { k.s.synced((*peer)(k)) })
		}
	case frame.ChannelMsg:
		k.s.n.channels.deliver(k.s.n, k.id, body)
	default:
		if !k.s.n.next.apply(kind, body) { // of a later version
			k.s.n.strange.Add(1)
		}
	}
}

const chunkSize = 64 << 10

// only begins an answer, and ends the one before.
func (p *peer) only(running *context.CancelFunc) context.Context {
	if *running != nil {
		(*running)()
	}
	ctx, cancel := context.WithCancel(p.ctx)
	*running = cancel
	return ctx
}

// serve sends all rows of this node. A new request ends the answer to the one before.
func (p *peer) serve(id uint64) {
	ctx := p.only(&p.serving)
	p.s.n.work.Go(func() {
		n := p.s.n
		last, sum := n.journal.Begin() // lists the rows as they are at one moment
		head := frame.Snapshot{ID: id, Seq: last, Rows: sum.Rows, Digest: sum.Digest}
		lists := n.store.ListOwn(p.version)
		n.journal.End()
		p.report(ctx, p.sendAll(ctx, lists, frame.RowsChunk, id, frame.RowsEnd, frame.AppendSnapshot(nil, head)))
	})
}

// sendAll encodes rows and sends them at the pace of the link.
func (p *peer) sendAll(ctx context.Context, lists []rows.Listed, chunk frame.RecordKind, id uint64, end frame.RecordKind, tail []byte) error {
	var ops frame.Ops
	flush := func() error {
		if len(ops) == 0 {
			return nil
		}
		body := frame.AppendBatch(nil, frame.Batch{Prev: id, Last: id, Ops: ops})
		ops = ops[:0]
		return p.bulk.Send(ctx, chunk, body)
	}
	for _, l := range lists {
		for i := range l.Count {
			var err error
			if ops, err = l.Append(ops, i); err != nil {
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
	return p.bulk.Send(ctx, end, tail)
}
