package transport

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"time"
)

// secured is the TLS side of a connection, and the net.Conn that crypto/tls believes to be the network. During the
// handshake Read and Write are those of the socket. Afterwards Read takes from what the driver has read, and Write puts
// into the buffer of the write path and never fails for want of room, because crypto/tls makes the first failed write
// its last.
type secured struct {
	c    *Conn
	conn *tls.Conn

	// Owned by the driver, during the handshake by the goroutine that runs it.
	established bool
	slot        bool       // holds a token of limits.slots
	eof         bool       // the socket has ended
	stray       bool       // crypto/tls wrote something of its own accord: an alert, the answer to a KeyUpdate
	staged      []byte     // read from the socket and not yet taken by crypto/tls
	lent        *rawBuffer // what crypto/tls has for its rawInput
}

// emptyError is what secured.Read returns when it has no more bytes. crypto/tls regards an error that is a temporary
// net.Error as passing: it keeps the part of a record that it has, and can be asked again.
type emptyError struct{}

func (emptyError) Error() string   { return "no more bytes at hand" }
func (emptyError) Timeout() bool   { return true }
func (emptyError) Temporary() bool { return true }

// secure runs the handshake and goes on under TLS, or ends the connection. It is the driver's: meanwhile nothing is read
// from the socket but by the handshake.
func (c *Conn) secure() {
	cfg := c.upgrade
	c.upgrade = nil
	c.freeInput() // RFC 6120 §5.4.3.3: what came in plaintext counts no more
	c.hold()
	s := &secured{c: c}
	s.conn = tls.Server(s, cfg)
	c.nc.SetDeadline(time.Now().Add(c.shared.handshakeTimeout))
	if c.signals.Load()&(sigAborted|sigClosing) != 0 { // looked at after the deadline: whoever sets them later wakes us
		return
	}
	done := make(chan error, 1)
	go func() { done <- s.handshake() }() // its stack grows to 16 KiB, and must not be the driver's
	err := <-done
	c.shared.metrics.shook(err == nil)
	if err != nil {
		c.peerGone = true // RFC 6120 §5.4.3.2: nothing more is said
		c.Close(fmt.Errorf("TLS handshake: %w", err))
		return
	}
	c.nc.SetWriteDeadline(time.Time{})
	c.last = now()
	c.rearm()
	c.mu.Lock()
	c.secured, c.held = s, false
	c.mu.Unlock()
	c.deliver(nil) // the handshake may have read more than its own
	c.Flush()
}

// hold keeps everybody from writing, once all that was appended has left.
func (c *Conn) hold() {
	for {
		c.mu.Lock()
		if c.held || c.pending == nil && !c.flushing {
			c.held = true
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		c.Flush()
		c.drain(0) // ends after WriteTimeout at the latest
	}
}

// handshake runs the handshake, blocking.
func (s *secured) handshake() error {
	err := s.conn.Handshake()
	s.compute(false)
	s.established = err == nil
	return err
}

// compute takes or returns the token that a handshake needs to compute. While it waits for the peer it has none.
func (s *secured) compute(on bool) {
	switch {
	case on && !s.slot:
		s.c.shared.slots <- struct{}{}
	case !on && s.slot:
		<-s.c.shared.slots
	}
	s.slot = on
}

// decrypt gives the handler what the staged records hold, until they are used up or the handler wants a pause. Records
// are put together into one buffer, so that stanzas that came together are handled together.
func (c *Conn) decrypt() {
	s := c.secured
	s.lend()
	plain := readBuffers.Get().(*readBuffer)
	for end := false; !end && c.signals.Load()&^sigBroken == 0; {
		n := 0
		var err error
		for n < len(plain) && err == nil {
			var m int
			m, err = s.conn.Read(plain[n:])
			n += m
		}
		if n > 0 {
			c.give(plain[:n])
		}
		if err == nil || c.signals.Load()&^sigBroken != 0 {
			continue // crypto/tls says the same next time
		}
		if _, passing := err.(emptyError); !passing {
			c.lost(err)
		}
		end = true
	}
	readBuffers.Put(plain)
	s.release()
	if s.stray {
		s.stray = false
		c.Flush()
	}
}

// ends reports whether the peer's close_notify, or an error, is among what arrived with b.
func (s *secured) ends(b []byte) bool {
	s.staged = b
	plain := readBuffers.Get().(*readBuffer)
	defer readBuffers.Put(plain)
	for {
		if _, err := s.conn.Read(plain[:]); err != nil {
			_, passing := err.(emptyError)
			return !passing
		}
	}
}

// Read is called by crypto/tls: during the handshake on its goroutine, then on the driver's.
func (s *secured) Read(p []byte) (int, error) {
	if !s.established {
		s.compute(false)
		n, err := s.c.nc.Read(p)
		s.c.shared.metrics.received(n)
		s.compute(true)
		return n, err
	}
	if len(s.staged) == 0 {
		if s.eof {
			return 0, io.EOF
		}
		return 0, emptyError{}
	}
	n := copy(p, s.staged)
	s.staged = s.staged[n:]
	return n, nil
}

// Write is called by crypto/tls, one call at a time and in the order of the records: during the handshake on its
// goroutine, then by whoever flushes, and by the driver when a peer's message needs an answer.
func (s *secured) Write(p []byte) (int, error) {
	c := s.c
	if !s.established {
		s.compute(false)
		n, err := c.nc.Write(p)
		c.shared.metrics.sent(n)
		return n, err
	}
	c.mu.Lock()
	full := c.cipher.size()+len(p) > c.shared.maxPending+c.shared.maxPending/4+outKept
	if !full {
		c.cipher = c.cipher.add(p)
	}
	if !c.flushing { // then it is the driver; else the flush in progress takes it
		s.stray = true
	}
	c.mu.Unlock()
	if full { // a peer that asks for new keys again and again, and does not read them
		c.Abort(ErrFull)
		return 0, ErrFull
	}
	return len(p), nil
}

// Close and the deadlines are the connection's own business, not that of crypto/tls.

func (s *secured) Close() error                     { return nil }
func (s *secured) SetDeadline(time.Time) error      { return nil }
func (s *secured) SetReadDeadline(time.Time) error  { return nil }
func (s *secured) SetWriteDeadline(time.Time) error { return nil }
func (s *secured) LocalAddr() net.Addr              { return s.c.nc.LocalAddr() }
func (s *secured) RemoteAddr() net.Addr             { return s.c.nc.RemoteAddr() }
