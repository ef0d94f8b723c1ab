// Package link carries records from one node to another in order, each once, over a carrier that may lose, double and
// delay frames. A record is acknowledged after it was applied. What is not acknowledged stays with the sender, at most
// a window of it: then senders wait. When the link ends, what was not acknowledged is handed back.
//
// A link belongs to one pair of incarnations and one epoch of that pair; its owner gives it only frames of these. Both
// directions of the pair are one Link, with two goroutines: one sends, one applies.
package link

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/starling-im/starling/cluster/internal/frame"
)

const (
	frameSize = 64 << 10  // a frame is closed when it has got this long
	pieceSize = 256 << 10 // longer records are cut
	deltaRoom = 1 << 20   // unacknowledged deltas, beside the window
	postRoom  = 4 << 20   // unacknowledged posts, beside the window
	ackEvery  = 256 << 10 // applied bytes after which the sender is told at once
	maxBurst  = 64        // frames sent again at a time

	// What may wait a little goes at once while there is little of it, and is collected while there is much: every message
	// wakes a dozen goroutines of the engine at both ends. So an acknowledgement, and a frame that has only posts,
	// leaves this long after the one before at the earliest.
	pause = 2 * time.Millisecond

	firstTimeout = 200 * time.Millisecond // until the first round trip is known
	minTimeout   = 50 * time.Millisecond
	maxTimeout   = time.Second
)

// Errors of Send and Post.
var (
	ErrClosed = errors.New("link is closed")
	ErrFull   = errors.New("link is full")
	ErrTooBig = errors.New("record longer than a link carries")
)

// Carrier brings frames and acknowledgements to the other end, or loses them. It does not keep what it was given.
type Carrier interface {
	Frame(b []byte) error
	Ack(b []byte) error
}

// Source gives the changes of tables that precede the records of a frame.
type Source interface {
	// Pull returns the next changes, encoded and about as long as most, the table sequence that they reach, and
	// whether there are more. With most 0 it returns none and only says how things are.
	Pull(most int) (batch []byte, seq uint64, more bool)
}

// Sink takes what arrives.
type Sink interface {
	// Apply is called for one record after another. It must not wait for another node. body may be kept.
	Apply(k frame.RecordKind, body []byte)
	// Wait returns when the copy of the sender's tables has reached the sequence, or after a while, or with done.
	Wait(table uint64, done <-chan struct{})
}

// Config is what a link is made of.
type Config struct {
	Version    uint8  // of the encoding
	Self, Peer uint64 // incarnations
	Epoch      uint64
	Window     int // bytes
	Carrier    Carrier
	Source     Source // may be nil
	Sink       Sink
}

// Record is a record that was handed back.
type Record struct {
	Kind frame.RecordKind
	Body []byte
}

// Link is one end.
type Link struct {
	cfg  Config
	done chan struct{} // closed by Close
	wake chan struct{} // a token for the sending goroutine
	come chan struct{} // a token for the applying goroutine
	turn chan struct{} // held by the sender that waits for room first
	work sync.WaitGroup

	out outbox
	in  inbox
}

// New starts a link.
func New(cfg Config) *Link {
	l := &Link{
		cfg: cfg, done: make(chan struct{}), wake: make(chan struct{}, 1), come: make(chan struct{}, 1),
		turn: make(chan struct{}, 1),
	}
	l.out.room = make(chan struct{})
	l.out.timeout = firstTimeout
	l.in.ackEvery = min(ackEvery, max(cfg.Window/4, 1))
	l.in.next = 1
	l.in.ahead = map[uint64]arrival{}
	l.work.Go(l.pump)
	l.work.Go(l.apply)
	return l
}

