package c2s_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/store/storetest"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stream"
	"github.com/starling-im/starling/internal/xmpp/xml"
	"github.com/starling-im/starling/internal/xmpptest"
)

const (
	romeoJID  = "romeo@a.test/orchard"
	julietJID = "juliet@a.test/balcony"
	ping      = "<iq type='get' id='ping'><ping xmlns='urn:xmpp:ping'/></iq>"
)

// away is two people on a server whose database can be cut off.
type away struct {
	*testing.T
	*xmpptest.Server
	ctx           context.Context
	wire          *storetest.Wire
	romeo, juliet *client.Managed
}

func newAway(t *testing.T, set ...string) *away {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	w := storetest.NewWire(t, storetest.URL(t, store.Postgres))
	w.Join(t)
	s := xmpptest.Start(t, xmpptest.Options{Set: append(set, "database.url="+w.URL, "auth.allow_plaintext=true")})
	a := &away{T: t, Server: s, ctx: ctx, wire: w, romeo: managed(ctx, t, s, romeoJID), juliet: managed(ctx, t, s, julietJID)}
	for _, m := range []*client.Managed{a.romeo, a.juliet} {
		a.hear(m) // its own presence, and that is acknowledged
		a.acknowledged(m)
	}
	return a
}

// chat is what one says to the other, in order, from one number up to, but not including, another.
func chat(to string, from, upTo int) (all [][]byte) {
	for i := from; i < upTo; i++ {
		all = append(all, fmt.Appendf(nil, "<message type='chat' to='%s' id='%d'><body>%d</body></message>", to, i, i))
	}
	return all
}

func (a *away) say(m *client.Managed, all [][]byte) {
	a.Helper()
	for _, text := range all {
		if err := m.Stanza(a.ctx, text); err != nil {
			a.Fatal(err)
		}
	}
}

// hear returns the numbers of the messages that come up to the answer of a ping. Whoever gets an error is wrong.
func (a *away) hear(m *client.Managed) (all []int) {
	a.Helper()
	a.say(m, [][]byte{[]byte(ping)})
	for {
		e := a.next(m)
		if n, ok := body(e); ok {
			all = append(all, n)
		}
		if e.Local == "iq" && e.Attr("id") == "ping" {
			return all
		}
	}
}

// hears waits for so many messages.
func (a *away) hears(m *client.Managed, n int) (all []int) {
	a.Helper()
	for len(all) < n {
		if n, ok := body(a.next(m)); ok {
			all = append(all, n)
		}
	}
	return all
}

func (a *away) next(m *client.Managed) xml.Element {
	a.Helper()
	e, err := m.Next(a.ctx)
	if err != nil {
		a.Fatalf("%s: %v", m.JID(), err)
	}
	if e.Attr("type") == "error" {
		a.Fatalf("%s gets an error: %s", m.JID(), e)
	}
	return e
}

// acknowledged waits until all is that somebody has sent.
func (a *away) acknowledged(m *client.Managed) {
	a.Helper()
	for m.Waiting() > 0 {
		if err := m.Ask(a.ctx); err != nil {
			a.Fatal(err)
		}
		a.hear(m)
		if m.Waiting() == 1 { // the ping, which is settled as soon as it is answered
			return
		}
	}
}

// numbers lists them from one up to, but not including, another.
func numbers(from, upTo int) (all []int) {
	for i := from; i < upTo; i++ {
		all = append(all, i)
	}
	return all
}

