package bench_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/sasl"
)

// process is a server of its own, so that its processor time can be told from that of its clients.
type process struct {
	pid  int
	addr string // direct TLS
}

// startProcess builds a server and runs it until the benchmark ends.
func startProcess(b *testing.B, account jid.JID) *process {
	b.Helper()
	dir := b.TempDir()
	binary, data := filepath.Join(dir, "starling"), filepath.Join(dir, "data")
	if out, err := exec.Command("go", "build", "-o", binary, "../cmd/starling").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	set := []string{
		"--set", "data=" + data, "--set", "domains=a.test", "--set", "cluster.enabled=false", "--set", "listen.c2s=127.0.0.1:0",
		"--set", "listen.tls=127.0.0.1:0", "--set", "listen.https=", "--set", "listen.admin=", "--set", "log.level=error",
	}
	serve := exec.Command(binary, append([]string{"serve"}, set...)...)
	if err := serve.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		serve.Process.Signal(syscall.SIGTERM)
		serve.Wait()
	})
	var info struct {
		Addresses map[string]string `json:"addresses"`
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); info.Addresses["tls"] == ""; <-tick.C {
		if text, err := os.ReadFile(filepath.Join(data, "run.json")); err == nil {
			_ = json.Unmarshal(text, &info)
		}
		if time.Now().After(end) {
			b.Fatal("the server does not begin")
		}
	}
	add := exec.Command(binary, append([]string{"user", "add", account.String(), "--password-stdin"}, set...)...)
	add.Stdin = strings.NewReader("secret\n")
	if out, err := add.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	return &process{serve.Process.Pid, info.Addresses["tls"]}
}

// processor is the processor time that the server has used.
func (p *process) processor(b *testing.B) (sum time.Duration) {
	b.Helper()
	all, err := filepath.Glob("/proc/" + strconv.Itoa(p.pid) + "/task/*/schedstat")
	if err != nil || len(all) == 0 {
		b.Fatalf("no processor time of %d: %v", p.pid, err)
	}
	for _, name := range all {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // a thread that has ended
		}
		ns, _, _ := bytes.Cut(text, []byte(" "))
		n, err := strconv.ParseInt(string(ns), 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(n)
	}
	return sum
}

// BenchmarkLogIn tells the server's processor time of a log-in over direct TLS, from the connection to the bound resource, by
// the ways to do it; "tls" is only the handshake and the stream's features, which are part of all.
func BenchmarkLogIn(b *testing.B) {
	who := jid.MustParse("romeo@a.test/bench")
	p := startProcess(b, who.Bare())
	cfg := client.Config{Addr: p.addr, TLS: client.Direct, JID: who, Password: "secret", TLSConfig: &tls.Config{InsecureSkipVerify: true}}
	const agent = "d4565fa7-4d72-4749-b3d3-740edbf87770"
	ctx := context.Background()
	_, granted, err := client.Login2(ctx, cfg, client.Wish{Agent: agent, NewToken: sasl.HTExporter})
	if err != nil {
		b.Fatal(err)
	}
	classic := func(mechanism string) func() (*client.Conn, error) {
		return func() (*client.Conn, error) {
			cfg := cfg
			cfg.Mechanism = mechanism
			return client.Dial(ctx, cfg)
		}
	}
	second := func(w client.Wish) func() (*client.Conn, error) {
		w.Agent, w.Bind, w.Carbons, w.Manage = agent, true, true, true
		return func() (*client.Conn, error) {
			c, _, err := client.Login2(ctx, cfg, w)
			return c, err
		}
	}
	for _, way := range []struct {
		name  string
		logIn func() (*client.Conn, error)
	}{
		{"tls", func() (*client.Conn, error) {
			c, err := client.Connect(ctx, cfg)
			if err == nil {
				_, err = c.OpenStream(ctx, who.Domain())
			}
			return c, err
		}},
		{"sasl1/PLAIN", classic(sasl.Plain)},
		{"sasl1/SCRAM-SHA-256-PLUS", classic("SCRAM-SHA-256-PLUS")},
		{"sasl2/SCRAM-SHA-256-PLUS", second(client.Wish{Mechanism: "SCRAM-SHA-256-PLUS"})},
		{"sasl2/HT-SHA-256-EXPR", second(client.Wish{Token: granted.Token, Early: true})},
	} {
		b.Run(way.name, func(b *testing.B) {
			before := p.processor(b)
			n := 0
			for b.Loop() {
				c, err := way.logIn()
				if err != nil {
					b.Fatal(err)
				}
				c.Close(ctx)
				n++
			}
			b.ReportMetric(float64((p.processor(b)-before).Microseconds())/float64(n), "server-µs/op")
		})
	}
}
