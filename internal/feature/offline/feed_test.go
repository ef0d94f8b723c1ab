package offline_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
	"github.com/starling-im/starling/internal/xmpptest"
)

const (
	romeoJID  = "romeo@a.test/orchard"
	julietJID = "juliet@a.test/balcony"
)

// waits is a server on which so many messages wait for juliet that no queue takes them all.
type waits struct {
	*testing.T
	*xmpptest.Server
	ctx   context.Context
	romeo *client.Conn
	body  string
	n     int
}

// variants are the ways in which messages wait, and are given.
func variants(t *testing.T, fn func(w *waits, managed bool)) {
	for _, v := range []struct {
		on      store.Dialect
		archive bool
	}{{store.SQLite, true}, {store.SQLite, false}, {store.Postgres, true}} {
		for _, managed := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s archive=%v managed=%v", v.on, v.archive, managed), func(t *testing.T) {
				fn(newWaits(t, v.on, v.archive, managed), managed)
			})
		}
	}
}

// newWaits makes 120 messages wait where the queue of a session takes 100, or 2.4 MB where a connection takes 1 MiB.
func newWaits(t *testing.T, d store.Dialect, archive, managed bool) *waits {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	size, n := 10, 120
	if !managed {
		size, n = 60_000, 40
	}
	s := xmpptest.Start(t, xmpptest.Options{Set: []string{
		xmpptest.On(t, d), "offline.max_messages=1000", "stream_management.queue=10", fmt.Sprintf("archive.enabled=%v", archive),
	}})
	w := &waits{T: t, Server: s, ctx: ctx, body: strings.Repeat("x", size)}
	s.Account(t, jid.MustParse(julietJID).Bare())
	w.romeo = s.Dial(t, jid.MustParse(romeoJID))
	for range n {
		w.say("juliet@a.test")
	}
	w.settled(w.romeo)
	return w
}

// say sends juliet the next message.
func (w *waits) say(to string) {
	w.Helper()
	err := w.romeo.Raw(w.ctx, fmt.Appendf(nil, "<message type='chat' to='%s' id='%d'><body>%s</body></message>", to, w.n, w.body))
	if err != nil {
		w.Fatal(err)
	}
	w.n++
}

// settled returns when what somebody has sent was handled.
func (w *waits) settled(c *client.Conn) {
	w.Helper()
	if _, err := c.IQ(w.ctx, xml.New(xml.NSClient, "iq", "type", "get").With(xml.New("urn:xmpp:ping", "ping"))); err != nil {
		w.Fatal(err)
	}
}

// peer is one of juliet's clients.
type peer struct {
	w    *waits
	conn *client.Conn
	next func(context.Context) (xml.Element, error)
	m    *client.Managed // nil without stream management
	ping string          // the id of one that is not answered
}

func (w *waits) juliet(managed bool) *peer {
	w.Helper()
	c := w.Dial(w, jid.MustParse(julietJID))
	p := &peer{w: w, conn: c, next: c.Next}
	if managed {
		m, err := client.Enable(w.ctx, c, true)
		if err != nil {
			w.Fatal(err)
		}
		p.m, p.next = m, m.Next
	}
	p.send("<presence/>")
	return p
}

func (p *peer) send(text string) {
	p.w.Helper()
	send := p.conn.Raw
	if p.m != nil {
		send = p.m.Stanza
	}
	if err := send(p.w.ctx, []byte(text)); err != nil {
		p.w.Fatal(err)
	}
}

// hear returns the numbers of the next messages: so many, or up to a ping or something else that is named.
func (p *peer) hear(n int, upTo string) (all []string) {
	p.w.Helper()
	if p.ping != "" {
		p.send("<iq type='result' to='a.test' id='" + p.ping + "'/>")
		p.ping = ""
	}
	for len(all) < n {
		e, err := p.next(p.w.ctx)
		if err != nil {
			p.w.Fatalf("after %v: %v", all, err)
		}
		switch {
		case e.Local == "message":
			all = append(all, e.Attr("id"))
		case e.Local == "iq" && e.Attr("id") == upTo:
			return all
		case e.Local == "iq" && e.Attr("type") == "get" && upTo == "ping":
			p.ping = e.Attr("id")
			return all
		case e.Local == "iq" && e.Attr("type") == "get":
			p.send("<iq type='result' to='a.test' id='" + e.Attr("id") + "'/>")
		}
	}
	return all
}

// nothing fails if anything else comes for the client.
func (p *peer) nothing() {
	p.w.Helper()
	p.send("<iq type='get' id='end'><ping xmlns='urn:xmpp:ping'/></iq>")
	if more := p.hear(1, "end"); len(more) > 0 {
		p.w.Errorf("%v comes twice", more)
	}
}

