package fleet

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/stream"
)

const (
	mournFor = 10 * time.Second // that it is remembered who tells of a lost session
	storeFor = time.Minute      // that it is remembered for whom something was stored here
	waitDead = 3 * time.Second  // for news of the death of a node whose rows are gone
)

// notes is what the Directory has shown and Run has to act on.
type notes struct {
	wake chan struct{}

	mu        sync.Mutex // guards what follows; taken with the table locked
	conflicts []string   // full JIDs
	appeared  []string
	crossed   []string
	nudge     []string // bare JIDs
	vanished  map[string][]loss
	acting    bool // on what was taken out

	told []loss // and not long ago
}

// loss is an available session whose row is gone.
type loss struct {
	key  string
	seat *seat
	at   time.Time
	home string // who tells
}

// observe looks at a change of a row. The table is locked.
func (f *Fleet) observe(was, is cluster.Row[*seat]) {
	mine, theirs := was.Owner == f.self, is.Owner != "" && is.Owner != f.self && !is.Orphan
	fresh := was.Owner == "" || mine
	if theirs && !fresh && was.Value.uid != is.Value.uid && !is.Value.has(took) {
		fresh = true // two halves have met, and each had a session of the full JID
	}
	switch {
	case was.Owner != "" && !mine && !was.Orphan && was.Value.has(available) && is.Owner == "":
		f.notes.add(func(n *notes) {
			if n.vanished == nil {
				n.vanished = map[string][]loss{}
			}
			n.vanished[was.Owner] = append(n.vanished[was.Owner], loss{key: was.Key, seat: was.Value, at: time.Now()})
		})
	case !theirs:
	case mine, fresh && is.Value.has(available):
		f.notes.add(func(n *notes) {
			if mine {
				n.conflicts = append(n.conflicts, is.Key)
			}
			if is.Value.has(available) {
				n.appeared = append(n.appeared, is.Key)
			}
		})
	}
	if was.Owner != "" && is.Owner != "" && was.Owner != is.Owner && !was.Orphan {
		f.moves.add(is.Key, was.Owner)
	}
	if theirs && !fresh && is.Value.has(available) && (!was.Value.has(available) || was.Value.uid != is.Value.uid) && f.newcomers.any() {
		f.notes.add(func(n *notes) { n.crossed = append(n.crossed, is.Key) })
	}
	if theirs && is.Value.reachable() && f.stored.any() && (was.Owner == "" || !was.Value.reachable() || was.Value.uid != is.Value.uid) {
		if bare := terms(is.Key, nil)[0]; f.stored.has(bare) {
			f.notes.add(func(n *notes) { n.nudge = append(n.nudge, bare) })
		}
	}
}

func (n *notes) add(fn func(*notes)) {
	n.mu.Lock()
	fn(n)
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// noted acts on what the Directory has shown.
func (f *Fleet) noted() {
	n := &f.notes
	n.mu.Lock()
	conflicts, appeared, crossed, nudge := n.conflicts, n.appeared, n.crossed, n.nudge
	n.conflicts, n.appeared, n.crossed, n.nudge, n.acting = nil, nil, nil, nil, true
	n.mu.Unlock()
	defer n.acted()
	for _, key := range conflicts {
		f.conflict(key)
	}
	for _, key := range appeared {
		f.appear(key)
	}
	for _, key := range crossed {
		f.cross(key)
	}
	for _, bare := range nudge {
		if j, err := jid.Parse(bare); err == nil {
			f.nudge(j)
		}
	}
}

// acted notes that what was taken out has been acted on.
func (n *notes) acted() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.acting = false
}

// waiting counts what is not acted on yet.
func (n *notes) waiting() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	count := len(n.conflicts) + len(n.appeared) + len(n.crossed) + len(n.nudge)
	if n.acting {
		count++
	}
	return count
}

// sweep forgets who told of lost sessions some time ago.
func (n *notes) sweep(now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	kept := n.told[:0]
	for _, l := range n.told {
		if now.Sub(l.at) < mournFor {
			kept = append(kept, l)
		}
	}
	n.told = kept
}

