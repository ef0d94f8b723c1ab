package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

var errBye = errors.New("bye")

// TestClose has the last bytes arrive before the end of the stream, and the peer's end end the connection.
func TestClose(t *testing.T) {
	each(t, func(t *testing.T, l layer) {
		own := newOwner()
		conn, c, _ := l.open(t, &Options{Linger: patience}, func(*Conn) Handler { return own })
		const size = 900 << 10 // more than the kernel takes at once
		if _, err := conn.Append(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		conn.Close(errBye)
		if _, err := conn.Append([]byte("late")); err != ErrClosed {
			t.Errorf("Append after Close: %v", err)
		}
		c.Write([]byte("still talking")) // ignored, and no reason for a reset
		got, err := io.ReadAll(c)
		if len(got) != size || err != nil {
			t.Errorf("read %d bytes of %d, %v", len(got), size, err)
		}
		if len(own.closed) > 0 {
			t.Error("closed before the peer closed its side")
		}
		c.Close()
		if err := own.end(t); err != errBye {
			t.Errorf("OnClose heard %v", err)
		}
	})
}

// TestCloseFromHandler ends by an error of OnBytes, after what was appended before.
func TestCloseFromHandler(t *testing.T) {
	each(t, func(t *testing.T, l layer) {
		own := newOwner()
		conn, c, _ := l.open(t, &Options{}, func(c *Conn) Handler {
			own.bytes = func([]byte) error {
				c.Append([]byte("</stream:stream>"))
				return errBye
			}
			return own
		})
		c.Write([]byte("end"))
		if got, err := io.ReadAll(c); string(got) != "</stream:stream>" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
		c.Close()
		if err := own.end(t); err != errBye {
			t.Errorf("OnClose heard %v", err)
		}
		conn.Close(nil)
		conn.Abort(nil)
		conn.Resume()
		conn.Flush()
		if _, err := conn.Append([]byte("late")); err != ErrClosed {
			t.Errorf("Append after the end: %v", err)
		}
	})
}

// TestLinger has a peer that neither reads nor closes.
func TestLinger(t *testing.T) {
	for name, pending := range map[string]int{"nothing pending": 0, "much pending": 16 << 20} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, l layer) {
				own := newOwner()
				linger := 50 * time.Millisecond
				conn, _, _ := l.open(t, &Options{Linger: linger, MaxPending: 32 << 20}, func(*Conn) Handler { return own })
				start := time.Now()
				conn.Append(make([]byte, pending))
				conn.Close(errBye)
				if err := own.end(t); err != errBye {
					t.Errorf("OnClose heard %v", err)
				}
				if d := time.Since(start); d < linger {
					t.Errorf("closed after %v", d)
				}
			})
		})
	}
}

// TestCloseNotify sees a close_notify as the last record in both directions (RFC 6120 §4.4). In TLS 1.2 the type of a
// record can be seen from outside.
func TestCloseNotify(t *testing.T) {
	noLeaks(t)
	s, raw := sockets(t)
	raw.SetDeadline(time.Now().Add(patience))
	conn, own := New(s, &Options{Linger: patience}), newOwner()
	conn.DirectTLS(serverTLS(tls.VersionTLS12))
	serve(t, conn, own)
	tap := &recording{Conn: raw}
	c := tls.Client(tap, clientTLS())
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	conn.Append([]byte("bye"))
	conn.Close(errBye)
	if got, err := io.ReadAll(c); err != nil || string(got) != "bye" {
		t.Errorf("%q, %v", got, err)
	}
	const alert = 21
	if typ := tap.lastRecord(); typ != alert {
		t.Errorf("the last record is of type %d", typ)
	}
	if len(own.closed) > 0 {
		t.Error("closed before the peer answered")
	}
	c.CloseWrite() // the answer alone, the socket stays open
	if err := own.end(t); err != errBye {
		t.Errorf("OnClose heard %v", err)
	}
}

// recording keeps what was read.
type recording struct {
	net.Conn
	read []byte
}

func (r *recording) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.read = append(r.read, p[:n]...)
	return n, err
}

func (r *recording) lastRecord() (typ byte) {
	for b := r.read; len(b) >= 5; b = b[5+int(b[3])<<8+int(b[4]):] {
		typ = b[0]
	}
	return typ
}

