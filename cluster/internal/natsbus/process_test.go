package natsbus

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/starling-im/starling/cluster/internal/bus"
)

const (
	engineEnv = "NATSBUS_TEST_ENGINE" // the engine of a node in another process, as JSON
	nameEnv   = "NATSBUS_TEST_NAME"

	sinkSubject = "v1.test.sink" // a peer reads what is published there
)

// TestMain lets the test binary be a node in another process.
func TestMain(m *testing.M) {
	if engine := os.Getenv(engineEnv); engine != "" {
		if err := peer(engine, os.Getenv(nameEnv)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// peer is a node that tells whom it meets, and ends when its standard input does.
func peer(engine, name string) error {
	var e Embedded
	if err := json.Unmarshal([]byte(engine), &e); err != nil {
		return err
	}
	b, err := e.Open(context.Background(), identity(name), slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	if _, err := b.Subscribe(bus.Data, sinkSubject, func(bus.Message) {}); err != nil {
		return err
	}
	go func() {
		for h := range b.Hints() {
			if h.Up {
				fmt.Println("met", h.Peer)
			}
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
	return b.Close(context.Background())
}

func peerName(i int) string { return fmt.Sprintf("peer%d-%d", os.Getpid(), i) }

// startPeer runs a node in a process of its own, started by the command given, if any.
func startPeer(t *testing.T, e *Embedded, name string, met chan<- string, command ...string) *os.Process {
	t.Helper()
	engine, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	command = append(command, os.Args[0])
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), engineEnv+"="+string(engine), nameEnv+"="+name)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	cmd.Stdout = lineWriter(met)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		err := cmd.Wait()
		if killed := cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled(); err != nil && !killed || t.Failed() {
			t.Errorf("node %s: %v: %s", name, err, complaints.String())
		}
	})
	return cmd.Process
}

// lineWriter passes on what is written, which is a line at a time.
type lineWriter chan<- string

func (w lineWriter) Write(b []byte) (int, error) {
	select {
	case w <- strings.TrimSpace(string(b)):
	default:
	}
	return len(b), nil
}

// TestHintsOfTheDead: a node that is killed is missed at once, one that hangs after about three seconds.
func TestHintsOfTheDead(t *testing.T) {
	a := embed(t, 1)[0]
	for i, c := range []struct {
		name  string
		sig   syscall.Signal
		after syscall.Signal
		most  time.Duration // on an idle machine: 50 ms and 3.1 s
	}{
		{"killed", syscall.SIGKILL, 0, time.Second},
		{"stopped", syscall.SIGSTOP, syscall.SIGKILL, 6 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := peerName(i)
			token := a.Bus.(*embedded).conf.Token
			process := startPeer(t, &Embedded{Token: token, Listen: "127.0.0.1:0", Peers: []string{a.address()}}, name, nil)
			a.until(t, true, name)
			start := time.Now()
			if err := process.Signal(c.sig); err != nil {
				t.Fatal(err)
			}
			a.until(t, false, name)
			took := time.Since(start)
			t.Logf("hint after %v", took)
			if c.after != 0 {
				_ = process.Signal(c.after)
			}
			if took > c.most {
				t.Errorf("hint after %v, want %v", took, c.most)
			}
		})
	}
}

// TestHungPeer: a peer that hangs does not stop those who publish to it, and what waits for it is freed.
func TestHungPeer(t *testing.T) {
	a := embed(t, 1)[0]
	e := a.Bus.(*embedded)
	name := peerName(2)
	process := startPeer(t, &Embedded{Token: e.conf.Token, Listen: "127.0.0.1:0", Peers: []string{a.address()}}, name, nil)
	a.until(t, true, name)
	pending := func() (bytes int) {
		for _, r := range e.routes() {
			bytes += r.Pending
		}
		return bytes
	}
	subscribed := func() (n uint32) {
		for _, r := range e.routes() {
			n += r.NumSubs
		}
		return n
	}
	eventually(t, "the peer's subscription", func() bool { return subscribed() > 0 })
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	const frame, most = 64 << 10, 32 << 20 // eight windows of a link
	var slowest time.Duration
	for range most / frame {
		start := time.Now()
		if err := a.Publish(bus.Data, sinkSubject, make([]byte, frame)); err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(start))
	}
	t.Logf("slowest Publish %v, %d bytes wait", slowest, pending())
	if slowest > time.Second {
		t.Errorf("Publish waited %v", slowest)
	}
	a.until(t, false, name)
	eventually(t, "memory is freed", func() bool { return pending() == 0 })
	if err := process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	a.until(t, true, name)
}
