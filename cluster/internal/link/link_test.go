package link_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/starling-im/starling/cluster/internal/bus"
	"github.com/starling-im/starling/cluster/internal/frame"
	"github.com/starling-im/starling/cluster/internal/link"
	"github.com/starling-im/starling/cluster/internal/mem"
)

const window = 64 << 10

// end is one end of a link over the engine.
type end struct {
	*link.Link
	bus  bus.Bus
	peer string
	sink *sink

	acked func() // is called for each acknowledgement that comes; may be nil
}

func (e *end) Frame(b []byte) error { return e.bus.Publish(bus.Data, "l."+e.peer, b) }
func (e *end) Ack(b []byte) error   { return e.bus.Publish(bus.Control, "la."+e.peer, b) }

// sink keeps what was applied.
type sink struct {
	mu      sync.Mutex // guards what follows
	got     [][]byte
	kinds   []frame.RecordKind
	slow    time.Duration
	block   chan struct{} // Apply waits for it, if it is there
	reached uint64
}

func (s *sink) set(slow time.Duration, block chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slow, s.block = slow, block
}

func (s *sink) Apply(k frame.RecordKind, body []byte) {
	s.mu.Lock()
	slow, block := s.slow, s.block
	s.mu.Unlock()
	if block != nil {
		<-block
	}
	time.Sleep(slow)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got, s.kinds = append(s.got, body), append(s.kinds, k)
}

func (s *sink) Wait(seq uint64, _ <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reached = seq
}

func (s *sink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

// pair links a and b.
func pair(t *testing.T, e *mem.Engine, source link.Source) (a, b *end) {
	t.Helper()
	open := func(name, peer string, self, other uint64, src link.Source) *end {
		bs, err := e.Open(t.Context(), bus.Identity{ID: name, Name: name}, nil)
		if err != nil {
			t.Fatal(err)
		}
		x := &end{bus: bs, peer: peer, sink: &sink{}}
		x.Link = link.New(link.Config{Self: self, Peer: other, Epoch: 1, Window: window, Carrier: x, Source: src, Sink: x.sink})
		_, err = bs.Subscribe(bus.Data, "l."+name, func(m bus.Message) {
			h, rs, err := frame.ParseLink(m.Data)
			if err != nil || h.From != other || h.To != self || h.Epoch != 1 {
				t.Errorf("frame %+v, %v", h, err)
			}
			x.OnFrame(h, rs)
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = bs.Subscribe(bus.Control, "la."+name, func(m bus.Message) {
			ack, err := frame.ParseAck(m.Data)
			if err != nil {
				t.Error(err)
			}
			if x.acked != nil {
				x.acked()
			}
			x.OnAck(ack)
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			x.Close()
			x.Done()
			_ = bs.Close(context.Background())
		})
		return x
	}
	return open("a", "b", 1, 2, source), open("b", "a", 2, 1, nil)
}

// until waits in fake time.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 60000 {
		synctest.Wait()
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("not within ten minutes: %s", what)
}

func number(i, size int) []byte {
	b := make([]byte, max(size, 4))
	binary.BigEndian.PutUint32(b, uint32(i))
	for j := 4; j < len(b); j++ {
		b[j] = byte(i + j)
	}
	return b
}

// TestRandom is the model: whatever the carrier does, the other end applies what was sent, in order, once.
func TestRandom(t *testing.T) {
	seeds := 40
	if testing.Short() {
		seeds = 10
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { random(t, seed) })
		})
	}
}

