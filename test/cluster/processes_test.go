// Package cluster_test runs several servers as operators do, each in a process of its own on one PostgreSQL, and lets
// some of them fail while people chat. With SOAK=1 in the environment, as `make soak` sets it, the stories last longer.
package cluster_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/internal/admin"
	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/membership"
	"github.com/starling-im/starling/internal/server"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/store/storetest"
	"github.com/starling-im/starling/internal/testnet"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

const (
	password = "secret"
	domain   = "a.test"
	patience = 30 * time.Second // for what must happen
)

// program builds the server once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "starling-cluster-test-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "starling")
	build := exec.Command("go", "build", "-trimpath", "-o", path, "../../cmd/starling")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	status := m.Run()
	if path, err := program(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(status)
}

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
	met      string            // without net: where the first node can be reached by others
}

// node is a running server.
type node struct {
	w    *world
	name string
	cmd  *exec.Cmd
	info server.RunInfo
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
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		t: t, program: path, database: database, token: filepath.Join(t.TempDir(), "token"),
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
	n := &node{w: w, name: name}
	listen, peers := "127.0.0.1:0", w.met
	if w.net == nil {
		n.cmd = exec.Command(w.program, "serve", "--data", w.data[name])
	} else {
		n.cmd = w.net.Host(name).Command(w.program, "serve", "--data", w.data[name])
		listen, peers = w.addresses(name)
	}
	for _, set := range []string{
		"domains=" + domain, "database.url=" + w.database, "log.level=debug",
		"listen.c2s=127.0.0.1:0", "listen.tls=127.0.0.1:0", "listen.https=", "listen.admin=",
		"registration.open=true", "registration.free_loopback=true", "auth.iterations=4096", "limits.rate_bytes=0",
		"cluster.drain_time=1s", "cluster.token_file=" + w.token, "cluster.node=" + name, "cluster.listen=" + listen, "cluster.peers=" + peers,
	} {
		if !strings.HasSuffix(set, "peers=") {
			n.cmd.Args = append(n.cmd.Args, "--set", set)
		}
	}
	log, err := os.Create(filepath.Join(w.t.TempDir(), name+".log"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer log.Close()
	n.cmd.Dir, n.cmd.Stdout, n.cmd.Stderr = w.t.TempDir(), log, log
	if err := n.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		n.kill()
		if text, err := os.ReadFile(log.Name()); w.t.Failed() && err == nil {
			w.t.Logf("%s wrote:\n%s", name, tail(text, 64<<10))
		}
	})
	w.nodes[name] = n
	return n
}

// runs waits until clients can log in to a node that was started.
func (n *node) runs() {
	n.w.t.Helper()
	n.w.until(n.name+" runs", func() bool {
		info, err := server.ReadRunInfo(n.w.data[n.name])
		n.info = info
		return err == nil && info.PID == n.cmd.Process.Pid
	})
	if n.w.net == nil && n.w.met == "" {
		s, err := n.status()
		if err != nil || len(s.Members) != 1 {
			n.w.t.Fatalf("%s sees %+v, %v", n.name, s, err)
		}
		n.w.met = s.Members[0].Address
	}
}

// addresses tells where a node of a network listens, and all others may be.
func (w *world) addresses(name string) (listen, peers string) {
	const port = ":7420"
	var others []string
	for _, h := range w.net.Hosts() {
		if h.Name == name {
			listen = h.Addr.String() + port
		} else {
			others = append(others, h.Addr.String()+port)
		}
	}
	return listen, strings.Join(others, ",")
}

// running lists the nodes that run.
func (w *world) running() []*node { return slices.Collect(maps.Values(w.nodes)) }

func tail(b []byte, most int) []byte { return b[max(0, len(b)-most):] }

// together waits until each running node sees all of them ready, and nobody else.
func (w *world) together() time.Duration {
	w.t.Helper()
	return w.until("all nodes see each other", func() bool {
		for _, n := range w.nodes {
			s, err := n.status()
			if err != nil || s.State != "ready" || len(s.Members) != len(w.nodes) {
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
			tables, err := n.tables()
			if err != nil {
				return false
			}
			said[n.name] = tables
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
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	begun := time.Now()
	for !yes() {
		if time.Since(begun) > patience {
			w.t.Fatalf("not within %v: %s", patience, what)
		}
		<-again.C
	}
	return time.Since(begun)
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
	if n.cmd.ProcessState == nil {
		n.cmd.Process.Kill()
		n.cmd.Wait()
		delete(n.w.nodes, n.name)
	}
}

// leave ends a node in order.
func (n *node) leave() {
	n.w.t.Helper()
	n.signal(syscall.SIGTERM)
	if err := n.cmd.Wait(); err != nil {
		n.w.t.Errorf("%s has stopped with %v", n.name, err)
	}
	delete(n.w.nodes, n.name)
}

// hang lets a node stand still: when it returns no thread of it runs.
func (n *node) hang() {
	n.w.t.Helper()
	n.signal(syscall.SIGSTOP)
	n.w.until(n.name+" stands still", func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", n.cmd.Process.Pid))
		for _, path := range threads {
			b, gone := os.ReadFile(path)
			_, state, _ := strings.Cut(string(b), ") ")
			if gone == nil && !strings.HasPrefix(state, "T") {
				return false
			}
		}
		return err == nil && len(threads) > 0
	})
}

// wake lets a node go on that hangs.
func (n *node) wake() {
	n.w.t.Helper()
	n.signal(syscall.SIGCONT)
}

func (n *node) signal(s syscall.Signal) {
	n.w.t.Helper()
	if err := n.cmd.Process.Signal(s); err != nil {
		n.w.t.Fatalf("signal %v to %s: %v", s, n.name, err)
	}
}

// status asks a node about its cluster.
func (n *node) status() (membership.Status, error) {
	ctx, cancel := context.WithTimeout(n.w.t.Context(), 2*time.Second)
	defer cancel()
	return admin.Dial(n.info.AdminSocket).Cluster().Status(ctx)
}

// tables asks a node for its replicated tables.
func (n *node) tables() ([]membership.Table, error) {
	ctx, cancel := context.WithTimeout(n.w.t.Context(), 2*time.Second)
	defer cancel()
	return admin.Dial(n.info.AdminSocket).Cluster().Tables(ctx)
}

// config is how to reach a node as a user, over TLS.
func (n *node) config(full string) client.Config {
	c := client.Config{
		Addr: n.info.Addresses["tls"], TLS: client.Direct, TLSConfig: &tls.Config{InsecureSkipVerify: true},
		JID: jid.MustParse(full), Password: password,
	}
	if n.w.net != nil {
		c.Dialer = n.w.net.Host(n.name).Dial
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