// TestAcknowledgementsWait: with the database away messages arrive, and are acknowledged when it is back. Past 64 that are
// not, the sender is not read; all that it has sent arrives in the end, in order and once.
func TestAcknowledgementsWait(t *testing.T) {
	t.Parallel()
	const unkept, more = 64, 200
	a := newAway(t)
	a.wire.Cut()
	a.say(a.romeo, chat(julietJID, 0, 10))
	before := a.romeo.Waiting()
	if err := a.romeo.Ask(a.ctx); err != nil {
		t.Fatal(err)
	}
	a.hear(a.romeo)
	if n := a.romeo.Waiting(); n <= before-10 {
		t.Errorf("%d stanzas of %d wait for their acknowledgement, though nothing can be kept", n, before)
	}
	var rest []byte
	for _, text := range chat(julietJID, 10, more) {
		rest = append(rest, text...)
	}
	if err := a.romeo.Raw(a.ctx, rest); err != nil {
		t.Fatal(err)
	}
	got := a.hears(a.juliet, unkept-1) // the ping waits behind the first ten
	for begun := time.Now(); time.Since(begun) < 300*time.Millisecond; {
		if late := a.hear(a.juliet); len(late) > 0 {
			t.Fatalf("%v arrived though %d stanzas wait", late, unkept)
		}
	}
	a.wire.Join(t)
	got = append(got, a.hears(a.juliet, more-len(got))...)
	if !slices.Equal(got, numbers(0, more)) {
		t.Errorf("arrived: %v", got)
	}
}

// TestReadingPauses: a sender is read no more when what it has sent waits for long, and goes on when it is kept.
func TestReadingPauses(t *testing.T) {
	t.Parallel()
	a := newAway(t, "stream_management.settle_pause=1s")
	a.wire.Cut()
	a.say(a.romeo, chat(julietJID, 0, 1))
	a.hears(a.juliet, 1)
	<-time.After(3 * time.Second) // this is what is tested
	a.say(a.romeo, chat(julietJID, 1, 3))
	if got := a.hear(a.juliet); len(got) > 0 {
		t.Errorf("%v arrived", got)
	}
	a.wire.Join(t)
	if got := a.hears(a.juliet, 2); !slices.Equal(got, numbers(1, 3)) {
		t.Errorf("arrived: %v", got)
	}
	a.acknowledged(a.romeo)
}

// TestStreamGivenUp: a sender whose messages cannot be kept for too long loses its stream, without an acknowledgement of
// them and without errors. It is not taken for dead because nobody has heard its answers. Its session waits: when it
// comes back all is acknowledged, and nothing arrives twice.
func TestStreamGivenUp(t *testing.T) {
	t.Parallel()
	a := newAway(t, "stream_management.settle_pause=1s", "stream_management.settle_timeout=6s", "stream_management.ack_timeout=2s")
	nurse := a.Dial(t, jid.MustParse("nurse@a.test/room"))
	a.wire.Cut()
	arrived, _ := listen(a.ctx, a.juliet)
	over, lost := listen(a.ctx, a.romeo)
	const last = 99
	a.say(a.romeo, chat(julietJID, 0, 5))
	unkept := a.romeo.Waiting()
	var failed *client.StreamError
	said, waits := 0, true
	for again := time.NewTicker(500 * time.Millisecond); waits; {
		select {
		case <-again.C: // so that he is asked what he has got, whose answers are not read
			if err := nurse.Raw(a.ctx, chat(romeoJID, said, said+1)[0]); err != nil {
				t.Fatal(err)
			}
			said++
		case _, waits = <-over:
		}
	}
	if err := lost(); !errors.As(err, &failed) {
		t.Fatal(err)
	}
	if failed.Condition != stream.ResourceConstraint {
		t.Errorf("the stream ends with %v", failed)
	}
	if n := a.romeo.Waiting(); n < unkept {
		t.Errorf("%d of %d are acknowledged though nothing was kept", unkept-n, unkept)
	}
	a.romeo.Drop()
	a.wire.Join(t)
	for tries := 0; ; tries++ {
		err := resume(a.ctx, a.Server, romeoJID, a.romeo)
		if err == nil {
			break
		}
		if errors.Is(err, client.ErrNotResumed) || tries > 100 { // the server may find out a little later
			t.Fatal(err)
		}
	}
	a.acknowledged(a.romeo)
	a.say(a.romeo, chat(julietJID, last, last+1))
	var got []int
	for n := range arrived {
		if got = append(got, n); n == last {
			break
		}
	}
	if want := append(numbers(0, 5), last); !slices.Equal(got, want) {
		t.Errorf("arrived: %v", got)
	}
}

