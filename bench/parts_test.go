package bench_test

import (
	"io"
	"net"
	"testing"

	"github.com/starling-im/starling/internal/transport"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// The parts of a message's way by themselves, to see which of them a change of BenchmarkRoute comes from.

// BenchmarkScan checks a message and finds its parts.
func BenchmarkScan(b *testing.B) {
	message := chat("juliet@localhost/bench")
	scanned(b, message, func(*xml.Item) {})
}

// BenchmarkParse stamps it too, and makes a stanza of it.
func BenchmarkParse(b *testing.B) {
	from := jid.MustParse("romeo@localhost/bench")
	scanned(b, chat("juliet@localhost/bench"), func(it *xml.Item) {
		if _, err := stanza.Parse(it, from, ""); err != nil {
			b.Fatal(err)
		}
	})
}

func scanned(b *testing.B, message []byte, then func(*xml.Item)) {
	var st xml.Stream
	st.Open(xml.NSClient)
	limits := xml.DefaultLimits()
	sc := xml.AcquireScanner()
	defer sc.Release()
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for b.Loop() {
		event, n, err := sc.Next(&st, &limits, message)
		if event != xml.FirstLevel || n != len(message) || err != nil {
			b.Fatal(event, n, err)
		}
		then(sc.Item())
	}
}

// BenchmarkWrite sends a message to a socket: as a connection of the server does, and as plainly as Go can.
func BenchmarkWrite(b *testing.B) {
	message := chat("juliet@localhost/bench")
	b.Run("transport", func(b *testing.B) {
		c := transport.New(socket(b), &transport.Options{})
		served := make(chan error, 1)
		go func() { served <- c.Serve(b.Context(), silent{}) }()
		write(b, message, func() error {
			_, err := c.Append(message)
			c.Flush()
			return err
		})
		c.Abort(nil)
		<-served
	})
	b.Run("net", func(b *testing.B) {
		nc := socket(b)
		defer nc.Close()
		write(b, message, func() error {
			_, err := nc.Write(message)
			return err
		})
	})
}

func write(b *testing.B, message []byte, send func() error) {
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for b.Loop() {
		for err := send(); err != nil; err = send() {
			if err != transport.ErrFull { // the reader is behind
				b.Fatal(err)
			}
		}
	}
}

// silent is a handler of a connection that only sends.
type silent struct{}

func (silent) OnBytes([]byte) error { return nil }
func (silent) OnFlush()             {}
func (silent) OnClose(error)        {}

// socket is one end of a connection whose other end reads all that comes.
func socket(b *testing.B) *net.TCPConn {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	read := make(chan struct{})
	go func() {
		defer close(read)
		if nc, err := l.Accept(); err == nil {
			io.Copy(io.Discard, nc)
			nc.Close()
		}
	}()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { <-read })
	return nc.(*net.TCPConn)
}
