package fleet

import (
	"fmt"
	"log/slog"
	"runtime"
	"testing"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestRowSize: a row takes at most 300 bytes, its key and index included.
func TestRowSize(t *testing.T) {
	n, err := cluster.Start(t.Context(), cluster.Config{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	rows := cluster.NewTable(n, "sessions", codec{}, cluster.Indexed(terms), cluster.Observed(func(_, _ cluster.Row[*seat]) {}))
	put := func(key string) {
		if err := rows.Put(key, &seat{flags: available}); err != nil {
			t.Fatal(err)
		}
	}
	for range 200_000 { // what is kept of changes for nodes that lag has its size now
		put("user@example.org/phone")
	}
	before := heap()
	const count = 100_000
	for i := range count {
		put(fmt.Sprintf("user%d@node.example.org/phone", i))
	}
	each := float64(heap()-before) / count
	t.Logf("%.0f bytes each", each)
	if each > 300 {
		t.Errorf("%.0f bytes each", each)
	}
	runtime.KeepAlive(rows)
}

func TestSeat(t *testing.T) {
	from := stanza.New(stanza.Presence, stanza.Available, "", jid.JID{})
	gone := stanza.New(stanza.Presence, stanza.Available, "", jid.JID{}, xml.New(xml.NSClient, "show").WithText(" xa "))
	for _, c := range []struct {
		name       string
		state      session.State
		reachable  bool
		looksAway  bool
		knowsWhoms bool
	}{
		{name: "bound"},
		{name: "available", state: session.State{Presence: from, Interested: true}, reachable: true},
		{name: "negative", state: session.State{Presence: from, Priority: -3}},
		{name: "away", state: session.State{Presence: gone, Priority: 127, Blocklist: true, Carbons: true}, reachable: true, looksAway: true},
		{name: "directs", state: session.State{Directed: []jid.JID{jid.MustParse("a.test")}}, knowsWhoms: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := session.New(jid.MustParse("juliet@a.test/balcony"), nil)
			s.UID = session.UID{1, 2, 3}
			s.Anonymous = true
			seat := seatOf(s, &c.state)
			seat.since = 1 << 62
			b, err := codec{}.Append(nil, seat)
			if err != nil || len(b) > 32 {
				t.Fatalf("%d bytes, %v", len(b), err)
			}
			r, err := codec{}.Decode(b)
			if err != nil || r.uid != s.UID || r.since != seat.since || !r.has(anonymous) || !r.same(seat) {
				t.Fatalf("read %+v, %v", r, err)
			}
			got := r.state()
			if got.Available() != c.state.Available() || got.Priority != c.state.Priority || got.Interested != c.state.Interested ||
				got.Blocklist != c.state.Blocklist || got.Carbons != c.state.Carbons || got.Reachable() != c.reachable || got.Directs != c.knowsWhoms {
				t.Errorf("of %+v others see %+v", c.state, got)
			}
			if got.Available() && isAway(got.Presence) != c.looksAway {
				t.Errorf("seen away: %v", !c.looksAway)
			}
		})
	}
}
