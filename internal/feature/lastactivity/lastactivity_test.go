package lastactivity_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpptest"
)

func TestScripts(t *testing.T) { xmpptest.Scripts(t) }

func TestScriptsOnPostgres(t *testing.T) {
	s := xmpptest.Start(t, xmpptest.Options{Set: []string{xmpptest.On(t, store.Postgres)}})
	src, err := os.ReadFile(filepath.Join("testdata", "away.script"))
	if err != nil {
		t.Fatal(err)
	}
	xmpptest.Play(t, s, "away.script", string(src))
}

// rows counts what is kept.
func rows(t *testing.T, s *xmpptest.Server) (n int) {
	t.Helper()
	err := s.Core().DB.Read(t.Context(), func(tx *store.Tx) error {
		return tx.Row(`SELECT COUNT(*) FROM last_activity`).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestDeleted checks that nothing stays of a deleted account, though its deletion ends a
// session of it.
func TestDeleted(t *testing.T) {
	s := xmpptest.Start(t, xmpptest.Options{})
	xmpptest.Play(t, s, "before", "client juliet juliet@a.test/balcony\nclose juliet")
	if n := rows(t, s); n != 1 {
		t.Fatalf("%d rows after a session", n)
	}
	c := s.Dial(t, jid.MustParse("juliet@a.test/chamber"))
	ended := s.Ended(c.JID())
	if err := s.Core().DeleteAccount(t.Context(), c.JID().Bare()); err != nil {
		t.Fatal(err)
	}
	<-ended
	if n := rows(t, s); n != 0 {
		t.Errorf("%d rows after the deletion", n)
	}
}

// TestSeconds checks that time is counted from the end of the session, and never below zero.
func TestSeconds(t *testing.T) {
	s := xmpptest.Start(t, xmpptest.Options{})
	xmpptest.Play(t, s, "before", `client romeo romeo@a.test/orchard
client juliet juliet@a.test/balcony
friends romeo juliet`)
	c := s.Dial(t, jid.MustParse("romeo@a.test/orchard"))
	for _, ago := range []time.Duration{903 * time.Second, -time.Hour} {
		err := s.Core().DB.Write(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE last_activity SET ended = $1`, store.Micros(time.Now().Add(-ago)))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Raw(t.Context(), []byte("<iq type='get' to='juliet@a.test' id='last1'><query xmlns='jabber:iq:last'/></iq>")); err != nil {
			t.Fatal(err)
		}
		answer, err := c.Next(t.Context())
		for err == nil && answer.Attr("id") != "last1" {
			answer, err = c.Next(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		seconds, err := strconv.Atoi(answer.First().Attr("seconds"))
		least := max(0, int(ago/time.Second))
		if err != nil || seconds < least || seconds > least+60 {
			t.Errorf("%v ago is told as %d, %v", ago, seconds, err)
		}
	}
}

// TestNeverLoggedIn asks for somebody of whom nothing is known.
func TestNeverLoggedIn(t *testing.T) {
	s := xmpptest.Start(t, xmpptest.Options{})
	xmpptest.Play(t, s, "before", `client romeo romeo@a.test/orchard
client juliet juliet@a.test/balcony
friends romeo juliet`)
	err := s.Core().DB.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(`DELETE FROM last_activity`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	xmpptest.Play(t, s, "never", `client romeo romeo@a.test/orchard
romeo > <iq type='get' to='juliet@a.test' id='1'><query xmlns='jabber:iq:last'/></iq>
romeo < <iq type='error' id='1'><error type='cancel'><item-not-found/></error></iq>`)
}
