package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/server"
)

// asProgram makes the test binary behave as the program itself.
const asProgram = "TEST_AS_PROGRAM"

// patience bounds every wait for a process.
const patience = time.Minute

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// program prepares a run of the program in a folder, without settings from the tests' own environment.
func program(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Dir = dir
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "STARLING_") }), asProgram+"=1")
	return cmd
}

// result is what a run of the program leaves.
type result struct {
	code     int
	out, err string
}

// starling runs the program to its end.
func starling(t *testing.T, dir string, args ...string) result {
	t.Helper()
	return finish(t, program(t, dir, args...))
}

func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() < 0 {
		t.Fatalf("%v: %v\n%s%s", cmd.Args, err, out.String(), errs.String())
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// want checks a result: its exit code, and what has to be in one of its outputs.
func (r result) want(t *testing.T, code int, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(r.out+r.err, text) {
			t.Errorf("%q is missing", text)
		}
	}
	if r.code != code {
		t.Errorf("exit code %d, want %d", r.code, code)
	}
	if t.Failed() {
		t.Fatalf("out: %s\nerr: %s", r.out, r.err)
	}
}

// node is a server that runs as a process of its own.
type node struct {
	t         *testing.T
	cmd       *exec.Cmd
	out, logs *lines
	info      server.RunInfo
	ended     chan struct{} // closed when cmd.ProcessState is there
}

// anyPort lets every door take any free port of loopback.
func anyPort() []string {
	return []string{"--listen-c2s=127.0.0.1:0", "--listen-tls=127.0.0.1:0", "--listen-https=127.0.0.1:0", "--listen-admin=127.0.0.1:0"}
}

// serve starts a server in a folder, waits until it is ready, and kills it when the test ends.
func serve(t *testing.T, dir string, args ...string) *node {
	t.Helper()
	return await(t, program(t, dir, slices.Concat([]string{"serve"}, anyPort(), args)...), filepath.Join(dir, "starling-data"))
}

func await(t *testing.T, cmd *exec.Cmd, data string) *node {
	t.Helper()
	n := &node{t: t, cmd: cmd, ended: make(chan struct{})}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	logs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n.out, n.logs = readLines(out), readLines(logs)
	go func() {
		<-n.out.ended
		<-n.logs.ended
		_ = cmd.Wait() // the exit code tells more
		close(n.ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has ended already if all went well
		<-n.ended
	})
	n.out.await(t, "Stop the server:")
	if n.info, err = server.ReadRunInfo(data); err != nil {
		t.Fatal(err)
	}
	return n
}

// signal sends a signal to the server.
func (n *node) signal(s os.Signal) {
	n.t.Helper()
	if err := n.cmd.Process.Signal(s); err != nil {
		n.t.Fatal(err)
	}
}

// stop ends the server in the orderly way.
func (n *node) stop() {
	n.t.Helper()
	n.signal(syscall.SIGTERM)
	n.awaitEnd()
}

// awaitEnd waits for the end of a server that was told to stop.
func (n *node) awaitEnd() {
	n.t.Helper()
	<-n.ended
	if code := n.cmd.ProcessState.ExitCode(); code != exitOK {
		n.t.Fatalf("stopped with exit code %d: %s", code, n.logs.text())
	}
}

// lines collects what a process writes.
type lines struct {
	mu    sync.Mutex // guards all, grown
	all   []string
	grown chan struct{} // closed at the next line
	ended chan struct{}
}

func readLines(r io.Reader) *lines {
	l := &lines{grown: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		for s := bufio.NewScanner(r); s.Scan(); {
			l.mu.Lock()
			l.all = append(l.all, s.Text())
			close(l.grown)
			l.grown = make(chan struct{})
			l.mu.Unlock()
		}
	}()
	return l
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "\n")
}

// await returns the first line that holds a text, once it is there.
func (l *lines) await(t *testing.T, text string) string {
	t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for seen := 0; ; {
		l.mu.Lock()
		all, grown := l.all, l.grown
		l.mu.Unlock()
		for _, line := range all[seen:] {
			if strings.Contains(line, text) {
				return line
			}
		}
		seen = len(all)
		select {
		case <-grown:
		case <-l.ended:
			if l.mu.Lock(); seen == len(l.all) {
				l.mu.Unlock()
				t.Fatalf("the process ended without %q:\n%s", text, l.text())
			}
			l.mu.Unlock()
		case <-limit.C:
			t.Fatalf("no %q in time:\n%s", text, l.text())
		}
	}
}

// write makes a file in a folder and returns its path.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// taken returns an address that nobody else can listen on.
func taken(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// nameShown returns the first DNS name of the certificate that a direct TLS door shows.
func nameShown(t *testing.T, address string) string {
	t.Helper()
	c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, ServerName: "a.test", NextProtos: []string{"xmpp-client"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].DNSNames[0]
}
