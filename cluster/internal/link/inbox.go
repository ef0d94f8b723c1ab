package link

import (
	"sync"
	"time"

	"github.com/starling-im/starling/cluster/internal/frame"
)

// inbox is what has arrived and is not applied yet.
type inbox struct {
	mu      sync.Mutex // guards what follows
	next    uint64     // the frame to arrive next
	queue   []arrival  // in order, without gap
	ahead   map[uint64]arrival
	bytes   int // in queue and ahead
	applied uint64
	unacked int       // bytes applied since the last acknowledgement
	owed    bool      // an acknowledgement must leave at once
	due     time.Time // if not zero: one must leave then
	acked   time.Time // when the last one left
	stats   Stats

	ackEvery int // bytes

	whole []byte // pieces of a long record; used by the applying goroutine only
}

// arrival is a frame that arrived.
type arrival struct {
	seq, table uint64
	records    frame.Records
	size       int
}

// OnFrame takes a frame of the other end. It never waits.
func (l *Link) OnFrame(h frame.Link, rs frame.Records) {
	a := arrival{h.Seq, h.Table, rs, frame.HeadSize + len(rs)}
	queued, owed := l.in.arrive(a, 2*l.cfg.Window+deltaRoom+postRoom)
	if queued {
		select {
		case l.come <- struct{}{}:
		default:
		}
	}
	if owed {
		l.Wake()
	}
}

// arrive puts a frame where it belongs.
func (in *inbox) arrive(a arrival, limit int) (queued, owed bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	_, doubled := in.ahead[a.seq]
	if a.seq == in.next && in.bytes+a.size > limit { // what came too early must not keep out what comes now
		for seq, early := range in.ahead {
			in.bytes -= early.size
			in.stats.Dropped++
			delete(in.ahead, seq)
		}
	}
	switch {
	case a.seq == 0: // a question
		in.owed = true
	case a.seq < in.next || doubled:
		in.stats.Doubled++
		in.owed = true
	case in.bytes > 0 && in.bytes+a.size > limit:
		in.stats.Dropped++
	case a.seq > in.next:
		in.take(a.size)
		in.ahead[a.seq] = a
		in.owed = true
	default:
		in.take(a.size)
		for ok := true; ok; a, ok = in.ahead[in.next] {
			delete(in.ahead, a.seq)
			in.queue = append(in.queue, a)
			in.next++
		}
		queued = true
	}
	return queued, in.owed
}

func (in *inbox) take(n int) {
	in.bytes += n
	in.stats.Received += uint64(n)
}

// apply applies one frame after another.
func (l *Link) apply() {
	for {
		a, ok := l.in.pop()
		if !ok {
			select {
			case <-l.done:
				return
			case <-l.come:
			}
			continue
		}
		if !l.applyFrame(a) {
			return
		}
		switch now, later := l.in.finish(a, time.Now()); {
		case now:
			l.sendAck()
		case later: // the pump has to look at the clock
			l.Wake()
		}
	}
}

func (in *inbox) pop() (arrival, bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.queue) == 0 {
		in.queue = nil
		return arrival{}, false
	}
	a := in.queue[0]
	in.queue[0] = arrival{}
	in.queue = in.queue[1:]
	return a, true
}

// finish counts a frame as applied. It reports whether to acknowledge now, or whether that has just become due later.
func (in *inbox) finish(a arrival, at time.Time) (now, later bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.applied = a.seq
	in.bytes -= a.size
	in.unacked += a.size
	idle := len(in.queue) == 0
	switch {
	case in.unacked >= in.ackEvery, idle && at.Sub(in.acked) >= pause:
		in.owed = true
	case idle && in.due.IsZero():
		in.due = in.acked.Add(pause)
		later = true
	}
	return in.owed, later
}

// nap returns how long no acknowledgement is due.
func (in *inbox) nap(now time.Time) time.Duration {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.due.IsZero() {
		return time.Hour
	}
	return in.due.Sub(now)
}

// applyFrame hands the records of a frame to the sink. It reports whether the link still lives.
func (l *Link) applyFrame(a arrival) bool {
	waited := false
	for rs := a.records; len(rs) > 0; {
		select {
		case <-l.done:
			return false
		default:
		}
		k, body := rs.Next()
		if k != frame.Delta && !waited {
			waited = true
			l.cfg.Sink.Wait(a.table, l.done)
			select {
			case <-l.done:
				return false
			default:
			}
		}
		if k != frame.Part {
			l.cfg.Sink.Apply(k, body)
			continue
		}
		p, err := frame.ParsePiece(body)
		if err != nil || p.Start != uint64(len(l.in.whole)) {
			l.in.whole = nil // what is broken stays away; the rest of the link is in order
			continue
		}
		if p.Start == 0 {
			l.in.whole = make([]byte, 0, p.Total)
		}
		if l.in.whole = append(l.in.whole, p.Data...); uint64(len(l.in.whole)) == p.Total {
			whole := l.in.whole
			l.in.whole = nil
			l.cfg.Sink.Apply(p.Kind, whole)
		}
	}
	return true
}

// sendAck acknowledges, if that is owed. It reports whether it was.
func (l *Link) sendAck() bool {
	l.out.mu.Lock()
	mute := l.out.held || l.out.closed
	l.out.mu.Unlock()
	if mute {
		return false
	}
	l.in.mu.Lock()
	a := frame.Ack{
		Version: l.cfg.Version, From: l.cfg.Self, To: l.cfg.Peer, Epoch: l.cfg.Epoch,
		Applied: l.in.applied, Received: l.in.next - 1, Gap: len(l.in.ahead) > 0,
	}
	owed := l.in.acknowledge(time.Now())
	l.in.mu.Unlock()
	if owed {
		_ = l.cfg.Carrier.Ack(frame.AppendAck(nil, a))
	}
	return owed
}

// acknowledge reports whether an acknowledgement is to leave now, and counts it. It is called with mu held.
func (in *inbox) acknowledge(now time.Time) bool {
	if !in.owed && (in.due.IsZero() || now.Before(in.due)) {
		return false
	}
	in.owed, in.unacked, in.due, in.acked = false, 0, time.Time{}, now
	return true
}
