package xmpptest

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/starling-im/starling/cluster"
)

// Cluster is several servers that are one. They run in this process, each with a data folder of its own, and share a
// database and nothing else: what one tells another goes over the loopback interface.
type Cluster struct {
	Nodes []*Server // those that run; the first is the oldest
}

// StartCluster runs a cluster until the test ends. Its nodes have the same options; without database.url among them they
// share an SQLite file.
func StartCluster(t testing.TB, o Options, nodes int) *Cluster {
	t.Helper()
	common := []string{
		"cluster.token=" + cluster.NewToken(), "cluster.listen=127.0.0.1:0", "cluster.allow_shared_sqlite=true",
		"database.url=sqlite:" + filepath.Join(t.TempDir(), "shared.db"),
	}
	member := func(n int, more ...string) (*Server, error) {
		set := slices.Concat(common, []string{fmt.Sprintf("cluster.node=node%d", n)}, more, o.Set)
		return start(t, Options{Set: set})
	}
	// The first one makes the tables, and the others are told where it is.
	first, err := member(0)
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{Nodes: make([]*Server, nodes)}
	c.Nodes[0] = first
	errs := make([]error, nodes)
	var starting sync.WaitGroup
	for i := 1; i < nodes; i++ {
		starting.Go(func() { c.Nodes[i], errs[i] = member(i, "cluster.peers="+first.Node().Self().Address) })
	}
	starting.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { c.halt(t) })
	c.Settle(t)
	return c
}

// halt stops all nodes at once.
func (c *Cluster) halt(t testing.TB) {
	var stopping sync.WaitGroup
	for _, s := range c.Nodes {
		stopping.Go(func() { s.Halt(t) })
	}
	stopping.Wait()
}

func (c *Cluster) node(n int) *Server { return c.Nodes[n%len(c.Nodes)] }

// Settle waits until the nodes have told each other all they have to, and have acted on it.
func (c *Cluster) Settle(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.settle(ctx); err != nil {
		t.Fatal(err)
	}
}

// settle looks at all nodes until it has seen twice in a row that none has anything to do for another, and that in
// between nothing has happened either: so there was a moment when that held for all of them.
func (c *Cluster) settle(ctx context.Context) error {
	again := time.NewTicker(200 * time.Microsecond)
	defer again.Stop()
	var before []sight
	for {
		now := c.look()
		busy := busy(now)
		if busy == "" && slices.EqualFunc(before, now, sight.equal) {
			return nil
		}
		before = now
		if busy == "" {
			continue
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("the nodes do not settle: %s", busy)
		}
	}
}
