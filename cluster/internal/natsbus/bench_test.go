package natsbus

import (
	"fmt"
	"testing"
	"time"

	"github.com/starling-im/starling/cluster/internal/bus"
)

// BenchmarkPublish sends from one node to another over TLS, with at most 4 MiB on the way, as a link does.
func BenchmarkPublish(b *testing.B) {
	token := []byte(NewToken())
	from := openBench(b, "from", &Embedded{Token: token, Listen: "127.0.0.1:0"})
	to := openBench(b, "to", &Embedded{Token: token, Listen: "127.0.0.1:0", Peers: []string{from.(bus.Addresser).Address()}})
	for _, size := range []int{300, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			window := make(chan struct{}, max(1, 4<<20/size))
			cancel, err := to.Subscribe(bus.Data, "v1.test.bench", func(m bus.Message) {
				if len(m.Data) == size {
					<-window
				}
			})
			if err != nil {
				b.Fatal(err)
			}
			defer cancel()
			reachBench(b, from, to)
			data := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				window <- struct{}{}
				if err := from.Publish(bus.Data, "v1.test.bench", data); err != nil {
					b.Fatal(err)
				}
			}
			for range cap(window) {
				window <- struct{}{} // the last ones have arrived
			}
		})
	}
}

// BenchmarkRequest asks one node from another, one at a time.
func BenchmarkRequest(b *testing.B) {
	token := []byte(NewToken())
	from := openBench(b, "from", &Embedded{Token: token, Listen: "127.0.0.1:0"})
	to := openBench(b, "to", &Embedded{Token: token, Listen: "127.0.0.1:0", Peers: []string{from.(bus.Addresser).Address()}})
	reachBench(b, from, to)
	for b.Loop() {
		if _, err := from.Request(b.Context(), "v1.test.echo", nil); err != nil {
			b.Fatal(err)
		}
	}
}

func openBench(b *testing.B, id string, e *Embedded) bus.Bus {
	b.Helper()
	opened, err := e.Open(b.Context(), identity(id), discard())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = opened.Close(b.Context()) })
	return opened
}

// reachBench waits until what the other one subscribed to has spread.
func reachBench(b *testing.B, from, to bus.Bus) {
	b.Helper()
	if _, err := to.Respond("v1.test.echo", echo); err != nil {
		b.Fatal(err)
	}
	heard := make(chan struct{}, 1)
	cancel, err := to.Subscribe(bus.Data, "v1.test.bench.on", func(bus.Message) {
		select {
		case heard <- struct{}{}:
		default:
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	defer cancel()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for met := false; !met; {
		if err := from.Publish(bus.Data, "v1.test.bench.on", nil); err != nil {
			b.Fatal(err)
		}
		select {
		case <-heard:
			_, err := from.Request(b.Context(), "v1.test.echo", nil)
			met = err == nil
		case <-again.C:
		}
	}
}
