// Package bustest holds what every Bus must do, as tests.
package bustest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/starling-im/starling/cluster/internal/bus"
)

// Harness makes buses of one engine for the tests.
type Harness struct {
	// Bubble runs fn in the kind of time the engine needs: fake time for an engine without sockets. Nil runs it as it is.
	Bubble func(t *testing.T, fn func(t *testing.T))
	// Open returns n buses of one cluster that see each other, or will soon. They are closed at the end of the test by
	// the harness, if the test did not do so.
	Open func(t *testing.T, n int) []bus.Bus
	// Lossy says that the engine drops, doubles or delays messages on purpose; tests that need all of them are left out.
	Lossy bool
}

// patience bounds what should happen at once.
const patience = 20 * time.Second

// Run runs all tests.
func Run(t *testing.T, h Harness) {
	tests := []struct {
		name string
		fn   func(t *testing.T, h Harness)
	}{
		{"order", testOrder},
		{"broadcast", testBroadcast},
		{"lanes", testLanes},
		{"wildcard", testWildcard},
		{"cancel", testCancel},
		{"buffer reuse", testReuse},
		{"sizes", testSizes},
		{"request", testRequest},
		{"no responders", testNoResponders},
		{"request deadline", testDeadline},
		{"requests side by side", testConcurrent},
		{"close", testClose},
		{"respond ends with the bus", testRespondClose},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			run := func(t *testing.T) { test.fn(t, h) }
			if h.Bubble == nil {
				run(t)
				return
			}
			h.Bubble(t, run)
		})
	}
}

var warm = []byte("warm")

// sink collects the messages of a subscription, without those that only find out whether it works.
type sink struct {
	warm chan struct{}
	got  chan bus.Message
}

func subscribe(t *testing.T, b bus.Bus, lane bus.Lane, subject string) *sink {
	t.Helper()
	s := &sink{make(chan struct{}, 1), make(chan bus.Message, 1<<16)}
	cancel, err := b.Subscribe(lane, subject, func(m bus.Message) {
		if bytes.Equal(m.Data, warm) {
			select {
			case s.warm <- struct{}{}:
			default:
			}
			return
		}
		s.got <- m
	})
	if err != nil {
		t.Fatalf("subscribe to %s: %v", subject, err)
	}
	t.Cleanup(cancel)
	return s
}

// reach publishes until the sink hears it: subscriptions take a while to spread.
func reach(t *testing.T, b bus.Bus, lane bus.Lane, subject string, s *sink) {
	t.Helper()
	deadline, again := time.After(patience), time.NewTicker(10*time.Millisecond)
	defer again.Stop()
	for {
		if err := b.Publish(lane, subject, warm); err != nil {
			t.Fatalf("publish to %s: %v", subject, err)
		}
		select {
		case <-s.warm:
			return
		case <-again.C:
		case <-deadline:
			t.Fatalf("nothing published to %s arrives", subject)
		}
	}
}

func (s *sink) next(t *testing.T) bus.Message {
	t.Helper()
	select {
	case m := <-s.got:
		return m
	case <-time.After(patience):
		t.Fatal("message is missing")
	}
	panic("unreachable")
}

func (s *sink) quiet(t *testing.T) {
	t.Helper()
	select {
	case m := <-s.got:
		t.Fatalf("unexpected message on %s", m.Subject)
	default:
	}
}

func publish(t *testing.T, b bus.Bus, lane bus.Lane, subject string, data []byte) {
	t.Helper()
	if err := b.Publish(lane, subject, data); err != nil {
		t.Fatalf("publish to %s: %v", subject, err)
	}
}

func testOrder(t *testing.T, h Harness) {
	if h.Lossy {
		t.Skip("engine loses messages on purpose")
	}
	bs := h.Open(t, 2)
	for _, lane := range []bus.Lane{bus.Control, bus.Data} {
		subject := "v1.test.order." + lane.String()
		s := subscribe(t, bs[1], lane, subject)
		reach(t, bs[0], lane, subject, s)
		const n = 5000
		for i := range n {
			publish(t, bs[0], lane, subject, binary.BigEndian.AppendUint32(nil, uint32(i)))
		}
		for i := range n {
			if got := binary.BigEndian.Uint32(s.next(t).Data); got != uint32(i) {
				t.Fatalf("%s: message %d arrived as number %d", lane, got, i)
			}
		}
	}
}

func testBroadcast(t *testing.T, h Harness) {
	if h.Lossy {
		t.Skip("engine loses messages on purpose")
	}
	bs := h.Open(t, 3)
	const subject = "v1.test.all"
	var sinks []*sink
	for _, b := range bs {
		sinks = append(sinks, subscribe(t, b, bus.Control, subject))
	}
	for _, s := range sinks {
		reach(t, bs[0], bus.Control, subject, s)
	}
	publish(t, bs[0], bus.Control, subject, []byte("hello"))
	for i, s := range sinks { // the sender's own subscription, too
		if m := s.next(t); string(m.Data) != "hello" || m.Subject != subject {
			t.Errorf("bus %d got %q on %s", i, m.Data, m.Subject)
		}
	}
}

