package transport

import (
	"bytes"
	"context"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

// restless answers what it gets, and rests after each read.
type restless struct {
	c     *Conn
	where chan string // the goroutine of each read
}

func (r *restless) OnBytes(b []byte) error {
	r.c.Append(b)
	r.c.Rest()
	buf := make([]byte, 64)
	r.where <- strings.Fields(string(buf[:runtime.Stack(buf, false)]))[1]
	return nil
}

func (r *restless) OnFlush()      { r.c.Flush() }
func (r *restless) OnClose(error) {}

// TestRest: the connection goes on where it was, on another goroutine each time, and done is called once.
func TestRest(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	peer, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	peer.SetDeadline(time.Now().Add(20 * time.Second))
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	h := &restless{c: New(nc.(*net.TCPConn), &Options{}), where: make(chan string, 1)}
	done := make(chan struct{})
	h.c.Start(context.Background(), h, func() { close(done) })
	seen := map[string]bool{}
	for range 5 {
		if _, err := peer.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 5)
		if _, err := peer.Read(got); err != nil || !bytes.Equal(got, []byte("hello")) {
			t.Fatalf("%q, %v", got, err)
		}
		seen[<-h.where] = true
	}
	if len(seen) != 5 {
		t.Errorf("five reads on %d goroutines", len(seen))
	}
	peer.Close()
	<-done
}
