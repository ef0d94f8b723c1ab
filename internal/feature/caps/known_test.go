package caps_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/starling-im/starling/internal/feature/caps"
	"github.com/starling-im/starling/internal/hook"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpptest"
)

// Everybody with the same hash is told of, once for each change, and what one entity
// says that does not fit is believed of it alone.
func TestKnown(t *testing.T) {
	for _, d := range []store.Dialect{store.SQLite, store.Postgres} {
		t.Run(d.String(), func(t *testing.T) {
			testKnown(t, xmpptest.Start(t, xmpptest.Options{Set: []string{xmpptest.On(t, d)}}))
		})
	}
}

func testKnown(t *testing.T, s *xmpptest.Server) {
	keep(t, s, 10_000)
	c := s.Features().Provided("caps").(*caps.Caps)
	var (
		mu    sync.Mutex // guards known
		known []string
	)
	c.Known.Add("test", hook.Record, func(ctx context.Context, e *caps.Change) error {
		info, err := c.Of(ctx, e.Entity)
		if err != nil || info == nil || e.Session == nil || e.Account != e.Session.Bare {
			t.Errorf("of %s is known %v, %v", e.Entity, info, err)
		}
		mu.Lock()
		defer mu.Unlock()
		known = append(known, fmt.Sprint(e.Entity, info.Has("http://jabber.org/protocol/muc"), e.Info.Wants("x")))
		return nil
	})
	xmpptest.Play(t, s, "known", `
client romeo romeo@a.test/orchard
client nurse nurse@a.test/chamber
romeo > <presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='http://e' ver='QgayPKawpkPSDYmwT/WM94uAlu0='/></presence>
romeo < <iq type='get' from='a.test' id='$q1'/>
nurse > <presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='http://e' ver='QgayPKawpkPSDYmwT/WM94uAlu0='/></presence>
nurse < no <iq type='get'/>
romeo > <iq type='result' to='a.test' id='$q1'><query xmlns='http://jabber.org/protocol/disco#info'><identity category='client' name='Exodus 0.9.1' type='pc'/>
  <feature var='http://jabber.org/protocol/caps'/><feature var='http://jabber.org/protocol/disco#info'/><feature var='http://jabber.org/protocol/disco#items'/>
  <feature var='http://jabber.org/protocol/muc'/></query></iq>
romeo > <presence><show>away</show><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='http://e' ver='QgayPKawpkPSDYmwT/WM94uAlu0='/></presence>
nurse < no <iq type='get'/>
nurse > <presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='http://e' ver='wrong'/></presence>
nurse < <iq type='get' from='a.test' id='$q2'/>
nurse > <iq type='result' to='a.test' id='$q2'><query xmlns='http://jabber.org/protocol/disco#info'><identity category='client' type='pc'/><feature var='x+notify'/></query></iq>
romeo > <presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='http://e' ver='wrong'/></presence>
romeo < no <iq type='get' id='$q1'/>
romeo < <iq type='get' from='a.test' id='$q3'/>
`)
	if n := kept(t, s, "other"); n > 10_000-100 || n < 9000 {
		t.Errorf("%d other sets are kept", n)
	}
	if n := kept(t, s, "sha-1"); n != 1 {
		t.Errorf("%d sets were verified and kept", n)
	}
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(known)
	want := []string{"nurse@a.test/chamber false true", "nurse@a.test/chamber true false", "romeo@a.test/orchard true false"}
	if !slices.Equal(known, want) {
		t.Errorf("known was\n%q, want\n%q", known, want)
	}
}

// keep stores as many sets of capabilities, all older than the test.
func keep(t *testing.T, s *xmpptest.Server, n int) {
	t.Helper()
	err := s.Core().DB.Write(t.Context(), func(tx *store.Tx) error {
		for i := range n {
			if _, err := tx.Exec(`INSERT INTO caps (name, info, used) VALUES ($1, $2, $3)`, fmt.Sprint("other ", i), "{}", i); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// kept counts sets of an algorithm.
func kept(t *testing.T, s *xmpptest.Server, algorithm string) (n int) {
	t.Helper()
	err := s.Core().DB.Read(t.Context(), func(tx *store.Tx) error {
		return tx.Row(`SELECT COUNT(*) FROM caps WHERE name >= $1 AND name < $2`, algorithm+" ", algorithm+"!").Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// What was verified is there after a restart of the memory, and asked of nobody again.
func TestStored(t *testing.T) {
	s := xmpptest.Start(t, xmpptest.Options{})
	err := s.Core().DB.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO caps (name, info, used) VALUES ('sha-1 QgayPKawpkPSDYmwT/WM94uAlu0=', '{"Features":["a"]}', 0)`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	xmpptest.Play(t, s, "stored", `
client romeo romeo@a.test/orchard
romeo > <presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='http://e' ver='QgayPKawpkPSDYmwT/WM94uAlu0='/></presence>
romeo < no <iq type='get'/>
`)
	var used int64
	err = s.Core().DB.Read(t.Context(), func(tx *store.Tx) error { return tx.Row(`SELECT used FROM caps`).Scan(&used) })
	if err != nil || used == 0 {
		t.Errorf("was used at %d, %v", used, err)
	}
}
