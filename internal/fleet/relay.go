package fleet

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/stream"
)

// hands is the number of ledgers.
const hands = 8

// hand is a ledger, and the one who has it open.
type hand struct {
	mu sync.Mutex // guards all below, and the order of records handed to links
	ledger
	dirty []*peer // with records to be sent
}

// hand is the one that keeps a sender's legs.
func (f *Fleet) hand(s *session.Session) *hand {
	if s == nil {
		return &f.hands[0]
	}
	return &f.hands[s.UID[len(s.UID)-1]%hands]
}

// unlock closes the ledger, and does what it has found is to be done.
func (f *Fleet) unlock(h *hand) {
	if len(h.batches) == 0 && len(h.ended) == 0 && len(h.cleared) == 0 {
		h.mu.Unlock()
		return
	}
	batches, ended, cleared := h.batches, h.ended, h.cleared
	h.batches, h.ended, h.cleared = nil, nil, nil
	h.mu.Unlock()
	for _, held := range ended {
		held.Settle()
	}
	for _, s := range cleared {
		s.Clear()
	}
	for _, b := range batches {
		f.workers.Do(func() { f.reroute(h, b) })
	}
}

// Relay makes a leg of a stanza for a session of another node, or for one here that comes after such a one
// (session.Relay).
func (f *Fleet) Relay(fl *session.Flow, to *session.Session, st *stanza.Stanza) (taken, isDirect bool) {
	k := laneKey{fl.Session, to.JID}
	h := f.hand(k.from)
	h.mu.Lock()
	var p *peer
	if to.Remote() {
		if p = f.peer(h, to.Node); p == nil && h.lanes[k] == nil {
			f.unlock(h)
			return false, false // the node has just gone, and its rows are about to
		}
	} else if h.lanes[k] == nil {
		h.mu.Unlock()
		return false, true
	}
	g := h.newLeg()
	g.st, g.uid, g.sends, g.fork = st, to.UID, fl.Sends, fl.Fork
	asks := st.Kind == stanza.Presence && st.Type == stanza.Probe
	switch {
	case asks && fl.Gated:
		g.verb = inquire
	case asks:
		g.verb = probe
	case fl.Gated:
		g.verb = gated
	}
	if p == nil && to.Remote() {
		p = &peer{dead: true} // parks, if anything is before it
	}
	what := f.enter(h, k, p, g, fl.Sends > 0)
	if what != parked && what != sent {
		h.mu.Unlock()
		return false, what == direct && !to.Remote()
	}
	g.held = fl.Held.More()
	if g.fork != nil {
		g.fork.More()
	}
	f.unlock(h)
	return true, false
}

// missing is the outcome of a leg to a node that is not there.
const missing = parked + 1

// enter gives a leg to the ledger. The caller has it open.
func (f *Fleet) enter(h *hand, k laneKey, p *peer, g *leg, again bool) outcome {
	if p != nil && p.dead && h.mayPass(h.lanes[k], p, again) {
		return missing
	}
	what := h.ledger.enter(k, p, g, again)
	if what == sent {
		h.soil(p)
	}
	return what
}

func (h *hand) soil(p *peer) {
	if !p.dirty {
		p.dirty = true
		h.dirty = append(h.dirty, p)
	}
}

// peer is the node with an ID as it is now, nil when there is none. The caller has the ledger open.
func (f *Fleet) peer(h *hand, id string) *peer {
	p := h.peers[id]
	if p != nil {
		return p
	}
	m, ok := f.node.Member(id)
	if !ok || id == f.self {
		return nil
	}
	p = newPeer(id, m.Incarnation, h.index)
	h.peers[id] = p
	return p
}

// Flush hands what was taken to the links (session.Relay).
func (f *Fleet) Flush(fl *session.Flow) {
	h := f.hand(fl.Session)
	h.mu.Lock()
	f.flush(h)
	f.unlock(h)
}

// flush is called with the ledger open.
func (f *Fleet) flush(h *hand) {
	for len(h.dirty) > 0 {
		p := h.dirty[len(h.dirty)-1]
		h.dirty = h.dirty[:len(h.dirty)-1]
		p.dirty = false
		f.push(h, p)
	}
}

// push hands the records of a peer to the link as long as that takes them. It is called with the ledger open, and
// closes it for each: what others write meanwhile goes, too.
func (f *Fleet) push(h *hand, p *peer) {
	if p.pushing || p.blocked {
		return
	}
	p.pushing = true
	defer func() { p.pushing = false }()
	for r := p.next(); r != nil; r = p.next() {
		if m, ok := f.node.Member(p.id); !ok || m.Incarnation != p.inc {
			h.die(p)
			return
		}
		h.mu.Unlock()
		err := f.channel.TrySend(p.id, r)
		h.mu.Lock()
		switch {
		case p.dead:
			return
		case err == nil:
			p.recycle(r)
		case errors.Is(err, cluster.ErrFull):
			p.restore(r)
			p.blocked = true
			f.pumps.Go(func() { f.pump(h, p) })
			return
		default:
			h.die(p)
			return
		}
	}
}

