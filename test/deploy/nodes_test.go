// Package deploy_test runs the example files of the folder deploy: what is shown to operators must work.
package deploy_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"testing"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/internal/membership"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/store/storetest"
	"github.com/starling-im/starling/internal/xmpptest"
)

const (
	password = "secret"
	patience = xmpptest.ProcessPatience
)

func TestMain(m *testing.M) { os.Exit(xmpptest.Main(m)) }

// starling runs a command of the program, and returns what it writes.
func starling(t *testing.T, env []string, args ...string) string {
	t.Helper()
	return xmpptest.Command(t, xmpptest.Program(t), env, args...)
}

// node is a running server, one of a cluster.
type node struct {
	*xmpptest.Process
	t *testing.T
}

// startNodes runs a cluster whose nodes believe a load balancer on this machine.
func startNodes(t *testing.T, names ...string) (nodes []*node) {
	t.Helper()
	database, token := storetest.URL(t, store.Postgres), cluster.NewToken()
	start := func(name, peers string) *node {
		n := &node{t: t, Process: xmpptest.Serve(t, name, t.TempDir(), exec.Command(xmpptest.Program(t)),
			"domains=example.org", "database.url="+database, "listen.proxy_protocol_from=127.0.0.1",
			"cluster.token="+token, "cluster.node="+name, "cluster.listen=127.0.0.1:0", "cluster.peers="+peers, "cluster.drain_time=1s",
		)}
		nodes = append(nodes, n)
		return n
	}
	first := start(names[0], "")
	first.Runs()
	for _, name := range names[1:] {
		start(name, first.status().Members[0].Address)
	}
	for _, n := range nodes {
		n.Runs()
		xmpptest.Until(t, n.Name+" sees all nodes", func() bool {
			s, err := n.Status()
			return err == nil && s.State == "ready" && len(s.Members) == len(nodes)
		})
	}
	return nodes
}

// status asks a node about its cluster.
func (n *node) status() membership.Status {
	n.t.Helper()
	s, err := n.Status()
	if err != nil {
		n.t.Fatal(err)
	}
	return s
}

// sessions is how many clients a node has.
func (n *node) sessions() int {
	n.t.Helper()
	return n.status().Sessions.Here
}

// get asks the door for operators.
func (n *node) get(path string) (status int, body string) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.Info.Addresses["admin"]+path, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		n.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return r.StatusCode, string(b)
}