// listen reads what comes until the connection ends. over then tells why; an error that somebody sends is as bad.
func listen(ctx context.Context, m *client.Managed) (heard <-chan int, over func() error) {
	all := make(chan int, 1000)
	var end error
	go func() {
		defer close(all)
		for {
			e, err := m.Next(ctx)
			if err == nil && e.Attr("type") == "error" {
				err = fmt.Errorf("got %s", e)
			}
			if err != nil {
				end = err
				return
			}
			if n, ok := body(e); ok {
				all <- n
			}
		}
	}()
	return all, func() error {
		for range all {
		}
		return end
	}
}

// TestSilentClient: a client that does not answer when it is asked what it has got is taken for lost, and gets everything
// when it is back.
func TestSilentClient(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s := xmpptest.Start(t, xmpptest.Options{Set: []string{"stream_management.ack_timeout=1s", "auth.allow_plaintext=true"}})
	romeo, juliet := managed(ctx, t, s, romeoJID), s.Dial(t, jid.MustParse(julietJID))
	a := &away{T: t, Server: s, ctx: ctx}
	a.hear(romeo)
	for _, text := range chat(romeoJID, 0, 3) {
		if err := juliet.Raw(ctx, text); err != nil {
			t.Fatal(err)
		}
	}
	var failed *client.StreamError
	asked := false
	for failed == nil {
		e, err := romeo.Conn.Next(ctx) // which answers nothing
		asked = asked || e.Local == "r"
		if err != nil && !errors.As(err, &failed) {
			t.Fatal(err)
		}
	}
	if failed.Condition != stream.ConnectionTimeout || !asked {
		t.Errorf("the stream ends with %v, asked %v", failed, asked)
	}
	romeo.Drop()
	for resume(ctx, s, romeoJID, romeo) != nil && ctx.Err() == nil {
	}
	if got := a.hears(romeo, 3); !slices.Equal(got, numbers(0, 3)) {
		t.Errorf("arrived: %v", got)
	}
}

// TestQueueOverflows: a session for which too much waits ends, whether its client is there or not. The client is told how
// many of its stanzas were handled when it wants to come back, and gets all that it has not got when it comes anew.
func TestQueueOverflows(t *testing.T) {
	t.Parallel()
	const queue = 10
	const many = 15 * queue // enough, too, if the server learns late that the connection is lost
	for _, name := range []string{"lost", "silent"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			s := xmpptest.Start(t, xmpptest.Options{Set: []string{fmt.Sprintf("stream_management.queue=%d", queue), "auth.allow_plaintext=true"}})
			romeo, juliet := managed(ctx, t, s, romeoJID), managed(ctx, t, s, julietJID)
			a := &away{T: t, Server: s, ctx: ctx, romeo: romeo, juliet: juliet}
			a.hear(romeo)
			ended := s.Ended(romeo.JID())
			if name == "lost" {
				romeo.Drop()
			}
			a.say(juliet, chat(romeoJID, 0, many))
			a.hear(juliet)
			<-ended
			romeo.Drop()
			err := resume(ctx, s, romeoJID, romeo)
			if !errors.Is(err, client.ErrNotResumed) || !strings.Contains(err.Error(), "h='2'") { // presence and ping
				t.Errorf("to come back: %v", err)
			}
			a.hear(juliet)
			anew := s.Dial(t, jid.MustParse(romeoJID)) // without stream management, whose queue is too small
			if err := anew.Raw(ctx, []byte("<presence/>"+ping)); err != nil {
				t.Fatal(err)
			}
			var got []int
			for {
				e, err := anew.Next(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if n, ok := body(e); ok {
					got = append(got, n)
				}
				if e.Local == "iq" {
					break
				}
			}
			if !slices.Equal(got, numbers(0, many)) {
				t.Errorf("arrived: %v", got)
			}
		})
	}
}

