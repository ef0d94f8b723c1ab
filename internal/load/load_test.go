package load_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/load"
	"github.com/starling-im/starling/internal/xmpptest"
)

// short is a run against this process, as short as the ticks of processor time allow.
func short(addr string, s load.Scenario) load.Config {
	return load.Config{
		Scenario: s, Addrs: []string{addr}, TLS: client.StartTLS,
		Accounts: load.Accounts{Domain: "a.test", Pattern: "load%d", Password: "secret", Register: true},
		Sessions: 10, Concurrent: 4, Available: true, Window: 4, Size: 432, Contacts: 5,
		Warmup: 50 * time.Millisecond, Duration: 150 * time.Millisecond, Settle: 10 * time.Millisecond, Drain: 10 * time.Second,
		ServerPIDs: []int{os.Getpid()},
	}
}

func TestScenarios(t *testing.T) {
	s := xmpptest.Start(t, xmpptest.Options{Set: []string{
		"registration.open=true", "registration.free_loopback=true", "auth.allow_plaintext=true",
	}})
	cases := []struct {
		name   string
		change func(c *load.Config)
	}{
		{"login", func(c *load.Config) { c.Scenario = load.Login }},
		{"idle", func(c *load.Config) { c.Scenario = load.Idle }},
		{"chat", func(*load.Config) {}},
		{"chat in plaintext", func(c *load.Config) { c.TLS, c.Mechanism = client.None, "PLAIN" }},
		{"chat with direct TLS", func(c *load.Config) { c.TLS, c.Addrs = client.Direct, s.Addresses()["tls"] }},
		{"chat of several sessions an account", func(c *load.Config) { c.Accounts.PerAccount = 5 }},
		{"chat at a rate", func(c *load.Config) { c.Rate = 1000 }},
		{"chat with stream management", func(c *load.Config) { c.Managed = true }},
		{"chat with stream management at a rate", func(c *load.Config) { c.Managed, c.Rate = true, 1000 }},
		{"chat until all is done", func(c *load.Config) { c.Whole, c.Managed, c.StorePIDs = true, true, []int{os.Getpid()} }},
		{"idle with stream management", func(c *load.Config) { c.Scenario, c.Managed = load.Idle, true }},
		{"coming back", func(c *load.Config) { c.Scenario, c.Away = load.Resume, 3 }},
		{"presence", func(c *load.Config) { c.Scenario = load.Presence }},
		{"presence of old friends", func(c *load.Config) { c.Scenario = load.Presence }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := short(s.Addresses()["c2s"][0], load.Chat)
			c.change(&cfg)
			r, err := load.Run(t.Context(), cfg)
			if err != nil {
				t.Fatalf("%v: %+v", err, r)
			}
			if r.Server == nil || cfg.Scenario != load.Idle && r.Operations == 0 {
				t.Errorf("nothing was measured: %+v", r)
			}
			if (r.Store != nil) != cfg.Whole {
				t.Errorf("CPU of the database: %v", r.Store)
			}
			if (r.Memory != nil) != (cfg.Scenario == load.Idle) || (r.Latency != nil) != (cfg.Rate > 0) {
				t.Errorf("memory %v, latency %v", r.Memory, r.Latency)
			}
			var text bytes.Buffer
			if err := r.Write(&text); err != nil || !strings.Contains(text.String(), "lost 0") {
				t.Errorf("%v: %s", err, text.String())
			}
		})
	}
}

// TestNodes has every pair talk across nodes.
func TestNodes(t *testing.T) {
	for _, nodes := range []int{2, 3} {
		t.Run(fmt.Sprint(nodes), func(t *testing.T) {
			c := xmpptest.StartCluster(t, xmpptest.Options{Set: []string{"registration.open=true", "registration.free_loopback=true"}}, nodes)
			cfg := short("", load.Chat)
			cfg.Addrs = nil
			for _, s := range c.Nodes {
				cfg.Addrs = append(cfg.Addrs, s.Addresses()["c2s"][0])
			}
			r, err := load.Run(t.Context(), cfg)
			if err != nil || r.Operations == 0 || r.Server == nil {
				t.Fatalf("%v: %+v", err, r)
			}
			var text bytes.Buffer
			if err := r.Write(&text); err != nil || !strings.Contains(strings.Join(strings.Fields(text.String()), " "), fmt.Sprintf("nodes %d", nodes)) {
				t.Errorf("%v: %s", err, text.String())
			}
		})
	}
}

// TestServerGone ends the server under load: the sessions are counted as broken.
func TestServerGone(t *testing.T) {
	s := xmpptest.Start(t, xmpptest.Options{Set: []string{"registration.open=true", "registration.free_loopback=true"}})
	cfg := short(s.Addresses()["c2s"][0], load.Chat)
	cfg.Progress = onLine(func(line string) {
		if strings.Contains(line, "pairs chat") {
			go s.Halt(t)
		}
	})
	cfg.Warmup, cfg.Drain = time.Second, 100*time.Millisecond
	r, err := load.Run(t.Context(), cfg)
	if !errors.Is(err, load.ErrFaults) || r.Faults.Broken == 0 {
		t.Errorf("%v: %+v", err, r)
	}
}

