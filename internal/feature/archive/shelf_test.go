package archive_test

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/feature/archive"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpptest"
)

// lite is the archive of a server whose SQLite file is given.
func lite(t *testing.T, file string) *archive.Archive {
	t.Helper()
	s := xmpptest.Start(t, xmpptest.Options{Set: []string{"database.url=sqlite:" + file, "log.level=error"}})
	return s.Features().Provided("archive").(*archive.Archive)
}

// crash is a copy of a database's files as they lie there.
func crash(t *testing.T, file string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "starling.db")
	for _, part := range []string{"", "-wal"} {
		content, err := os.ReadFile(file + part)
		if err == nil {
			err = os.WriteFile(to+part, content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// What is acknowledged and not yet in its place when the server dies is in the archive when it is back: in order, once, and
// once only when it comes again.
func TestJournal(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "starling.db")
	a := lite(t, file)
	owners := []jid.JID{jid.MustParse("juliet@a.test"), jid.MustParse("nurse@a.test"), jid.MustParse("romeo@b.test")}
	want := map[jid.JID][]string{}
	add := func(a *archive.Archive, from, to int) {
		t.Helper()
		var last <-chan struct{}
		for n := from; n < to; n++ {
			for _, owner := range owners {
				e := entry(owner, n)
				last = a.Add(&e)
				if ids := want[owner]; n >= len(ids) {
					want[owner] = append(ids, a.ID(&e))
				}
			}
		}
		<-last
	}
	add(a, 0, 400)
	kept(t, a, owners[1]) // has its place now
	add(a, 400, 500)
	b := lite(t, crash(t, file))
	add(b, 300, 600) // the first of them again
	for _, owner := range owners {
		if got := kept(t, b, owner); !slices.Equal(got, want[owner]) {
			t.Errorf("%s: %d of %d messages, or in another order", owner, len(got), len(want[owner]))
		}
	}
	if n := b.Journal(t.Context()); n != 0 {
		t.Errorf("%d entries are in the journal though all is in its place", n)
	}
}

// What nobody asks for gets its place, too.
func TestRounds(t *testing.T) {
	t.Parallel()
	a := lite(t, filepath.Join(t.TempDir(), "starling.db"))
	const each = 12_000
	owners := []jid.JID{jid.MustParse("juliet@a.test"), jid.MustParse("nurse@a.test"), jid.MustParse("romeo@b.test")}
	for n := range each {
		for _, owner := range owners {
			e := entry(owner, n)
			a.Add(&e)
		}
	}
	for begun := time.Now(); a.Journal(t.Context()) > 0 || a.Rows(t.Context()) < each*len(owners); runtime.Gosched() {
		if time.Since(begun) > time.Minute {
			t.Fatalf("%d rows, and %d entries in the journal", a.Rows(t.Context()), a.Journal(t.Context()))
		}
	}
	last := entry(owners[0], each-1)
	got, _, err := a.Query(t.Context(), owners[0], "<query xmlns='"+archive.NS+"'><set xmlns='http://jabber.org/protocol/rsm'><max>1</max><before/></set></query>")
	if err != nil || len(got) != 1 || got[0] != a.ID(&last) {
		t.Errorf("the last message is %v, %v", got, err)
	}
}

// A mark and a page find what came just before.
func TestAsked(t *testing.T) {
	t.Parallel()
	for _, d := range []store.Dialect{store.SQLite, store.Postgres} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			a := archiveOn(t, d)
			juliet, nurse := jid.MustParse("juliet@a.test"), jid.MustParse("nurse@a.test")
			var want []string
			for n := range 30 {
				for _, owner := range []jid.JID{juliet, nurse} {
					e := entry(owner, n)
					a.Add(&e)
				}
				e := entry(juliet, n)
				if want = append(want, a.ID(&e)); n%10 == 9 {
					back := entry(juliet, n-5)
					a.Again(&back)
					want = append(slices.Delete(want, n-5, n-4), a.ID(&back))
				}
				got, _, err := a.Query(t.Context(), juliet, "<query xmlns='"+archive.NS+"'/>")
				if err != nil || !slices.Equal(got, want) {
					t.Fatalf("after %d: %v, %v, want %v", n, got, err, want)
				}
			}
		})
	}
}

// A page that ends before what is queued does not wait for it; one that reaches the end does.
func TestOldPages(t *testing.T) {
	t.Parallel()
	a := lite(t, filepath.Join(t.TempDir(), "starling.db"))
	owner := jid.MustParse("juliet@a.test")
	var ids []string
	add := func(from, to int) {
		var last <-chan struct{}
		for n := from; n < to; n++ {
			e := entry(owner, n)
			ids = append(ids, a.ID(&e))
			last = a.Add(&e)
		}
		<-last
	}
	add(0, 20)
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, set string
		want      func() []string
		waits     bool
	}{
		{"before one", "<before>" + ids[15] + "</before>", func() []string { return ids[5:15] }, false},
		{"after one", "<after>" + ids[3] + "</after>", func() []string { return ids[4:14] }, false},
		{"after one, to the end", "<after>" + ids[18] + "</after>", func() []string { return ids[19:] }, true},
		{"the last", "<before/>", func() []string { return ids[len(ids)-10:] }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			add(len(ids), len(ids)+1)
			known := a.Rows(t.Context())
			got, _, err := a.Query(t.Context(), owner, "<query xmlns='"+archive.NS+"'><set xmlns='http://jabber.org/protocol/rsm'><max>10</max>"+c.set+"</set></query>")
			if want := c.want(); err != nil || !slices.Equal(got, want) {
				t.Errorf("%d messages, %v; want %d", len(got), err, len(want))
			}
			if waited := a.Rows(t.Context()) > known; waited != c.waits {
				t.Errorf("it is %v that it waited", waited)
			}
		})
	}
}