func TestAbort(t *testing.T) {
	for name, abort := range map[string]func(*Conn, context.CancelFunc){
		"Abort":            func(c *Conn, _ context.CancelFunc) { c.Abort(context.Canceled) },
		"end of context":   func(_ *Conn, cancel context.CancelFunc) { cancel() },
		"Abort and Close":  func(c *Conn, _ context.CancelFunc) { c.Abort(context.Canceled); c.Close(errBye) },
		"Close, cut short": func(c *Conn, _ context.CancelFunc) { c.Close(context.Canceled); c.Abort(errBye) },
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, l layer) {
				s, raw := sockets(t)
				raw.SetDeadline(time.Now().Add(patience))
				conn, own := New(s, &Options{Linger: time.Hour}), newOwner()
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				var c net.Conn = raw
				if l.config != nil {
					conn.DirectTLS(l.config())
					c = tls.Client(raw, clientTLS())
				}
				done := make(chan error, 1)
				go func() { done <- conn.Serve(ctx, own) }()
				if tc, ok := c.(*tls.Conn); ok {
					if err := tc.Handshake(); err != nil {
						t.Fatal(err)
					}
				}
				conn.Append(make([]byte, 1<<20))
				conn.Flush() // more than fits: somebody waits
				abort(conn, cancel)
				if err := <-done; err != context.Canceled {
					t.Errorf("Serve: %v", err)
				}
				if err := own.end(t); err != context.Canceled {
					t.Errorf("OnClose heard %v", err)
				}
				if _, err := io.Copy(io.Discard, raw); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the peer sees %v, want a reset", err)
				}
			})
		})
	}
}

// TestAbortPaused ends connections whose handler waits for something.
func TestAbortPaused(t *testing.T) {
	each(t, func(t *testing.T, l layer) {
		for _, end := range []func(*Conn){func(c *Conn) { c.Abort(errBye) }, func(c *Conn) { c.Close(errBye) }} {
			own, paused := newOwner(), make(chan struct{})
			conn, c, _ := l.open(t, &Options{Linger: time.Millisecond}, func(c *Conn) Handler {
				own.bytes = func([]byte) error { c.Pause(); close(paused); return nil }
				return own
			})
			c.Write([]byte("x"))
			<-paused
			end(conn)
			if err := own.end(t); err != errBye {
				t.Errorf("OnClose heard %v", err)
			}
		}
	})
}

// TestCloseUnread closes while much of what the peer sent has not been read: the peer sees a regular end all the same.
func TestCloseUnread(t *testing.T) {
	each(t, func(t *testing.T, l layer) {
		own := newOwner()
		_, c, _ := l.open(t, &Options{Linger: patience}, func(c *Conn) Handler {
			own.bytes = func([]byte) error {
				c.Pause()
				go c.Close(errBye)
				return nil
			}
			return own
		})
		message := make([]byte, 1000)
		for range 500 {
			if _, err := c.Write(message); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := io.Copy(io.Discard, c); n != 0 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		if len(own.closed) > 0 {
			t.Error("closed before the peer closed its side")
		}
		c.Close()
		if err := own.end(t); err != errBye {
			t.Errorf("OnClose heard %v", err)
		}
	})
}

// TestContexts has connections end with their contexts and no others, and leaves nothing behind.
func TestContexts(t *testing.T) {
	noLeaks(t)
	o := &Options{}
	one, endOne := context.WithCancelCause(context.Background())
	two, endTwo := context.WithCancel(context.Background())
	defer endTwo()
	ends := map[context.Context]chan error{one: make(chan error, 3), two: make(chan error, 3), context.Background(): make(chan error, 3)}
	var clients []net.Conn
	for ctx, end := range ends {
		for range cap(end) {
			s, c := sockets(t)
			clients = append(clients, c)
			conn := New(s, o)
			go func() { end <- conn.Serve(ctx, newOwner()) }()
		}
	}
	of := func() int {
		o.shared.followers.mu.Lock()
		defer o.shared.followers.mu.Unlock()
		return len(o.shared.followers.of)
	}
	until(t, "both contexts are followed", func() bool { return of() == 2 })
	endOne(errBye)
	for range cap(ends[one]) {
		if err := <-ends[one]; err != errBye {
			t.Errorf("Serve: %v", err)
		}
	}
	for _, c := range clients {
		c.Close()
	}
	for _, ctx := range []context.Context{two, context.Background()} {
		for range cap(ends[ctx]) {
			if err := <-ends[ctx]; err != io.EOF {
				t.Errorf("Serve: %v", err)
			}
		}
	}
	if n := of(); n != 0 {
		t.Errorf("%d contexts are still followed", n)
	}
}

// TestBroken has the peer reset the connection after its last words: these are heard, though writing fails first.
func TestBroken(t *testing.T) {
	noLeaks(t)
	s, c := sockets(t)
	conn, own := New(s, &Options{}), newOwner()
	got := ""
	own.bytes = func(b []byte) error { got += string(b); return nil }
	c.Write([]byte("last words"))
	for c.SetLinger(0); ; {
		if _, err := conn.Append([]byte("anybody there?")); err != nil {
			break
		}
		conn.Flush()
		c.Close()
	}
	serve(t, conn, own)
	if err := own.end(t); err == nil || got != "last words" {
		t.Errorf("heard %q, then %v", got, err)
	}
}

// TestPanic releases everything when a handler panics, and leaves the panic to the caller of Serve.
func TestPanic(t *testing.T) {
	noLeaks(t)
	s, c := sockets(t)
	conn, own := New(s, &Options{}), newOwner()
	own.bytes = func([]byte) error { panic("broken invariant") }
	c.Write([]byte("x"))
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		conn.Serve(context.Background(), own)
	}()
	if err := own.end(t); err != ErrClosed {
		t.Errorf("OnClose heard %v", err)
	}
}
