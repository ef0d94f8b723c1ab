package transport

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const stuckPeers = 100

// stuck opens connections whose peers do not read.
func stuck(t *testing.T, l layer, o *Options) (conns []*Conn, owners []*owner) {
	t.Helper()
	for range stuckPeers {
		own := newOwner()
		conn, _, raw := l.open(t, o, func(c *Conn) Handler {
			c.nc.SetWriteBuffer(8 << 10)
			return own
		})
		raw.SetReadBuffer(8 << 10)
		conns, owners = append(conns, conn), append(owners, own)
	}
	return conns, owners
}

// healthy opens a connection whose peer reads all it gets; wait returns that.
func healthy(t *testing.T, l layer, o *Options) (conn *Conn, wait func() []byte) {
	t.Helper()
	own, got := newOwner(), make(chan []byte, 1)
	conn, c, _ := l.open(t, o, func(*Conn) Handler { return own })
	go func() {
		all, _ := io.ReadAll(c)
		c.Close()
		got <- all
	}()
	return conn, func() []byte {
		conn.Close(nil)
		own.end(t)
		return <-got
	}
}

// TestStuckFull sends to 100 receivers that have stopped reading, and to one that reads: no call ever waits, memory is
// bounded, and each stuck one is refused more when it has MaxPending.
func TestStuckFull(t *testing.T) {
	each(t, func(t *testing.T, l layer) {
		registry := prometheus.NewRegistry()
		o := &Options{MaxPending: 64 << 10, Metrics: NewMetrics(registry)}
		conns, owners := stuck(t, l, o)
		good, received := healthy(t, l, o)
		before := heap()
		message := bytes.Repeat([]byte("m"), 1000)
		full := map[*Conn]bool{}
		var slowest time.Duration
		rounds := 0
		for ; len(full) < stuckPeers && rounds < 1e6; rounds++ {
			for _, c := range append(conns[:stuckPeers:stuckPeers], good) {
				start := time.Now()
				needFlush, err := c.Append(message)
				if needFlush {
					c.Flush()
				}
				slowest = max(slowest, time.Since(start))
				for c == good && err == ErrFull { // a reader may be slower than this loop
					runtime.Gosched()
					if needFlush, err = c.Append(message); needFlush {
						c.Flush()
					}
				}
				switch {
				case err == ErrFull:
					full[c] = true
				case err != nil:
					t.Fatal(err)
				}
			}
		}
		if len(full) < stuckPeers {
			t.Fatalf("only %d of the receivers are full", len(full))
		}
		if slowest > time.Second {
			t.Errorf("a sender waited for %v", slowest)
		}
		blocked := func() (n int) {
			for _, c := range conns {
				c.mu.Lock()
				held, flushing := c.inflight+c.pending.size(), c.flushing
				c.mu.Unlock()
				if held > o.MaxPending || held > 0 && !flushing {
					t.Errorf("%d bytes pending, somebody flushing: %v", held, flushing)
				}
				if flushing { // the kernel may have taken all from some meanwhile
					n++
				}
			}
			return n
		}
		until(t, "stuck connections are counted as blocked", func() bool {
			n := blocked()
			return n > stuckPeers/2 && value(t, o.Metrics.writers) == float64(n)
		})
		// One buffer is being written, one filled, and append makes them up to twice as large as what is in them.
		if grown, most := heap()-before, stuckPeers*o.MaxPending*4; grown > most {
			t.Errorf("the heap has grown by %d bytes, more than %d", grown, most)
		}
		for i, c := range conns {
			c.Abort(ErrFull)
			if err := owners[i].end(t); err != ErrFull {
				t.Errorf("OnClose heard %v", err)
			}
		}
		if got := len(received()); got != rounds*len(message) {
			t.Errorf("the receiver that reads got %d bytes of %d", got, rounds*len(message))
		}
		if n := value(t, o.Metrics.slow); n != stuckPeers {
			t.Errorf("%v connections counted as closed for being slow", n)
		}
		until(t, "no connection counted as open or blocked", func() bool {
			return value(t, o.Metrics.writers) == 0 && value(t, o.Metrics.open) == 0
		})
	})
}

