package transport

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// flushRounds is how often a sender goes on flushing because others have appended meanwhile, before it leaves the work
// to a borrowed goroutine.
const flushRounds = 8

// Append copies b to the bytes waiting for the peer. If needFlush is true nobody else is about to send them: the caller
// must call Flush, and should do so once, after all it has to append. It returns ErrFull, leaving things as they are,
// if more than Options.MaxPending bytes would wait, and ErrClosed when the connection has ended or is about to.
func (c *Conn) Append(b []byte) (needFlush bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.signals.Load()&(sigAborted|sigClosing|sigBroken) != 0:
		return false, ErrClosed
	case c.inflight+c.pending.size()+len(b) > c.shared.maxPending:
		return false, ErrFull
	}
	needFlush = c.pending == nil && !c.flushing
	c.pending = c.pending.add(b)
	return needFlush, nil
}

// Flush writes what was appended, as far as the kernel takes it at once; a borrowed goroutine sees to the rest. It
// returns at once if somebody else is flushing, who will write these bytes too, or while a handshake is in progress,
// whose end flushes.
func (c *Conn) Flush() {
	c.mu.Lock()
	if c.flushing || c.held {
		c.mu.Unlock()
		return
	}
	c.flushing = true
	for round := 1; c.take(); round++ {
		if !c.push() || round == flushRounds {
			go c.pump()
			return
		}
		c.mu.Lock()
	}
}

// take makes out what is to be written next. It is called with mu held, and releases it. If there is nothing, it gives
// the output side up and returns false.
func (c *Conn) take() bool {
	if c.signals.Load()&(sigAborted|sigBroken) != 0 {
		c.drop()
	}
	plain, s := c.pending, c.secured
	if plain == nil && c.cipher == nil {
		c.inflight = 0
		c.flushing = false
		if c.drained != nil {
			close(c.drained)
			c.drained = nil
		}
		c.mu.Unlock()
		return false
	}
	c.pending = nil
	c.inflight = plain.size()
	if s != nil && plain != nil {
		c.mu.Unlock()
		_, err := s.conn.Write(plain.b) // calls secured.Write
		plain.free()
		if err != nil {
			c.breakOutput(err)
		}
		c.mu.Lock()
	}
	if s != nil {
		plain, c.cipher = c.cipher, nil
	}
	c.mu.Unlock()
	c.out, c.written = plain, 0
	return true
}

// drop forgets what is waiting. mu is held.
func (c *Conn) drop() {
	c.pending.free()
	c.cipher.free()
	c.pending, c.cipher = nil, nil
}

// push writes out as far as the kernel takes it at once; false means that some is left.
func (c *Conn) push() bool {
	if c.out == nil { // crypto/tls refused to write
		return true
	}
	c.patient = false
	c.write()
	return c.out == nil
}

// pump is the borrowed goroutine: it writes until nothing is left, waiting for the peer to read.
func (c *Conn) pump() {
	c.shared.metrics.blocked(1)
	defer c.shared.metrics.blocked(-1)
	for {
		for c.out != nil {
			c.nc.SetWriteDeadline(time.Now().Add(c.shared.writeTimeout))
			if c.signals.Load()&sigAborted != 0 { // set before the deadline of Abort, which may just have been overwritten
				c.freeOutput()
				break
			}
			c.patient = true
			if !c.write() {
				c.Abort(ErrWriteTimeout)
				c.freeOutput()
			}
		}
		c.nc.SetWriteDeadline(time.Time{})
		c.mu.Lock()
		if !c.take() {
			return
		}
	}
}

// write makes one attempt to write out; a patient one waits until it has made progress, and returns false when that
// took too long. When out is done with, for better or worse, it is nil.
func (c *Conn) write() bool {
	before := c.written
	err := c.raw.Write(c.writeFn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	c.shared.metrics.sent(c.written - before)
	if err != nil { // not even tried
		c.failed = true
		c.breakOutput(err)
	}
	if c.failed || c.written == len(c.out.b) {
		c.freeOutput()
		return true
	}
	c.mu.Lock()
	c.inflight = min(c.inflight, len(c.out.b)-c.written)
	c.mu.Unlock()
	return true
}

// writable writes until all is written or the kernel takes no more; false lets the caller wait until it does.
func (c *Conn) writable(fd uintptr) bool {
	progress := false
	for c.written < len(c.out.b) {
		n, err := writeFD(fd, c.out.b[c.written:])
		switch {
		case n > 0:
			c.written += n
			progress = true
		case err == syscall.EAGAIN:
			return progress || !c.patient
		default:
			c.failed = true
			c.breakOutput(os.NewSyscallError("write", err))
			return true
		}
	}
	return true
}

func (c *Conn) freeOutput() {
	c.out.free()
	c.out = nil
}

// breakOutput notes that the socket takes no more bytes. The peer may have sent some before it went, so the driver
// still reads these.
func (c *Conn) breakOutput(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writeErr == nil {
		c.writeErr = err
	}
	c.signals.Or(sigBroken)
	c.wake()
}

func (c *Conn) outputError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writeErr
}

// drain waits until nobody is flushing, and returns true; or for at most d, if d is not 0.
func (c *Conn) drain(d time.Duration) bool {
	c.mu.Lock()
	if !c.flushing {
		c.mu.Unlock()
		return true
	}
	done := make(chan struct{})
	c.drained = done
	c.mu.Unlock()
	var expired <-chan time.Time
	if d != 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-done:
		return true
	case <-expired:
		return false
	}
}
