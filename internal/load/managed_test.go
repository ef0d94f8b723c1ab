package load

import (
	"net"
	"strings"
	"testing"
	"time"
)

// TestTake: what the server sends of stream management is taken out from between the messages, however it comes in pieces.
func TestTake(t *testing.T) {
	const ask, ack = "<r xmlns='urn:xmpp:sm:3'/>", "<a xmlns='urn:xmpp:sm:3' h='7'/>"
	_, message := fixture(t)
	cases := []struct {
		name  string
		in    string
		asked bool
		acked uint64
	}{
		{"nothing", message(0) + message(1), false, 0},
		{"asked", message(0) + ask + message(1), true, 0},
		{"asked at the end", message(0) + message(1) + ask, true, 0},
		{"asked at first", ask + message(0) + message(1), true, 0},
		{"acknowledged", message(0) + ack + message(1), false, 5},
		{"both", ack + message(0) + ask + message(1) + ack + ask, true, 5},
		{"in other quotes", message(0) + `<a h="7" xmlns="urn:xmpp:sm:3"/>` + message(1), false, 5},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, step := range []int{1, 7, len(c.in)} {
				r, _ := fixture(t)
				r.sm = &management{received: 3, before: 2}
				got, rest := 0, []byte(nil)
				for at := 0; at < len(c.in); at += step {
					rest = append(rest, c.in[at:min(at+step, len(c.in))]...)
					used, stanzas := r.scan(rest)
					rest, got = rest[used:], got+stanzas
				}
				if faults := r.faults.tally(); got != 2 || r.sm.received != 5 || faults.Total() != 0 {
					t.Errorf("in steps of %d: %d messages, %d stanzas, %+v", step, got, r.sm.received, faults)
				}
				if r.sm.asked != c.asked || r.sm.acked.Load() != c.acked {
					t.Errorf("in steps of %d: asked %t, acknowledged %d", step, r.sm.asked, r.sm.acked.Load())
				}
			}
		})
	}
}

// TestAnswer: the server is answered once for each time that it asked, before what is sent next.
func TestAnswer(t *testing.T) {
	l := &link{ackWaits: true}
	if got := string(l.framed([]byte("x"), true)); got != "x" {
		t.Errorf("without stream management %q is sent", got)
	}
	l.in.sm = &management{received: 9, asked: true}
	const answer = "<a xmlns='urn:xmpp:sm:3' h='9'/>"
	if got := string(l.framed([]byte("x"), false)); got != answer+"x" {
		t.Errorf("when asked %q is sent", got)
	}
	if got := string(l.framed([]byte("x"), true)); got != "x"+request {
		t.Errorf("at the end %q is sent", got)
	}
	l.in.sm.asked, l.ackWaits = true, false
	if got := string(l.framed([]byte("x"), false)); got != "x" {
		t.Errorf("from another goroutine %q is sent", got)
	}
}

// TestUnacknowledged: what the server never acknowledges is a fault, and it was asked for it.
func TestUnacknowledged(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	asked := make(chan string, 1)
	go func() {
		b := make([]byte, len(request))
		n, _ := there.Read(b)
		asked <- string(b[:n])
		there.Close()
	}()
	l := &link{nc: here}
	l.in.sm = &management{}
	l.sent.Store(5)
	l.in.sm.acked.Store(3)
	g := &generator{cfg: &Config{Drain: time.Millisecond}, links: []*link{l}, faults: &faults{}, report: &Report{}}
	tr := &traffic{g: g}
	tr.running.Store(1)
	tr.acknowledged()
	if got := g.faults.tally(); got.Unacknowledged != 2 || got.Total() != 2 {
		t.Errorf("the faults are %+v", got)
	}
	if got := <-asked; got != request {
		t.Errorf("the server was sent %q", got)
	}
	l.in.sm.acked.Store(5)
	g.faults = &faults{}
	tr.acknowledged()
	if got := g.faults.tally(); got.Total() != 0 {
		t.Errorf("all is acknowledged, and the faults are %+v", got)
	}
}

func TestMarked(t *testing.T) {
	_, message := fixture(t)
	if sender, number, ok := Marked(message(0x2a)); !ok || sender != 1 || number != 0x2a {
		t.Errorf("message %d of %d, %t", number, sender, ok)
	}
	for _, bad := range []string{"", "hello", "~", "~00000001-0000", "~0000000x-00000000~", strings.Repeat("~", 40)} {
		if _, _, ok := Marked(bad); ok {
			t.Errorf("a mark was found in %q", bad)
		}
	}
}
