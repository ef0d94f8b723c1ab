package c2s

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
)

// counting makes the inbound of a line that is told nothing, with the times after which a client is held back. due tells
// whether it would have been told something since the last call.
func counting(n uint64) (in *inbound, due func() bool) {
	k := &keeper{acks: acks{due: map[*line]struct{}{}, running: true}}
	l := &line{srv: &Server{keeper: k}, sm: &management{}}
	l.srv.opts.Management = Management{SettlePause: 30 * time.Second, SettleTimeout: 2 * time.Minute}
	l.sm.in.begin(l, n)
	return &l.sm.in, func() bool {
		told := len(k.acks.due) > 0
		clear(k.acks.due)
		return told
	}
}

func message(i int) *stanza.Stanza {
	return stanza.New(stanza.Message, stanza.Chat, fmt.Sprint(i), jid.MustParse("juliet@a.test")).WithFrom(jid.MustParse("romeo@a.test/orchard"))
}

// TestInboundSettles checks that h never counts a stanza before all up to it are settled, in whatever order they are.
func TestInboundSettles(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 0))
		in, due := counting(5)
		var open []*ticket
		done := map[int]bool{}
		low := func() (n int) {
			for done[n] {
				n++
			}
			return n
		}
		for i := range 200 {
			_, tk := in.receive(message(i))
			later := tk.More()
			tk.Settle()
			open = append(open, tk)
			for len(open) > 0 && random.IntN(3) > 0 {
				k := random.IntN(len(open))
				settled := open[k]
				open = append(open[:k], open[k+1:]...)
				var n int
				fmt.Sscan(settled.st.ID, &n)
				done[n] = true
				settled.Settle()
			}
			if got := in.handled(); int(got) != low() {
				t.Fatalf("seed %d: after %d stanzas h is %d, settled are all up to %d", seed, i+1, got, low())
			}
			_ = later
		}
		asked := in.answer()
		for _, tk := range open {
			if due() {
				t.Fatalf("seed %d: an acknowledgement is due before all is settled", seed)
			}
			tk.Settle()
		}
		if told := due(); asked < 200 && !told {
			t.Errorf("seed %d: not told", seed)
		}
		if h, follows := in.follow(); asked < 200 && (!follows || h != 200) {
			t.Errorf("seed %d: follows %v with h=%d", seed, follows, h)
		}
	}
}

// TestInboundResumes checks that what a client sends again is told from what it sends for the first time.
func TestInboundResumes(t *testing.T) {
	in, _ := counting(0)
	var held []*session.Held
	for i := 1; i <= 5; i++ {
		_, tk := in.receive(message(i))
		if i > 2 {
			held = append(held, tk.More())
		}
		tk.Settle()
	}
	if h := in.resume(); h != 2 {
		t.Fatalf("h=%d", h)
	}
	late := stanza.New(stanza.Message, stanza.Chat, "3", jid.MustParse("juliet@a.test"), delay("a.test", 0)).WithFrom(jid.MustParse("romeo@a.test/orchard"))
	if n, tk := in.receive(late); n != 3 || tk != nil {
		t.Error("a stanza with a note of when it was sent first is not recognised")
	}
	held[0].Settle()
	held[1].Settle()
	if h := in.handled(); h != 3 {
		t.Errorf("h=%d: more than the client has sent", h)
	}
	n, tk := in.receive(message(40)) // not what it was
	if n != 4 || tk == nil {
		t.Fatal("another stanza is taken for the old one")
	}
	held[2].Settle() // of the old fifth
	if h := in.handled(); h != 3 {
		t.Errorf("h=%d", h)
	}
	tk.Settle()
	if h := in.handled(); h != 4 {
		t.Errorf("h=%d", h)
	}
}

