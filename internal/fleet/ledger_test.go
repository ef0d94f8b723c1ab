package fleet

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
)

// world is a ledger with its sender and recipient, the nodes where the recipient may be, and what is under way between
// them. Everything happens in steps that a seed draws.
type world struct {
	t     *testing.T
	rnd   *rand.Rand
	l     ledger
	key   laneKey
	nodes map[string]*farNode
	home  string // where the recipient's session is: a node, "here" or "nowhere"
	uid   byte   // of that session
	seen  string // what the origin believes
	saw   byte
	lasts map[byte]int // the last message that a session got
	got   map[int][]byte
	kept  map[int]int // stored for later
	dead  map[byte]bool
	sent  int
	work  []*batch
	log   []string
}

// farNode is another node, with what is on its way to it and back.
type farNode struct {
	id     string
	inc    uint64
	in     origin
	to, by []string // records
}

func newWorld(t *testing.T, seed uint64) *world {
	s := session.New(jid.MustParse("romeo@a.test/orchard"), nil)
	w := &world{
		t: t, rnd: rand.New(rand.NewPCG(seed, 1)), l: newLedger(3), key: laneKey{s, jid.MustParse("juliet@a.test/balcony")},
		nodes: map[string]*farNode{}, lasts: map[byte]int{}, got: map[int][]byte{}, kept: map[int]int{}, dead: map[byte]bool{},
	}
	for _, id := range []string{"a", "b", "c"} {
		w.nodes[id] = &farNode{id: id, inc: 1}
	}
	w.move("a")
	w.look()
	return w
}

func uidOf(b byte) (u session.UID) { u[0] = b; return u }

func (w *world) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

func (w *world) move(home string) {
	w.home = home
	w.uid++
	w.note("juliet is %s as %d", home, w.uid)
	if home == "here" {
		w.look()
	}
}

// look has the origin see the directory as it is.
func (w *world) look() { w.seen, w.saw = w.home, w.uid }

func (w *world) peer(id string) *peer {
	p := w.l.peers[id]
	if p == nil {
		p = newPeer(id, w.nodes[id].inc, 3)
		w.l.peers[id] = p
	}
	return p
}

func (w *world) send() {
	w.sent++
	g := w.l.newLeg()
	g.st = stanza.New(stanza.Message, stanza.Chat, strconv.Itoa(w.sent), w.key.to)
	g.uid = uidOf(w.saw)
	var p *peer
	switch w.seen {
	case "nowhere":
		if ln := w.l.lanes[w.key]; ln == nil || ln.first == nil && !ln.busy {
			w.keep(w.sent)
			return
		}
		// Whatever is before it is dealt with first: in a server, by the worker that has the sender.
		w.sent--
		return
	case "here":
	default:
		p = w.peer(w.seen)
	}
	what := w.l.enter(w.key, p, g, false)
	w.note("message %d: %d to %s", w.sent, what, w.seen)
	if what == direct && !w.deliver(w.sent, w.saw) {
		w.keep(w.sent)
	}
}

func (w *world) keep(n int) {
	w.note("message %d is kept", n)
	w.kept[n]++
}

// deliver gives a message to a session, if that is there.
func (w *world) deliver(n int, uid byte) bool {
	if uid != w.uid || w.home == "nowhere" {
		return false
	}
	w.note("message %d is delivered to %d", n, uid)
	if w.lasts[uid] >= n {
		w.fail("message %d comes to session %d after %d", n, uid, w.lasts[uid])
	}
	w.lasts[uid] = n
	w.got[n] = append(w.got[n], uid)
	return true
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	for _, l := range w.log[max(0, len(w.log)-80):] {
		w.t.Log(l)
	}
	w.t.Fatalf(format, args...)
}

