package transport

import (
	"errors"
	"syscall"
	"time"
)

// Close ends the connection in good order: nothing more is taken, what was appended leaves, then our side of the
// connection is closed, and the peer gets until Options.Linger after the call to close its own (RFC 6120 §4.4). What it
// still sends is ignored: a handler that wants it waits for the closing tag before it calls Close. err is the reason
// that OnClose hears, if it is the first one given; nil means ErrClosed. A handshake in progress is broken off.
func (c *Conn) Close(err error) { c.end(err, sigClosing) }

// Abort ends the connection at once: what was appended is dropped. err is as for Close. Choice: the peer sees a reset,
// because otherwise the kernel would keep what it has not sent, for minutes, where the peer does not read.
func (c *Conn) Abort(err error) { c.end(err, sigAborted) }

func (c *Conn) end(err error, signal uint32) {
	if err == nil {
		err = ErrClosed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.signals.Load()&(signal|sigAborted) != 0 {
		return
	}
	if c.err == nil {
		c.err = err
	}
	c.signals.Or(signal)
	if signal == sigAborted {
		c.reset = true
		c.nc.SetWriteDeadline(past)
	}
	c.wake()
}

// lost ends the connection when nothing more can be read: io.EOF is the peer's regular end, anything else a failure.
func (c *Conn) lost(err error) {
	c.peerGone = true
	c.Close(err)
}

// shutdown closes the connection as RFC 6120 §4.4 asks: last bytes, close_notify, end of our stream, then the peer's.
// Choice: the "reasonable amount of time" that this leaves open is Options.Linger for all of it. An Abort cuts it short.
func (c *Conn) shutdown() {
	until := now() + c.shared.linger
	c.Flush()
	if !c.drain(c.shared.linger) {
		c.Abort(nil)
		return
	}
	if c.secured != nil {
		c.secured.conn.CloseWrite() // into the buffer; fails only where there is nobody left to tell
		c.Flush()
		if !c.drain(max(until-now(), 1)) {
			c.Abort(nil)
			return
		}
	}
	c.nc.CloseWrite()
	if !c.peerGone {
		c.discard(until)
	}
}

// discard reads and forgets until the peer has closed its side. Closing the socket with unread bytes in it would reset
// the connection, and might take from the peer what it has not read yet.
func (c *Conn) discard(until time.Duration) {
	if c.secured != nil && c.secured.ends(c.secured.staged) {
		return // it was among what is left from before
	}
	if c.in == nil {
		c.in = readBuffers.Get().(*readBuffer)
	}
	n := 0
	var end error
	read := func(fd uintptr) bool {
		n, end = readFD(fd, c.in[:])
		return end != syscall.EAGAIN
	}
	c.nc.SetReadDeadline(time.Now().Add(until - now()))
	for c.signals.Load()&sigAborted == 0 && now() < until {
		if err := c.raw.Read(read); err != nil || end != nil || n == 0 {
			return
		}
		c.shared.metrics.received(n)
		if c.secured != nil && c.secured.ends(c.in[:n]) {
			return // RFC 6120 §4.4: the close_notify that answers ours
		}
	}
}

// finish releases everything; the driver is on its way out.
func (c *Conn) finish() error {
	c.mu.Lock()
	c.signals.Or(sigAborted)
	if c.err == nil {
		c.err = ErrClosed
	}
	err, reset := c.err, c.reset
	c.nc.SetDeadline(past)
	c.mu.Unlock()
	c.drain(0) // nobody can begin to flush now, and whoever does so does not wait any more

	c.mu.Lock()
	c.drop()
	c.mu.Unlock()
	if c.secured != nil {
		c.secured.staged = nil
		c.secured.lent = nil
	}
	c.freeInput()
	if reset {
		c.nc.SetLinger(0)
	}
	c.nc.Close()
	c.shared.metrics.closed(errors.Is(err, ErrFull) || errors.Is(err, ErrWriteTimeout))
	c.handler.OnClose(err)
	return err
}
