package archive_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/feature/archive"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/store/storetest"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stream"
	"github.com/starling-im/starling/internal/xmpp/xml"
	"github.com/starling-im/starling/internal/xmpptest"
)

// poison makes the database refuse every message that its sender calls so.
func poison(t *testing.T, s *xmpptest.Server) {
	t.Helper()
	db := s.Core().DB
	statements := []string{`ALTER TABLE archive ADD CONSTRAINT poison CHECK (position('poison'::bytea IN messages) = 0)`}
	if db.Dialect() == store.SQLite {
		statements = []string{
			`CREATE TRIGGER poison BEFORE INSERT ON archive WHEN instr(NEW.messages, CAST('poison' AS BLOB)) > 0
				BEGIN SELECT RAISE(ABORT, 'poison'); END`,
			`CREATE TRIGGER venom BEFORE INSERT ON archive_journal WHEN instr(NEW.entries, CAST('poison' AS BLOB)) > 0
				BEGIN SELECT RAISE(ABORT, 'poison'); END`,
		}
	}
	err := db.Write(t.Context(), func(tx *store.Tx) (err error) {
		for _, statement := range statements {
			if _, err = tx.Exec(statement); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// said is a message with a number, called by it or else by another name.
func said(to string, n int, name string) []byte {
	if name == "" {
		name = fmt.Sprint(n)
	}
	return fmt.Appendf(nil, "<message type='chat' to='%s' id='%s'><body>%d</body></message>", to, name, n)
}

// manage logs in with stream management, and is available.
func manage(t *testing.T, s *xmpptest.Server, who string) *client.Managed {
	t.Helper()
	m, err := client.Enable(t.Context(), s.Dial(t, jid.MustParse(who)), true)
	if err == nil {
		err = m.Stanza(t.Context(), []byte("<presence/>"))
	}
	if err != nil {
		t.Fatal(err)
	}
	if e, err := m.Next(t.Context()); err != nil || e.Local != "presence" {
		t.Fatalf("got %s, %v", e, err)
	}
	return m
}

// next returns the ids of the next messages. None of them is an error.
func next(t *testing.T, c interface {
	Next(context.Context) (xml.Element, error)
}, n int) (ids []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for len(ids) < n {
		e, err := c.Next(ctx)
		if err != nil || e.Attr("type") == "error" {
			t.Fatalf("after %v: %s, %v", ids, e, err)
		}
		if e.Local == "message" {
			ids = append(ids, e.Attr("id"))
		}
	}
	return ids
}

// TestRefusedMessage: the database takes all messages but one. That one is delivered, and its sender learns that it is not
// kept: it is not acknowledged, and the stream ends at once, for good. Nobody else notices. A message for somebody who is
// not there waits all the same.
func TestRefusedMessage(t *testing.T) {
	t.Parallel()
	for _, d := range []store.Dialect{store.Postgres} { // SQLite takes whatever its journal takes
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			s := xmpptest.Start(t, xmpptest.Options{Set: []string{xmpptest.On(t, d)}})
			poison(t, s)
			s.Account(t, jid.MustParse("nurse@a.test"))
			romeo, paris := manage(t, s, "romeo@a.test/orchard"), manage(t, s, "paris@a.test/hall")
			tybalt := manage(t, s, "tybalt@a.test/street")
			juliet := s.Dial(t, jid.MustParse("juliet@a.test/balcony"))
			const to, before, after = "juliet@a.test/balcony", 3, 20
			var all []byte
			for n := range before {
				all = append(all, said(to, n, "")...)
			}
			all = append(all, said(to, before, "poison")...)
			for _, step := range []struct {
				who  *client.Managed
				text []byte
			}{{romeo, all}, {paris, said(to, 100, "")}, {tybalt, said("nurse@a.test", 0, "poison")}} {
				if err := step.who.Raw(t.Context(), step.text); err != nil {
					t.Fatal(err)
				}
			}
			got := next(t, juliet, before+2)
			got = slices.DeleteFunc(got, func(id string) bool { return id == "100" })
			if want := "0 1 2 poison"; strings.Join(got, " ") != want {
				t.Errorf("juliet got %v", got)
			}
			for _, who := range []*client.Managed{romeo, tybalt} {
				var failed *client.StreamError
				if e, err := who.Next(t.Context()); !errors.As(err, &failed) || failed.Condition != stream.ResourceConstraint {
					t.Errorf("%s got %s, %v", who.JID(), e, err)
				}
			}
			again, err := client.LogIn(t.Context(), s.Config(romeo.JID()))
			if err != nil {
				t.Fatal(err)
			}
			defer again.Drop()
			handled := fmt.Sprintf("h='%d'", 1+before) // presence, too
			if err := romeo.Resume(t.Context(), again); !errors.Is(err, client.ErrNotResumed) || !strings.Contains(err.Error(), handled) {
				t.Errorf("romeo comes back: %v, want %s", err, handled)
			}
			for n := range after {
				if err := paris.Stanza(t.Context(), said(to, 101+n, "")); err != nil {
					t.Fatal(err)
				}
			}
			next(t, juliet, after)
			a := s.Features().Provided("archive").(*archive.Archive)
			if n := len(kept(t, a, jid.MustParse("paris@a.test"))); n != 1+after {
				t.Errorf("paris has %d messages", n)
			}
			if n := len(kept(t, a, jid.MustParse("juliet@a.test"))); n != before+1+after {
				t.Errorf("juliet has %d messages", n)
			}
			nurse := s.Dial(t, jid.MustParse("nurse@a.test/room"))
			if err := nurse.Send(t.Context(), xml.New(xml.NSClient, "presence")); err != nil {
				t.Fatal(err)
			}
			if got := next(t, nurse, 1); got[0] != "poison" {
				t.Errorf("nurse got %v", got)
			}
		})
	}
}

// TestRefusedAmongMany: what a database refuses costs those who write at the same time little.
func TestRefusedAmongMany(t *testing.T) {
	t.Parallel()
	for _, d := range []store.Dialect{store.SQLite, store.Postgres} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			s := xmpptest.Start(t, xmpptest.Options{Set: []string{xmpptest.On(t, d)}})
			poison(t, s)
			a := s.Features().Provided("archive").(*archive.Archive)
			owner := jid.MustParse("juliet@a.test")
			var want []string
			for n := range 400 {
				e := entry(owner, n)
				if n%100 == 77 {
					e.Text = strings.Replace(e.Text, "number", "poison", 1)
				} else {
					want = append(want, a.ID(&e))
				}
				a.Add(&e)
			}
			if got := kept(t, a, owner); !slices.Equal(got, want) {
				t.Errorf("kept %d of %d messages, or in another order", len(got), len(want))
			}
		})
	}
}

