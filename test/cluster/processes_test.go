// Package cluster_test runs several servers as operators do, each in a process of its own on one PostgreSQL, and lets
// some of them fail while people chat. With SOAK=1 in the environment, as `make soak` sets it, the stories last longer.
package cluster_test

import (
	"context"
	"crypto/tls"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/membership"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/store/storetest"
	"github.com/starling-im/starling/internal/testnet"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpptest"
)

const (
	password = "secret"
	domain   = "a.test"
	patience = xmpptest.ProcessPatience
)

func TestMain(m *testing.M) { os.Exit(xmpptest.Main(m)) }

// soaking says whether the long variants run.
func soaking() bool { return os.Getenv("SOAK") != "" }

// world is a cluster.
type world struct {
	t        *testing.T
	program  string
	database string
	net      *testnet.Net      // nil: all nodes are on this machine's loopback
	token    string            // file
	nodes    map[string]*node  // that run
	data     map[string]string // folders
	settings []string          // that all nodes have besides those of the cluster
	known    []string          // names of the nodes that a node of a network is told of; nil: all
	met      string            // without net: where the first node can be reached by others
}

// node is a running server.
type node struct {
	*xmpptest.Process
	w       *world
	program string
}

// newWorld starts a cluster of nodes with these names.
func newWorld(t *testing.T, names ...string) *world {
	t.Helper()
	w := plan(t, storetest.URL(t, store.Postgres))
	for _, name := range names {
		w.start(name)
	}
	w.together()
	return w
}

// newNetwork starts a cluster in which each node is on a host of its own. The database is reached whatever is cut: its
// socket is a file.
func newNetwork(t *testing.T, names ...string) *world {
	t.Helper()
	w := plan(t, storetest.URL(t, store.Postgres))
	w.net = testnet.New(t, names...)
	w.startAll(names...)
	w.together()
	return w
}

// plan makes a cluster without nodes.
func plan(t *testing.T, database string) *world {
	t.Helper()
	w := &world{
		t: t, program: xmpptest.Program(t), database: database, token: filepath.Join(t.TempDir(), "token"),
		nodes: map[string]*node{}, data: map[string]string{},
	}
	if err := os.WriteFile(w.token, []byte(cluster.NewToken()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

// start starts a node, on the folder that it had if it ran before, and waits until clients can log in.
func (w *world) start(name string) *node {
	w.t.Helper()
	n := w.launch(name)
	n.runs()
	return n
}

// startAll starts nodes of a network at once.
func (w *world) startAll(names ...string) {
	w.t.Helper()
	for _, name := range names {
		w.launch(name)
	}
	for _, name := range names {
		w.nodes[name].runs()
	}
}

// launch starts a node, and does not wait for it.
func (w *world) launch(name string) *node {
	w.t.Helper()
	if w.data[name] == "" {
		w.data[name] = w.t.TempDir()
	}
	command, listen, peers := exec.Command(w.program), "127.0.0.1:0", w.met
	if w.net != nil {
		command = w.net.Host(name).Command(w.program)
		listen, peers = w.addresses(name)
	}
	n := &node{w: w, program: w.program, Process: xmpptest.Serve(w.t, name, w.data[name], command, append([]string{
		"domains=" + domain, "database.url=" + w.database, "registration.open=true", "registration.free_loopback=true",
		"limits.rate_bytes=0", "cluster.drain_time=1s", "cluster.token_file=" + w.token, "cluster.node=" + name,
		"cluster.listen=" + listen, "cluster.peers=" + peers,
	}, w.settings...)...)}
	w.nodes[name] = n
	return n
}

// runs waits until clients can log in to a node that was started.
func (n *node) runs() {
	n.w.t.Helper()
	n.Runs()
	if n.w.net == nil && n.w.met == "" {
		s, err := n.Status()
		if err != nil || len(s.Members) != 1 {
			n.w.t.Fatalf("%s sees %+v, %v", n.Name, s, err)
		}
		n.w.met = s.Members[0].Address
	}
}

// addresses tells where a node of a network listens, and the others may be.
func (w *world) addresses(name string) (listen, peers string) {
	const port = ":7420"
	var others []string
	for _, h := range w.net.Hosts() {
		if h.Name == name {
			listen = h.Addr.String() + port
		} else if w.known == nil || slices.Contains(w.known, h.Name) {
			others = append(others, h.Addr.String()+port)
		}
	}
	return listen, strings.Join(others, ",")
}

// running lists the nodes that run.
func (w *world) running() []*node { return slices.Collect(maps.Values(w.nodes)) }

// together waits until each running node sees all of them ready, and nobody else.
func (w *world) together() time.Duration {
	w.t.Helper()
	return united(w.t, w.running()...)
}

// united waits until each of these nodes sees all of them ready, and nobody else.
func united(t *testing.T, nodes ...*node) time.Duration {
	t.Helper()
	return xmpptest.Until(t, "nodes see each other", func() bool {
		for _, n := range nodes {
			s, err := n.Status()
			if err != nil || s.State != "ready" || len(s.Members) != len(nodes) {
				return false
			}
			for _, m := range s.Members {
				if m.State != "ready" {
					return false
				}
			}
		}
		return true
	})
}

// alike waits until each running node has the same rows as all others, in every table.
func (w *world) alike() time.Duration {
	w.t.Helper()
	var said map[string][]membership.Table
	defer func() {
		if w.t.Failed() {
			w.t.Logf("the tables: %+v", said)
		}
	}()
	return w.until("the tables of all nodes are alike", func() bool {
		said = map[string][]membership.Table{}
		first := map[string]membership.Table{}
		for _, n := range w.nodes {
			tables, err := n.Tables()
			if err != nil {
				return false
			}
			said[n.Name] = tables
			for _, x := range tables {
				if f, ok := first[x.Name]; ok && (x.Digest != f.Digest || x.Keys != f.Keys || x.Orphans != f.Orphans) {
					return false
				}
				first[x.Name] = x
			}
		}
		return true
	})
}

// until asks again and again until the answer is yes, and tells how long that took.
func (w *world) until(what string, yes func() bool) time.Duration {
	w.t.Helper()
	return xmpptest.Until(w.t, what, yes)
}

// last lets something last for a time: that is what is tested.
func last(t testing.TB, d time.Duration) (over func()) {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	return func() {
		<-ctx.Done()
		cancel()
	}
}

// kill ends a node as a failing machine does.
func (n *node) kill() {
	n.Kill()
	delete(n.w.nodes, n.Name)
}

// leave ends a node in order.
func (n *node) leave() {
	n.w.t.Helper()
	n.Stop()
	delete(n.w.nodes, n.Name)
}

// config is how to reach a node as a user, over TLS.
func (n *node) config(full string) client.Config {
	c := client.Config{
		Addr: n.Info.Addresses["tls"], TLS: client.Direct, TLSConfig: &tls.Config{InsecureSkipVerify: true},
		JID: jid.MustParse(full), Password: password,
	}
	if n.w.net != nil {
		c.Dialer = n.w.net.Host(n.Name).Dial
	}
	return c
}

// register makes accounts, by name.
func (n *node) register(names ...string) {
	n.w.t.Helper()
	for _, name := range names {
		ctx, cancel := context.WithTimeout(n.w.t.Context(), patience)
		err := client.Register(ctx, n.config(name+"@"+domain))
		cancel()
		if err != nil {
			n.w.t.Fatal(err)
		}
	}
}
