package cluster_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/starling-im/starling/cluster"
)

// Who has joined is ready, and is seen to be.
func TestJoinedIsReady(t *testing.T) {
	n, err := cluster.Start(t.Context(), cluster.Config{
		Token: cluster.NewToken(), Listen: "127.0.0.1:0", Settle: time.Nanosecond, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for range 20 {
		if err := n.Join(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := n.State(); s != cluster.Ready {
			t.Fatalf("joined, and %s", s)
		}
		if err := n.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
