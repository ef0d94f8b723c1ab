package fleet

import (
	"fmt"
	"testing"

	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

func message() *stanza.Stanza {
	return stanza.New(stanza.Message, stanza.Chat, "m1", jid.MustParse("juliet@a.test/balcony"),
		xml.New(xml.NSClient, "body").WithText("Art thou not Romeo, and a Montague? Neither, fair saint, if either thee dislike.")).WithFrom(jid.MustParse("romeo@a.test/orchard"))
}

// BenchmarkOrigin is what a leg costs at its origin, from the ledger to its end: with one or eight messages under way.
func BenchmarkOrigin(b *testing.B) {
	for _, window := range []int{1, 8} {
		b.Run(fmt.Sprint("window ", window), func(b *testing.B) {
			b.ReportAllocs()
			l := newLedger(0)
			p := newPeer("b", 1, 0)
			l.peers["b"] = p
			st := message()
			k := laneKey{session.New(st.From, nil), st.To}
			n := uint64(0)
			for b.Loop() {
				g := l.newLeg()
				g.st = st
				l.enter(k, p, g, false)
				if n++; n%uint64(window) == 0 {
					p.recycle(p.next())
					l.settle(p, n-uint64(window)+1, n)
				}
			}
		})
	}
}

// TestAllocations: a leg that is taken at once costs its origin no allocation.
func TestAllocations(t *testing.T) {
	l, p, _ := book()
	st := message()
	k := laneKey{session.New(st.From, nil), st.To}
	n := uint64(0)
	if got := testing.AllocsPerRun(1000, func() {
		g := l.newLeg()
		g.st = st
		l.enter(k, p, g, false)
		n++
		p.recycle(p.next())
		l.settle(p, n, n)
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

type sink struct{ bytes int }

func (s *sink) Append(st string) (bool, error) { s.bytes += len(st); return true, nil }
func (s *sink) Flush()                         {}
func (s *sink) End(error)                      {}

// BenchmarkReceiver is what a leg costs at the recipient's node, without its link, in records of one or eight.
func BenchmarkReceiver(b *testing.B) {
	for _, legs := range []int{1, 8} {
		b.Run(fmt.Sprint("legs ", legs), func(b *testing.B) {
			b.ReportAllocs()
			st := message()
			f := &Fleet{core: &module.Core{Sessions: session.NewTable()}}
			if _, err := f.core.Sessions.Add(session.New(st.To, &sink{}), nil); err != nil {
				b.Fatal(err)
			}
			p := newPeer("b", 1, 0)
			for range legs {
				p.add(&leg{st: message(), lane: &lane{key: laneKey{to: st.To}, id: 7, flight: 1}})
			}
			rec := p.next()
			var o origin
			n := 0
			for b.Loop() {
				if n++; n%legs != 0 {
					continue
				}
				var fl session.Flow
				text := string(rec)
				r, err := readLegs(text[1:])
				if err != nil {
					b.Fatal(err)
				}
				reply := f.apply(&o, &fl, &r)
				fl.Flush()
				if len(reply) == 0 {
					b.Fatal("no receipt")
				}
			}
		})
	}
}