// TestInboundPauses checks when reading pauses, and when the stream is given up.
func TestInboundPauses(t *testing.T) {
	in, due := counting(0)
	paused := func() bool { return in.pause(func() {}) }
	var all []*ticket
	for i := range maxUnsettled {
		if paused() {
			t.Fatalf("paused at %d", i)
		}
		_, tk := in.receive(message(i))
		all = append(all, tk)
	}
	if !paused() {
		t.Error("reads on")
	}
	all[1].Settle()
	if due() {
		t.Error("goes on too early")
	}
	all[0].Settle()
	if !due() || paused() {
		t.Error("does not go on")
	}
	start := time.Now().UnixMicro()
	at := func(d time.Duration) int64 { return start + d.Microseconds() }
	for _, c := range []struct {
		after        time.Duration
		slow, gaveUp bool
	}{{0, false, false}, {29 * time.Second, false, false}, {30 * time.Second, true, false}, {2 * time.Minute, true, true}} {
		if gaveUp := in.tick(at(c.after)); gaveUp != c.gaveUp || paused() != c.slow {
			t.Errorf("after %v: paused %v, given up %v", c.after, paused(), gaveUp)
		}
	}
	in.resume()
	if in.tick(at(3*time.Minute)) || in.tick(at(3*time.Minute+29*time.Second)) || in.pause(func() {}) {
		t.Error("the wait goes on over another connection")
	}
	for i := 2; i < maxUnsettled; i++ {
		in.receive(message(i))
	}
	for _, tk := range all[2:] {
		tk.Settle()
	}
	if in.tick(at(time.Hour)) || paused() || in.handled() != maxUnsettled {
		t.Error("does not recover")
	}
}

// TestInboundLoses checks that what will never be settled is told, and nothing after it acknowledged.
func TestInboundLoses(t *testing.T) {
	in, told := counting(0)
	for i := range 3 {
		_, tk := in.receive(message(i))
		if i == 1 {
			tk.More().Lose()
		}
		tk.Settle()
	}
	if h, told := in.handled(), told(); h != 1 || !in.hasLost() || !told {
		t.Errorf("h=%d, lost %v, told %v", h, in.hasLost(), told)
	}
}

// TestManagementCounts checks acknowledgements around the end of the counter (XEP-0198 §4).
func TestManagementCounts(t *testing.T) {
	const end = 1 << 32
	for name, c := range map[string]struct {
		acked, sent uint64
		h           uint32
		n           int
		tooHigh     bool
	}{
		"nothing":            {0, 0, 0, 0, false},
		"some":               {0, 5, 3, 3, false},
		"all":                {2, 5, 5, 3, false},
		"older":              {4, 5, 2, 0, false},
		"one too many":       {0, 5, 6, 0, true},
		"over the end":       {end - 2, end + 3, 1, 3, false},
		"up to the end":      {end - 2, end + 3, end - 1, 1, false},
		"the end itself":     {end - 2, end + 3, 0, 2, false},
		"too many after it":  {end - 2, end + 3, 4, 0, true},
		"older, before it":   {end + 1, end + 3, end - 1, 0, false},
		"second time around": {3*end + 7, 3*end + 9, 9, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := &management{acked: uint32(c.acked)}
			n, err := m.acknowledged(c.h, int(c.sent-c.acked))
			if n != c.n || (err != nil) != c.tooHigh || m.acked != uint32(c.acked)+uint32(c.n) {
				t.Errorf("%d more, %v, %d in all", n, err, m.acked)
			}
		})
	}
}

// TestRequestsAreFew checks that a client under load is not asked for each stanza, and that none is left unasked.
func TestRequestsAreFew(t *testing.T) {
	m := &management{}
	now, asked := time.Now().UnixMicro(), 0
	for i := range 1000 {
		m.wrote(100)
		if m.due(now) {
			m.requested(now)
			asked++
		}
		if i%10 == 9 {
			m.asked = false // the answer
		}
	}
	if asked < 20 || asked > 1000/askEvery+1 {
		t.Errorf("asked %d times", asked)
	}
	m.requested(now)
	m.asked = false
	m.wrote(1)
	if m.due(now) || !m.due(now+askPause.Microseconds()) {
		t.Error("a single stanza is asked about at once, or never")
	}
}

// BenchmarkManagement is what stream management adds to a message: counting it as received, and keeping it until the
// receiver has acknowledged it.
func BenchmarkManagement(b *testing.B) {
	in, _ := counting(0)
	q, m := &queue{}, &management{}
	st := message(1)
	text := st.String()
	b.ReportAllocs()
	for b.Loop() {
		_, tk := in.receive(st)
		tk.Settle()
		now := time.Now().UnixMicro()
		q.push(entry{text: text, at: now})
		q.written++
		m.wrote(len(text))
		if m.due(now) {
			m.requested(now)
			n, err := m.acknowledged(m.acked+uint32(q.sent()), q.sent())
			if err != nil {
				b.Fatal(err)
			}
			q.drop(n, true)
			m.asked = false
		}
	}
}
