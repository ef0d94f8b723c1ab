package router

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

func ping(id string) *stanza.Stanza {
	return stanza.NewIQ(stanza.Get, id, jid.MustParse("a.test"), jid.MustParse("juliet@a.test/chamber"), xml.New("urn:xmpp:ping", "ping"))
}

func TestReplied(t *testing.T) {
	for _, c := range []struct {
		name, reply string
		want        bool
	}{
		{"result", `<iq from='juliet@a.test/chamber' to='a.test' type='result' id='q'/>`, true},
		{"error", `<iq from='juliet@a.test/chamber' to='a.test' type='error' id='q'/>`, true},
		{"another id", `<iq from='juliet@a.test/chamber' to='a.test' type='result' id='p'/>`, false},
		{"another sender", `<iq from='juliet@a.test/balcony' to='a.test' type='result' id='q'/>`, false},
		{"another recipient", `<iq from='juliet@a.test/chamber' to='b.test' type='result' id='q'/>`, false},
		{"a presence", `<presence from='juliet@a.test/chamber' to='a.test' type='error' id='q'/>`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &Router{asked: newAsked(prometheus.NewRegistry())}
			t.Cleanup(func() { // or it is given up after the test
				for key := range r.asked.open {
					r.asked.take(key)
				}
			})
			n := 0
			r.asked.enter(ping("q"), func(_ context.Context, reply *stanza.Stanza) {
				if n++; reply == nil {
					t.Error("no reply")
				}
			})
			reply, err := stanza.Decode(c.reply)
			if err != nil {
				t.Fatal(err)
			}
			r.replied(t.Context(), reply)
			r.replied(t.Context(), reply)
			if (n == 1) != c.want || n > 1 {
				t.Errorf("called %d times", n)
			}
		})
	}
}

func TestUnanswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAsked(prometheus.NewRegistry())
		var given atomic.Int32
		a.enter(ping("q"), func(_ context.Context, reply *stanza.Stanza) {
			if given.Add(1); reply != nil {
				t.Error("a reply")
			}
		})
		time.Sleep(askTimeout - time.Second)
		synctest.Wait()
		if given.Load() != 0 {
			t.Error("given up too early")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if given.Load() != 1 || len(a.open) != 0 {
			t.Errorf("given up %d times, %d are left", given.Load(), len(a.open))
		}
	})
}

func TestTooManyAsked(t *testing.T) {
	a := newAsked(prometheus.NewRegistry())
	for i := range maxAsked {
		a.open[askKey{id: strconv.Itoa(i)}] = &question{}
	}
	if a.enter(ping("q"), nil) {
		t.Error("one too many")
	}
}