// Send appends a record. While the window is full it waits, in the order of the calls, at most until the context ends.
func (l *Link) Send(ctx context.Context, k frame.RecordKind, body []byte) error {
	if len(body) > frame.MaxRecord {
		return ErrTooBig
	}
	if err := l.out.add(k, body, l.cfg.Window); !errors.Is(err, ErrFull) {
		l.nudge(err)
		return err
	}
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		l.out.stopWaiting()
		return ctx.Err()
	case <-l.done:
		l.out.stopWaiting()
		return ErrClosed
	}
	defer l.out.stopWaiting()
	for {
		room, err := l.out.addFirst(k, body, l.cfg.Window)
		if !errors.Is(err, ErrFull) {
			l.nudge(err)
			return err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		case <-l.done:
			return ErrClosed
		}
	}
}

// Try is Send that returns ErrFull instead of waiting.
func (l *Link) Try(k frame.RecordKind, body []byte) error {
	if len(body) > frame.MaxRecord {
		return ErrTooBig
	}
	err := l.out.add(k, body, l.cfg.Window)
	if errors.Is(err, ErrFull) {
		l.out.stopWaiting()
	}
	l.nudge(err)
	return err
}

// Post appends a record that does not count for the window, and never waits: for answers to what the other end sent,
// whose number that bounds. ErrFull says that it does not. It leaves with the next record of Send, and after 2 ms at the
// latest.
func (l *Link) Post(k frame.RecordKind, body []byte) error {
	if len(body) > frame.MaxRecord {
		return ErrTooBig
	}
	alone, err := l.out.post(k, body)
	if alone { // the pump has to look at the clock; else it will come by
		l.Wake()
	}
	return err
}

func (l *Link) nudge(err error) {
	if err == nil {
		l.Wake()
	}
}

// Wake makes the link look for changes of its source.
func (l *Link) Wake() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Hurry makes the link send again soon what is not acknowledged: the carrier, which had lost it, works again.
func (l *Link) Hurry() {
	l.out.hurry()
	l.Wake()
}

// Hold makes the link send nothing, not even acknowledgements, until it is called with false.
func (l *Link) Hold(on bool) {
	l.out.mu.Lock()
	l.out.held = on
	l.out.progress = time.Now()
	l.out.mu.Unlock()
	l.Wake()
}

// Stalled returns for how long nothing has been acknowledged although something waits for it.
func (l *Link) Stalled() time.Duration {
	l.out.mu.Lock()
	defer l.out.mu.Unlock()
	if len(l.out.flights) == 0 || l.out.held {
		return 0
	}
	return time.Since(l.out.progress)
}

// Close ends the link, and returns the records that were not acknowledged, in order. Some of them may have been
// applied. A record that is just being applied is finished, no further one is begun; Done tells when.
func (l *Link) Close() []Record {
	back, first := l.out.close()
	if first {
		close(l.done)
	}
	return back
}

// Done waits until the goroutines of a closed link have ended.
func (l *Link) Done() { l.work.Wait() }

// Stats are counters of a link and its present state.
type Stats struct {
	Unacked  int           // bytes that wait for acknowledgement
	Waiting  int           // callers that wait for room
	RTT      time.Duration // smoothed, from sending to the acknowledgement after applying
	Sent     uint64        // frames, without those sent again
	Bytes    uint64        // of frames, without those sent again
	Resent   uint64        // frames sent again
	Probes   uint64
	Full     uint64 // calls of Send that had to wait
	Applied  uint64 // frames
	Received uint64 // bytes of frames taken in
	Doubled  uint64 // frames that had arrived before
	Dropped  uint64 // frames for which there was no room
}

// Stats returns how the link does.
func (l *Link) Stats() Stats {
	l.out.mu.Lock()
	s := l.out.stats
	s.Unacked, s.Waiting, s.RTT = l.out.used+l.out.free, l.out.waiting, l.out.rtt
	l.out.mu.Unlock()
	l.in.mu.Lock()
	defer l.in.mu.Unlock()
	s.Applied, s.Received, s.Doubled, s.Dropped = l.in.applied, l.in.stats.Received, l.in.stats.Doubled, l.in.stats.Dropped
	return s
}
