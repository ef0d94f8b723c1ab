package fleet_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/starling-im/starling/internal/hook"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// TestCrossed: of two sessions that become available on two nodes one at least knows of the other, or one of the nodes is
// told that neither does, and not both.
func TestCrossed(t *testing.T) {
	ns := start(t, "a", "b")
	var mu sync.Mutex
	told := map[string]int{}
	for _, n := range ns {
		n.core.Hooks.Crossed.Add("test", hook.Record, func(_ context.Context, e *module.Passage) error {
			if e.Session.Remote() || !e.Other.Remote() {
				t.Errorf("%s was told of %s", e.Session.JID, e.Other.JID)
			}
			mu.Lock()
			defer mu.Unlock()
			told[e.Session.JID.Resource()+e.Other.JID.Resource()]++
			return nil
		})
	}
	const rounds = 300
	unseen := 0
	for i := range rounds {
		var saw [2]bool
		var both sync.WaitGroup
		names := [2]string{fmt.Sprintf("romeo@a.test/%d", i), fmt.Sprintf("juliet@a.test/%d", i)}
		for k, n := range ns {
			both.Go(func() {
				n.bind(t, names[k])
				other := n.core.Sessions.Find(jid.MustParse(names[1-k]))
				saw[k] = other != nil && other.State().Available()
			})
		}
		both.Wait()
		pair := fmt.Sprintf("%d%[1]d", i)
		if saw[0] || saw[1] {
			continue
		}
		unseen++
		await(t, "a node is told of "+pair, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return told[pair] > 0
		})
	}
	mu.Lock()
	defer mu.Unlock()
	for pair, n := range told {
		if n > 1 && len(pair)%2 == 0 && pair[:len(pair)/2] == pair[len(pair)/2:] {
			t.Errorf("%s: told %d times", pair, n)
		}
	}
	if unseen == 0 {
		t.Error("no two sessions came at the same moment, so nothing was tried")
	}
	t.Logf("%d of %d pairs did not see each other", unseen, rounds)
}

// TestTell: what concerns an account comes to those of its sessions, on all nodes, that are of the audience there.
func TestTell(t *testing.T) {
	ns := start(t, "a", "b", "c")
	boxes := map[string]*inbox{}
	for i, n := range ns {
		for _, kind := range []string{"plain", "asked"} {
			s, box := n.bind(t, fmt.Sprintf("juliet@a.test/%s%d", kind, i))
			boxes[s.JID.Resource()] = box
			if kind == "asked" {
				s.Update(func(st *session.State) { st.Interested = true })
			}
		}
	}
	owner := jid.MustParse("juliet@a.test")
	query := xml.New("jabber:iq:roster", "query")
	tell := func(to session.Audience, st *stanza.Stanza) { ns[1].router.Tell(context.Background(), owner, to, st) }
	tell(session.Interested, stanza.New(stanza.IQ, stanza.Set, "push", owner, query))
	tell(session.Available, stanza.New(stanza.Presence, stanza.Subscribe, "", owner))
	tell(session.Blocking, stanza.New(stanza.IQ, stanza.Set, "nobody", owner, query))
	for name, box := range boxes {
		want := []string{"<presence type='subscribe' to='juliet@a.test'/>"}
		if name[:5] == "asked" {
			want = append([]string{"<iq type='set' id='push' to='juliet@a.test/" + name + "'><query xmlns='jabber:iq:roster'/></iq>"}, want...)
		}
		await(t, name+" is told", func() bool { return box.count() == len(want) })
		for i, st := range want {
			got, err := stanza.Decode(box.got[i])
			if err != nil {
				t.Fatal(err)
			}
			wanted, err := stanza.Decode(st)
			if err != nil {
				t.Fatal(err)
			}
			if got.ID != wanted.ID || got.To != wanted.To || got.Type != wanted.Type {
				t.Errorf("%s was told %s, not %s", name, got, want[i])
			}
		}
	}
}

// TestEndOvertaken: the end of a session does not reach those who see its client on another node already; that of a client
// who has not moved does.
func TestEndOvertaken(t *testing.T) {
	ns := start(t, "a", "b", "c")
	a, b, c := ns[0], ns[1], ns[2]
	romeo, box := c.bind(t, "romeo@a.test/orchard")
	old, _ := a.bind(t, "juliet@a.test/balcony")
	nurse, _ := a.bind(t, "nurse@a.test/hall")
	at := func(n *node, full jid.JID, where *node) bool {
		s := n.core.Sessions.Find(full)
		return s != nil && s.Node == where.Self().ID && s.State().Available()
	}
	await(t, "c sees both on a", func() bool { return at(c, old.JID, a) && at(c, nurse.JID, a) })
	await(t, "a sees romeo", func() bool { return at(a, romeo.JID, c) })
	b.bind(t, old.JID.String())
	await(t, "c sees juliet on b", func() bool { return at(c, old.JID, b) })
	for _, who := range []jid.JID{old.JID, nurse.JID} {
		st := stanza.New(stanza.Presence, stanza.Unavailable, "", romeo.Bare).WithFrom(who)
		a.router.Deliver(context.Background(), a.core.Sessions.Find(romeo.JID), st)
	}
	await(t, "romeo is told of the nurse", func() bool { return box.count() > 0 })
	await(t, "all has come", func() bool { s := a.fleet.Status(); return s.Unsettled+s.Parked == 0 })
	box.mu.Lock()
	defer box.mu.Unlock()
	for _, text := range box.got {
		if st, err := stanza.Decode(text); err != nil || st.From != nurse.JID {
			t.Errorf("romeo was told %s, %v", text, err)
		}
	}
}
