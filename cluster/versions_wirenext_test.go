//go:build wirenext

package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/cluster/internal/mem"
)

// came asks a node what came to it that the version before does not have.
func came(t *testing.T, from, to *node) (greetings, fields int) {
	t.Helper()
	task := cluster.NewTask[string, string](from.Node, cluster.NextTask, cluster.Text(), cluster.Text(), nil)
	s, err := task.Call(context.Background(), to.Self().ID, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(s, "greetings=%d fields=%d", &greetings, &fields); err != nil {
		t.Fatal(err)
	}
	return greetings, fields
}

// TestTwoVersions: members of two versions share rows and records; what is new goes only to those who know it.
func TestTwoVersions(t *testing.T) {
	bubble(t, mem.Options{}, func(w *world) {
		w.tune = func(c *cluster.Config) { *c = c.Speaking(1, 1) }
		old := w.start("old")
		w.tune = nil
		a, b := w.start("a"), w.start("b")
		ns := []*node{old, a, b}
		put(t, a, "early", "v") // comes with the snapshot
		w.joinAll(ns...)
		for _, n := range ns {
			put(t, n, "of "+n.name, "keep")
		}
		w.until("equal", func() bool { return equal(ns...) && old.rows.Len() == 4 })
		for _, c := range []struct {
			n                 *node
			greetings, fields int
		}{{old, 0, 0}, {a, 1, 1}, {b, 1, 2}} {
			if g, f := came(t, a, c.n); g != c.greetings || f != c.fields {
				t.Errorf("%s got %d greetings and %d fields, want %d and %d", c.n.name, g, f, c.greetings, c.fields)
			}
			if s := c.n.Status(); s.Strange+s.Malformed > 0 {
				t.Errorf("%s: %d strange records, %d malformed messages", c.n.name, s.Strange, s.Malformed)
			}
		}
		for _, n := range []*node{a, old} { // rows of the dead are passed on in the pair's version
			dead := n.Self()
			w.kill(n.name)
			w.until("settled", func() bool { return settled(dead, b) })
		}
		if r, ok := b.rows.Row("of old"); !ok || !r.Orphan {
			t.Errorf("row %v", r)
		}
		unknown := cluster.NewTask[string, string](b.Node, "none", cluster.Text(), cluster.Text(), nil)
		if _, err := unknown.Call(context.Background(), b.Self().ID, ""); !errors.Is(err, cluster.ErrUnknownTask) {
			t.Errorf("unknown task: %v", err)
		}
	})
}