// TestEndsWhileAway: a session ends while the database is away, and nobody can say whether the account is still there.
// What its client has not got is in the archive, or will be: it waits there, and nobody is told that it did not arrive.
func TestEndsWhileAway(t *testing.T) {
	t.Parallel()
	a := newAway(t, "stream_management.max=1s")
	const kept, all = 20, 40
	a.say(a.juliet, chat(romeoJID, 0, kept))
	a.acknowledged(a.juliet)
	a.wire.Cut()
	a.say(a.juliet, chat("romeo@a.test", kept, all))
	a.hear(a.juliet)
	a.Core().Caches.Forget("accounts", a.romeo.JID().Bare())
	ended := a.Ended(a.romeo.JID())
	a.romeo.Drop()
	<-ended
	a.hear(a.juliet)
	a.wire.Join(t)
	a.acknowledged(a.juliet)
	anew := managed(a.ctx, t, a.Server, "romeo@a.test/anew")
	if got := a.hears(anew, all); !slices.Equal(got, numbers(0, all)) {
		t.Errorf("arrived: %v", got)
	}
	if late := append(a.hear(anew), a.hear(a.juliet)...); len(late) > 0 {
		t.Errorf("arrived late: %v", late)
	}
}

// TestOfflineWhileAway: a message for somebody who is not there waits with its acknowledgement while the database is away,
// if it is known that they have an account. Else it comes back, to be sent again later.
func TestOfflineWhileAway(t *testing.T) {
	t.Parallel()
	a := newAway(t)
	nurse, paris := jid.MustParse("nurse@a.test"), jid.MustParse("paris@a.test")
	for _, who := range []jid.JID{nurse, paris} { // what they wish becomes known
		a.hear(managed(a.ctx, t, a.Server, who.String()+"/gone"))
		full, err := who.WithResource("gone")
		if err != nil {
			t.Fatal(err)
		}
		ended := a.Ended(full)
		a.Core().Sessions.Find(full).End(stream.Err(stream.SystemShutdown, ""))
		<-ended
	}
	a.wire.Cut()
	a.Core().Caches.Forget("accounts", paris)
	a.say(a.romeo, chat(nurse.String(), 0, 5))
	a.hear(a.romeo)
	before := a.romeo.Waiting()
	if err := a.romeo.Ask(a.ctx); err != nil {
		t.Fatal(err)
	}
	a.hear(a.romeo)
	if n := a.romeo.Waiting(); n < before-2 {
		t.Errorf("%d of %d wait", n, before)
	}
	a.say(a.romeo, chat(paris.String(), 7, 8))
	for {
		e, err := a.romeo.Next(a.ctx)
		if err != nil {
			t.Fatal(err)
		}
		if e.Attr("type") != "error" {
			continue
		}
		reason := e.Child(xml.NSClient, "error")
		if e.Attr("id") != "7" || e.Attr("from") != paris.String() || reason.Attr("type") != "wait" {
			t.Errorf("got %s", e)
		}
		break
	}
	a.wire.Join(t)
	a.acknowledged(a.romeo)
	late := managed(a.ctx, t, a.Server, "nurse@a.test/room")
	if got := a.hears(late, 5); !slices.Equal(got, numbers(0, 5)) {
		t.Errorf("arrived: %v", got)
	}
}

// TestStrangersWhileAway: people whose wishes nobody has asked for yet hear each other though the database is away.
func TestStrangersWhileAway(t *testing.T) {
	t.Parallel()
	a := newAway(t)
	a.wire.Cut()
	a.say(a.romeo, chat("juliet@a.test", 0, 3))
	a.say(a.juliet, chat(romeoJID, 0, 3))
	for _, m := range []*client.Managed{a.juliet, a.romeo} {
		if got := a.hears(m, 3); !slices.Equal(got, numbers(0, 3)) {
			t.Errorf("arrived: %v", got)
		}
	}
	a.wire.Join(t)
	a.acknowledged(a.romeo)
}
