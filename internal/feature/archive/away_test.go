package archive_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/feature/archive"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/store/storetest"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
	"github.com/starling-im/starling/internal/xmpptest"
)

// talk is two people who are online.
type talk struct {
	*testing.T
	archive       *archive.Archive
	server        *xmpptest.Server
	romeo, juliet *client.Conn
	told          []string // ids of the messages that juliet has got
}

func newTalk(t *testing.T, database string) *talk {
	s := xmpptest.Start(t, xmpptest.Options{Set: []string{"database.url=" + database}})
	k := &talk{T: t, server: s, archive: s.Features().Provided("archive").(*archive.Archive)}
	k.romeo = s.Dial(t, jid.MustParse("romeo@b.test/orchard"))
	k.juliet = s.Dial(t, jid.MustParse("juliet@a.test/balcony"))
	return k
}

// say sends messages, all of which arrive.
func (k *talk) say(n int) {
	k.Helper()
	ctx, cancel := context.WithTimeout(k.Context(), 30*time.Second)
	defer cancel()
	for range n {
		m := xml.New(xml.NSClient, "message", "to", k.juliet.JID().String(), "type", "chat").
			With(xml.New(xml.NSClient, "body").WithText(fmt.Sprint(len(k.told))))
		if err := k.romeo.Send(ctx, m); err != nil {
			k.Fatal(err)
		}
		got, err := k.juliet.Next(ctx)
		if err != nil {
			k.Fatalf("message %d: %v", len(k.told), err)
		}
		sid := got.Child(archive.NSStanzaID, "stanza-id")
		if sid == nil {
			k.Fatalf("message %d is not kept: %s", len(k.told), got)
		}
		k.told = append(k.told, sid.Attr("id"))
	}
}

// kept reads a whole archive, page by page from where the last one ended.
func kept(t *testing.T, a *archive.Archive, owner jid.JID) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := a.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	var all []string
	for after := ""; ; {
		ids, complete, err := a.Query(ctx, owner, "<query xmlns='"+archive.NS+"'><set xmlns='http://jabber.org/protocol/rsm'><max>7</max>"+after+"</set></query>")
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, ids...)
		if complete {
			return all
		}
		after = "<after>" + all[len(all)-1] + "</after>"
	}
}

// The database goes away in the middle of a talk: messages go on, nothing is lost, and all is in order when it is back.
func TestDatabaseAway(t *testing.T) {
	w := storetest.NewWire(t, storetest.URL(t, store.Postgres))
	w.Join(t)
	k := newTalk(t, w.URL)
	k.say(20)
	for round := range 3 {
		if err := k.archive.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !k.archive.Oldest().IsZero() {
			t.Errorf("round %d: something waits though all is committed", round)
		}
		w.Cut()
		k.say(50)
		if k.archive.Oldest().IsZero() {
			t.Errorf("round %d: nothing waits though the database is away", round)
		}
		w.Join(t)
		k.say(10)
	}
	if got := kept(t, k.archive, jid.MustParse("juliet@a.test")); !slices.Equal(got, k.told) {
		t.Errorf("kept %d of %d messages, or in another order", len(got), len(k.told))
	}
	if got := kept(t, k.archive, jid.MustParse("romeo@b.test")); len(got) != len(k.told) {
		t.Errorf("the sender has %d of %d messages", len(got), len(k.told))
	}
}

// What a stanza leads to is committed before it is acknowledged, and delivered before that.
func TestHeld(t *testing.T) {
	w := storetest.NewWire(t, storetest.URL(t, store.Postgres))
	w.Join(t)
	k := newTalk(t, w.URL)
	k.say(1)
	if err := k.archive.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Cut()
	released := make(chan struct{})
	flow := session.Flow{Session: k.server.Core().Sessions.Find(k.romeo.JID()), N: 1000, Held: session.Hold(func() { close(released) })}
	m := stanza.New(stanza.Message, stanza.Chat, "held", k.juliet.JID(), xml.New(xml.NSClient, "body").WithText("hi")).WithFrom(k.romeo.JID())
	k.server.Core().Router.Route(session.WithFlow(t.Context(), &flow), m)
	flow.Flush()
	flow.Held.Settle() // all but the archive has answered
	if got, err := k.juliet.Next(t.Context()); err != nil || got.Attr("id") != "held" {
		t.Fatalf("got %s, %v", got, err)
	}
	select {
	case <-released:
		t.Fatal("acknowledged though it is not committed")
	default:
	}
	w.Join(t)
	select {
	case <-released:
	case <-time.After(30 * time.Second):
		t.Fatal("never acknowledged")
	}
	if got := kept(t, k.archive, jid.MustParse("juliet@a.test")); len(got) != 2 {
		t.Errorf("kept %d messages", len(got))
	}
}