func random(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	e := mem.New(mem.Options{Seed: seed, Loss: rng.Float64() * 0.4, Duplicate: rng.Float64() * 0.4, MaxDelay: time.Duration(rng.IntN(40)) * time.Millisecond})
	a, b := pair(t, e, nil)
	b.sink.set(time.Duration(rng.IntN(3))*100*time.Microsecond, nil)
	const n = 800
	var wg sync.WaitGroup
	for _, from := range []*end{a, b} {
		sizes := rand.New(rand.NewPCG(seed, 1))
		wg.Go(func() {
			for i := range n {
				size := sizes.IntN(300)
				if sizes.IntN(100) == 0 {
					size = sizes.IntN(2 * window)
				}
				if err := from.Send(t.Context(), frame.ChannelMsg, number(i, size)); err != nil {
					t.Errorf("send %d: %v", i, err)
					return
				}
				if s := from.Stats(); s.Unacked > 2*window+2048 && s.Unacked > size+window {
					t.Errorf("%d bytes unacknowledged with a window of %d", s.Unacked, window)
				}
			}
		})
	}
	for range rng.IntN(4) { // faults
		time.Sleep(time.Duration(rng.IntN(500)) * time.Millisecond)
		switch rng.IntN(4) {
		case 0:
			e.Partition([]string{"a"}, []string{"b"})
		case 1:
			e.Cut("a", "b")
		case 2:
			e.Hold("b", "a")
		case 3:
			e.Pause("b")
		}
		time.Sleep(time.Duration(rng.IntN(15000)) * time.Millisecond)
		e.Resume("b")
		e.HealAll()
	}
	wg.Wait()
	until(t, "all is applied and acknowledged", func() bool {
		return a.sink.count() >= n && b.sink.count() >= n && a.Stats().Unacked == 0 && b.Stats().Unacked == 0
	})
	for _, x := range []*end{a, b} {
		if x.sink.count() != n {
			t.Fatalf("%d records applied of %d sent", x.sink.count(), n)
		}
		for i, got := range x.sink.got {
			if !bytes.Equal(got, number(i, len(got))) {
				t.Fatalf("record %d: %d bytes that begin with %x", i, len(got), got[:4])
			}
		}
	}
}

// TestWindow: a peer that applies nothing holds back senders, up to their deadline, and memory stays bounded; posts
// get through all the same.
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t, mem.New(mem.Options{}), nil)
		block := make(chan struct{})
		b.sink.set(0, block)
		sent := 0
		for {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err := a.Send(ctx, frame.ChannelMsg, number(sent, 1000))
			cancel()
			if errors.Is(err, context.DeadlineExceeded) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if sent++; sent > 1000 {
				t.Fatal("the window does not close")
			}
		}
		if s := a.Stats(); s.Unacked > window || s.Full != 1 || s.Waiting != 0 {
			t.Errorf("stats %+v", s)
		}
		if err := a.Post(frame.ChannelMsg, number(sent, 1000)); err != nil {
			t.Errorf("post: %v", err)
		}
		if d := a.Stalled(); d < time.Second {
			t.Errorf("stalled for %v", d)
		}
		close(block)
		until(t, "the rest is applied", func() bool { return b.sink.count() == sent+1 && a.Stats().Unacked == 0 })
		if d := a.Stalled(); d != 0 {
			t.Errorf("still stalled for %v", d)
		}
	})
}

// TestPostFull: what must not wait is refused at last.
func TestPostFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := mem.New(mem.Options{})
		e.Cut("a", "b")
		a, _ := pair(t, e, nil)
		for i := 0; ; i++ {
			if err := a.Post(frame.ChannelMsg, number(i, 100_000)); errors.Is(err, link.ErrFull) {
				break
			} else if err != nil || i > 100 {
				t.Fatalf("post %d: %v", i, err)
			}
		}
	})
}