// leave ends the session in order, and waits until that is handled.
func (p *peer) leave() {
	p.w.Helper()
	ended := p.w.Ended(jid.MustParse(julietJID))
	if p.m != nil {
		if err := p.m.Acknowledge(p.w.ctx); err != nil {
			p.w.Fatal(err)
		}
	}
	if err := p.conn.Close(p.w.ctx); err != nil {
		p.w.Fatal(err)
	}
	select {
	case <-ended:
	case <-p.w.ctx.Done():
		p.w.Fatal("the end is not handled")
	}
}

// check wants all messages from one on, in order and once.
func (w *waits) check(got []string, from int) {
	w.Helper()
	var want []string
	for i := from; i < w.n; i++ {
		want = append(want, fmt.Sprint(i))
	}
	if !slices.Equal(got, want) {
		w.Fatalf("got %v\nwant %v", got, want)
	}
}

// left is how many messages are stored.
func (w *waits) left() (n int) {
	w.Helper()
	err := w.Core().DB.Read(w.ctx, func(tx *store.Tx) error { return tx.Row(`SELECT COUNT(*) FROM offline`).Scan(&n) })
	if err != nil {
		w.Fatal(err)
	}
	return n
}

// TestPortions: a client gets all that waits, whatever that is, and behind it what comes meanwhile.
func TestPortions(t *testing.T) {
	variants(t, func(w *waits, managed bool) {
		juliet := w.juliet(managed)
		got := juliet.hear(1, "")
		w.say("juliet@a.test")
		w.say(julietJID)
		w.settled(w.romeo)
		got = append(got, juliet.hear(w.n-1, "")...)
		w.check(got, 0)
		juliet.nothing()
		w.say("juliet@a.test") // nothing is held back any more
		w.check(juliet.hear(1, ""), w.n-1)
		juliet.leave()
		if n := w.left(); n > 0 {
			t.Errorf("%d messages are left", n)
		}
	})
}

// TestLeavesAmong: a client that logs out while it is given what waits gets the rest the next time, and then what came
// meanwhile.
func TestLeavesAmong(t *testing.T) {
	variants(t, func(w *waits, managed bool) {
		juliet := w.juliet(managed)
		var got []string
		if managed {
			got = juliet.hear(30, "")
		} else {
			got = juliet.hear(w.n, "ping")
			got = append(got, juliet.hear(w.n, "ping")...)
		}
		w.say("juliet@a.test")
		w.say(julietJID)
		w.settled(w.romeo)
		juliet.leave()
		if n := w.left(); n != w.n-len(got) {
			t.Errorf("%d messages are left after %d of %d", n, len(got), w.n)
		}
		juliet = w.juliet(managed)
		w.check(append(got, juliet.hear(w.n-len(got), "")...), 0)
		juliet.nothing()
		juliet.leave()
		if n := w.left(); n > 0 {
			t.Errorf("%d messages are left", n)
		}
	})
}

// TestBecomesUnavailable: a client that is no longer available is given no more of what waits.
func TestBecomesUnavailable(t *testing.T) {
	w := newWaits(t, store.SQLite, true, true)
	juliet := w.juliet(true)
	got := juliet.hear(1, "")
	juliet.send("<presence type='unavailable'/>")
	juliet.send("<iq type='get' id='away'><ping xmlns='urn:xmpp:ping'/></iq>")
	got = append(got, juliet.hear(w.n, "away")...)
	if len(got) > 10 {
		t.Fatalf("got %v", got)
	}
	if err := juliet.m.Acknowledge(w.ctx); err != nil {
		t.Fatal(err)
	}
	juliet.nothing()
	juliet.send("<presence/>")
	w.check(append(got, juliet.hear(w.n-len(got), "")...), 0)
}

// TestComesBackAmong: a client whose connection is lost while it is given what waits goes on when it is back.
func TestComesBackAmong(t *testing.T) {
	w := newWaits(t, store.SQLite, true, true)
	juliet := w.juliet(true)
	got := juliet.hear(20, "")
	juliet.conn.Drop()
	w.say("juliet@a.test")
	w.settled(w.romeo)
	config := w.Config(jid.MustParse(julietJID))
	c, err := client.LogIn(w.ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Drop)
	if err := juliet.m.Resume(w.ctx, c); err != nil {
		t.Fatal(err)
	}
	juliet.conn = c
	w.check(append(got, juliet.hear(w.n-len(got), "")...), 0)
	juliet.nothing()
}

// TestUnanswered: a client that neither acknowledges what it is given nor answers pings gets the rest all the same.
func TestUnanswered(t *testing.T) {
	if testing.Short() {
		t.Skip("takes as long as an answer is waited for, 30 s")
	}
	t.Parallel()
	w := newWaits(t, store.SQLite, true, false)
	juliet := w.juliet(false)
	got := juliet.hear(w.n, "ping")
	juliet.ping = ""
	w.check(append(got, juliet.hear(w.n-len(got), "")...), 0)
}