// With the database away and too much waiting, messages still go on; they are not kept, and do not claim to be.
func TestQueueFull(t *testing.T) {
	w := storetest.NewWire(t, storetest.URL(t, store.Postgres))
	w.Join(t)
	k := newTalk(t, w.URL)
	k.say(1)
	w.Cut()
	nurse := jid.MustParse("nurse@a.test")
	for n := range archive.MaxQueue {
		e := entry(nurse, n)
		k.archive.Add(&e)
	}
	if err := k.romeo.Send(t.Context(), xml.New(xml.NSClient, "message", "to", k.juliet.JID().String(), "type", "chat", "id", "x").
		With(xml.New(xml.NSClient, "body").WithText("x"))); err != nil {
		t.Fatal(err)
	}
	got, err := k.juliet.Next(t.Context())
	if err != nil || got.Attr("id") != "x" || got.Child(archive.NSStanzaID, "stanza-id") != nil {
		t.Errorf("got %s, %v", got, err)
	}
	w.Join(t)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if err := k.archive.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if !k.archive.Admit(ctx) {
		t.Error("still full")
	}
	k.say(1)
}

// Commits of several nodes for one owner: positions grow, nothing is lost, and what comes twice is kept once.
func TestSeveralWriters(t *testing.T) {
	for _, d := range []store.Dialect{store.SQLite, store.Postgres} {
		t.Run(d.String(), func(t *testing.T) {
			a := archiveOn(t, d)
			owners := []jid.JID{jid.MustParse("juliet@a.test"), jid.MustParse("nurse@a.test")}
			errs := make(chan error)
			const writers, rounds = 4, 12
			for w := range writers {
				go func() {
					var all []error
					for r := range rounds {
						var batch []archive.Entry
						for i := range 5 {
							// Each message comes from two of the writers.
							n := (w/2)*10_000 + r*5 + i
							for _, o := range owners {
								batch = append(batch, entry(o, n))
							}
						}
						all = append(all, a.Commit(context.Background(), batch))
					}
					errs <- errors.Join(all...)
				}()
			}
			for range writers {
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
			for _, o := range owners {
				got := kept(t, a, o)
				slices.Sort(got)
				if once := slices.Compact(slices.Clone(got)); len(once) != len(got) || len(got) != writers/2*rounds*5 {
					t.Errorf("%s: %d messages, %d of them once", o, len(got), len(once))
				}
			}
		})
	}
}

// What comes back unread stands at the end, under the id it had (and whoever has read up to it reads it again).
func TestComesBack(t *testing.T) {
	for _, d := range []store.Dialect{store.SQLite, store.Postgres} {
		t.Run(d.String(), func(t *testing.T) {
			a := archiveOn(t, d)
			owner := jid.MustParse("juliet@a.test")
			var want []string
			for n := range 10 {
				e := entry(owner, n)
				a.Add(&e)
				want = append(want, a.ID(&e))
			}
			back := entry(owner, 3)
			a.Again(&back)
			want = append(slices.Delete(want, 3, 4), a.ID(&back))
			if got := kept(t, a, owner); !slices.Equal(got, want) {
				t.Errorf("got %v\nwant %v", got, want)
			}
		})
	}
}

// What is too old or too much goes, oldest first.
func TestPurge(t *testing.T) {
	for _, d := range []store.Dialect{store.SQLite, store.Postgres} {
		t.Run(d.String(), func(t *testing.T) {
			a := archiveOn(t, d, "archive.max_age=24h", "archive.max_messages=1500")
			few, many := jid.MustParse("few@a.test"), jid.MustParse("many@a.test")
			for n := range 3000 {
				e := entry(many, n)
				e.Time = time.Now()
				a.Add(&e)
			}
			for n := range 10 {
				e := entry(few, n)
				e.Time = time.Now().Add(time.Duration(n-7) * 6 * time.Hour)
				a.Add(&e)
			}
			if err := a.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := a.Purge(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct {
				owner       jid.JID
				first, want int
			}{{many, 1500, 1500}, {few, 4, 6}} {
				got := kept(t, a, c.owner)
				oldest := entry(c.owner, c.first)
				if len(got) != c.want || got[0] != a.ID(&oldest) {
					t.Errorf("%s: %d messages, want %d", c.owner, len(got), c.want)
				}
			}
		})
	}
}
