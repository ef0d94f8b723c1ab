package cluster_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/store/storetest"
	"github.com/starling-im/starling/internal/xmpp/sasl"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// TestDatabaseGone: the database is away for a while. Who is there goes on talking; who comes is asked to try again
// later; afterwards all is as before.
func TestDatabaseGone(t *testing.T) {
	t.Parallel()
	database := storetest.Server(t)
	w := plan(t, database.URL)
	for _, name := range []string{"one", "two", "three"} {
		w.start(name)
	}
	w.together()
	all := gather(w, map[string][]string{
		"one": {"romeo@a.test/orchard"}, "two": {"juliet@a.test/balcony"}, "three": {"paris@a.test/hall"},
	})
	romeo, juliet, paris := all["one"][0], all["two"][0], all["three"][0]
	const mercutio = "mercutio@a.test/street"
	w.nodes["one"].register("mercutio")
	all.begin()
	stop, back := romeo.talk(juliet.jid.String()), juliet.talk(romeo.jid.Bare().String())

	if err := database.Halt(); err != nil {
		t.Fatal(err)
	}
	over := last(t, map[bool]time.Duration{false: 10 * time.Second, true: 30 * time.Second}[soaking()])
	for _, n := range w.running() {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err := n.bind(ctx, mercutio)
		cancel()
		var refused *sasl.Failure
		var stanza *client.StanzaError
		if !(errors.As(err, &refused) && refused.Condition == sasl.TemporaryAuthFailure || errors.As(err, &stanza) && stanza.Type == "wait") {
			t.Errorf("log-in at %s without the database: %v", n.Name, err)
		}
	}
	paris.say("mercutio@a.test", 0, 1)
	paris.await("an error", func(e xml.Element) bool { return e.Local == "message" && e.Attr("type") == "error" })
	over()
	heard, answered := len(juliet.numbers(romeo.jid)), len(romeo.numbers(juliet.jid))
	juliet.hears(romeo.jid, heard+20)
	romeo.hears(juliet.jid, answered+20)
	all.told("gone", gone, func(_, _ *person) int { return 0 })

	if err := database.Resume(); err != nil {
		t.Fatal(err)
	}
	for _, n := range w.running() {
		took := w.until("log-in at "+n.Name, func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			p, err := n.bind(ctx, mercutio)
			if err == nil {
				p.Drop()
			}
			return err == nil
		})
		t.Logf("log-in at %s after %v", n.Name, took)
	}
	paris.say("mercutio@a.test", 10, 20)
	paris.settled()
	late := w.nodes["two"].login(mercutio)
	late.hears(paris.jid, 10)
	inOrder(t, "mercutio", late.numbers(paris.jid), 10, 20)
	said, replied := stop(), back()
	juliet.hears(romeo.jid, said)
	romeo.hears(juliet.jid, replied)
	inOrder(t, "juliet", juliet.numbers(romeo.jid), 0, said)
	inOrder(t, "romeo", romeo.numbers(juliet.jid), 0, replied)
	w.together()
	w.alike()
	all.each((*person).undisturbed)
}
