package link

import (
	"sync"
	"time"

	"github.com/starling-im/starling/cluster/internal/frame"
)

// outbox is what the other end has not acknowledged.
type outbox struct {
	mu       sync.Mutex // guards what follows
	closed   bool
	held     bool
	pending  frame.Records // not sent yet, from begin on
	begin    int
	marks    []mark // of the records in pending, from first on
	first    int
	urgent   int       // of them: that do not wait
	left     time.Time // when the last frame did
	spares   [][]byte  // memory of acknowledged frames
	flights  []flight  // sent
	last     uint64    // sequence of the last frame sent
	used     int       // bytes in pending and flights that count for the window,
	free     int       // and that do not
	partial  []byte    // acknowledged pieces of a record whose other pieces are not
	waiting  int
	room     chan struct{} // closed when there is more room
	received uint64        // the other end has all frames up to this one
	progress time.Time     // of the last acknowledgement of something applied, or of sending after a quiet time
	quiet    time.Time     // when the other end, or the timeout, was last heard of
	timeout  time.Duration
	rtt      time.Duration
	repair   repair
	stats    Stats
}

// mark is the size of a record in pending, and whether it counts for the window.
type mark struct {
	size    int32
	counted bool
}

// flight is a frame on its way.
type flight struct {
	seq           uint64
	data          []byte
	counted, free int
	pieces        bool // it holds parts of records
	at            time.Time
	again         bool
}

// repair is the sending of lost frames. It begins with the first one that the other end lacks, the probe; each
// success doubles the number of those that follow.
type repair struct {
	on    bool
	next  uint64 // sequence of the next frame to send again
	upTo  uint64 // the last frame that was on its way when the loss was noticed
	burst int
	quota int // frames that may be sent again now
	probe bool
}

// add appends a record if there is room. If it is to wait for room, and for those who wait already, it is counted as
// waiting and gets ErrFull.
func (o *outbox) add(k frame.RecordKind, body []byte, limit int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := recordBytes(len(body))
	switch {
	case o.closed:
		return ErrClosed
	case o.waiting > 0 || o.used > 0 && o.used+n > limit:
		o.waiting++
		o.stats.Full++
		return ErrFull
	}
	o.append(k, body, true)
	return nil
}

// post appends a record that may wait a little. It reports whether none was pending.
func (o *outbox) post(k frame.RecordKind, body []byte) (alone bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed:
		return false, ErrClosed
	case o.free+recordBytes(len(body)) > postRoom:
		return false, ErrFull
	}
	alone = len(o.marks) == o.first
	o.append(k, body, false)
	return alone || len(o.pending)-o.begin >= frameSize, nil
}

// addFirst appends a record for the caller who is first in the line, or returns what tells of more room.
func (o *outbox) addFirst(k frame.RecordKind, body []byte, limit int) (<-chan struct{}, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed:
		return nil, ErrClosed
	case o.used > 0 && o.used+recordBytes(len(body)) > limit:
		return o.room, ErrFull
	}
	o.append(k, body, true)
	return nil, nil
}

func (o *outbox) stopWaiting() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting--
}

// recordBytes is how much room a record of n bytes takes; the headers of its pieces are not counted.
func recordBytes(n int) int { return frame.RecordSize(n) }

func (o *outbox) append(k frame.RecordKind, body []byte, counted bool) {
	if len(body) <= pieceSize {
		o.appendOne(k, body, counted)
		return
	}
	for start := 0; start < len(body); start += pieceSize {
		stop := min(start+pieceSize, len(body))
		p := frame.Piece{Kind: k, Total: uint64(len(body)), Start: uint64(start), Data: body[start:stop]}
		o.appendOne(frame.Part, frame.AppendPiece(nil, p), counted)
	}
}

func (o *outbox) appendOne(k frame.RecordKind, body []byte, counted bool) {
	before := len(o.pending)
	o.pending = frame.AppendRecord(o.pending, k, body)
	o.marks = append(o.marks, mark{int32(len(o.pending) - before), counted})
	if counted {
		o.urgent++
		o.used += len(o.pending) - before
	} else {
		o.free += len(o.pending) - before
	}
}

// take composes the next frame of the changes and at most count records. It returns nil when there is nothing.
func (o *outbox) take(head frame.Link, batch []byte, count int) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || o.held || len(batch) == 0 && count == 0 {
		return nil
	}
	n, stop := 0, 0
	f := flight{seq: o.last + 1, at: time.Now()}
	queue, marks := o.pending[o.begin:], o.marks[o.first:]
	for n < count && stop < frameSize {
		size := int(marks[n].size)
		if marks[n].counted {
			o.urgent--
			f.counted += size
		} else {
			f.free += size
		}
		f.pieces = f.pieces || frame.RecordKind(queue[stop]) == frame.Part
		stop += size
		n++
	}
	head.Seq = f.seq
	f.data = frame.AppendLink(o.memory(frame.HeadSize+frame.RecordSize(len(batch))+stop), head)
	if len(batch) > 0 {
		before := len(f.data)
		f.data = frame.AppendRecord(f.data, frame.Delta, batch)
		f.free += len(f.data) - before
		o.free += len(f.data) - before
	}
	f.data = append(f.data, queue[:stop]...)
	o.drop(n, stop)
	if len(o.flights) == 0 {
		o.progress, o.quiet = f.at, f.at
	}
	o.last, o.left = f.seq, f.at
	o.flights = append(o.flights, f)
	o.stats.Sent++
	o.stats.Bytes += uint64(len(f.data))
	return f.data
}

