package fleet

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// seat is the row of a session. Its key is the full JID.
type seat struct {
	uid      session.UID
	since    uint64 // stamp of when it became available; 0 when it is not
	flags    uint8
	priority int8
	door     uint8
	shown    atomic.Pointer[session.Session] // what stands for it here, once somebody has asked
}

// The flags of a seat.
const (
	available = 1 << iota
	interested
	blocklist
	anonymous
	away
	directs // has sent directed presence
	took    // bound while another node had a session of the full JID, whose end its node has told
	carbons // gets copies (XEP-0280 §4)
)

// The doors that a session can have come through.
const clientDoor = 1

// A seat is written as the version of the layout, the uid, flags, priority, door and since. Later layouts go on after that.
const (
	seatVersion = 1
	seatSize    = 1 + len(session.UID{}) + 3 + 8
)

type codec struct{}

var errSeat = errors.New("row of a session cannot be read")

func (codec) Append(dst []byte, s *seat) ([]byte, error) {
	dst = append(dst, seatVersion)
	dst = append(dst, s.uid[:]...)
	return binary.BigEndian.AppendUint64(append(dst, s.flags, byte(s.priority), s.door), s.since), nil
}

func (codec) Decode(b []byte) (*seat, error) {
	if len(b) < seatSize || b[0] < seatVersion {
		return nil, errSeat
	}
	s := &seat{}
	rest := b[1+copy(s.uid[:], b[1:]):]
	s.flags, s.priority, s.door, s.since = rest[0], int8(rest[1]), rest[2], binary.BigEndian.Uint64(rest[3:])
	return s, nil
}

// terms has seats found by their bare JIDs.
func terms(full string, _ *seat) []string {
	bare, _, _ := strings.Cut(full, "/")
	return []string{bare}
}

// seatOf is what others see of a session.
func seatOf(s *session.Session, now *session.State) *seat {
	t := &seat{uid: s.UID, priority: now.Priority, door: clientDoor}
	for _, f := range []struct {
		flag uint8
		is   bool
	}{
		{available, now.Available()}, {interested, now.Interested}, {blocklist, now.Blocklist}, {anonymous, s.Anonymous},
		{away, now.Available() && isAway(now.Presence)}, {directs, len(now.Directed) > 0}, {took, s.Took},
		{carbons, now.Carbons},
	} {
		if f.is {
			t.flags |= f.flag
		}
	}
	return t
}

func isAway(st *stanza.Stanza) bool {
	if !st.Has(xml.NSClient, "show") {
		return false
	}
	show := st.Child(xml.NSClient, "show")
	text := strings.TrimSpace(show.Text())
	return text == "away" || text == "xa"
}

func (s *seat) has(flag uint8) bool { return s.flags&flag != 0 }

func (s *seat) reachable() bool { return s.has(available) && s.priority >= 0 }

func (s *seat) same(o *seat) bool {
	return s.uid == o.uid && s.flags == o.flags && s.priority == o.priority && s.door == o.door
}

// The presence of sessions elsewhere (session.State).
var (
	present = stanza.New(stanza.Presence, stanza.Available, "", jid.JID{})
	absent  = stanza.New(stanza.Presence, stanza.Available, "", jid.JID{}, xml.New(xml.NSClient, "show").WithText("away"))
)

func (s *seat) state() *session.State {
	st := &session.State{
		Priority: s.priority, Interested: s.has(interested), Blocklist: s.has(blocklist), Directs: s.has(directs),
		Carbons: s.has(carbons),
	}
	if s.has(available) {
		if st.Presence = present; s.has(away) {
			st.Presence = absent
		}
	}
	return st
}

// session is what stands here for the session of a row, nil for one of this node.
func (f *Fleet) session(row *cluster.Row[*seat]) *session.Session {
	if row.Owner == f.self || row.Orphan {
		return nil
	}
	if s := row.Value.shown.Load(); s != nil {
		return s
	}
	full, err := jid.Parse(row.Key)
	if err != nil {
		return nil
	}
	s := session.NewRemote(full, row.Owner, row.Value.uid, &far{f, full, row.Owner, row.Value.uid}, &f.relay, row.Value.state())
	s.Anonymous = row.Value.has(anonymous)
	row.Value.shown.CompareAndSwap(nil, s)
	return row.Value.shown.Load()
}

// Account lists the sessions of a bare JID on other nodes (session.Elsewhere).
func (f *Fleet) Account(bare jid.JID) []*session.Session {
	if f.alone() {
		return nil
	}
	var few [4]cluster.Row[*seat]
	rows := f.sessions.AppendLookup(few[:0], bare.String())
	var all []*session.Session
	for i := range rows {
		if s := f.session(&rows[i]); s != nil {
			all = append(all, s)
		}
	}
	return all
}

