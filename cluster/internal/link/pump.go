package link

import (
	"time"

	"github.com/starling-im/starling/cluster/internal/frame"
)

// pump sends whatever there is to send, and sleeps when there is nothing: what is appended meanwhile leaves as one
// frame. Errors of the carrier are losses: what matters is sent again.
func (l *Link) pump() {
	timer := time.NewTimer(maxTimeout)
	defer timer.Stop()
	for {
		for l.step() {
		}
		timer.Reset(l.nap())
		select {
		case <-l.done:
			return
		case <-l.wake:
		case <-timer.C:
		}
	}
}

// nap returns how long the pump may sleep.
func (l *Link) nap() time.Duration {
	now := time.Now()
	d, held := l.out.nap(now)
	if held {
		return d
	}
	return max(min(d, l.in.nap(now)), 0)
}

// step sends at most one message. It reports whether there may be more to send.
func (l *Link) step() bool {
	if l.sendAck() {
		return true
	}
	data, isProbe := l.out.again(l.probeFrame)
	if data != nil {
		_ = l.cfg.Carrier.Frame(data)
		return !isProbe
	}
	return l.transmit()
}

// transmit sends the next frame, if there is one. Changes of tables are taken after it was decided which records go
// with them: a row that was written before a record was appended leaves with or before that record.
func (l *Link) transmit() bool {
	count, deltas := l.out.ready()
	if count < 0 {
		return false
	}
	head := frame.Link{Version: l.cfg.Version, From: l.cfg.Self, To: l.cfg.Peer, Epoch: l.cfg.Epoch}
	var batch []byte
	if l.cfg.Source != nil {
		var more bool
		if batch, head.Table, more = l.cfg.Source.Pull(deltas); more {
			count = 0
		}
	}
	data := l.out.take(head, batch, count)
	if data == nil {
		return false
	}
	_ = l.cfg.Carrier.Frame(data)
	return true
}

func (l *Link) probeFrame() []byte {
	return frame.AppendLink(nil, frame.Link{Version: l.cfg.Version, From: l.cfg.Self, To: l.cfg.Peer, Epoch: l.cfg.Epoch})
}

// ready returns how many records may be sent, -1 if nothing may, and how many bytes of changes.
func (o *outbox) ready() (count, deltas int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || o.held {
		return -1, 0
	}
	if o.free < deltaRoom {
		deltas = frameSize
	}
	count = len(o.marks) - o.first
	if o.urgent == 0 && len(o.pending)-o.begin < frameSize && time.Since(o.left) < pause {
		count = 0 // the posts can wait
	}
	return count, deltas
}

// again returns a frame that must be sent once more, nil if there is none. When the other end has been silent for too
// long it begins a repair with the first frame that the other end lacks, or asks how far it has come.
func (o *outbox) again(probe func() []byte) (data []byte, isProbe bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || o.held || len(o.flights) == 0 {
		return nil, false
	}
	r, now := &o.repair, time.Now()
	if now.Sub(o.quiet) >= o.timeout {
		o.quiet = now
		o.timeout = min(2*o.timeout, maxTimeout)
		o.stats.Probes++
		if o.received >= o.last { // all has arrived and is being applied
			return probe(), true
		}
		*r = repair{on: true, next: o.received + 1, upTo: o.last, burst: 1, quota: 1}
	}
	if r.quota == 0 || r.next > r.upTo {
		return nil, false
	}
	i := int(r.next) - int(o.flights[0].seq)
	if i < 0 || i >= len(o.flights) {
		r.quota = 0
		return nil, false
	}
	f := &o.flights[i]
	f.again = true
	r.next++
	r.quota--
	o.stats.Resent++
	return f.data, false
}

// hurry ends the growing pauses between attempts.
func (o *outbox) hurry() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.quiet, o.timeout = time.Time{}, minTimeout
}

// nap returns how long nothing is to be sent, and whether nothing may.
func (o *outbox) nap(now time.Time) (d time.Duration, held bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.flights) == 0 && len(o.pending) == 0 && cap(o.pending) > 4*frameSize { // a burst is over
		o.pending, o.marks, o.spares = nil, nil, nil
	}
	d = time.Hour
	if o.held || o.closed {
		return d, true
	}
	if len(o.flights) > 0 {
		d = max(o.quiet.Add(o.timeout).Sub(now), time.Millisecond)
	}
	if len(o.marks) > o.first { // posts
		d = min(d, o.left.Add(pause).Sub(now))
		if d <= 0 { // their time came a moment ago, or something else keeps them
			d = pause / 2
		}
	}
	return d, false
}

// OnAck takes an acknowledgement of the other end.
func (l *Link) OnAck(a frame.Ack) {
	l.out.acknowledge(a)
	l.Wake()
}
