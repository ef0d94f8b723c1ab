package testnet_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/testnet"
)

const (
	programEnv = "TESTNET_PROGRAM"
	patience   = 30 * time.Second
	lost       = 300 * time.Millisecond // after which a packet is counted as lost
)

// TestMain lets the test binary be a program on a host.
func TestMain(m *testing.M) {
	if os.Getenv(programEnv) == "" {
		os.Exit(m.Run())
	}
	s := testnet.NewServer(os.Stdout)
	if s.Serve(os.Stdin, map[string]testnet.Handler{
		"listen": testnet.Handle(func(addr string) (any, error) { return nil, listen(s, addr) }),
		"say": testnet.Handle(func(addr string) (any, error) {
			c, err := net.Dial("udp4", addr)
			if err == nil {
				_, err = c.Write([]byte("hello"))
			}
			return nil, err
		}),
		"fail": testnet.Handle(func(why string) (any, error) { return nil, errors.New(why) }),
	}) != nil {
		os.Exit(1)
	}
}

// listen tells every packet.
func listen(s *testnet.Server, addr string) error {
	c, err := net.ListenPacket("udp4", addr)
	if err != nil {
		return err
	}
	go func() {
		var b [64]byte
		for {
			if _, from, err := c.ReadFrom(b[:]); err == nil {
				host, _, _ := net.SplitHostPort(from.String())
				_ = s.Tell(host)
			}
		}
	}()
	return nil
}

// start starts this binary as a program, and returns what it tells.
func start(t *testing.T, name string, cmd *exec.Cmd) (*testnet.Program, <-chan string) {
	t.Helper()
	told := make(chan string, 64)
	cmd.Env = append(os.Environ(), programEnv+"=1")
	return testnet.Start(t, name, cmd, func(b json.RawMessage) {
		var s string
		_ = json.Unmarshal(b, &s)
		told <- s
	}), told
}

func ask(t *testing.T, p *testnet.Program, what string, args any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := p.Ask(ctx, what, args, nil); err != nil {
		t.Fatal(err)
	}
}

func TestCuts(t *testing.T) {
	names := []string{"a", "b", "c"}
	n := testnet.New(t, names...)
	programs, told := map[string]*testnet.Program{}, map[string]<-chan string{}
	for _, h := range n.Hosts() {
		p, c := start(t, h.Name, h.Command(os.Args[0]))
		programs[h.Name], told[h.Name] = p, c
		ask(t, p, "listen", h.Addr.String()+":7000")
	}
	reaches := func(from, to string) bool {
		ask(t, programs[from], "say", n.Host(to).Addr.String()+":7000")
		select {
		case who := <-told[to]:
			if who != n.Host(from).Addr.String() {
				t.Errorf("%s is reached from %s, which is not %s", to, who, from)
			}
			return true
		case <-time.After(lost):
			return false
		}
	}
	for _, c := range []struct {
		name string
		do   func()
		want string // pairs that reach each other
	}{
		{"whole", func() {}, "ab ac ba bc ca cb"},
		{"two and one", func() { n.Partition([]string{"a", "c"}, []string{"b"}) }, "ac ca"},
		{"one is not named", func() { n.Partition([]string{"b", "c"}) }, "bc cb"},
		{"healed", n.Heal, "ab ac ba bc ca cb"},
		{"each alone", func() { n.Partition() }, ""},
		{"healed again", n.Heal, "ab ac ba bc ca cb"},
		{"one direction of a pair", func() { n.Cut("a", "b") }, "ac ba bc ca cb"},
		{"both directions", func() { n.Cut("b", "a") }, "ac bc ca cb"},
		{"healed at last", n.Heal, "ab ac ba bc ca cb"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.do()
			var got []string
			for _, from := range names {
				for _, to := range names {
					if from != to && reaches(from, to) {
						got = append(got, from+to)
					}
				}
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("these reach each other: %v", got)
			}
		})
	}
}

func TestProgram(t *testing.T) {
	p, _ := start(t, "p", exec.Command(os.Args[0]))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for what, want := range map[string]string{"fail": "as asked", "dance": "unknown question dance"} {
		if err := p.Ask(ctx, what, "as asked", nil); err == nil || err.Error() != want {
			t.Errorf("%s: %v", what, err)
		}
	}
	p.Stop()
	answered := make(chan error, 1)
	go func() { answered <- p.Ask(ctx, "fail", "late", nil) }()
	select {
	case err := <-answered:
		t.Errorf("a stopped program answers: %v", err)
	case <-time.After(lost):
	}
	p.Continue()
	if err := <-answered; err == nil || err.Error() != "late" {
		t.Errorf("after going on: %v", err)
	}
	if p.Kill(); p.Ask(ctx, "fail", "", nil) == nil {
		t.Error("a killed program answers")
	}
}