// onLine calls a function for each line of progress.
type onLine func(line string)

func (f onLine) Write(b []byte) (int, error) {
	f(string(b))
	return len(b), nil
}

func TestRelay(t *testing.T) {
	third := func(change func(message string) string) func(int, string) string {
		return func(n int, message string) string {
			if n == 3 {
				return change(message)
			}
			return message
		}
	}
	cases := []struct {
		name  string
		relay func(n int, message string) string
		count func(f *load.Faults) uint64
	}{
		{"faithful", func(_ int, m string) string { return m }, nil},
		{"loses one", third(func(string) string { return "" }), func(f *load.Faults) uint64 { return f.Lost }},
		{"repeats one", third(func(m string) string { return m + m }), func(f *load.Faults) uint64 { return f.Duplicated }},
		{"changes one", third(func(m string) string { return strings.Replace(m, "Romeo", "Julia", 1) }), func(f *load.Faults) uint64 { return f.Changed }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := short(relay(t, c.relay), load.Chat)
			cfg.Raw, cfg.TLS, cfg.Sessions, cfg.Drain = true, client.None, 2, 200*time.Millisecond
			r, err := load.Run(t.Context(), cfg)
			switch {
			case c.count == nil && err != nil:
				t.Fatalf("%v: %+v", err, r)
			case c.count != nil && (!errors.Is(err, load.ErrFaults) || c.count(&r.Faults) == 0):
				t.Errorf("%v: %+v", err, r)
			}
		})
	}
}

// relay joins two connections, and sends what change makes of each message; of those to one side, n is the number from 0.
func relay(t *testing.T, change func(n int, message string) string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
	running.Go(func() {
		var ends []net.Conn
		for range 2 {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			defer nc.Close()
			ends = append(ends, nc)
		}
		var both sync.WaitGroup
		for i := range ends {
			both.Go(func() {
				carry(ends[1-i], ends[i], change)
				ends[1-i].Close()
			})
		}
		both.Wait()
	})
	return l.Addr().String()
}

func carry(to io.Writer, from io.Reader, change func(int, string) string) {
	var text string
	buf := make([]byte, 4096)
	named := false
	for n := 0; ; {
		got, err := from.Read(buf)
		if err != nil {
			return
		}
		text += string(buf[:got])
		if !named { // the line that names the pair
			_, rest, whole := strings.Cut(text, "\n")
			if !whole {
				continue
			}
			text, named = rest, true
		}
		for {
			message, rest, whole := strings.Cut(text, "</message>")
			if !whole {
				break
			}
			text = rest
			if _, err := io.WriteString(to, change(n, message+"</message>")); err != nil {
				return
			}
			n++
		}
	}
}

func TestRefusals(t *testing.T) {
	cases := []struct {
		name, says string
		change     func(c *load.Config)
	}{
		{"more sockets than there can be", "hard limit", func(c *load.Config) { c.Sessions = 1 << 30 }},
		{"no server", "address", func(c *load.Config) { c.Addrs = nil }},
		{"odd number", "even", func(c *load.Config) { c.Sessions = 3 }},
		{"no window", "window", func(c *load.Config) { c.Window = 0 }},
		{"long words", "too long", func(c *load.Config) { c.Words, c.Size = true, 1<<20 }},
		{"short message", "too short", func(c *load.Config) { c.Raw, c.TLS, c.Size = true, client.None, 100 }},
		{"broken groups", "whole groups", func(c *load.Config) { c.Scenario, c.Contacts = load.Presence, 3 }},
		{"memory of nobody", "process", func(c *load.Config) { c.Scenario, c.ServerPIDs = load.Idle, nil }},
		{"one account for all", "only one account", func(c *load.Config) { c.Accounts.Pattern = "load" }},
		{"unknown scenario", "scenario", func(c *load.Config) { c.Scenario = "dance" }},
		{"relay that acknowledges", "stream management", func(c *load.Config) { c.Raw, c.TLS, c.Managed = true, client.None, true }},
		{"nobody to come back", "come back", func(c *load.Config) { c.Scenario, c.Sessions, c.Away = load.Resume, 1, 1 }},
		{"nothing to come back to", "come back", func(c *load.Config) { c.Scenario = load.Resume }},
		{"relay that logs in", "relay", func(c *load.Config) { c.Raw, c.Scenario = true, load.Login }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := short(relay(t, func(_ int, m string) string { return m }), load.Chat)
			cfg.Sessions = 2
			c.change(&cfg)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, err := load.Run(ctx, cfg); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("the error is %v, and says nothing of %q", err, c.says)
			}
		})
	}
}

func TestReadAccounts(t *testing.T) {
	all, err := load.ReadAccounts(strings.NewReader("# two\nromeo@a.test secret\n\njuliet@a.test  with spaces \n"))
	if err != nil || len(all) != 2 || all[1].JID.String() != "juliet@a.test" || all[1].Password != "with spaces" {
		t.Errorf("%v, %v", all, err)
	}
	for _, bad := range []string{"romeo@a.test", "a.test secret", "romeo@a.test/x secret", "@a.test secret"} {
		if all, err := load.ReadAccounts(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was read as %v", bad, all)
		}
	}
}
