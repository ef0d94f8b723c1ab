package xmpptest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/admin"
	"github.com/starling-im/starling/internal/membership"
	"github.com/starling-im/starling/internal/server"
)

// Times of servers in processes of their own, and how much of a log a failed test shows.
const (
	ProcessPatience = 30 * time.Second // for what must happen
	pollPause       = 5 * time.Millisecond
	askTimeout      = 2 * time.Second
	shownLog        = 64 << 10 // bytes
)

// folder is where Program and NextProgram put what they build, until Main removes it.
var folder = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "starling-test-") })

var (
	program     = sync.OnceValues(func() (string, error) { return build("starling") })
	nextProgram = sync.OnceValues(func() (string, error) {
		return build("starling-next", "-tags=wirenext", "-ldflags=-X main.release=next")
	})
)

func build(name string, options ...string) (string, error) {
	dir, err := folder()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	cmd := exec.Command("go", append(append([]string{"build", "-trimpath", "-o", path}, options...), "github.com/starling-im/starling/cmd/starling")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	return path, nil
}

// Program returns the path of the program starling. It is built once for all tests of a package, whose TestMain calls Main.
func Program(t testing.TB) string {
	t.Helper()
	return built(t, program)
}

// NextProgram is like Program for the build that stands for the next version: with the build tag wirenext. It says that
// its version is "next".
func NextProgram(t testing.TB) string {
	t.Helper()
	return built(t, nextProgram)
}

func built(t testing.TB, build func() (string, error)) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Main runs the tests of a package, removes what Program has built for them, and returns the status to exit with.
func Main(m *testing.M) int {
	status := m.Run()
	if dir, err := folder(); err == nil {
		_ = os.RemoveAll(dir)
	}
	return status
}

// Process is a server in a process of its own, as operators run it.
type Process struct {
	Name string
	Data string         // its folder
	Info server.RunInfo // once Runs has returned
	t    testing.TB
	cmd  *exec.Cmd
	log  string // file
}

// Serve starts a server on a data folder: command, which names the program, is given the arguments for that and the
// settings, each "key=value". Its doors are on free ports of 127.0.0.1, there is no page for the web, and passwords cost
// little. It ends with the test at the latest, and its log is shown if the test has failed.
func Serve(t testing.TB, name, data string, command *exec.Cmd, settings ...string) *Process {
	t.Helper()
	p := &Process{Name: name, Data: data, t: t, cmd: command, log: filepath.Join(t.TempDir(), name+".log")}
	p.cmd.Args = append(p.cmd.Args, "serve", "--data", data)
	for _, set := range append([]string{
		"listen.c2s=127.0.0.1:0", "listen.tls=127.0.0.1:0", "listen.https=", "listen.admin=127.0.0.1:0",
		"auth.iterations=4096", "log.level=debug",
	}, settings...) {
		p.cmd.Args = append(p.cmd.Args, "--set", set)
	}
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = t.TempDir(), log, log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if text := p.Log(); t.Failed() {
			t.Logf("%s wrote:\n%s", name, text[max(0, len(text)-shownLog):])
		}
	})
	return p
}

// Runs waits until clients can log in.
func (p *Process) Runs() {
	p.t.Helper()
	Until(p.t, p.Name+" runs", func() bool {
		var err error
		p.Info, err = server.ReadRunInfo(p.Data)
		return err == nil && p.Info.PID == p.cmd.Process.Pid
	})
}

// Kill ends the server as a failing machine does, if it has not ended yet.
func (p *Process) Kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

// Stop ends the server as an operator does.
func (p *Process) Stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("%s has stopped with %v", p.Name, err)
	}
}

// Hang lets the server stand still: when it returns no thread of it runs.
func (p *Process) Hang() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	Until(p.t, p.Name+" stands still", func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
		for _, path := range threads {
			b, gone := os.ReadFile(path)
			if _, state, _ := bytes.Cut(b, []byte(") ")); gone == nil && !bytes.HasPrefix(state, []byte("T")) {
				return false
			}
		}
		return err == nil && len(threads) > 0
	})
}

// Wake lets the server go on that hangs.
func (p *Process) Wake() {
	p.t.Helper()
	p.signal(syscall.SIGCONT)
}

func (p *Process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("signal %v to %s: %v", s, p.Name, err)
	}
}

// Log returns what the server has written to its log.
func (p *Process) Log() string {
	p.t.Helper()
	text, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Error(err)
	}
	return string(text)
}

// Status asks the server about its cluster.
func (p *Process) Status() (membership.Status, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), askTimeout)
	defer cancel()
	return admin.Dial(p.Info.AdminSocket).Cluster().Status(ctx)
}

// Tables asks the server for its replicated tables.
func (p *Process) Tables() ([]membership.Table, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), askTimeout)
	defer cancel()
	return admin.Dial(p.Info.AdminSocket).Cluster().Tables(ctx)
}

// Command runs a command of a program as an operator does, in an empty folder, and returns what it writes. env is added
// to the environment.
func Command(t testing.TB, program string, env []string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("starling %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Until asks again and again until the answer is yes, and returns how long that took.
func Until(t testing.TB, what string, yes func() bool) time.Duration {
	t.Helper()
	again := time.NewTicker(pollPause)
	defer again.Stop()
	begun := time.Now()
	for !yes() {
		if time.Since(begun) > ProcessPatience {
			t.Fatalf("not within %v: %s", ProcessPatience, what)
		}
		<-again.C
	}
	return time.Since(begun)
}
