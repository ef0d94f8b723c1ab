package transport

import "sync"

const (
	readSize = 16 << 10 // one read from a socket, and the plaintext of the largest TLS record
	rawSize  = 34 << 10 // two TLS records as they arrive: a bytes.Buffer moves to a larger one when it is half full
	rawKept  = 4 << 10  // a larger part of a record waits for the rest in the buffer it is in
	outSize  = 4 << 10  // where an output buffer starts
	outKept  = 16 << 10 // an output buffer that grew larger is left to the garbage collector
)

type (
	readBuffer [readSize]byte
	rawBuffer  [rawSize]byte
	outBuffer  struct{ b []byte }
)

var (
	readBuffers = sync.Pool{New: func() any { return new(readBuffer) }}
	rawBuffers  = sync.Pool{New: func() any { return new(rawBuffer) }}
	outBuffers  = sync.Pool{New: func() any { return &outBuffer{b: make([]byte, 0, outSize)} }}
)

// add appends p to b, taking a buffer from the pool if b is nil.
func (b *outBuffer) add(p []byte) *outBuffer {
	if b == nil {
		b = outBuffers.Get().(*outBuffer)
	}
	b.b = append(b.b, p...)
	return b
}

// free gives the buffer back; a nil buffer is none.
func (b *outBuffer) free() {
	if b == nil || cap(b.b) > outKept {
		return
	}
	b.b = b.b[:0]
	outBuffers.Put(b)
}

// size is the number of bytes in b, which may be nil.
func (b *outBuffer) size() int {
	if b == nil {
		return 0
	}
	return len(b.b)
}
