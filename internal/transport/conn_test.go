package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"
)

// TestEcho sends random amounts chopped at random, so that reads are short, exact, and full; an edge of the poller that is
// lost shows as a stall.
func TestEcho(t *testing.T) {
	each(t, func(t *testing.T, l layer) {
		for seed := range uint64(4) {
			own := newOwner()
			_, c, _ := l.open(t, &Options{MaxPending: 8 << 20}, func(c *Conn) Handler { own.echo(c); return own })
			rnd := rand.New(rand.NewPCG(seed, 1))
			sent := make([]byte, 2<<20)
			for i := range sent {
				sent[i] = byte(rnd.Uint32())
			}
			go func() {
				for rest := sent; len(rest) > 0; {
					n := min(len(rest), 1+rnd.IntN(40<<10))
					if rnd.IntN(3) == 0 {
						n = min(len(rest), 1+rnd.IntN(64))
					}
					if _, err := c.Write(rest[:n]); err != nil {
						return
					}
					rest = rest[n:]
				}
				c.CloseWrite()
			}()
			got, err := io.ReadAll(c)
			if err != nil {
				t.Fatalf("seed %d: after %d bytes: %v", seed, len(got), err)
			}
			if !bytes.Equal(got, sent) {
				t.Fatalf("seed %d: %d bytes came back changed", seed, len(got))
			}
			if err := own.end(t); err != io.EOF {
				t.Errorf("OnClose heard %v, want EOF", err)
			}
		}
	})
}

// TestEchoExact sends what fills the read buffer exactly, and waits for it before it sends more.
func TestEchoExact(t *testing.T) {
	each(t, func(t *testing.T, l layer) {
		own := newOwner()
		_, c, _ := l.open(t, &Options{}, func(c *Conn) Handler { own.echo(c); return own })
		buf := make([]byte, 3*readSize)
		for _, n := range []int{1, readSize - 1, readSize, readSize + 1, 2 * readSize, 3 * readSize} {
			if _, err := c.Write(buf[:n]); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, buf[:n]); err != nil {
				t.Fatalf("%d bytes: %v", n, err)
			}
		}
	})
}

func TestStartTLS(t *testing.T) {
	for _, injected := range []string{"", "<evil/>", "\x16\x03\x01\x00\x05evil!"} {
		t.Run("injected "+injected, func(t *testing.T) {
			noLeaks(t)
			s, raw := sockets(t)
			raw.SetDeadline(time.Now().Add(patience))
			conn, own := New(s, &Options{}), newOwner()
			own.echo(conn)
			echo, calls := own.bytes, 0
			own.bytes = func(b []byte) error {
				if calls++; calls > 1 {
					return echo(b)
				}
				conn.StartTLS(serverTLS(tls.VersionTLS13))
				return echo([]byte("<proceed/>"))
			}
			if _, ok := conn.TLSState(); ok {
				t.Error("TLS before the handshake")
			}
			serve(t, conn, own)
			raw.Write([]byte("<starttls/>" + injected))
			proceed := make([]byte, len("<proceed/>"))
			if _, err := io.ReadFull(raw, proceed); err != nil || string(proceed) != "<proceed/>" {
				t.Fatalf("%q, %v", proceed, err)
			}
			c := tls.Client(raw, clientTLS())
			if _, err := c.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			c.CloseWrite()
			got, err := io.ReadAll(c)
			if err != nil || string(got) != "hello" {
				t.Fatalf("came back: %q, %v", got, err)
			}
			if state, ok := conn.TLSState(); !ok || state.Version != tls.VersionTLS13 {
				t.Errorf("TLS state: %x, %v", state.Version, ok)
			}
			if err := own.end(t); err != io.EOF {
				t.Errorf("OnClose heard %v, want EOF", err)
			}
		})
	}
}

// TestEarlyData has the client send application data in the segment that ends the handshake.
func TestEarlyData(t *testing.T) {
	noLeaks(t)
	s, raw := sockets(t)
	raw.SetDeadline(time.Now().Add(patience))
	conn, own := New(s, &Options{}), newOwner()
	own.echo(conn)
	conn.DirectTLS(serverTLS(tls.VersionTLS13))
	serve(t, conn, own)
	held := &holding{Conn: raw}
	c := tls.Client(held, clientTLS())
	held.hold = 2 // the ClientHello leaves, the Finished does not
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := raw.Write(held.kept); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		t.Fatalf("%q, %v", got, err)
	}
}

// holding keeps what is written from the nth write on.
type holding struct {
	net.Conn
	hold int
	kept []byte
}

func (h *holding) Write(p []byte) (int, error) {
	if h.hold--; h.hold > 0 {
		return h.Conn.Write(p)
	}
	h.kept = append(h.kept, p...)
	return len(p), nil
}

func TestPause(t *testing.T) {
	each(t, func(t *testing.T, l layer) {
		own := newOwner()
		var conn *Conn
		calls := make(chan string, 100)
		own.bytes = func(b []byte) error {
			if len(b) > 0 {
				conn.Pause()
			}
			calls <- string(b)
			return nil
		}
		_, c, _ := l.open(t, &Options{}, func(c *Conn) Handler { conn = c; return own })
		conn.Resume() // without a pause: nothing
		c.Write([]byte("one"))
		expect(t, calls, "one")
		c.Write([]byte("two"))
		for i := range 3 {
			conn.Resume()
			expect(t, calls, "")
			want := []string{"two", "three", "four"}[i]
			expect(t, calls, want)
			if i < 2 {
				c.Write([]byte([]string{"three", "four"}[i]))
			}
		}
		c.Close()
		if len(calls) > 0 {
			t.Errorf("called while paused with %q", <-calls)
		}
		conn.Resume()
		expect(t, calls, "")
		if err := own.end(t); err != io.EOF {
			t.Errorf("OnClose heard %v, want EOF", err)
		}
	})
}

