package natsbus

import (
	"encoding/binary"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/starling-im/starling/cluster/internal/bus"
)

// tokenFile is what a node reads its tokens from.
type tokenFile struct{ text atomic.Pointer[string] }

func (f *tokenFile) write(tokens ...string) {
	s := strings.Join(tokens, "\n")
	f.text.Store(&s)
}

func (f *tokenFile) read() ([]byte, error) {
	if s := *f.text.Load(); s != "" {
		return []byte(s), nil
	}
	return nil, errors.New("no such file")
}

// TestRekey replaces the token of a running cluster, under traffic: no connection ends and no message is lost. Then the
// old token lets nobody in, and the new one does.
func TestRekey(t *testing.T) {
	was, is := NewToken(), NewToken()
	file := &tokenFile{}
	file.write(was)
	start := func(i int, token string, peers ...string) *node {
		return open(t, i, &Embedded{Token: []byte(token), Reread: file.read, Rekey: 2 * time.Millisecond, Listen: "127.0.0.1:0", Peers: peers})
	}
	nodes := []*node{start(0, was)}
	for i := 1; i < 3; i++ {
		nodes = append(nodes, start(i, was, nodes[0].address()))
	}
	for i, n := range nodes {
		n.until(t, true, nodes[(i+1)%3].id, nodes[(i+2)%3].id)
	}
	got, holes := traffic(t, nodes)
	for i, step := range [][]string{{was, is}, {"no token"}, {}, {is, was}, {is}} {
		file.write(step...)
		what, count := "join tokens changed", 1+min(i, 1)+max(i-3, 0)
		if i == 1 || i == 2 {
			what, count = "join tokens stay as they were", i
		}
		for _, n := range nodes {
			eventually(t, what, func() bool { return len(n.log.with(what)) >= count })
		}
		flows(t, got)
	}
	starved := false // so much that pings went unanswered: that ends connections, too
	for _, n := range nodes {
		starved = starved || len(n.log.with("Stale Connection")) > 0
	}
	for _, n := range nodes {
		select {
		case h := <-n.Hints():
			if !starved {
				t.Errorf("%s: connection with %s up=%v", n.id, h.Peer, h.Up)
			}
		default:
		}
	}
	if holes.Load() > 0 && !starved {
		t.Errorf("messages are missing in %d places", holes.Load())
	}
	old, err := tryOpen(t, 3, &Embedded{Token: []byte(was), Listen: "127.0.0.1:0", Peers: []string{nodes[0].address()}})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case f := <-old.Faults():
		checkFailure(t, f, otherToken)
	case <-time.After(patience):
		t.Error("the old token lets a node in")
	}
	fresh := start(4, is, nodes[0].address())
	fresh.until(t, true, nodes[0].id, nodes[1].id, nodes[2].id)
	flows(t, got)
}

// traffic makes each node send numbers to all, and keeps the last that came on each way, and in how many places some
// are missing.
func traffic(t *testing.T, nodes []*node) (got []*atomic.Uint64, holes *atomic.Int64) {
	t.Helper()
	holes = &atomic.Int64{}
	for _, to := range nodes {
		for _, from := range nodes {
			last := &atomic.Uint64{}
			got = append(got, last)
			if _, err := to.Subscribe(bus.Data, "traffic."+from.id, func(m bus.Message) {
				n := binary.BigEndian.Uint64(m.Data)
				if was := last.Swap(n); was > 0 && n != was+1 {
					holes.Add(1)
				}
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, n := range nodes {
		done := make(chan struct{})
		stop := make(chan struct{})
		go func() {
			defer close(done)
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for i := uint64(1); ; i++ {
				select {
				case <-stop:
					return
				case <-tick.C:
					_ = n.Publish(bus.Data, "traffic."+n.id, binary.BigEndian.AppendUint64(nil, i))
				}
			}
		}()
		t.Cleanup(func() {
			close(stop)
			<-done
		})
	}
	return got, holes
}

// flows waits until more numbers have come on every way.
func flows(t *testing.T, got []*atomic.Uint64) {
	t.Helper()
	for _, g := range got {
		was := g.Load()
		eventually(t, "traffic", func() bool { return g.Load() >= was+20 })
	}
}
