// Package transport runs one TCP connection, in plaintext or under TLS, from its first byte to its last. It knows
// nothing of XML: a Handler gets the bytes that arrive, and anybody may send.
//
// Input is run to completion: one goroutine, the driver (Serve), waits in syscall.RawConn.Read and holds no buffer
// while it waits; what arrives goes through the Handler on that goroutine before more is read. Output has no goroutine
// at all: Append copies into a buffer that exists only while something is in it, and Flush writes on the caller's
// goroutine whatever the kernel takes. Only while a peer does not read does its connection borrow a goroutine, for at
// most Options.WriteTimeout without progress. So no sender ever waits for a receiver.
//
// TLS is the standard crypto/tls, driven without blocking. The handshake runs on a goroutine of its own, whose large
// stack dies with it; from then on crypto/tls reads what the driver has read (secured.Read) and writes into a buffer
// that the write path empties (secured.Write). File release_unsafe.go takes the record buffers of an idle connection
// back; the build tag starling_nounsafe leaves it out, which costs memory and nothing else.
//
// Where to read: driver.go (input), write.go (output), tls.go, close.go (RFC 6120 §4.4).
package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/starling-im/starling/internal/proxied"
)

var (
	// ErrClosed is returned by Append once the connection is closing, and given to OnClose if nobody gave a reason.
	ErrClosed = errors.New("connection closed")
	// ErrFull says that the peer reads too slowly: Options.MaxPending bytes wait for it. The connection stays as it
	// is; whoever owns it decides.
	ErrFull = errors.New("too many bytes waiting for the peer")
	// ErrWriteTimeout ends a connection whose peer took nothing for Options.WriteTimeout.
	ErrWriteTimeout = errors.New("peer has stopped reading")
	// ErrIdle ends a connection that was silent for the time given to SetIdle, if its handler is no IdleHandler.
	ErrIdle = errors.New("connection idle")
)

// Handler is the owner of a connection. Its methods are called by the driver, one at a time.
type Handler interface {
	// OnBytes gets bytes as they arrived, under TLS decrypted; b is valid only during the call and never empty, save
	// in the first call after Resume, where it is nil. An error ends the connection as Close does.
	OnBytes(b []byte) error
	// OnFlush follows when all bytes of one read from the socket were handled, and after OnIdle.
	OnFlush()
	// OnClose is the last call, made exactly once, after the socket is gone: io.EOF if the peer closed the
	// connection, else the reason given to Close or Abort, the error of OnBytes, or what went wrong.
	OnClose(err error)
}

// IdleHandler is a Handler that wants to hear of silence instead of being closed with ErrIdle.
type IdleHandler interface {
	Handler
	// OnIdle says that nothing arrived for the time given to SetIdle; the time starts anew.
	OnIdle()
}

// Signals to the driver. They are set with mu held; the driver looks without it.
const (
	sigAborted uint32 = 1 << iota // end at once
	sigClosing                    // end in good order
	sigBroken                     // the socket takes no more output: read what is there, then end
	sigPaused                     // call the handler no more
	sigResumed                    // call it with nil first
)

// Conn is one connection. Append, Flush, Close, Abort, Resume, TLSState and RemoteAddr may be called on any goroutine
// at any time, also after the end; the other methods only where they say. It is kept to 256 bytes, for every idle
// client has one.
type Conn struct {
	nc      *net.TCPConn
	raw     syscall.RawConn
	client  *proxied.Conn // nc with the address of the client behind a load balancer; nil if there is none
	shared  *shared
	signals atomic.Uint32

	// Owned by the driver.
	handler  Handler
	readFn   func(fd uintptr) bool // c.readable, bound once
	in       *readBuffer           // nil while waiting
	got      int32                 // bytes in it
	streak   int32                 // reads since the last wait
	readErr  error                 // how the last read ended
	idle     time.Duration         // 0: never
	last     time.Duration         // when something last arrived, as by now
	upgrade  *tls.Config           // a handshake is wanted
	idleDue  bool                  // the time is over, unless the socket has bytes after all
	idleSet  bool                  // idle is new: the deadline must be set
	peerGone bool                  // the peer has sent its last byte
	rest     bool                  // a new goroutine is to go on

	mu       sync.Mutex    // guards the rest, up to reset
	pending  *outBuffer    // appended and not yet taken by a flush
	cipher   *outBuffer    // under TLS: encrypted and not yet taken
	inflight int           // bytes taken and not yet written, as counted by Append
	secured  *secured      // nil in plaintext; set once, by the driver
	drained  chan struct{} // closed by the flush in progress when it ends; nil if nobody waits for that
	err      error         // why the connection ends: the first reason given
	writeErr error         // why output is broken
	flushing bool          // somebody owns the output side
	held     bool          // a handshake owns the socket: appended bytes wait for its end
	reset    bool          // drop what the kernel still has for the peer

	// Owned by whoever set flushing.
	writeFn func(fd uintptr) bool // c.writable, bound once
	out     *outBuffer            // being written
	written int                   // bytes of it
	patient bool                  // wait until the socket takes something
	failed  bool                  // the last write did
}