// testLanes: a subscription hears its own lane only.
func testLanes(t *testing.T, h Harness) {
	if h.Lossy {
		t.Skip("engine loses messages on purpose")
	}
	bs := h.Open(t, 2)
	const subject = "v1.test.lane"
	control, data := subscribe(t, bs[1], bus.Control, subject), subscribe(t, bs[1], bus.Data, subject)
	reach(t, bs[0], bus.Control, subject, control)
	reach(t, bs[0], bus.Data, subject, data)
	publish(t, bs[0], bus.Control, subject, []byte("c"))
	publish(t, bs[0], bus.Data, subject, []byte("d"))
	if m := control.next(t); string(m.Data) != "c" {
		t.Errorf("control lane got %q", m.Data)
	}
	if m := data.next(t); string(m.Data) != "d" {
		t.Errorf("data lane got %q", m.Data)
	}
	control.quiet(t)
	data.quiet(t)
}

func testWildcard(t *testing.T, h Harness) {
	if h.Lossy {
		t.Skip("engine loses messages on purpose")
	}
	bs := h.Open(t, 2)
	s := subscribe(t, bs[1], bus.Data, "v1.test.l.me.*.*")
	reach(t, bs[0], bus.Data, "v1.test.l.me.you.s", s)
	publish(t, bs[0], bus.Data, "v1.test.l.other.you.s", []byte("not this"))
	publish(t, bs[0], bus.Data, "v1.test.l.me.you", []byte("nor this"))
	publish(t, bs[0], bus.Data, "v1.test.l.me.you.b", []byte("this"))
	if m := s.next(t); string(m.Data) != "this" || m.Subject != "v1.test.l.me.you.b" {
		t.Errorf("got %q on %s", m.Data, m.Subject)
	}
}

func testCancel(t *testing.T, h Harness) {
	bs := h.Open(t, 1)
	const subject = "v1.test.cancel"
	var calls atomic.Int64
	cancel, err := bs[0].Subscribe(bus.Control, subject, func(bus.Message) { calls.Add(1) })
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	cancel() // a second call does nothing
	s := subscribe(t, bs[0], bus.Control, subject)
	reach(t, bs[0], bus.Control, subject, s)
	if n := calls.Load(); n != 0 {
		t.Errorf("%d calls after cancel", n)
	}
}

// testReuse: the publisher may overwrite its buffer, the receiver may keep the message.
func testReuse(t *testing.T, h Harness) {
	if h.Lossy {
		t.Skip("engine loses messages on purpose")
	}
	bs := h.Open(t, 2)
	const subject = "v1.test.reuse"
	s := subscribe(t, bs[1], bus.Data, subject)
	reach(t, bs[0], bus.Data, subject, s)
	buf := make([]byte, 4)
	for i := range 100 {
		binary.BigEndian.PutUint32(buf, uint32(i))
		publish(t, bs[0], bus.Data, subject, buf)
	}
	var kept []bus.Message
	for range 100 {
		kept = append(kept, s.next(t))
	}
	for i, m := range kept {
		if got := binary.BigEndian.Uint32(m.Data); got != uint32(i) {
			t.Fatalf("message %d reads %d", i, got)
		}
	}
}

func testSizes(t *testing.T, h Harness) {
	bs := h.Open(t, 2)
	most := bs[0].MaxPayload()
	if most < 1<<20 {
		t.Fatalf("MaxPayload is %d, less than 1 MiB", most)
	}
	const subject = "v1.test.size"
	if err := bs[0].Publish(bus.Data, subject, make([]byte, most+1)); !errors.Is(err, bus.ErrTooBig) {
		t.Errorf("publishing too much: %v", err)
	}
	if _, err := bs[0].Request(t.Context(), subject, make([]byte, most+1)); !errors.Is(err, bus.ErrTooBig) {
		t.Errorf("requesting with too much: %v", err)
	}
	if h.Lossy {
		return
	}
	s := subscribe(t, bs[1], bus.Data, subject)
	reach(t, bs[0], bus.Data, subject, s)
	for _, n := range []int{0, 1, 65536, most} {
		data := bytes.Repeat([]byte{0xA5}, n)
		publish(t, bs[0], bus.Data, subject, data)
		if m := s.next(t); !bytes.Equal(m.Data, data) {
			t.Errorf("%d bytes arrive as %d others", n, len(m.Data))
		}
	}
}

// request repeats a request while the responder has not spread.
func request(ctx context.Context, b bus.Bus, subject string, data []byte) ([]byte, error) {
	deadline, again := time.After(patience), time.NewTicker(10*time.Millisecond)
	defer again.Stop()
	for {
		answer, err := b.Request(ctx, subject, data)
		if !errors.Is(err, bus.ErrNoResponders) {
			return answer, err
		}
		select {
		case <-again.C:
		case <-deadline:
			return nil, err
		}
	}
}