// conflict ends a session of this node if that of another node with the same full JID was bound later.
func (f *Fleet) conflict(key string) {
	full, err := jid.Parse(key)
	if err != nil {
		return
	}
	turn := f.stripe(full)
	turn.Lock()
	defer turn.Unlock()
	row, ok := f.sessions.Row(key)
	mine := f.own(full)
	if !ok || mine == nil || row.Owner == f.self {
		return
	}
	if bytes.Compare(row.Value.uid[:], mine.uid[:]) < 0 {
		// Ours came later, but was written before the other one was last changed.
		if err := f.sessions.Put(row.Key, mine); err != nil {
			f.o.Log.Error("session is not shown to other nodes", "user", key, "err", err)
		}
		return
	}
	for _, s := range f.core.Sessions.Here(full.Bare()) {
		if s.JID != full || s.UID != mine.uid {
			continue
		}
		f.metrics.conflicts.Add(1)
		if row.Value.has(took) || row.Value.has(available) {
			s.Supersede() // contacts were told who is there now, or ask for it
		}
		// RFC 6120 §7.7.2.2, by the same choice as for two sessions on one node.
		f.workers.Do(func() { s.End(stream.Err(stream.Conflict, "replaced by a new connection")) })
	}
}

// appear asks for the presence of a session that this node has not seen become available.
func (f *Fleet) appear(key string) {
	if f.core.Sessions.Len() == 0 {
		return
	}
	row, ok := f.sessions.Row(key)
	if !ok || !row.Value.has(available) {
		return
	}
	s := f.session(&row)
	if s == nil {
		return
	}
	f.work(func(ctx context.Context) {
		if err := f.core.Hooks.Appeared.Each(ctx, &module.Passage{Session: s}); err != nil {
			f.o.Log.Error("presence of a session is not asked for", "user", s.JID.String(), "err", err)
		}
	})
}

// heard acts on an event of the cluster.
func (f *Fleet) heard(e cluster.Event) {
	switch e.Kind {
	case cluster.MemberDied, cluster.MemberLeft:
		f.die(e.Member.ID, e.Member.Incarnation)
		f.mourn(e.Member.ID, e.Kind == cluster.MemberDied)
	case cluster.MemberJoined:
		// Whatever was stored before this point the other node reads from now on, and the other way round.
		f.core.Caches.ForgetAll()
		if err := f.channel.Reply(e.Member.ID, []byte{emptyRecord}); err != nil {
			f.o.Log.Debug("a member is not told to empty its caches", slog.String("member", e.Member.Name), slog.Any("err", err))
		}
	case cluster.StateChanged:
		if e.State == cluster.Joining || e.State == cluster.Ready {
			f.enlist()
		}
	case cluster.Fenced, cluster.Missed:
		f.startOver(e.Kind == cluster.Fenced)
	}
}

// startOver catches up with what this node may have missed: others took it for dead, or events were lost.
func (f *Fleet) startOver(fenced bool) {
	f.core.Caches.ForgetAll()
	f.enlist()
	for i := range f.hands {
		h := &f.hands[i]
		h.mu.Lock()
		for id, p := range h.peers {
			if m, ok := f.node.Member(id); fenced || !ok || m.Incarnation != p.inc {
				h.die(p)
			}
		}
		f.unlock(h)
	}
	if fenced {
		f.All(func(s *session.Session) {
			if s.State().Available() {
				f.notes.add(func(n *notes) { n.appeared = append(n.appeared, s.JID.String()) })
			}
		})
	}
}

// mourn has the home of each account tell of the sessions that a node had when it went. If it died, it may not have told
// of those of which it was to tell itself.
func (f *Fleet) mourn(id string, died bool) {
	n := &f.notes
	n.mu.Lock()
	lost := n.vanished[id]
	delete(n.vanished, id)
	kept := n.told[:0]
	for _, l := range n.told {
		if died && l.home == id {
			lost = append(lost, l)
		} else {
			kept = append(kept, l)
		}
	}
	n.told = kept
	n.mu.Unlock()
	for _, l := range lost {
		l.home = f.node.Home(terms(l.key, nil)[0]).ID
		n.mu.Lock()
		n.told = append(n.told, l)
		n.mu.Unlock()
		if l.home == f.self {
			f.tellLost(l, false)
		}
	}
}

// linger tells the users of this node, and nobody else, of rows that were gone when the copy of a living node's rows was
// repaired: what that node has told came to others.
func (f *Fleet) linger(now time.Time) {
	n := &f.notes
	var lost []loss
	n.mu.Lock()
	for id, all := range n.vanished {
		kept := all[:0]
		for _, l := range all {
			if now.Sub(l.at) < waitDead {
				kept = append(kept, l)
			} else {
				lost = append(lost, l)
			}
		}
		if n.vanished[id] = kept; len(kept) == 0 {
			delete(n.vanished, id)
		}
	}
	n.mu.Unlock()
	for _, l := range lost {
		f.tellLost(l, true)
	}
}