// pump hands the records of a peer to a link that has no room, until there are none.
func (f *Fleet) pump(h *hand, p *peer) {
	h.mu.Lock()
	for r := p.next(); r != nil; r = p.next() {
		h.mu.Unlock()
		err := f.channel.Send(f.ctx, p.id, r)
		h.mu.Lock()
		if err != nil && !p.dead {
			h.die(p)
		}
		if p.dead {
			break
		}
		h.easeAll()
	}
	p.blocked = false
	f.unlock(h)
}

// underWay tells whether there is a lane to a full JID.
func (f *Fleet) underWay(full jid.JID) bool {
	for i := range f.hands {
		h := &f.hands[i]
		h.mu.Lock()
		n := h.to[full]
		h.mu.Unlock()
		if n > 0 {
			return true
		}
	}
	return false
}

// reroute routes the legs of a batch anew. It may wait for storage.
func (f *Fleet) reroute(h *hand, b batch) {
	fl := session.Flow{Session: b.sender()}
	ctx, cancel := context.WithTimeout(session.WithFlow(context.Background(), &fl), f.o.Timeout)
	defer cancel()
	for _, g := range b.legs {
		f.rerouteOne(ctx, h, &fl, g)
	}
	fl.Settle(ctx)
	fl.Flush()
	h.mu.Lock()
	if b.lane != nil {
		h.done(b.lane)
	}
	f.flush(h)
	f.unlock(h)
}

func (b *batch) sender() *session.Session { return b.legs[0].lane.key.from }

// rerouteOne routes a leg anew: to the same full JID where that is now, or by the router.
func (f *Fleet) rerouteOne(ctx context.Context, h *hand, fl *session.Flow, g *leg) {
	to, failed := g.lane.key.to, g.tried
	if !g.final && g.sends < maxSends {
		for _, s := range f.core.Sessions.Account(to.Bare()) {
			if s.JID != to || failed && s.UID == g.uid {
				continue
			}
			if f.resend(h, fl, s, g) {
				return
			}
			g.uid, failed = s.UID, true
		}
	}
	if g.verb < probe && (g.fork == nil || g.fork.Close(false)) {
		r := module.Return{Stanza: g.st, To: to, Final: g.final || g.sends >= maxSends}
		if failed {
			r.UID = g.uid
		}
		fl.Sends, fl.Held = max(g.sends, 1), g.held
		f.giveBack(ctx, r)
		fl.Sends, fl.Held = 0, nil
	}
	h.mu.Lock()
	h.finish(g)
	f.unlock(h)
}

// giveBack has the router route a leg anew.
func (f *Fleet) giveBack(ctx context.Context, r module.Return) {
	defer func() {
		if p := recover(); p != nil {
			f.o.Log.Error("panic while a stanza is routed anew", "to", r.To.String(), "panic", p, "stack", string(debug.Stack()))
		}
	}()
	f.back.Returned(ctx, r)
}

// resend sends a leg of a batch to a session. It reports whether that is a way for it.
func (f *Fleet) resend(h *hand, fl *session.Flow, s *session.Session, g *leg) bool {
	h.mu.Lock()
	var p *peer
	if s.Remote() {
		if p = f.peer(h, s.Node); p == nil {
			f.unlock(h)
			return false
		}
	}
	g.uid = s.UID
	switch what := h.resume(p, g); what {
	case sent:
		h.soil(p)
		f.flush(h)
		f.unlock(h)
		return true
	case parked:
		f.unlock(h)
		return true
	}
	h.mu.Unlock()
	ok := f.arrive(fl, s, arrival{verb: g.verb, to: s.JID.String(), text: g.st.String()}) == settled
	if !ok {
		return false
	}
	h.mu.Lock()
	if g.fork != nil {
		g.fork.Close(true)
	}
	h.finish(g)
	f.unlock(h)
	return true
}

// far is the Out of a session of another node.
type far struct {
	f    *Fleet
	full jid.JID
	node string
	uid  session.UID
}

var errFar = errors.New("the session is of another node")

// Append is never called: stanzas pass the relay (session.Out).
func (o *far) Append(string) (bool, error) { return false, errFar }

// Flush does nothing (session.Out).
func (o *far) Flush() {}

// End asks the node to end the session (session.Out).
func (o *far) End(reason error) {
	e := stream.AsError(reason)
	r := appendString([]byte{endRecord}, o.full.String())
	r = append(r, o.uid[:]...)
	r = appendString(r, string(e.Condition))
	r = appendString(r, e.Text)
	if err := o.f.channel.Reply(o.node, r); err != nil && !errors.Is(err, cluster.ErrGone) {
		o.f.o.Log.Warn("a session of another node is not ended", slog.String("user", o.full.String()), slog.Any("err", err))
	}
}
