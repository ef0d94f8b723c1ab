package cluster_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/cluster/internal/mem"
)

// TestBulkChannel: records of a bulk channel come in order beside the others, which do not wait for them, also while
// rows are asked for; and those to the dead come back.
func TestBulkChannel(t *testing.T) {
	bubble(t, mem.Options{Seed: 7, Loss: 0.05, MaxDelay: 5 * time.Millisecond}, func(w *world) {
		a, b := w.start("a"), w.start("b")
		for i := range 500 {
			put(t, a, fmt.Sprint(i), strings.Repeat("x", 1000))
		}
		var mu sync.Mutex
		got, back, urgent := []uint32(nil), 0, false
		b.BulkChannel("copies", func(_ cluster.Member, rec []byte) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, binary.BigEndian.Uint32(rec))
		}, nil)
		b.Channel("news", func(cluster.Member, []byte) { mu.Lock(); defer mu.Unlock(); urgent = true }, nil)
		copies := a.BulkChannel("copies", nil, func(_ cluster.Member, recs [][]byte) { mu.Lock(); defer mu.Unlock(); back += len(recs) })
		news := a.Channel("news", nil, nil)
		w.joinAll(a, b)
		body := make([]byte, 100_000)
		for i := range uint32(30) {
			binary.BigEndian.PutUint32(body, i)
			if err := copies.Send(context.Background(), b.Self().ID, body); err != nil {
				t.Fatal(err)
			}
		}
		w.until("all came", func() bool { mu.Lock(); defer mu.Unlock(); return len(got) == 30 })
		for i, n := range got {
			if n != uint32(i) {
				t.Fatalf("order %v", got)
			}
		}
		w.e.Hold("a", "b") // the bulk window fills, the other one stays open
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		sent := 0
		for copies.Send(ctx, b.Self().ID, body) == nil {
			sent++
		}
		if err := news.TrySend(b.Self().ID, []byte("now")); err != nil {
			t.Errorf("beside a full bulk window: %v", err)
		}
		w.e.HealAll()
		w.until("all came", func() bool { mu.Lock(); defer mu.Unlock(); return len(got) == 30+sent && urgent })
		w.e.Hold("a", "b")
		for range 3 {
			if err := copies.TrySend(b.Self().ID, body); err != nil {
				t.Fatal(err)
			}
		}
		w.kill("b")
		w.until("the rest is back", func() bool { mu.Lock(); defer mu.Unlock(); return back >= 3 })
	})
}