func respond(t *testing.T, b bus.Bus, subject string, fn func(context.Context, []byte) []byte) {
	t.Helper()
	cancel, err := b.Respond(subject, fn)
	if err != nil {
		t.Fatalf("respond to %s: %v", subject, err)
	}
	t.Cleanup(cancel)
}

func testRequest(t *testing.T, h Harness) {
	if h.Lossy {
		t.Skip("engine loses messages on purpose")
	}
	bs := h.Open(t, 2)
	respond(t, bs[1], "v1.test.t.b.*", func(_ context.Context, data []byte) []byte { return append([]byte("re:"), data...) })
	for _, subject := range []string{"v1.test.t.b.x", "v1.test.t.b.y"} {
		answer, err := request(t.Context(), bs[0], subject, []byte("hi"))
		if err != nil || string(answer) != "re:hi" {
			t.Errorf("request on %s: %q, %v", subject, answer, err)
		}
	}
	answer, err := request(t.Context(), bs[1], "v1.test.t.b.x", nil) // own responder, nothing to say
	if err != nil || string(answer) != "re:" {
		t.Errorf("request to itself: %q, %v", answer, err)
	}
}

func testNoResponders(t *testing.T, h Harness) {
	bs := h.Open(t, 2)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	start := time.Now()
	if _, err := bs[0].Request(ctx, "v1.test.nobody", nil); !errors.Is(err, bus.ErrNoResponders) {
		t.Errorf("request to nobody: %v", err)
	}
	if d := time.Since(start); d > patience/2 {
		t.Errorf("took %v to learn that nobody responds", d)
	}
}

func testDeadline(t *testing.T, h Harness) {
	if h.Lossy {
		t.Skip("engine loses messages on purpose")
	}
	bs := h.Open(t, 2)
	const subject = "v1.test.slow"
	respond(t, bs[1], subject, func(ctx context.Context, data []byte) []byte {
		if len(data) > 0 {
			<-ctx.Done()
		}
		return nil
	})
	if _, err := request(t.Context(), bs[0], subject, nil); err != nil {
		t.Fatalf("quick request: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := bs[0].Request(ctx, subject, []byte("slow")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("slow request: %v", err)
	}
}

// testConcurrent: one blocked request does not hold up others.
func testConcurrent(t *testing.T, h Harness) {
	if h.Lossy {
		t.Skip("engine loses messages on purpose")
	}
	bs := h.Open(t, 2)
	const subject, n = "v1.test.side", 8
	var inside atomic.Int64
	all := make(chan struct{})
	respond(t, bs[1], subject, func(ctx context.Context, data []byte) []byte {
		if len(data) == 0 {
			return nil
		}
		if inside.Add(1) == n {
			close(all)
		}
		select {
		case <-all:
		case <-ctx.Done():
		}
		return data
	})
	if _, err := request(t.Context(), bs[0], subject, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			want := fmt.Sprint("request ", i)
			if answer, err := bs[0].Request(ctx, subject, []byte(want)); err != nil || string(answer) != want {
				t.Errorf("%s: %q, %v", want, answer, err)
			}
		})
	}
	wg.Wait()
}

func testClose(t *testing.T, h Harness) {
	bs := h.Open(t, 2)
	if err := bs[0].Close(t.Context()); err != nil {
		t.Fatalf("close: %v", err)
	}
	if err := bs[0].Close(t.Context()); err != nil {
		t.Errorf("second close: %v", err)
	}
	if err := bs[0].Publish(bus.Control, "v1.test.x", nil); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("publish: %v", err)
	}
	if _, err := bs[0].Subscribe(bus.Control, "v1.test.x", func(bus.Message) {}); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("subscribe: %v", err)
	}
	if _, err := bs[0].Request(t.Context(), "v1.test.x", nil); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("request: %v", err)
	}
	if _, err := bs[0].Respond("v1.test.x", func(context.Context, []byte) []byte { return nil }); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("respond: %v", err)
	}
	s := subscribe(t, bs[1], bus.Control, "v1.test.y") // the other one is not affected
	reach(t, bs[1], bus.Control, "v1.test.y", s)
}

// testRespondClose: closing ends the contexts of responders and waits for them.
func testRespondClose(t *testing.T, h Harness) {
	bs := h.Open(t, 1)
	const subject = "v1.test.last"
	started, ended := make(chan struct{}), make(chan struct{})
	respond(t, bs[0], subject, func(ctx context.Context, _ []byte) []byte {
		close(started)
		<-ctx.Done()
		close(ended)
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = bs[0].Request(ctx, subject, nil) })
	select {
	case <-started:
	case <-ctx.Done():
		t.Fatal("request did not arrive")
	}
	if err := bs[0].Close(ctx); err != nil {
		t.Fatalf("close: %v", err)
	}
	select {
	case <-ended:
	default:
		t.Error("the responder still runs after Close")
	}
	cancel()
	wg.Wait()
}
