// Package deploy_test runs the example files of the folder deploy: what is shown to operators must work.
package deploy_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/internal/admin"
	"github.com/starling-im/starling/internal/server"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/store/storetest"
)

const (
	password = "secret"
	patience = 20 * time.Second // for what must happen
)

// program builds the server once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "starling-deploy-test-")
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

// starling runs a command of the program, and returns what it writes.
func starling(t *testing.T, env []string, args ...string) string {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("starling %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// node is a running server, one of a cluster.
type node struct {
	t    *testing.T
	name string
	data string
	log  string // file
	cmd  *exec.Cmd
	info server.RunInfo
}

// startNodes runs a cluster whose nodes believe a load balancer on this machine.
func startNodes(t *testing.T, names ...string) (nodes []*node) {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	database, token := storetest.URL(t, store.Postgres), cluster.NewToken()
	start := func(name, peers string) *node {
		n := &node{t: t, name: name, data: t.TempDir(), log: filepath.Join(t.TempDir(), "log")}
		n.cmd = exec.Command(path, "serve", "--data", n.data)
		for _, set := range []string{
			"domains=example.org", "database.url=" + database, "log.level=debug", "auth.iterations=4096",
			"listen.c2s=127.0.0.1:0", "listen.tls=127.0.0.1:0", "listen.https=", "listen.admin=127.0.0.1:0", "listen.proxy_protocol_from=127.0.0.1",
			"cluster.token=" + token, "cluster.node=" + name, "cluster.listen=127.0.0.1:0", "cluster.peers=" + peers, "cluster.drain_time=1s",
		} {
			n.cmd.Args = append(n.cmd.Args, "--set", set)
		}
		n.start()
		nodes = append(nodes, n)
		return n
	}
	first := start(names[0], "")
	first.runs()
	s, err := admin.Dial(first.info.AdminSocket).Cluster().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names[1:] {
		start(name, s.Members[0].Address)
	}
	for _, n := range nodes {
		n.runs()
		until(t, n.name+" sees all nodes", func() bool {
			s, err := admin.Dial(n.info.AdminSocket).Cluster().Status(t.Context())
			return err == nil && s.State == "ready" && len(s.Members) == len(nodes)
		})
	}
	return nodes
}

func (n *node) start() {
	n.t.Helper()
	log, err := os.Create(n.log)
	if err != nil {
		n.t.Fatal(err)
	}
	defer log.Close()
	n.cmd.Dir, n.cmd.Stdout, n.cmd.Stderr = n.t.TempDir(), log, log
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		n.kill()
		if text := n.logged(); n.t.Failed() {
			n.t.Logf("%s wrote:\n%s", n.name, text[max(0, len(text)-16<<10):])
		}
	})
}

// runs waits until clients can log in.
func (n *node) runs() {
	n.t.Helper()
	until(n.t, n.name+" runs", func() bool {
		var err error
		n.info, err = server.ReadRunInfo(n.data)
		return err == nil && n.info.PID == n.cmd.Process.Pid
	})
}

// kill ends a node as a failing machine does.
func (n *node) kill() {
	if n.cmd.ProcessState == nil {
		n.cmd.Process.Kill()
		n.cmd.Wait()
	}
}

// logged is what the node has written to its log.
func (n *node) logged() string {
	text, err := os.ReadFile(n.log)
	if err != nil {
		n.t.Error(err)
	}
	return string(text)
}

// sessions is how many clients a node has.
func (n *node) sessions() int {
	n.t.Helper()
	s, err := admin.Dial(n.info.AdminSocket).Cluster().Status(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	return s.Sessions.Here
}

// get asks the door for operators.
func (n *node) get(path string) (status int, body string) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.info.Addresses["admin"]+path, nil)
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

// until asks again and again until the answer is yes.
func until(t *testing.T, what string, yes func() bool) {
	t.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(patience); !yes(); <-again.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