// numberOf reads the number of a message.
func (w *world) numberOf(st *stanza.Stanza) int {
	n, err := strconv.Atoi(st.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

func (w *world) flush() {
	for id, p := range w.l.peers {
		for r := p.next(); r != nil; r = p.next() {
			if w.nodes[id].inc == p.inc {
				w.nodes[id].to = append(w.nodes[id].to, string(r))
			}
		}
	}
}

// apply has a node take a record, as Fleet.legs does.
func (w *world) apply(n *farNode) {
	if len(n.to) == 0 {
		return
	}
	rec := n.to[0]
	n.to = n.to[1:]
	r, err := readLegs(rec[1:])
	if err != nil {
		w.fail("%v", err)
	}
	if r.inc != n.inc {
		return
	}
	reply := receipt{b: appendHead(nil, receiptRecord, r.index, r.inc, r.number)}
	for a, ok := r.next(); ok; a, ok = r.next() {
		k := laneAt{r.index, a.lane}
		what := turned
		if !n.in.stale(k, a.flight) {
			st, err := stanza.Decode(a.text)
			if err != nil {
				w.fail("%v", err)
			}
			if w.home == n.id && w.deliver(w.numberOf(st), w.uid) {
				what = settled
			} else {
				n.in.refuse(k, a.flight, time.Now())
			}
		}
		w.note("leg %d at %s: %d", a.number, n.id, what)
		reply.add(what)
	}
	reply.flush()
	n.by = append(n.by, string(reply.b))
}

// hear has the origin take receipts, as Fleet.receipts does.
func (w *world) hear(n *farNode) {
	if len(n.by) == 0 {
		return
	}
	rec := n.by[0]
	n.by = n.by[1:]
	r, err := readReceipts(rec[1:])
	if err != nil {
		w.fail("%v", err)
	}
	p := w.l.peers[n.id]
	if p == nil || p.inc != r.inc {
		return
	}
	for first, last, what, ok := r.next(); ok; first, last, what, ok = r.next() {
		if what == settled {
			w.l.settle(p, first, last)
			continue
		}
		for i := first; i <= last; i++ {
			w.l.refuse(p, i, refused)
		}
	}
}

func (w *world) collect() {
	for i := range w.l.batches {
		w.work = append(w.work, &w.l.batches[i])
	}
	w.l.batches, w.l.ended, w.l.cleared = nil, nil, nil
}

// reroute deals with the next leg of a batch, as Fleet.reroute does.
func (w *world) reroute() {
	if len(w.work) == 0 {
		return
	}
	i := w.rnd.IntN(len(w.work))
	b := w.work[i]
	if len(b.legs) == 0 {
		w.work = slices.Delete(w.work, i, i+1)
		if b.lane != nil {
			w.l.done(b.lane)
		}
		return
	}
	g := b.legs[0]
	b.legs = b.legs[1:]
	n := w.numberOf(g.st)
	if !g.final && g.sends < maxSends && w.seen != "nowhere" && (!g.tried || g.uid != uidOf(w.saw)) {
		var p *peer
		if w.seen != "here" {
			p = w.peer(w.seen)
		}
		g.uid = uidOf(w.saw)
		what := w.l.resume(p, g)
		w.note("message %d again: %d to %s", n, what, w.seen)
		if what != direct {
			return
		}
		if w.deliver(n, w.saw) {
			w.l.finish(g)
			return
		}
	}
	w.keep(n)
	w.l.finish(g)
}

func (w *world) kill(n *farNode) {
	w.note("%s dies", n.id)
	n.inc++
	n.in, n.to, n.by = origin{}, nil, nil
	if w.home == n.id {
		w.dead[w.uid] = true
		w.move("nowhere")
	}
	for uid := range w.lasts { // whatever its sessions got may not have been told
		w.dead[uid] = true
	}
	if w.seen == n.id {
		w.look()
	}
	if p := w.l.peers[n.id]; p != nil {
		w.l.die(p)
	}
}

func (w *world) step() {
	ids := []string{"a", "b", "c"}
	some := w.nodes[ids[w.rnd.IntN(3)]]
	switch d := w.rnd.IntN(100); {
	case d < 30:
		w.send()
	case d < 45:
		w.flush()
	case d < 62:
		w.apply(some)
	case d < 79:
		w.hear(some)
	case d < 91:
		w.reroute()
	case d < 95:
		w.look()
	case d < 99:
		w.move([]string{"a", "b", "c", "here", "nowhere"}[w.rnd.IntN(5)])
	default:
		if w.rnd.IntN(4) == 0 {
			w.kill(some)
		}
	}
	w.collect()
}

// settleAll lets everything that is under way end.
func (w *world) settleAll() {
	for range 10_000 {
		if w.l.unsettled+w.l.parked == 0 && len(w.work) == 0 {
			return
		}
		w.flush()
		for _, n := range w.nodes {
			w.apply(n)
			w.hear(n)
		}
		w.collect()
		w.reroute()
		w.collect()
		w.look()
	}
	w.fail("%d legs are unsettled, %d parked", w.l.unsettled, w.l.parked)
}

// TestModel: whatever refuses, moves and dies, no message is lost, none is doubled but by a death, a session gets them
// in order, and every leg ends.
func TestModel(t *testing.T) {
	runs := 3000
	if testing.Short() {
		runs = 300
	}
	for seed := range uint64(runs) {
		w := newWorld(t, seed)
		for range 400 {
			w.step()
		}
		w.settleAll()
		for n := 1; n <= w.sent; n++ {
			places := len(w.got[n]) + w.kept[n]
			excused := false
			for _, uid := range w.got[n] {
				excused = excused || w.dead[uid]
			}
			switch {
			case places == 0:
				w.fail("seed %d: message %d of %d is lost", seed, n, w.sent)
			case places > 1 && !excused:
				w.fail("seed %d: message %d got to %v and was kept %d times", seed, n, w.got[n], w.kept[n])
			}
		}
		if ld := w.l.loads[w.key.from]; ld != nil && (ld.legs != 0 || ld.bytes != 0) {
			w.fail("seed %d: the sender has %d legs and %d bytes left", seed, ld.legs, ld.bytes)
		}
		for range maxIdle + 1 {
			w.l.tick()
		}
		if len(w.l.lanes)+len(w.l.to)+len(w.l.loads) != 0 {
			w.fail("seed %d: %d lanes are left", seed, len(w.l.lanes))
		}
	}
}

// book is a ledger with one sender and a peer.
func book() (l *ledger, p *peer, send func() *leg) {
	empty := newLedger(0)
	l = &empty
	p = newPeer("b", 1, 0)
	l.peers["b"] = p
	k := laneKey{session.New(jid.MustParse("romeo@a.test/orchard"), nil), jid.MustParse("juliet@a.test/balcony")}
	return l, p, func() *leg {
		g := l.newLeg()
		g.st = stanza.New(stanza.Message, stanza.Chat, "m", k.to)
		l.enter(k, p, g, false)
		return g
	}
}

func TestTimeout(t *testing.T) {
	l, p, send := book()
	send()
	send()
	for range maxAge {
		l.tick()
	}
	send()
	if len(l.batches) != 0 {
		t.Fatal("given up too early")
	}
	l.tick()
	if len(l.batches) != 1 || len(l.batches[0].legs) != 3 || !l.batches[0].legs[0].final {
		t.Fatalf("given up: %+v", l.batches)
	}
	if l.unsettled != 0 || p.open != 0 || l.returned[timeout] != 3 {
		t.Errorf("%d are unsettled", l.unsettled)
	}
	l.settle(p, 1, 3) // too late
	for _, g := range l.batches[0].legs {
		l.finish(g)
	}
	if ln := l.batches[0].lane; l.parked != 0 || ln.load.legs != 0 {
		t.Errorf("%d are parked, the sender has %d", l.parked, ln.load.legs)
	}
}

func TestReject(t *testing.T) {
	l, p, send := book()
	send()
	send()
	send()
	l.reject(p, 2)
	if len(l.batches) != 1 || l.batches[0].lane != nil || !l.batches[0].legs[0].final || l.unsettled != 2 {
		t.Fatalf("%+v, %d unsettled", l.batches, l.unsettled)
	}
	l.settle(p, 1, 3)
	if l.unsettled != 0 {
		t.Errorf("%d are unsettled", l.unsettled)
	}
}

// TestUnsent: a sender is held when a node takes nothing, and let go when half of it has left.
func TestUnsent(t *testing.T) {
	l, p, _ := book()
	k := laneKey{session.New(jid.MustParse("romeo@a.test/orchard"), nil), jid.MustParse("juliet@a.test/balcony")}
	big := stanza.New(stanza.Message, stanza.Chat, strings.Repeat("m", 100_000), k.to)
	for range 11 {
		g := l.newLeg()
		g.st = big
		l.enter(k, p, g, false)
	}
	if !k.from.Jammed(nil) || l.pauses != 1 {
		t.Fatal("the sender is not held")
	}
	for range 8 {
		p.recycle(p.next())
	}
	l.easeAll()
	if len(l.cleared) != 0 {
		t.Error("let go with most of it unsettled")
	}
	l.settle(p, 1, 8)
	if len(l.cleared) != 1 || l.cleared[0] != k.from {
		t.Error("the sender is not let go")
	}
}

// TestFork: of a message to several sessions the last way that fails is the one to go on with, if none succeeds.
func TestFork(t *testing.T) {
	for _, c := range []struct {
		name string
		ends []bool
		want []bool
	}{
		{"all fail", []bool{false, false, false}, []bool{false, false, true}},
		{"one succeeds first", []bool{true, false, false}, []bool{false, false, false}},
		{"one succeeds last", []bool{false, false, true}, []bool{false, false, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := session.NewFork()
			k.More()
			k.More()
			for i, settled := range c.ends {
				if got := k.Close(settled); got != c.want[i] {
					t.Errorf("end %d: %v", i, got)
				}
			}
		})
	}
}
