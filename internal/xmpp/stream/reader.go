package stream

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/starling-im/starling/internal/xmpp/xml"
)

// Budget bounds the bytes of all incomplete stanzas of a server together. The zero
// value has no bound.
type Budget struct {
	Max  int64
	used atomic.Int64
}

// Used is the number of bytes held for incomplete stanzas.
func (b *Budget) Used() int64 { return b.used.Load() }

func (b *Budget) take(n int) bool {
	if b == nil {
		return true
	}
	if total := b.used.Add(int64(n)); n > 0 && b.Max > 0 && total > b.Max {
		b.used.Add(int64(-n))
		return false
	}
	return true
}

func (b *Budget) give(n int) {
	if b != nil {
		b.used.Add(int64(-n))
	}
}

// Reader cuts the bytes of one stream into header, first-level elements and footer.
// An idle Reader holds no buffer. It is used by one goroutine at a time:
//
//	r.Feed(bytes)
//	for { ev, item, err := r.Next(); … until xml.NeedMore or err }
//	r.Keep()
type Reader struct {
	Limits *xml.Limits
	Budget *Budget

	ns      xml.Stream
	scanner *xml.Scanner
	buf     []byte // what is being read: the caller's bytes, or own
	at      int    // first byte of buf that was not consumed
	own     []byte // assembly buffer, nil when nothing is incomplete
}

// Assembly buffers have sizes that are powers of two, so that a peer who keeps one byte
// waiting costs little. Buffers larger than pooled ones are left to the garbage collector.
const (
	smallest = 10 // 1 KiB
	pooled   = 15 // 32 KiB: what one read adds to a short rest
)

var assembly [pooled - smallest + 1]sync.Pool

// sizeOf is the exponent of the buffer that holds n bytes.
func sizeOf(n int) int { return max(bits.Len(uint(n-1)), smallest) }

// acquire makes an empty buffer of a size.
func acquire(size int) []byte {
	if size <= pooled {
		if b, ok := assembly[size-smallest].Get().(*[]byte); ok {
			return *b
		}
	}
	return make([]byte, 0, 1<<size)
}

// recycle takes a buffer from acquire back.
func recycle(b []byte) {
	if size := sizeOf(cap(b)); size <= pooled {
		b = b[:0]
		assembly[size-smallest].Put(&b)
	}
}

// Feed adds bytes, which stay the caller's: they must not change until Keep.
func (r *Reader) Feed(b []byte) error {
	if r.own == nil {
		r.buf, r.at = b, 0
		return nil
	}
	return r.assemble(b)
}

// assemble adds bytes to what was kept of an earlier read.
func (r *Reader) assemble(b []byte) error {
	if need := len(r.own) + len(b); need > cap(r.own) {
		if err := r.move(r.own, sizeOf(need)); err != nil {
			return err
		}
	}
	r.own = append(r.own, b...)
	r.buf, r.at = r.own, 0
	return nil
}

// move puts what is kept into a buffer of its own of another size.
func (r *Reader) move(kept []byte, size int) error {
	if !r.Budget.take(1<<size - cap(r.own)) {
		return Err(PolicyViolation, "too much unfinished XML on this server")
	}
	moved := append(acquire(size), kept...)
	if r.own != nil {
		recycle(r.own)
	}
	r.own = moved
	return nil
}

// Next finds the next event. The item is valid until the next call of Next or Keep.
// An error is a *xml.SyntaxError and final.
func (r *Reader) Next() (xml.Event, *xml.Item, error) {
	if r.scanner == nil {
		if r.at == len(r.buf) {
			return xml.NeedMore, nil, nil
		}
		r.scanner = xml.AcquireScanner()
	}
	ev, n, err := r.scanner.Next(&r.ns, r.Limits, r.buf[r.at:])
	r.at += n
	if err != nil {
		return ev, nil, err
	}
	return ev, r.scanner.Item(), nil
}

// Stream is the namespace context of the stream's header.
func (r *Reader) Stream() *xml.Stream { return &r.ns }

// Restart expects a new header (RFC 6120 §4.3.3). Bytes that came with the last
// element go on being read as part of the new stream.
func (r *Reader) Restart() { r.ns.Reset() }

// Discard forgets all bytes that were not consumed (RFC 6120 §5.4.3.3).
func (r *Reader) Discard() { r.at = len(r.buf) }

// Keep ends the use of the bytes that were fed: what is incomplete is copied to a
// buffer that is no larger than it needs, and everything else released.
func (r *Reader) Keep() error {
	rest := r.buf[r.at:]
	if len(rest) == 0 {
		r.Release()
		return nil
	}
	if size := sizeOf(len(rest)); cap(r.own) != 1<<size {
		if err := r.move(rest, size); err != nil {
			r.Release()
			return err
		}
	} else {
		r.own = r.own[:copy(r.own, rest)]
	}
	r.buf, r.at = nil, 0
	return nil
}

// Release gives back every buffer. The reader may be fed again.
func (r *Reader) Release() {
	r.buf, r.at = nil, 0
	if r.scanner != nil {
		r.scanner.Release()
		r.scanner = nil
	}
	if r.own != nil {
		r.Budget.give(cap(r.own))
		recycle(r.own)
		r.own = nil
	}
}