func heap() int {
	runtime.GC()
	runtime.GC() // what the pools hold survives one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// TestStuckTimeout has bytes wait for 100 receivers that do not read: all end.
func TestStuckTimeout(t *testing.T) {
	each(t, func(t *testing.T, l layer) {
		o := &Options{MaxPending: 32 << 20, WriteTimeout: 50 * time.Millisecond}
		conns, owners := stuck(t, l, o)
		good, received := healthy(t, l, o)
		message := make([]byte, 256<<10)
		for _, c := range append(conns, good) {
			if _, err := c.Append(message); err != nil {
				t.Fatal(err)
			}
			c.Flush()
		}
		for _, own := range owners {
			if err := own.end(t); err != ErrWriteTimeout {
				t.Errorf("OnClose heard %v", err)
			}
		}
		if got := len(received()); got != len(message) {
			t.Errorf("the receiver that reads got %d bytes", got)
		}
	})
}

// TestSlowReader reads little by little, for longer in all than the time allowed without progress.
func TestSlowReader(t *testing.T) {
	each(t, func(t *testing.T, l layer) {
		o := &Options{MaxPending: 32 << 20, WriteTimeout: 400 * time.Millisecond}
		own := newOwner()
		conn, c, raw := l.open(t, o, func(c *Conn) Handler { c.nc.SetWriteBuffer(64 << 10); return own })
		raw.SetReadBuffer(256 << 10)
		const size = 8 << 20
		conn.Append(make([]byte, size))
		conn.Flush()
		tick := time.NewTicker(15 * time.Millisecond)
		defer tick.Stop()
		buf := make([]byte, size/64)
		for n := 0; n < size; <-tick.C {
			m, err := io.ReadFull(c, buf)
			if n += m; err != nil {
				t.Fatalf("after %d bytes: %v", n, err)
			}
		}
		for start := time.Now(); time.Since(start) < 2*o.WriteTimeout; { // the deadline of the write that waited is gone
			if _, err := conn.Append([]byte("x")); err != nil {
				t.Fatal(err)
			}
			conn.Flush()
			if _, err := io.ReadFull(c, buf[:1]); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestManySenders has many goroutines send to one connection, whose peer must get each message whole and those of a sender
// in order.
func TestManySenders(t *testing.T) {
	each(t, func(t *testing.T, l layer) {
		const senders, messages, size = 8, 3000, 64
		conn, received := healthy(t, l, &Options{MaxPending: senders * messages * size})
		var wg sync.WaitGroup
		for s := range senders {
			wg.Go(func() {
				m := bytes.Repeat([]byte{byte(s)}, size)
				for i := range messages {
					m[1], m[2] = byte(i>>8), byte(i)
					needFlush, err := conn.Append(m)
					if err != nil {
						t.Error(err)
						return
					}
					if needFlush {
						conn.Flush()
					}
				}
			})
		}
		wg.Wait()
		got, next := received(), [senders]int{}
		if len(got) != senders*messages*size {
			t.Fatalf("%d bytes arrived of %d", len(got), senders*messages*size)
		}
		for m := range chunks(got, size) {
			s := m[0]
			if i := int(m[1])<<8 | int(m[2]); i != next[s] || m[size-1] != s {
				t.Fatalf("sender %d: message %d came as %d, %x", s, next[s], i, m)
			}
			next[s]++
		}
	})
}

func chunks(b []byte, n int) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for ; len(b) >= n; b = b[n:] {
			if !yield(b[:n]) {
				return
			}
		}
	}
}

// TestSendToEachOther has connections abort and close each other from within their handlers, which must not deadlock.
func TestSendToEachOther(t *testing.T) {
	each(t, func(t *testing.T, l layer) {
		for _, end := range []func(*Conn){func(c *Conn) { c.Abort(errBye) }, func(c *Conn) { c.Close(errBye) }} {
			var conns [2]*Conn
			var owners [2]*owner
			var clients [2]client
			var both sync.WaitGroup
			both.Add(2)
			o := &Options{Linger: time.Millisecond}
			for i := range conns {
				own := newOwner()
				own.bytes = func([]byte) error {
					both.Done()
					both.Wait() // each is in its handler
					end(conns[1-i])
					return nil
				}
				owners[i] = own
				conns[i], clients[i], _ = l.open(t, o, func(*Conn) Handler { return own })
			}
			for _, c := range clients {
				c.Write([]byte("x"))
			}
			for _, own := range owners {
				if err := own.end(t); !errors.Is(err, errBye) {
					t.Errorf("OnClose heard %v", err)
				}
			}
		}
	})
}

// TestFullDuringHandshake appends while a handshake goes on; what fits arrives after it.
func TestFullDuringHandshake(t *testing.T) {
	noLeaks(t)
	s, raw := sockets(t)
	raw.SetDeadline(time.Now().Add(patience))
	conn, own := New(s, &Options{MaxPending: 10}), newOwner()
	conn.DirectTLS(serverTLS(tls.VersionTLS13))
	serve(t, conn, own)
	if needFlush, err := conn.Append([]byte("0123456789")); !needFlush || err != nil {
		t.Error(needFlush, err)
	}
	conn.Flush()
	if _, err := conn.Append([]byte("x")); err != ErrFull {
		t.Errorf("Append beyond the bound: %v", err)
	}
	c := tls.Client(raw, clientTLS())
	got := make([]byte, 10)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "0123456789" {
		t.Errorf("%q, %v", got, err)
	}
}
