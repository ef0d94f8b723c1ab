package cluster

import (
	"context"
	"hash/fnv"
	"log/slog"
	"time"

	"github.com/starling-im/starling/cluster/internal/estate"
	"github.com/starling-im/starling/cluster/internal/frame"
	"github.com/starling-im/starling/cluster/internal/rows"
)

// Members that see each other use the most advanced copy of a dead member's rows. Beacons tell how far each one's copy
// is; who lags asks one of the best, over the bulk link, and takes its rows in the place of those that it has.

// lookout is a session as the book of the dead sees it.
type lookout session

// maxEstate is how many bytes of rows a node takes in for one dead member.
const maxEstate = 256 << 20

func (l *lookout) Life(id string, inc uint64) estate.Life {
	if id == l.n.id {
		return estate.Over
	}
	switch heard, left := l.m.Life(id, inc); {
	case left:
		return estate.Over
	case heard:
		return estate.Heard
	}
	return estate.Dead
}

func (l *lookout) Rows(id string, inc uint64) bool {
	return l.n.store.Dead(id, inc) != nil
}

func (l *lookout) Members() []string {
	var ids []string
	for _, c := range l.m.Sorted() {
		if c.Known {
			ids = append(ids, c.Node.ID)
		}
	}
	return ids
}

// bequeath looks after the rows of the dead.
func (s *session) bequeath(now time.Time) {
	s.n.store.Mourn(s.book.Len() > 0)
	if s.m.Asleep() || s.state() == Joining {
		s.book.Unsettle()
		return
	}
	asks, settled := s.book.Tick(now)
	for _, a := range asks {
		if p := s.peers[a.From]; p != nil {
			s.n.log.Info("rows of a dead member are asked for", slog.String("dead", a.ID), slog.String("from", a.From))
			e := frame.Estate{ID: uint64(now.UnixNano()), Owner: a.ID, Inc: a.Inc}
			_ = p.bulk.Post(frame.WantDead, frame.AppendEstate(nil, e)) // what is lost is asked for again
		}
	}
	for _, k := range settled {
		m := Member{ID: k.ID, Incarnation: k.Inc}
		if c := s.m.Peers[k.ID]; c != nil && c.Node.Incarnation == k.Inc {
			m = public(c.Node)
		}
		s.note(Event{Kind: Settled, Member: m})
	}
}

// torn marks copies that are not whole: each node's is another one.
func torn(id string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	return h.Sum64()>>1 | 1
}

// Settled says whether all members that this node sees take an incarnation of a node for dead, and none of them has a
// more advanced copy of its rows than this node. It is what to look at before acting in a dead member's place; the event
// Settled tells when it becomes so. It may cease to be so, as when a partition heals.
func (n *Node) Settled(id string, incarnation uint64) bool {
	s := n.view.Load().session
	return s != nil && s.book.Settled(estate.Key{ID: id, Inc: incarnation})
}

// taking is the rows of a dead member that are being received. It is used by the goroutine of the bulk link.
type taking struct {
	id   uint64
	ops  []frame.Ops
	size int
}

// take keeps some of the rows.
func (t *taking) take(b frame.Batch) {
	if b.Last != t.id {
		*t = taking{id: b.Last}
	}
	if t.size += len(b.Ops); t.size > maxEstate {
		t.ops = nil
		return
	}
	t.ops = append(t.ops, b.Ops)
}

// taken has received all rows.
func (p *peer) taken(e frame.Estate) {
	t := p.taking
	p.taking = taking{}
	if t.id != e.ID && t.id != 0 || t.size > maxEstate {
		return
	}
	k := estate.Key{ID: e.Owner, Inc: e.Inc}
	died := time.Now().Add(-time.Duration(min(e.Age, 1<<40)) * time.Millisecond)
	if p.s.n.store.Inherit(k.ID, k.Inc, died, t.ops, p.s.n.log) {
		p.s.post(func() {
			p.s.book.Got(k, estate.Rank{Seq: e.Seq, Torn: e.Torn})
			p.s.bequeath(time.Now())
		})
	}
}

// lend sends the rows of a dead member. A new request ends the answer to the one before.
func (p *peer) lend(e frame.Estate) {
	k := estate.Key{ID: e.Owner, Inc: e.Inc}
	r, known := p.s.book.Rank(k)
	if !known {
		return
	}
	e.Seq, e.Torn = r.Seq, r.Torn
	ctx := p.only(&p.lending)
	p.s.n.work.Go(func() {
		var lists []rows.Listed
		if o := p.s.n.store.Dead(k.ID, k.Inc); o != nil {
			e.Age = uint64(time.Since(p.s.n.store.DiedAt(o)).Milliseconds())
			lists = p.s.n.store.List(o, p.version)
		}
		p.report(ctx, p.sendAll(ctx, lists, frame.DeadChunk, e.ID, frame.DeadEnd, frame.AppendEstate(nil, e)))
	})
}

// report complains about an answer that could not be given.
func (p *peer) report(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		p.s.n.log.Error("rows were not sent", slog.String("member", p.id), slog.Any("err", err))
	}
}