// All calls fn for every session on other nodes (session.Elsewhere).
func (f *Fleet) All(fn func(*session.Session)) {
	if f.alone() {
		return
	}
	for row := range f.sessions.All() {
		if s := f.session(&row); s != nil {
			fn(s)
		}
	}
}

// Len is the number of sessions on other nodes (session.Elsewhere).
func (f *Fleet) Len() int {
	if f.alone() {
		return 0
	}
	return max(0, f.sessions.Len()-f.core.Sessions.Len())
}

const stripes = 64

// stripe is the lock for changes of the row of a full JID.
func (f *Fleet) stripe(full jid.JID) *sync.Mutex {
	return &f.turns[maphash.String(seed, full.String())%stripes]
}

var seed = maphash.MakeSeed()

// own is this node's row of a full JID, nil when there is none.
func (f *Fleet) own(full jid.JID) *seat {
	for _, row := range f.sessions.Rows(full.String()) {
		if row.Owner == f.self {
			return row.Value
		}
	}
	return nil
}

// Binding names a session (session.Observer).
func (f *Fleet) Binding(s *session.Session) {
	binary.BigEndian.PutUint64(s.UID[:8], f.node.Stamp())
	_, _ = rand.Read(s.UID[8:]) // never fails
	if !f.alone() {
		f.fresh.add(f, s)
	}
}

// Bound writes the row of a session (session.Observer). While the node stands alone there are none; enlist writes them
// all when it joins.
func (f *Fleet) Bound(s *session.Session) {
	if f.alone() {
		return
	}
	turn := f.stripe(s.JID)
	turn.Lock()
	defer turn.Unlock()
	f.put(s, seatOf(s, s.State()))
}

func (f *Fleet) put(s *session.Session, t *seat) {
	// The key may point into a whole stanza, which must not be kept with it.
	if err := f.sessions.Put(strings.Clone(s.JID.String()), t); err != nil {
		f.o.Log.Error("session is not shown to other nodes", "user", s.JID.String(), "err", err)
	}
}

// Changed writes the row anew if others would see a difference (session.Observer).
func (f *Fleet) Changed(s *session.Session, now *session.State) {
	if f.alone() {
		return
	}
	turn := f.stripe(s.JID)
	turn.Lock()
	defer turn.Unlock()
	if was := f.own(s.JID); was != nil && was.uid == s.UID {
		if t := seatOf(s, now); !t.same(was) {
			if t.has(available) && !was.has(available) {
				t.since = f.newcomers.add(f, s)
			} else if t.has(available) {
				t.since = was.since
			}
			f.put(s, t)
		}
	}
}

// Gone deletes the row of a session, unless another one has its place here (session.Observer).
func (f *Fleet) Gone(s *session.Session) {
	turn := f.stripe(s.JID)
	turn.Lock()
	defer turn.Unlock()
	if was := f.own(s.JID); was != nil && was.uid == s.UID {
		f.sessions.Delete(s.JID.String())
	}
}

// enlist writes the rows that are missing or not what they should be, since the node stood alone for a while.
func (f *Fleet) enlist() {
	if f.alone() {
		return
	}
	f.core.Sessions.All(func(s *session.Session) {
		turn := f.stripe(s.JID)
		turn.Lock()
		defer turn.Unlock()
		t := seatOf(s, s.State())
		if was := f.own(s.JID); was != nil && was.same(t) {
			return
		}
		if t.has(available) {
			t.since = f.node.Stamp()
		}
		f.put(s, t)
		for _, o := range f.core.Sessions.Here(s.Bare) {
			if o == s {
				return
			}
		}
		f.sessions.Delete(s.JID.String()) // it has gone meanwhile, and nobody would do it
	})
}

// fresh are sessions of this node that were bound a short time ago. What was sent to an earlier one of their full JID
// may still be on its way to another node, and must not be overtaken: so all that is for them passes the ledgers.
type fresh struct {
	mu  sync.Mutex // guards all
	all []freshOne
}

type freshOne struct {
	s     *session.Session
	since time.Time
}

func (n *fresh) add(f *Fleet, s *session.Session) {
	s.Divert(&f.relay)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, freshOne{s, time.Now()})
}

// sweep lets go of those that nothing is under way to.
func (n *fresh) sweep(f *Fleet) {
	n.mu.Lock()
	all := n.all
	n.all = nil
	n.mu.Unlock()
	kept := all[:0]
	for _, one := range all {
		switch {
		case one.s.Ended():
		case time.Since(one.since) < time.Second || f.underWay(one.s.JID):
			kept = append(kept, one)
		default:
			one.s.Divert(nil)
		}
	}
	n.mu.Lock()
	n.all = append(n.all, kept...)
	n.mu.Unlock()
}