// TestRefusedLater: what a database has taken for its journal and then refuses its place is not lost: it is tried again at
// the next start.
func TestRefusedLater(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "starling.db")
	a := lite(t, file)
	run := func(statement string) {
		err := a.DB.Write(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Exec(statement)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	run(`CREATE TRIGGER poison BEFORE INSERT ON archive WHEN instr(NEW.messages, CAST('poison' AS BLOB)) > 0 BEGIN SELECT RAISE(ABORT, 'poison'); END`)
	owner := jid.MustParse("juliet@a.test")
	var last <-chan struct{}
	var want, all []string
	for n := range 10 {
		e := entry(owner, n)
		all = append(all, a.ID(&e))
		if n == 5 {
			e.Text = strings.Replace(e.Text, "number", "poison", 1)
		} else {
			want = append(want, a.ID(&e))
		}
		last = a.Add(&e)
	}
	<-last
	if got := kept(t, a, owner); !slices.Equal(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
	b := lite(t, crash(t, file)) // still refused
	if got := kept(t, b, owner); !slices.Equal(got, want) || b.Journal(t.Context()) != 1 {
		t.Errorf("kept %v, want %v, and %d in the journal", got, want, b.Journal(t.Context()))
	}
	run(`DROP TRIGGER poison`)
	c := lite(t, crash(t, file))
	got := kept(t, c, owner)
	slices.Sort(got)
	slices.Sort(all)
	if !slices.Equal(got, all) || c.Journal(t.Context()) != 0 {
		t.Errorf("kept %v, want %v, and %d in the journal", got, all, c.Journal(t.Context()))
	}
}

// TestDiskFull: a database that has no room for more is one that is away.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	k := newTalk(t, storetest.URL(t, store.SQLite))
	k.say(3)
	if err := k.archive.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	pages := func(most string) {
		t.Helper()
		err := k.server.Core().DB.Write(t.Context(), func(tx *store.Tx) error {
			var n int
			if most == "" {
				if err := tx.Row("PRAGMA page_count").Scan(&n); err != nil {
					return err
				}
				most = fmt.Sprint(n)
			}
			return tx.Row("PRAGMA max_page_count = " + most).Scan(&n)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	pages("")
	k.say(300)
	if k.archive.Oldest().IsZero() {
		t.Error("all is committed to a database that is full")
	}
	pages("100000")
	if got := kept(t, k.archive, jid.MustParse("juliet@a.test")); !slices.Equal(got, k.told) {
		t.Errorf("kept %d of %d messages, or in another order", len(got), len(k.told))
	}
}
