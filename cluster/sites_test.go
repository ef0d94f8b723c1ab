package cluster_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/cluster/internal/bus"
	"github.com/starling-im/starling/cluster/internal/mem"
)

// site is where the nodes of a world run.
type site interface {
	config(cfg cluster.Config) cluster.Config // of a node, with its engine
	kill(name string)                         // as kill -9 does
	partition(sides ...[]string)              // both ways; nodes on no side keep their connections
	heal()
}

// seeded is the engine in fake time.
type seeded struct{ *mem.Engine }

func (s seeded) config(cfg cluster.Config) cluster.Config { return cfg.On(s.Engine) }
func (s seeded) kill(name string)                         { s.Kill(name) }
func (s seeded) partition(sides ...[]string)              { s.Partition(sides...) }
func (s seeded) heal()                                    { s.HealAll() }

// wired is a real engine, with a tap between it and each node: a message passes only while both nodes live and no
// partition lies between them.
type wired struct {
	fill func(cfg *cluster.Config, peers []string)

	mu   sync.Mutex // guards what follows
	taps map[string]*tap
	name map[string]string // by ID
	side map[string]int    // in a partition, by name
}

// embedded is a site of servers in this process, each of which is told the addresses of those that came before.
func embedded() site {
	token := cluster.NewToken()
	return newWired(func(cfg *cluster.Config, peers []string) {
		cfg.Token, cfg.Listen, cfg.Peers = token, "127.0.0.1:0", peers
	})
}

// operated is a site on an operator's server.
func operated(url string, trust *tls.Config) site {
	return newWired(func(cfg *cluster.Config, _ []string) { cfg.NATS, cfg.TLS = url, trust })
}

func newWired(fill func(*cluster.Config, []string)) *wired {
	return &wired{fill: fill, taps: map[string]*tap{}, name: map[string]string{}, side: map[string]int{}}
}

// The intervals are shorter than by default, to keep the tests short.
func (w *wired) config(cfg cluster.Config) cluster.Config {
	cfg.Beacon, cfg.Suspect, cfg.DeadAfter, cfg.HintGrace = realBeacon, 1500*time.Millisecond, 3*time.Second, 200*time.Millisecond
	cfg.Scrub, cfg.Retry = 500*time.Millisecond, 100*time.Millisecond
	return cfg.Through(func(c *cluster.Config) { w.fill(c, w.addresses()) }, w.tap)
}

const realBeacon = 100 * time.Millisecond

func (w *wired) addresses() (list []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.taps {
		if a := t.Address(); a != "" && !t.dead.Load() {
			list = append(list, a)
		}
	}
	return list
}

func (w *wired) tap(b bus.Bus, self bus.Identity) bus.Bus {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := &tap{Bus: b, w: w, self: self}
	w.taps[self.Name], w.name[self.ID] = t, self.Name
	return t
}

func (w *wired) kill(name string) {
	w.mu.Lock()
	t := w.taps[name]
	w.mu.Unlock()
	t.dead.Store(true)
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // nothing that waits may leave
	_ = t.Bus.Close(ctx)
}

func (w *wired) partition(sides ...[]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, side := range sides {
		for _, name := range side {
			w.side[name] = i + 1
		}
	}
}

func (w *wired) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.side)
}

// open says whether messages pass between a node and the one with this ID.
func (w *wired) open(name, id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	a, b := w.side[name], w.side[w.name[id]]
	return a == 0 || b == 0 || a == b
}

// tap is a node's bus.
type tap struct {
	bus.Bus
	w    *wired
	self bus.Identity
	dead atomic.Bool
}

// Address implements bus.Addresser.
func (t *tap) Address() string {
	if a, ok := t.Bus.(bus.Addresser); ok {
		return a.Address()
	}
	return ""
}

func (t *tap) Publish(lane bus.Lane, subject string, data []byte) error {
	if t.dead.Load() {
		return nil
	}
	return t.Bus.Publish(lane, subject, data)
}

func (t *tap) Subscribe(lane bus.Lane, subject string, fn func(bus.Message)) (func(), error) {
	return t.Bus.Subscribe(lane, subject, func(m bus.Message) {
		if !t.dead.Load() && t.w.open(t.self.Name, sender(m.Subject)) {
			fn(m)
		}
	})
}

// sender finds the ID of a message's sender: for links the token after the receiver's, else the only one.
func sender(subject string) string {
	tokens := strings.Split(subject, ".")
	if k := tokens[2]; k == "l" || k == "la" {
		return tokens[4]
	}
	return tokens[3]
}

func (t *tap) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	if to := strings.Split(subject, ".")[3]; t.dead.Load() || !t.w.open(t.self.Name, to) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return t.Bus.Request(ctx, subject, data)
}

// Respond lets a killed node answer nothing, though its handlers end.
func (t *tap) Respond(subject string, fn func(context.Context, []byte) []byte) (func(), error) {
	return t.Bus.Respond(subject, func(ctx context.Context, data []byte) []byte {
		out := fn(ctx, data)
		if t.dead.Load() {
			runtime.Goexit()
		}
		return out
	})
}

func (t *tap) Close(ctx context.Context) error {
	if t.dead.Load() {
		return nil
	}
	t.w.mu.Lock()
	if t.w.taps[t.self.Name] == t {
		delete(t.w.taps, t.self.Name)
	}
	t.w.mu.Unlock()
	return t.Bus.Close(ctx)
}

// operator runs nats-server, built from the module, as a process of its own with TLS, and returns how to reach it.
func operator(t *testing.T) (url string, trust *tls.Config) {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "nats-server")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/nats-io/nats-server/v2").CombinedOutput(); err != nil {
		t.Fatalf("build nats-server: %v: %s", err, out)
	}
	conf := fmt.Sprintf(`
listen: "127.0.0.1:-1"
ports_file_dir: %q
tls { cert_file: %q, key_file: %q }
authorization {
	users = [ { user: cluster, password: secret, permissions: { publish: "v1.>", subscribe: "v1.>" } } ]
}`, dir, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	cert, key, pool := certificate(t)
	for name, data := range map[string][]byte{"cert.pem": cert, "key.pem": key, "nats.conf": []byte(conf)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program, "-c", filepath.Join(dir, "nats.conf"))
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	var ports struct{ NATS []string }
	(&world{t: t}).until("nats-server listens", func() bool {
		text, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("nats-server_%d.ports", cmd.Process.Pid)))
		return err == nil && json.Unmarshal(text, &ports) == nil && len(ports.NATS) > 0
	})
	_, port, err := net.SplitHostPort(ports.NATS[0][strings.LastIndex(ports.NATS[0], "/")+1:])
	if err != nil {
		t.Fatal(err)
	}
	return "tls://cluster:secret@127.0.0.1:" + port, &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool}
}

// certificate makes one for 127.0.0.1, and the pool that trusts it.
func certificate(t *testing.T) (cert, key []byte, pool *x509.CertPool) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), pool
}
