package cluster_test

import (
	"context"
	"errors"
	"testing"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/cluster/internal/mem"
)

// TestTooOld: a node whose versions another one does not speak any more learns what to do, and the other one does not heed it.
func TestTooOld(t *testing.T) {
	bubble(t, mem.Options{}, func(w *world) {
		w.tune = func(c *cluster.Config) { *c = c.Speaking(8, 9) }
		a := w.join("a")[0]
		w.tune = func(c *cluster.Config) { *c = c.Speaking(6, 7) }
		old := w.start("old")
		err := old.Join(context.Background())
		var f *cluster.Failure
		if !errors.As(err, &f) || f.Remedy == "" || old.State() != cluster.Failed {
			t.Errorf("joining: %v, state %s", err, old.State())
		}
		w.beats(4)
		if !a.sees("a") || a.State() != cluster.Ready || a.Status().Malformed > 0 {
			t.Errorf("members %v, state %s", a.Members(), a.State())
		}
	})
}
