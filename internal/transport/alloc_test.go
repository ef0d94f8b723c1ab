//go:build !race

package transport

import (
	"io"
	"testing"
)

// TestAllocations holds the promise that sending costs no allocation. It is left out under the race detector, where
// sync.Pool drops what it is given.
func TestAllocations(t *testing.T) {
	each(t, func(t *testing.T, l layer) {
		own := newOwner()
		conn, c, _ := l.open(t, &Options{}, func(*Conn) Handler { return own })
		message, back := make([]byte, 432), make([]byte, 432)
		send := func() {
			needFlush, err := conn.Append(message)
			if err != nil || !needFlush {
				t.Error(needFlush, err)
			}
			conn.Flush()
		}
		clean := func() {
			if _, err := io.ReadFull(c, back); err != nil {
				t.Error(err)
			}
		}
		send()
		clean()
		read := testing.AllocsPerRun(200, clean) // the client's own
		if n := testing.AllocsPerRun(200, func() { send(); clean() }); n > read {
			t.Errorf("%v allocations for a message", n-read)
		}
	})
}

// TestAllocationsReceived holds the same for what arrives.
func TestAllocationsReceived(t *testing.T) {
	each(t, func(t *testing.T, l layer) {
		own := newOwner()
		_, c, _ := l.open(t, &Options{}, func(c *Conn) Handler { own.echo(c); return own })
		message := make([]byte, 432)
		trip := func() {
			if _, err := c.Write(message); err != nil {
				t.Error(err)
			}
			if _, err := io.ReadFull(c, message); err != nil {
				t.Error(err)
			}
		}
		// crypto/tls makes one small reader for each record header and body that it must wait for, here and there.
		limit := 0.0
		if l.config != nil {
			limit = 8
		}
		if n := testing.AllocsPerRun(200, trip); n > limit {
			t.Errorf("%v allocations for a message", n)
		}
	})
}
