package roster_test

import (
	"context"
	"strconv"
	"testing"

	"github.com/starling-im/starling/internal/feature/roster"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
	"github.com/starling-im/starling/internal/xmpptest"
)

// TestPushOrder lets another change come between one of the owner's own and its push, which waits for the answer to
// the owner's request: pushes still come in the order of their versions (RFC 6121 §2.6.3).
func TestPushOrder(t *testing.T) {
	s := xmpptest.Start(t, xmpptest.Options{})
	rosters := s.Features().Provided("roster").(*roster.Roster)
	romeo := jid.MustParse("romeo@a.test")
	juliet, nurse := jid.MustParse("juliet@a.test"), jid.MustParse("nurse@a.test")
	c := s.Dial(t, jid.MustParse("romeo@a.test/orchard"))
	get := xml.New("jabber:client", "iq", "type", "get", "id", "r").With(xml.New(roster.NS, "query"))
	if _, err := c.IQ(t.Context(), get); err != nil {
		t.Fatal(err)
	}
	list := func(ctx context.Context, contact jid.JID) {
		t.Helper()
		_, err := rosters.Apply(ctx, romeo, contact, func(i *roster.Item) bool { i.Listed = true; return true }, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
	flow := session.Flow{Session: s.Core().Sessions.Find(c.JID())}
	own := session.WithFlow(t.Context(), &flow)
	list(own, juliet)
	list(t.Context(), nurse)
	flow.Settle(own)
	flow.Flush()

	last := int64(0)
	for _, want := range []jid.JID{nurse, juliet} {
		push, err := c.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		q := push.Child(roster.NS, "query")
		version, err := strconv.ParseInt(q.Attr("ver"), 10, 64)
		if got := q.First().Attr("jid"); err != nil || got != want.String() || version <= last {
			t.Errorf("push of %s with version %q after %d (%v), want %s with a later one", got, q.Attr("ver"), last, err, want)
		}
		last = version
	}
}
