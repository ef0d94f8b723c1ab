package c2s_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
	"github.com/starling-im/starling/internal/xmpptest"
)

// plaintext makes logging in cheap.
func plaintext(s *xmpptest.Server, who string) client.Config {
	cfg := s.Config(jid.MustParse(who))
	cfg.TLS, cfg.Mechanism = client.None, "PLAIN"
	return cfg
}

func managed(ctx context.Context, t *testing.T, s *xmpptest.Server, who string) *client.Managed {
	t.Helper()
	s.Account(t, jid.MustParse(who).Bare())
	c, err := client.Dial(ctx, plaintext(s, who))
	if err != nil {
		t.Fatal(err)
	}
	m, err := client.Enable(ctx, c, true)
	if err != nil || m.ID == "" {
		t.Fatalf("not enabled: %v", err)
	}
	t.Cleanup(func() { m.Drop() })
	if err := m.Stanza(ctx, []byte("<presence/>")); err != nil {
		t.Fatal(err)
	}
	return m
}

func resume(ctx context.Context, s *xmpptest.Server, who string, m *client.Managed) error {
	c, err := client.LogIn(ctx, plaintext(s, who))
	if err != nil {
		return err
	}
	if err := m.Resume(ctx, c); err != nil {
		c.Drop()
		return err
	}
	return nil
}

func body(e xml.Element) (n int, ok bool) {
	if e.Local != "message" || e.Attr("type") == "error" {
		return 0, false
	}
	n, err := strconv.Atoi(e.Child(xml.NSClient, "body").Text())
	return n, err == nil
}

// TestResumesAtRandom has a client lose its connection at any moment while it sends and receives: nothing is lost, doubled
// or out of order (XEP-0198 §5).
func TestResumesAtRandom(t *testing.T) {
	t.Parallel()
	resumptions := 1000
	if testing.Short() {
		resumptions = 100
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	s := xmpptest.Start(t, xmpptest.Options{Set: []string{"auth.allow_plaintext=true", "limits.pre_auth_per_address=10000", "stream_management.queue=100000"}})
	const romeo, juliet = "romeo@a.test/orchard", "juliet@a.test/balcony"
	to, from := managed(ctx, t, s, romeo), managed(ctx, t, s, juliet)
	message := func(to string, n int) []byte {
		return []byte("<message type='chat' to='" + to + "'><body>" + strconv.Itoa(n) + "</body></message>")
	}
	over := make(chan struct{})
	var all sync.WaitGroup
	defer all.Wait()
	sent := make(chan int, 1)
	all.Go(func() { // juliet sends as long as romeo comes and goes, and little enough to be read
		n := 0
		pace := time.NewTicker(time.Millisecond)
		defer pace.Stop()
		for done := false; !done; {
			select {
			case <-over:
				done = true
			case <-pace.C:
			}
			n++
			if err := from.Stanza(ctx, message(romeo, n)); err != nil {
				t.Error(err)
				break
			}
		}
		sent <- n
	})
	last := make(chan int, 1)
	heard := make(chan int, 1)
	all.Go(func() { // and hears all that romeo sends
		n, want := 0, -1
		for n != want {
			e, err := from.Next(ctx)
			if err != nil {
				t.Errorf("juliet: %v", err)
				break
			}
			if got, ok := body(e); ok {
				if n++; got != n {
					t.Errorf("romeo's message %d comes as number %d", got, n)
					break
				}
			}
			select {
			case want = <-last:
			default:
			}
		}
		heard <- n
	})
	random := rand.New(rand.NewPCG(1, 2))
	got, mine, done := 0, 0, 0
	for want := -1; got != want; {
		life := make(chan struct{})
		conn := to.Conn
		if done < resumptions {
			time.AfterFunc(time.Duration(random.IntN(6000))*time.Microsecond, func() { conn.Drop(); close(life) })
		}
		for got != want {
			if random.IntN(3) == 0 && done < resumptions {
				mine++
				to.Stanza(ctx, message(juliet, mine)) // it is sent again if it fails
			}
			e, err := to.Next(ctx)
			if err != nil {
				break
			}
			if n, ok := body(e); ok {
				if got++; n != got {
					t.Fatalf("juliet's message %d comes as number %d, after %d resumptions", n, got, done)
				}
			}
			if want < 0 && done == resumptions {
				select {
				case want = <-sent:
				default:
				}
			}
		}
		if done == resumptions {
			break
		}
		<-life
		for tries := 0; ; tries++ {
			if err := resume(ctx, s, romeo, to); err == nil {
				break
			} else if tries > 10 || errors.Is(err, client.ErrNotResumed) {
				t.Fatalf("after %d resumptions: %v", done, err)
			}
		}
		if done++; done == resumptions {
			close(over)
			mine++ // so that juliet has something to read when she learns how many there are
			to.Stanza(ctx, message(juliet, mine))
			last <- mine
			to.Stanza(ctx, []byte("<message type='headline' to='"+juliet+"'/>"))
		}
	}
	if n := <-heard; n != mine {
		t.Errorf("juliet heard %d of romeo's %d messages", n, mine)
	}
	if err := to.Ask(ctx); err != nil {
		t.Error(err)
	}
	t.Logf("%d resumptions; romeo got %d messages and sent %d", done, got, mine)
}

// TestLostSession: a client that does not come back is gone when its time is over; what it has not got waits for it, in
// order, and is not delivered twice.
func TestLostSession(t *testing.T) {
	t.Parallel()
	for name, dialect := range map[string]store.Dialect{"sqlite": store.SQLite, "postgres": store.Postgres} {
		for _, archive := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, archive %v", name, archive), func(t *testing.T) {
				t.Parallel()
				s := xmpptest.Start(t, xmpptest.Options{Set: []string{
					xmpptest.On(t, dialect), "stream_management.max=1s", fmt.Sprintf("archive.enabled=%v", archive), "auth.allow_plaintext=true",
				}})
				lose(t, s, func(who jid.JID) { <-s.Ended(who) })
			})
		}
	}
}