// tellLost tells contacts that a session of another node is unavailable, unless it is back.
func (f *Fleet) tellLost(l loss, here bool) {
	full, err := jid.Parse(l.key)
	if err != nil {
		return
	}
	f.work(func(ctx context.Context) {
		if s := f.core.Sessions.Find(full); s != nil && s.State().Available() {
			return
		}
		s := session.NewRemote(full, "-", l.seat.uid, &far{f, full, "", l.seat.uid}, &f.relay, l.seat.state())
		s.Anonymous = l.seat.has(anonymous)
		f.metrics.lost.Inc()
		if err := f.core.Hooks.Lost.Each(ctx, &module.Passage{Session: s, Here: here}); err != nil {
			f.o.Log.Error("the end of a lost session is not told", "user", l.key, "err", err)
		}
	})
}

// stored remembers for whom something was stored here a short time ago.
type stored struct {
	count atomic.Int64
	mu    sync.Mutex // guards at; taken with the table locked
	at    map[string]time.Time
}

// maxStored bounds the accounts that are remembered: of those beyond, what was stored waits for their next presence.
const maxStored = 100_000

func (s *stored) any() bool { return s.count.Load() > 0 }

func (s *stored) has(bare string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.at[bare]
	return ok
}

func (s *stored) add(bare string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil {
		s.at = map[string]time.Time{}
	}
	if _, ok := s.at[bare]; ok || len(s.at) < maxStored {
		s.at[bare] = now
	}
	s.count.Store(int64(len(s.at)))
}

func (s *stored) sweep(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for bare, at := range s.at {
		if now.Sub(at) > storeFor {
			delete(s.at, bare)
		}
	}
	s.count.Store(int64(len(s.at)))
}

// settleFor is how long other nodes are waited for before an account is read.
const settleFor = time.Second

// Settle has the other nodes commit what they hold of an account (session.Elsewhere).
func (f *Fleet) Settle(ctx context.Context, bare jid.JID) {
	if f.alone() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, settleFor)
	defer cancel()
	var all sync.WaitGroup
	for _, m := range f.node.Members() {
		if m.ID == f.self {
			continue
		}
		all.Go(func() {
			if _, err := f.settle.Call(ctx, m.ID, bare.String()); err != nil && !errors.Is(err, cluster.ErrGone) {
				f.o.Log.Debug("a member has not committed what it holds", slog.String("member", m.Name), slog.Any("err", err))
			}
		})
	}
	all.Wait()
}

// settled commits what this node holds of an account that another one reads next.
func (f *Fleet) settled(ctx context.Context, _ cluster.Member, bare string) (string, error) {
	j, err := jid.Parse(bare)
	if err != nil {
		return "", err
	}
	return "", f.core.Hooks.Settle.Each(ctx, &module.AccountEvent{Account: j})
}

// Tell has the other nodes give a stanza to those sessions of an account that are of an audience (session.Elsewhere).
func (f *Fleet) Tell(bare jid.JID, to session.Audience, st *stanza.Stanza) {
	if !f.alone() {
		f.tellAll(appendString(append(appendString([]byte{newsRecord}, bare.String()), byte(to)), st.String()))
	}
}

// tellAll sends a record to all other nodes, before anything that is sent to them from now on.
func (f *Fleet) tellAll(record []byte) {
	for _, m := range f.node.Members() {
		if m.ID == f.self {
			continue
		}
		if err := f.channel.Reply(m.ID, record); err != nil {
			f.o.Log.Debug("a member is not told that something was stored", slog.String("member", m.Name), slog.Any("err", err))
		}
	}
}

// Nudge has another node deliver what waits for an account, now and whenever a session of it becomes reachable within a
// minute: who becomes reachable reads what waits, but perhaps before it was stored (session.Elsewhere).
func (f *Fleet) Nudge(bare jid.JID) {
	if f.alone() {
		return
	}
	f.stored.add(string([]byte(bare.String())), time.Now())
	f.nudge(bare)
}

func (f *Fleet) nudge(bare jid.JID) {
	for _, s := range f.Account(bare) {
		if !s.State().Reachable() || s.Leaving() {
			continue
		}
		if err := f.channel.Reply(s.Node, appendString([]byte{nudgeRecord}, bare.String())); err == nil {
			return
		}
	}
}