// TestPauseRecords pauses after every call while many TLS records are at hand.
func TestPauseRecords(t *testing.T) {
	each(t, func(t *testing.T, l layer) {
		own := newOwner()
		var got bytes.Buffer
		var conn *Conn
		own.bytes = func(b []byte) error {
			got.Write(b)
			if len(b) > 0 {
				conn.Pause()
				go conn.Resume()
			}
			return nil
		}
		_, c, _ := l.open(t, &Options{}, func(c *Conn) Handler { conn = c; return own })
		sent := bytes.Repeat([]byte("0123456789abcdef"), 16<<10)
		for rest := sent; len(rest) > 0; rest = rest[1024:] {
			if _, err := c.Write(rest[:1024]); err != nil {
				t.Fatal(err)
			}
		}
		c.CloseWrite()
		if err := own.end(t); err != io.EOF {
			t.Errorf("OnClose heard %v, want EOF", err)
		}
		if !bytes.Equal(got.Bytes(), sent) {
			t.Errorf("%d bytes arrived of %d, or others", got.Len(), len(sent))
		}
	})
}

func expect(t *testing.T, calls <-chan string, want string) {
	t.Helper()
	select {
	case got := <-calls:
		if got != want {
			t.Fatalf("called with %q, want %q", got, want)
		}
	case <-time.After(patience):
		t.Fatalf("not called with %q", want)
	}
}

// TestDataAndEnd has the last bytes and the end of the stream arrive before the driver looks: one edge for both.
func TestDataAndEnd(t *testing.T) {
	for _, size := range []int{1, readSize, 2 * readSize} {
		noLeaks(t)
		s, c := sockets(t)
		c.Write(make([]byte, size))
		c.Close()
		conn, own, got := New(s, &Options{}), newOwner(), 0
		own.bytes = func(b []byte) error { got += len(b); return nil }
		serve(t, conn, own)
		if err := own.end(t); err != io.EOF || got != size {
			t.Errorf("%d bytes: got %d, then %v", size, got, err)
		}
	}
}

// idler is an owner that hears of silence.
type idler struct {
	*owner
	idle chan struct{}
}

func (i *idler) OnIdle() { i.idle <- struct{}{} }

func TestIdle(t *testing.T) {
	each(t, func(t *testing.T, l layer) {
		own := &idler{newOwner(), make(chan struct{}, 100)}
		start := time.Now()
		const d = 20 * time.Millisecond
		_, c, _ := l.open(t, &Options{}, func(c *Conn) Handler {
			c.SetIdle(d)
			own.bytes = func(b []byte) error {
				switch string(b) {
				case "faster":
					c.SetIdle(d / 4)
				case "never":
					c.SetIdle(0)
					c.Append([]byte("ok"))
					c.Flush()
				}
				return nil
			}
			return own
		})
		for i := 1; i <= 3; i++ {
			<-own.idle
			if past := time.Since(start); past < time.Duration(i)*d {
				t.Errorf("idle for the %d. time after %v", i, past)
			}
		}
		c.Write([]byte("faster"))
		<-own.idle
		c.Write([]byte("never"))
		io.ReadFull(c, make([]byte, 2))
		c.Close()
		if err := own.end(t); err != io.EOF {
			t.Errorf("OnClose heard %v, want EOF", err)
		}
	})
}

// TestNotIdle goes on for longer than the time allowed in silence.
func TestNotIdle(t *testing.T) {
	each(t, func(t *testing.T, l layer) {
		own := &idler{newOwner(), make(chan struct{}, 100)}
		const d = 100 * time.Millisecond
		_, c, _ := l.open(t, &Options{}, func(c *Conn) Handler { c.SetIdle(d); own.echo(c); return own })
		var longest time.Duration
		last := time.Now()
		for start := last; last.Sub(start) < 5*d/2; {
			c.Write([]byte("x"))
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			longest, last = max(longest, time.Since(last)), time.Now()
		}
		if n := len(own.idle); n > 0 && longest < d/2 { // else this test itself was held up
			t.Errorf("idle %d times", n)
		}
	})
}

func TestIdleClose(t *testing.T) {
	each(t, func(t *testing.T, l layer) {
		own := newOwner()
		_, c, _ := l.open(t, &Options{}, func(c *Conn) Handler { c.SetIdle(10 * time.Millisecond); return own })
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("client read: %v, want EOF", err)
		}
		c.Close()
		if err := own.end(t); err != ErrIdle {
			t.Errorf("OnClose heard %v, want ErrIdle", err)
		}
	})
}

func TestRemoteAddr(t *testing.T) {
	noLeaks(t)
	s, c := sockets(t)
	conn := New(s, &Options{})
	if got, want := conn.RemoteAddr().String(), c.LocalAddr().String(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("going down")
	cancel(why)
	if err := conn.Serve(ctx, newOwner()); err != why {
		t.Errorf("Serve: %v", err)
	}
}