// New makes a connection of an accepted socket, which from now on is its own: a *net.TCPConn or a *proxied.Conn. Serve
// must be called to release it.
func New(nc net.Conn, o *Options) *Conn {
	c := &Conn{shared: o.settle()}
	if via, ok := nc.(*proxied.Conn); ok {
		c.nc, c.client = via.TCPConn, via
	} else {
		c.nc = nc.(*net.TCPConn)
	}
	c.raw, c.err = c.nc.SyscallConn()
	if c.err != nil { // only if it is closed already
		c.signals.Store(sigAborted)
	}
	c.readFn, c.writeFn = c.readable, c.writable
	return c
}

// DirectTLS makes the connection start with a TLS handshake. It must be called before Serve, at most once.
// Setting DynamicRecordSizingDisabled in cfg makes every flush one record.
func (c *Conn) DirectTLS(cfg *tls.Config) {
	c.mu.Lock()
	c.held = true
	c.mu.Unlock()
	c.upgrade = cfg
}

// StartTLS begins TLS once OnBytes, where it must be called, has returned. What was appended till then leaves in
// plaintext; no further byte that the socket had delivered reaches the handler, whether it came from the peer or from
// somebody on the way who hopes to have it taken for something the peer sent under TLS (RFC 6120 §5.4.3.3): the
// handler must drop the rest of its slice too. If the handshake fails the connection ends (RFC 6120 §5.4.3.2).
func (c *Conn) StartTLS(cfg *tls.Config) { c.upgrade = cfg }

// Pause, called in OnBytes or OnIdle and before anybody may call Resume, stops calls of both until then. Bytes that
// arrive stay in the kernel, so the peer is slowed down too.
func (c *Conn) Pause() { c.signals.Or(sigPaused) }

// Resume ends a pause: the driver calls OnBytes(nil), then goes on with what arrived meanwhile. Without a pause it
// does nothing.
func (c *Conn) Resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.signals.Load()&sigPaused == 0 {
		return
	}
	c.signals.Or(sigResumed) // first this one: with neither set the driver would read on
	c.signals.And(^sigPaused)
	c.wake()
}

// SetIdle asks for a call of OnIdle whenever nothing arrived for d; 0 asks for none, as at the start. It must be
// called before Serve or in OnBytes or OnIdle. It costs no memory, and no timer is touched when bytes arrive.
func (c *Conn) SetIdle(d time.Duration) { c.idle, c.idleSet = d, true }

// TLSState describes the TLS connection; false while there is none.
func (c *Conn) TLSState() (tls.ConnectionState, bool) {
	c.mu.Lock()
	s := c.secured
	c.mu.Unlock()
	if s == nil {
		return tls.ConnectionState{}, false
	}
	return s.conn.ConnectionState(), true
}

// RemoteAddr is the peer's address, behind a load balancer the client's; one of IPv4 has its IPv4 form.
func (c *Conn) RemoteAddr() netip.AddrPort {
	addr := c.nc.RemoteAddr()
	if c.client != nil {
		addr = c.client.RemoteAddr()
	}
	a, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// Serve runs the connection to its end, which it also returns (see OnClose), on the caller's goroutine. The end of ctx
// aborts the connection. Everything that the connection held is released when Serve returns, also if h panics.
func (c *Conn) Serve(ctx context.Context, h Handler) (err error) {
	c.handler = h
	c.last = now()
	c.shared.metrics.opened()
	defer func() { err = c.finish() }()
	c.shared.followers.join(ctx, c)
	defer c.shared.followers.leave(ctx, c)
	for c.drive() {
	}
	return nil // replaced by what finish says
}

// Start is Serve on a goroutine of its own; done is called last. Only so does Rest have an effect.
func (c *Conn) Start(ctx context.Context, h Handler, done func()) {
	c.handler = h
	c.last = now()
	c.shared.metrics.opened()
	c.shared.followers.join(ctx, c)
	go c.run(ctx, done)
}

func (c *Conn) run(ctx context.Context, done func()) {
	rests := false
	defer func() {
		if !rests {
			c.shared.followers.leave(ctx, c)
			c.finish()
			done()
		}
	}()
	if rests = c.drive(); rests {
		go c.run(ctx, done)
	}
}

// Rest, called in OnBytes or OnIdle, makes the driver wait on a new goroutine. Handling input grows the stack of the
// old one, and the runtime hardly ever shrinks a stack: a handler that expects a long silence saves 2 KiB or more.
func (c *Conn) Rest() { c.rest = true }
