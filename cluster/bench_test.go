package cluster_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/starling-im/starling/cluster"
)

// onNATS joins nodes on embedded servers, each of which is told the first one's address only.
func onNATS(t testing.TB, names ...string) []*cluster.Node {
	t.Helper()
	token := cluster.NewToken()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var ns []*cluster.Node
	for _, name := range names {
		cfg := cluster.Config{Name: name, Cluster: "test", Token: token, Listen: "127.0.0.1:0", Log: logger()}
		if len(ns) > 0 {
			cfg.Peers = []string{ns[0].Self().Address}
		}
		n, err := cluster.Start(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = n.Close() })
		if err := n.Join(ctx); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		ns = append(ns, n)
	}
	for _, n := range ns {
		await(t, "all see all", n.Events(1024), func() bool { return len(n.Members()) == len(names) })
	}
	return ns
}

// await checks after every event, until something is so.
func await[E any](t testing.TB, what string, s *cluster.Subscription[E], ok func() bool) {
	t.Helper()
	defer s.Close()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-s.C:
		case <-deadline:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// BenchmarkRows measures how long it takes until rows that each of three nodes puts are seen everywhere.
func BenchmarkRows(b *testing.B) {
	const each = 20_000
	ns := onNATS(b, "a", "b", "c")
	var tables []*cluster.Table[string]
	for _, n := range ns {
		tables = append(tables, cluster.NewTable(n, "rows", cluster.Text()))
	}
	value := "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	everywhere := func(n int) {
		look := time.NewTicker(time.Millisecond)
		defer look.Stop()
		for _, t := range tables {
			for t.Len() != n {
				<-look.C
			}
		}
	}
	each20k := func(do func(t *cluster.Table[string], key string)) {
		for i, t := range tables {
			go func() {
				for j := range each {
					do(t, fmt.Sprintf("user%d@node%d.example.org/phone", j, i))
				}
			}()
		}
	}
	var took time.Duration
	before := heap()
	for b.Loop() {
		start := time.Now()
		each20k(func(t *cluster.Table[string], key string) { _ = t.Put(key, value) })
		everywhere(3 * each)
		took += time.Since(start)
		b.ReportMetric(float64(heap()-before)/(9*each), "B/row")
		each20k(func(t *cluster.Table[string], key string) { t.Delete(key) })
		everywhere(0)
	}
	b.ReportMetric(float64(took.Milliseconds())/float64(b.N), "ms/round")
	var repairs uint64
	for _, n := range ns {
		for _, p := range n.Status().Peers {
			repairs += p.Repairs
		}
	}
	b.ReportMetric(float64(repairs), "repairs")
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkChannel measures records of 300 bytes from one node to another.
func BenchmarkChannel(b *testing.B) {
	ns := onNATS(b, "a", "b")
	got := make(chan struct{})
	left := b.N
	ns[1].Channel("c", func(cluster.Member, []byte) {
		if left--; left == 0 {
			close(got)
		}
	}, nil)
	ch := ns[0].Channel("c", nil, nil)
	body, to := make([]byte, 300), ns[1].Self().ID
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if err := ch.Send(context.Background(), to, body); err != nil {
			b.Fatal(err)
		}
	}
	<-got
}
