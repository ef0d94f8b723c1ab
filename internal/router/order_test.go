package router_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
	"github.com/starling-im/starling/internal/xmpptest"
)

// TestTrap21_OrderPerSender mixes stanzas that are routed at once with those that wait for a worker: between two
// parties their order is kept (RFC 6120 §10.1).
func TestTrap21_OrderPerSender(t *testing.T) {
	t.Parallel()
	const senders, rounds = 4, 100
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s := xmpptest.Start(t, xmpptest.Options{})
	juliet := s.Dial(t, jid.MustParse("juliet@a.test/balcony"))
	say(t, ctx, juliet, "<presence/>")
	var wg sync.WaitGroup
	for n := range senders {
		c := s.Dial(t, jid.MustParse(fmt.Sprintf("sender%d@b.test/%d", n, n)))
		say(t, ctx, juliet, fmt.Sprintf("<presence to='%s'/>", c.JID())) // lets iqs through
		if _, err := juliet.IQ(ctx, xml.New(xml.NSClient, "iq", "type", "get", "to", "a.test").With(xml.New("urn:xmpp:ping", "ping"))); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for round := range rounds {
				if err := c.Raw(ctx, []byte(burst(round))); err != nil {
					t.Errorf("%s: %v", c.JID(), err)
				}
			}
		})
		wg.Go(func() { results(ctx, t, c, rounds) })
	}
	next := map[string]int{}
	for done := 0; done < senders; {
		e, err := juliet.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		from, id := e.Attr("from"), e.Attr("id")
		if !strings.HasPrefix(from, "sender") {
			continue
		}
		if want := strconv.Itoa(next[from]); id != want {
			t.Fatalf("from %s came %s, awaited %s", from, id, want)
		}
		if next[from]++; next[from] == 5*rounds {
			done++
		}
	}
	wg.Wait()
}

func say(t *testing.T, ctx context.Context, c *client.Conn, text string) {
	t.Helper()
	if err := c.Raw(ctx, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// burst is five stanzas to juliet, numbered through, and between them two that the server answers.
func burst(round int) string {
	n := 5 * round
	return fmt.Sprintf("<message to='juliet@a.test' type='chat' id='%d'><body>chat</body></message>", n) +
		fmt.Sprintf("<iq type='get' id='a%d' to='b.test'><ping xmlns='urn:xmpp:ping'/></iq>", round) +
		fmt.Sprintf("<iq type='get' id='%d' to='juliet@a.test/balcony'><query xmlns='urn:example'/></iq>", n+1) +
		fmt.Sprintf("<message to='juliet@a.test/balcony' id='%d'><body>normal</body></message>", n+2) +
		fmt.Sprintf("<presence to='juliet@a.test' id='%d'/>", n+3) +
		fmt.Sprintf("<iq type='get' id='b%d'><query xmlns='jabber:iq:roster'/></iq>", round) +
		fmt.Sprintf("<message to='juliet@a.test/gone' type='chat' id='%d'><body>chat</body></message>", n+4)
}

// results checks that the server's answers come in the order of the requests.
func results(ctx context.Context, t *testing.T, c *client.Conn, rounds int) {
	for round := range rounds {
		for _, kind := range []string{"a", "b"} {
			want := kind + strconv.Itoa(round)
			for {
				e, err := c.Next(ctx)
				if err != nil {
					t.Errorf("%s: %v", c.JID(), err)
					return
				}
				if e.Local != "iq" {
					continue
				}
				if got := e.Attr("id"); got != want {
					t.Errorf("%s: answer %s, awaited %s", c.JID(), got, want)
					return
				}
				break
			}
		}
	}
}