// TestLostAtShutdown: a server that stops keeps what the clients of its sessions have not got.
func TestLostAtShutdown(t *testing.T) {
	t.Parallel()
	set := []string{xmpptest.On(t, store.SQLite), "auth.allow_plaintext=true"}
	s := xmpptest.Start(t, xmpptest.Options{Set: set})
	var after *xmpptest.Server
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	fill(ctx, t, s)
	s.Halt(t)
	after = xmpptest.Start(t, xmpptest.Options{Set: set})
	catchUp(ctx, t, after)
}

const undelivered = 40

// lose has a client get messages that it does not acknowledge, and more while it is not there; then it comes anew.
func lose(t *testing.T, s *xmpptest.Server, wait func(jid.JID)) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	who := fill(ctx, t, s)
	wait(who)
	catchUp(ctx, t, s)
}

func fill(ctx context.Context, t *testing.T, s *xmpptest.Server) jid.JID {
	m := managed(ctx, t, s, "romeo@a.test/orchard")
	juliet := managed(ctx, t, s, "juliet@a.test/balcony")
	send := func(from, to int) {
		for i := from; i < to; i++ {
			address := "romeo@a.test"
			if i%2 == 0 {
				address = "romeo@a.test/orchard"
			}
			if err := juliet.Stanza(ctx, []byte(fmt.Sprintf("<message type='chat' to='%s'><body>%d</body></message>", address, i))); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := juliet.IQ(ctx, xml.New(xml.NSClient, "iq", "type", "get").With(xml.New("urn:xmpp:ping", "ping"))); err != nil {
			t.Fatal(err)
		}
	}
	for { // until the presence is back
		if e, err := m.Conn.Next(ctx); err != nil || e.Local == "presence" {
			break
		}
	}
	send(0, undelivered/2)
	m.Drop()
	send(undelivered/2, undelivered)
	return m.JID()
}

func catchUp(ctx context.Context, t *testing.T, s *xmpptest.Server) {
	back, err := client.Dial(ctx, plaintext(s, "romeo@a.test/new"))
	if err != nil {
		t.Fatal(err)
	}
	defer back.Drop()
	if err := back.Raw(ctx, []byte("<presence/><iq type='get' id='end'><ping xmlns='urn:xmpp:ping'/></iq>")); err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		e, err := back.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if e.Attr("id") == "end" {
			break
		}
		if n, ok := body(e); ok {
			got = append(got, strconv.Itoa(n))
			if e.Child("urn:xmpp:delay", "delay") == nil || strings.Count(e.String(), "<delay") != 1 {
				t.Errorf("not delayed once: %s", e)
			}
		}
	}
	var want []string
	for i := range undelivered {
		want = append(want, strconv.Itoa(i))
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got %v", got)
	}
}
