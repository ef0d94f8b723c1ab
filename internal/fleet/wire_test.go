package fleet

import (
	"testing"

	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
)

func record(texts ...*stanza.Stanza) []byte {
	p := newPeer("b", 77, 5)
	ln := &lane{key: laneKey{to: jid.MustParse("juliet@a.test/balcony")}, id: 300, flight: 2}
	for _, st := range texts {
		p.add(&leg{st: st, lane: ln, verb: gated})
	}
	return p.next()
}

func TestLegsRoundTrip(t *testing.T) {
	one := stanza.New(stanza.Message, stanza.Chat, "1", jid.MustParse("juliet@a.test"))
	two := stanza.New(stanza.Message, stanza.Chat, "2", jid.MustParse("juliet@a.test"))
	rec := record(one, one, two)
	if rec[0] != legsRecord {
		t.Fatalf("kind %x", rec[0])
	}
	r, err := readLegs(string(rec[1:]))
	if err != nil || r.index != 5 || r.inc != 77 {
		t.Fatalf("%+v, %v", r, err)
	}
	for i, want := range []*stanza.Stanza{one, one, two} {
		a, ok := r.next()
		if !ok || a.text != want.String() || a.number != uint64(i+1) || a.lane != 300 || a.flight != 2 || a.verb != gated || a.to != "juliet@a.test/balcony" {
			t.Errorf("leg %d is %+v, %v", i, a, ok)
		}
	}
	if _, ok := r.next(); ok || r.bad {
		t.Error("the record does not end in order")
	}
	if whole, twice := len(record(one, two)), len(record(one, one)); twice >= whole-len(one.String()) {
		t.Errorf("the same text is sent twice: %d and %d bytes", whole, twice)
	}
}

func TestReceiptsRoundTrip(t *testing.T) {
	w := receipt{b: appendHead(nil, receiptRecord, 3, 9, 100)}
	fates := []fate{settled, settled, turned, turned, turned, rejected, settled}
	for _, f := range fates {
		w.add(f)
	}
	w.flush()
	r, err := readReceipts(string(w.b[1:]))
	if err != nil {
		t.Fatal(err)
	}
	var got []fate
	n := uint64(100)
	for first, last, f, ok := r.next(); ok; first, last, f, ok = r.next() {
		if first != n {
			t.Errorf("a run begins at %d, not %d", first, n)
		}
		for ; n <= last; n++ {
			got = append(got, f)
		}
	}
	if r.bad || len(got) != len(fates) {
		t.Fatalf("read %v", got)
	}
	for i := range got {
		if got[i] != fates[i] {
			t.Errorf("fate %d is %d", i, got[i])
		}
	}
}

// FuzzRecords: whatever comes, the readers end, and what they take for a leg is one that can be written again.
func FuzzRecords(f *testing.F) {
	st := stanza.New(stanza.Message, stanza.Chat, "1", jid.MustParse("juliet@a.test"))
	f.Add(record(st, st))
	w := receipt{b: appendHead(nil, receiptRecord, 3, 9, 100)}
	w.add(settled)
	w.add(turned)
	w.flush()
	f.Add(w.b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		rest := string(b[1:])
		if r, err := readLegs(rest); err == nil {
			for a, ok := r.next(); ok; a, ok = r.next() {
				if a.text == "" || a.to == "" || a.verb >= verbs || a.number == 0 {
					t.Fatalf("read %+v", a)
				}
			}
		}
		if r, err := readReceipts(rest); err == nil {
			for first, last, what, ok := r.next(); ok; first, last, what, ok = r.next() {
				if first > last || what >= fates {
					t.Fatalf("read %d to %d: %d", first, last, what)
				}
			}
		}
	})
}

func FuzzSeat(f *testing.F) {
	b, _ := codec{}.Append(nil, &seat{flags: available, priority: -1, door: clientDoor})
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := codec{}.Decode(b)
		if err != nil {
			return
		}
		again, err := codec{}.Append(nil, s)
		if err != nil || string(again[1:]) != string(b[1:seatSize]) {
			t.Fatalf("%x is written as %x, %v", b, again, err)
		}
	})
}