// TestClose: everything that was not acknowledged comes back, in order, whole, and those who wait are told.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := mem.New(mem.Options{})
		a, b := pair(t, e, nil)
		if err := a.Send(t.Context(), frame.ChannelMsg, number(0, 10)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		e.Cut("a", "b")
		want := [][]byte{number(1, 10), number(2, 700_000), number(3, 10)}
		waiting := make(chan error)
		go func() {
			for _, r := range want[:2] {
				_ = a.Post(frame.ChannelMsg, r)
			}
			_ = a.Send(t.Context(), frame.ChannelMsg, want[2])
			waiting <- a.Send(t.Context(), frame.ChannelMsg, make([]byte, 2*window)) // does not fit any more
		}()
		synctest.Wait()
		back := a.Close()
		if err := <-waiting; !errors.Is(err, link.ErrClosed) {
			t.Errorf("waiting sender got %v", err)
		}
		if len(back) != len(want) {
			t.Fatalf("%d records handed back, want %d", len(back), len(want))
		}
		for i, r := range back {
			if r.Kind != frame.ChannelMsg || !bytes.Equal(r.Body, want[i]) {
				t.Errorf("record %d: kind %d, %d bytes", i, r.Kind, len(r.Body))
			}
		}
		if n := b.sink.count(); n != 1 {
			t.Errorf("%d records applied", n)
		}
		if again := a.Close(); again != nil {
			t.Errorf("a second Close hands back %d records", len(again))
		}
		if err := a.Send(t.Context(), frame.ChannelMsg, nil); !errors.Is(err, link.ErrClosed) {
			t.Errorf("send: %v", err)
		}
	})
}

// TestBig: the largest record crosses, a larger one is refused.
func TestBig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t, mem.New(mem.Options{Seed: 1, Loss: 0.05}), nil)
		want := number(7, frame.MaxRecord)
		if err := a.Send(t.Context(), frame.ChannelMsg, want); err != nil {
			t.Fatal(err)
		}
		if err := a.Send(t.Context(), frame.ChannelMsg, make([]byte, frame.MaxRecord+1)); !errors.Is(err, link.ErrTooBig) {
			t.Errorf("too big: %v", err)
		}
		until(t, "arrival", func() bool { return b.sink.count() == 1 })
		if !bytes.Equal(b.sink.got[0], want) {
			t.Error("other bytes arrived")
		}
	})
}

// TestProbe: after an outage the first lost frame goes alone, and not all of them every second.
func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := mem.New(mem.Options{MinDelay: time.Millisecond})
		a, b := pair(t, e, nil)
		e.Cut("a", "b")
		for i := range 50 {
			if err := a.Send(t.Context(), frame.ChannelMsg, number(i, 1000)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		time.Sleep(15 * time.Second)
		if s := a.Stats(); s.Resent > 20 {
			t.Errorf("%d frames sent again during the outage", s.Resent)
		}
		e.HealAll()
		start := time.Now()
		until(t, "repair", func() bool { return b.sink.count() == 50 })
		if d := time.Since(start); d > 1200*time.Millisecond {
			t.Errorf("repair took %v", d)
		}
	})
}

// TestHurry: what was lost comes soon after the carrier works again.
func TestHurry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := mem.New(mem.Options{})
		a, b := pair(t, e, nil)
		e.Cut("a", "b")
		if err := a.Send(t.Context(), frame.ChannelMsg, number(1, 0)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10*time.Second + time.Millisecond) // the pauses between attempts have grown to a second
		e.HealAll()
		a.Hurry()
		start := time.Now()
		until(t, "what was lost is there", func() bool { return b.sink.count() == 1 })
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

// TestHold: nothing leaves while the link is held.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t, mem.New(mem.Options{}), nil)
		a.Hold(true)
		if err := a.Send(t.Context(), frame.ChannelMsg, number(0, 10)); err != nil {
			t.Fatal(err)
		}
		if err := b.Send(t.Context(), frame.ChannelMsg, number(0, 10)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if b.sink.count() != 0 || b.Stats().Unacked == 0 || a.Stalled() != 0 {
			t.Error("something left")
		}
		a.Hold(false)
		until(t, "arrival", func() bool { return b.sink.count() == 1 && b.Stats().Unacked == 0 })
	})
}

// counter is a source of numbered changes.
type counter struct {
	mu         sync.Mutex
	head, sent uint64
}

func (c *counter) put() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.head++
}

func (c *counter) Pull(most int) ([]byte, uint64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if most == 0 || c.head == c.sent {
		return nil, c.sent, c.head > c.sent
	}
	stop := min(c.head, c.sent+3)
	b := binary.BigEndian.AppendUint64(nil, stop)
	c.sent = stop
	return b, stop, c.head > c.sent
}

