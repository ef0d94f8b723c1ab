//go:build wirenext

package scenario_test

import (
	"context"

	"github.com/starling-im/starling/cluster"
)

// newer makes what only the build for the next version has.
func (p *program) newer() {
	cluster.NewTask(p.node, laterTask, cluster.Text(), cluster.Text(), func(_ context.Context, from cluster.Member, req string) (string, error) {
		return "later, " + from.Name + ": " + req, nil
	})
}
