package transport

import (
	"errors"
	"io"
	"os"
	"runtime"
	"syscall"
	"time"
)

// fairReads is how many reads in a row a peer that sends without pause gets before others have their turn.
const fairReads = 16

// start is where now begins.
var start = time.Now()

// now is the time since the program started: cheaper than time.Now, and smaller.
func now() time.Duration { return time.Since(start) }

// past is a deadline that makes a wait on the socket end.
var past = time.Unix(1, 0)

// wake ends the driver's wait. mu is held, so that a wake cannot come later than the driver's look at what it was for.
func (c *Conn) wake() { c.nc.SetReadDeadline(past) }

// drive is the driver's loop. It returns true if another goroutine is to go on, and false when the socket is of no more
// use.
func (c *Conn) drive() (rests bool) {
	for {
		switch s := c.signals.Load(); {
		case s&sigAborted != 0:
			return false
		case s&sigClosing != 0:
			c.shutdown()
			return false
		case c.rest:
			c.rest = false
			return true
		case s&sigResumed != 0:
			c.resume()
		case c.upgrade != nil && s&sigPaused == 0:
			c.secure()
		default:
			c.turn()
		}
	}
}

// turn waits for one thing to happen and handles it.
func (c *Conn) turn() {
	if c.idleSet {
		c.rearm()
	}
	switch b, err := c.read(); {
	case err == io.EOF && c.secured != nil:
		c.secured.eof = true // crypto/tls tells whether this was the end or a truncation
		c.deliver(nil)
	case err != nil:
		c.lost(err)
	case len(b) > 0:
		c.last = now()
		c.shared.metrics.received(len(b))
		c.deliver(b)
		if c.streak++; c.streak%fairReads == 0 {
			runtime.Gosched()
		}
	case c.idleDue && c.signals.Load() == 0:
		c.idleDue = false
		c.last = now()
		c.silent()
	}
}

// read waits until the socket has bytes, and takes them; until it ends (io.EOF) or fails; or until there is something
// else to look at: then it returns nothing.
func (c *Conn) read() ([]byte, error) {
	for {
		c.got, c.readErr = 0, nil
		err := c.raw.Read(c.readFn)
		switch {
		case err == nil && c.got > 0:
			return c.in[:c.got], nil
		case err == nil:
			return nil, c.readErr
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return nil, err
		}
		c.rearm()
	}
}

// readable tries one read; false lets the caller wait for the next edge of the poller. An edge says only once that
// bytes or the end of the stream came, so the driver waits for the next one only after EAGAIN.
func (c *Conn) readable(fd uintptr) bool {
	s := c.signals.Load()
	switch {
	case s&(sigAborted|sigClosing|sigResumed) != 0:
		return true
	case s&sigPaused != 0:
		if c.secured == nil || len(c.secured.staged) == 0 {
			c.freeInput()
		}
		return false
	}
	if c.in == nil {
		c.in = readBuffers.Get().(*readBuffer)
	}
	n, err := readFD(fd, c.in[:])
	switch {
	case n > 0:
		c.got = int32(n)
		c.idleDue = false
	case err == nil:
		c.readErr = io.EOF
	case err != syscall.EAGAIN:
		c.readErr = os.NewSyscallError("read", err)
	case s&sigBroken != 0:
		c.readErr = c.outputError()
	default:
		c.freeInput() // nothing is held while waiting
		c.streak = 0
		return c.idleDue
	}
	return true
}

func (c *Conn) freeInput() {
	if c.in != nil {
		readBuffers.Put(c.in)
		c.in = nil
	}
}

// rearm sets the deadline of the next wait: when the connection will have been idle, or never. A deadline that has
// passed may also have been a wake; readable, which comes next, sees what it was for.
func (c *Conn) rearm() {
	c.idleSet, c.idleDue = false, false
	var at time.Time
	if c.idle > 0 {
		left := c.last + c.idle - now()
		if left <= 0 {
			left, c.idleDue = c.idle, true
		}
		at = time.Now().Add(left)
	}
	c.nc.SetReadDeadline(at)
}

// deliver hands the handler what was read, and lets it flush.
func (c *Conn) deliver(b []byte) {
	if c.secured != nil {
		c.secured.staged = b
		c.decrypt()
	} else {
		c.give(b)
	}
	c.handler.OnFlush()
}

func (c *Conn) give(b []byte) {
	if err := c.handler.OnBytes(b); err != nil {
		c.Close(err)
	}
}

// resume goes on after a pause.
func (c *Conn) resume() {
	c.mu.Lock() // Resume is over when this is ours
	c.signals.And(^sigResumed)
	c.mu.Unlock()
	c.last, c.idleDue = now(), false
	c.give(nil)
	if c.secured != nil {
		c.decrypt() // records that came before the pause
	}
	c.handler.OnFlush()
}

// silent tells the handler that nothing arrived for the time it asked for.
func (c *Conn) silent() {
	h, ok := c.handler.(IdleHandler)
	if !ok {
		c.Close(ErrIdle)
		return
	}
	h.OnIdle()
	c.handler.OnFlush()
}