// maxSpares bounds what is kept for frames to come.
const maxSpares = 4

// memory returns room for a frame of n bytes.
func (o *outbox) memory(n int) []byte {
	if last := len(o.spares) - 1; last >= 0 {
		b := o.spares[last]
		o.spares[last] = nil
		o.spares = o.spares[:last]
		if cap(b) >= n {
			return b[:0]
		}
	}
	return make([]byte, 0, n+n/4)
}

// drop removes the first n records, of size bytes, from pending. What remains moves to the front once that costs
// less than what was taken.
func (o *outbox) drop(n, size int) {
	o.first, o.begin = o.first+n, o.begin+size
	if o.begin > len(o.pending)/2 {
		o.pending = append(o.pending[:0], o.pending[o.begin:]...)
		o.marks = append(o.marks[:0], o.marks[o.first:]...)
		o.begin, o.first = 0, 0
	}
}

// acknowledge takes in what the other end has.
func (o *outbox) acknowledge(a frame.Ack) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || a.Received > o.last {
		return
	}
	now := time.Now()
	if a.Received >= o.received {
		o.heard(a, now)
	}
	n := 0
	for n < len(o.flights) && o.flights[n].seq <= a.Applied {
		f := &o.flights[n]
		o.used -= f.counted
		o.free -= f.free
		if f.pieces {
			o.keepPieces(f.data)
		}
		if len(o.spares) < maxSpares && cap(f.data) <= 2*frameSize {
			o.spares = append(o.spares, f.data) // the pump may be sending it again, but only the pump takes it from here
		}
		f.data = nil
		n++
	}
	if n == 0 {
		return
	}
	o.flights = o.flights[n:]
	if len(o.flights) == 0 {
		o.flights = nil
	}
	o.progress = now
	close(o.room)
	o.room = make(chan struct{})
}

// heard learns how far the frames get.
func (o *outbox) heard(a frame.Ack, now time.Time) {
	o.quiet = now
	advanced := a.Received > o.received
	if advanced {
		o.sample(a.Received, now)
		o.received = a.Received
		if o.rtt > 0 {
			o.timeout = min(max(4*o.rtt, minTimeout), maxTimeout)
		} else {
			o.timeout = firstTimeout
		}
	}
	r := &o.repair
	switch {
	case r.on && o.received >= r.upTo:
		*r = repair{}
	case r.on && advanced:
		r.burst = min(2*r.burst, maxBurst)
		r.quota = r.burst
	case !r.on && a.Gap:
		*r = repair{on: true, upTo: o.last, burst: 1, quota: 1}
	}
	r.next = max(r.next, o.received+1)
}

// sample measures the round trip by the frame that was just acknowledged, unless it was sent more than once.
func (o *outbox) sample(seq uint64, now time.Time) {
	i := int(seq) - int(o.last) + len(o.flights) - 1
	if i < 0 || i >= len(o.flights) || o.flights[i].again {
		return
	}
	d := now.Sub(o.flights[i].at)
	if o.rtt == 0 {
		o.rtt = d
	}
	o.rtt += (d - o.rtt) / 8
}

// keepPieces remembers acknowledged pieces until their record is complete, since a record is handed back as a whole.
func (o *outbox) keepPieces(data []byte) {
	_, rs, _ := frame.ParseLink(data)
	for len(rs) > 0 {
		if k, body := rs.Next(); k == frame.Part {
			p, _ := frame.ParsePiece(body)
			o.partial = append(o.partial, p.Data...)
			if uint64(len(o.partial)) >= p.Total {
				o.partial = nil
			}
		}
	}
}

// close ends the outbox and returns what is in it.
func (o *outbox) close() (back []Record, first bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, false
	}
	o.closed = true
	whole := o.partial
	collect := func(rs frame.Records) {
		for len(rs) > 0 {
			k, body := rs.Next()
			if k == frame.Part {
				p, _ := frame.ParsePiece(body)
				if whole = append(whole, p.Data...); uint64(len(whole)) < p.Total {
					continue
				}
				k, body, whole = p.Kind, whole, nil
			}
			back = append(back, Record{k, body})
		}
	}
	for _, f := range o.flights {
		_, rs, _ := frame.ParseLink(f.data)
		collect(rs)
	}
	collect(o.pending[o.begin:])
	o.pending, o.marks, o.flights, o.partial = nil, nil, nil, nil
	o.used, o.free = 0, 0
	return back, true
}
