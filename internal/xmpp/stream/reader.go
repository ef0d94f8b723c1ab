package stream

import (
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
	if total := b.used.Add(int64(n)); b.Max > 0 && total > b.Max {
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

// smallAssembly is the size that most incomplete stanzas fit in; larger ones grow by four.
const smallAssembly = 16 << 10

var assembly = sync.Pool{New: func() any { b := make([]byte, 0, smallAssembly); return &b }}

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
	need := len(r.own) + len(b)
	if need > cap(r.own) {
		size := smallAssembly
		for size < need {
			size *= 4
		}
		if !r.Budget.take(size - cap(r.own)) {
			return Err(PolicyViolation, "too much unfinished XML on this server")
		}
		grown := make([]byte, len(r.own), size)
		copy(grown, r.own)
		recycle(r.own)
		r.own = grown
	}
	r.own = append(r.own, b...)
	r.buf, r.at = r.own, 0
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

// Keep ends the use of the bytes that were fed: what is incomplete is copied,
// and everything else released.
func (r *Reader) Keep() error {
	rest := r.buf[r.at:]
	if len(rest) == 0 {
		r.Release()
		return nil
	}
	if r.own != nil {
		n := copy(r.own, rest)
		r.own = r.own[:n]
		r.buf, r.at = nil, 0
		return nil
	}
	b := assembly.Get().(*[]byte)
	if !r.Budget.take(cap(*b)) {
		assembly.Put(b)
		r.Release()
		return Err(PolicyViolation, "too much unfinished XML on this server")
	}
	r.own = (*b)[:0]
	return r.assemble(rest)
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

func recycle(b []byte) {
	if cap(b) == smallAssembly {
		b = b[:0]
		assembly.Put(&b)
	}
}