// TestSource: a change made before a record was appended arrives before the record, with a frame that says so.
func TestSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &counter{}
		e := mem.New(mem.Options{Seed: 3, Loss: 0.2, MaxDelay: 5 * time.Millisecond})
		a, b := pair(t, e, src)
		for i := range 500 {
			src.put()
			if err := a.Send(t.Context(), frame.ChannelMsg, binary.BigEndian.AppendUint64(nil, uint64(i+1))); err != nil {
				t.Fatal(err)
			}
		}
		src.put()
		a.Wake()
		until(t, "arrival", func() bool { return b.sink.count() > 500 && a.Stats().Unacked == 0 })
		var at uint64
		for i, body := range b.sink.got {
			v := binary.BigEndian.Uint64(body)
			if b.sink.kinds[i] == frame.Delta {
				at = v
			} else if at < v {
				t.Fatalf("record %d is applied when the table is at %d", v, at)
			}
		}
		if at != 501 || b.sink.reached != 500 && b.sink.reached != 501 {
			t.Errorf("the table ends at %d, the last record waited for %d", at, b.sink.reached)
		}
	})
}

// TestPause: what may wait is collected while there is much of it, and goes at once while there is little.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 1000
		a, b := pair(t, mem.New(mem.Options{Seed: 5}), nil)
		var acks atomic.Int64
		a.acked = func() { acks.Add(1) }
		post := func(k int) {
			if err := b.Post(frame.ChannelMsg, number(k, 20)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		began := time.Now()
		post(0)
		until(t, "arrival of a post", func() bool { return a.sink.count() == 1 })
		if late := time.Since(began); late >= 2*time.Millisecond {
			t.Errorf("a single post arrives after %v", late)
		}
		for i := range n {
			post(i + 1)
			if err := a.Send(t.Context(), frame.ChannelMsg, number(i, 20)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Microsecond)
		}
		until(t, "arrival", func() bool { return a.sink.count() == n+1 && b.sink.count() == n && a.Stats().Unacked == 0 })
		until(t, "acknowledgement of posts", func() bool { return b.Stats().Unacked == 0 })
		if got := b.Stats().Sent; got > n/10 {
			t.Errorf("%d posts left in %d frames", n, got)
		}
		if got := acks.Load(); got > n/10 {
			t.Errorf("%d frames had %d acknowledgements", a.Stats().Sent, got)
		}
	})
}

// BenchmarkLink measures a record through both ends, without a network.
func BenchmarkLink(b *testing.B) {
	for _, size := range []int{300} {
		b.Run(fmt.Sprint(size, " bytes"), func(b *testing.B) {
			var ends [2]*link.Link
			done := make(chan struct{})
			for i := range ends {
				c := &wire{ends: &ends, to: 1 - i}
				s := &counting{left: -1, done: done}
				if i == 1 {
					s.left = b.N
				}
				ends[i] = link.New(link.Config{Self: uint64(i + 1), Peer: uint64(2 - i), Epoch: 1, Window: 4 << 20, Carrier: c, Sink: s})
			}
			body := make([]byte, size)
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				if err := ends[0].Send(context.Background(), frame.ChannelMsg, body); err != nil {
					b.Fatal(err)
				}
			}
			<-done
			b.StopTimer()
			for _, l := range ends {
				l.Close()
				l.Done()
			}
		})
	}
}

type wire struct {
	ends *[2]*link.Link
	to   int
}

func (w *wire) Frame(b []byte) error {
	h, rs, err := frame.ParseLink(b)
	w.ends[w.to].OnFrame(h, rs)
	return err
}

func (w *wire) Ack(b []byte) error {
	a, err := frame.ParseAck(b)
	w.ends[w.to].OnAck(a)
	return err
}

type counting struct {
	left int
	done chan struct{}
}

func (c *counting) Apply(frame.RecordKind, []byte) {
	if c.left--; c.left == 0 {
		close(c.done)
	}
}

func (c *counting) Wait(uint64, <-chan struct{}) {}
