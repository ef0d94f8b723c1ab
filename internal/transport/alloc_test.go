//go:build !race

package transport

import (
	"io"
	"reflect"
	"testing"
)

// TestAllocations holds the promise that sending costs no allocation, and receiving only those that crypto/tls makes. It
// is left out under the race detector, where sync.Pool drops what it is given.
func TestAllocations(t *testing.T) {
	each(t, func(t *testing.T, l layer) {
		own := newOwner()
		conn, c, raw := l.open(t, &Options{}, func(c *Conn) Handler { own.echo(c); return own })
		message, back := make([]byte, 432), make([]byte, 1000)
		if l.config != nil {
			c.Write(message)
			io.ReadFull(c, message) // and with it session tickets: from now on answers are read raw, which costs nothing
		}
		receive := func() {
			if _, err := io.ReadAtLeast(raw, back, len(message)); err != nil {
				t.Fatal(err)
			}
		}
		sent := testing.AllocsPerRun(200, func() {
			needFlush, err := conn.Append(message)
			if err != nil {
				t.Fatal(err)
			}
			if needFlush { // else the flush before has written, and is about to look for more
				conn.Flush()
			}
			receive()
		})
		if sent > 0 {
			t.Errorf("%v allocations to send a message", sent)
		}
		echoed := testing.AllocsPerRun(200, func() {
			if _, err := c.Write(message); err != nil {
				t.Fatal(err)
			}
			receive()
		})
		limit := 0.0
		if l.config != nil {
			limit = 2 // a small reader in crypto/tls whenever it wants the header or the body of a record
		}
		if echoed > limit {
			t.Errorf("%v allocations to echo a message", echoed)
		}
	})
}

// TestSize holds the size of what each idle connection has.
func TestSize(t *testing.T) {
	if size := reflect.TypeFor[Conn]().Size(); size > 256 {
		t.Errorf("a Conn has %d bytes", size)
	}
}
