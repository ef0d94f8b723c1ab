package natsbus

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/starling-im/starling/cluster/internal/bus"
	"github.com/starling-im/starling/cluster/internal/bus/bustest"
)

// certify makes a self-signed certificate for a host, and the pool that trusts it.
func certify(t *testing.T, host string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	cert, err := sign(template, template, public, key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}, pool
}

// operator runs nats-server, built from the module, as a process of its own, and returns how to reach it.
func operator(t *testing.T) External {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "nats-server")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/nats-io/nats-server/v2").CombinedOutput(); err != nil {
		t.Fatalf("build nats-server: %v: %s", err, out)
	}
	cert, pool := certify(t, "127.0.0.1")
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Leaf.Raw}))
	write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	write("nats.conf", fmt.Appendf(nil, `
listen: "127.0.0.1:-1"
ports_file_dir: %q
tls { cert_file: %q, key_file: %q }
authorization {
	users = [ { user: starling, password: secret, permissions: { publish: "v1.test.>", subscribe: "v1.test.>" } } ]
}`, dir, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")))
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
	eventually(t, "nats-server listens", func() bool {
		text, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("nats-server_%d.ports", cmd.Process.Pid)))
		return err == nil && json.Unmarshal(text, &ports) == nil && len(ports.NATS) > 0
	})
	_, port, err := net.SplitHostPort(ports.NATS[0][strings.LastIndex(ports.NATS[0], "/")+1:])
	if err != nil {
		t.Fatal(err)
	}
	return External{
		URLs: "tls://starling:secret@127.0.0.1:" + port,
		TLS:  &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool},
	}
}

func TestExternalBus(t *testing.T) {
	engine := operator(t)
	bustest.Run(t, bustest.Harness{Open: func(t *testing.T, n int) []bus.Bus {
		var bs []bus.Bus
		for i := range n {
			bs = append(bs, open(t, i, &engine).Bus)
		}
		return bs
	}})
}

// serve runs a server in this process, for what needs no other one.
func serve(t *testing.T, o server.Options) (url string, s *server.Server) {
	t.Helper()
	o.Host, o.NoSigs, o.NoLog = "127.0.0.1", true, true
	if o.Port == 0 {
		o.Port = server.RANDOM_PORT
	}
	s, err := server.NewServer(&o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	eventually(t, "server listens", func() bool { return s.Addr() != nil })
	return s.Addr().String(), s
}

func TestExternalFailures(t *testing.T) {
	cert, pool := certify(t, "127.0.0.1")
	elsewhere, elsewherePool := certify(t, "nats.test")
	served := func(c tls.Certificate, ask tls.ClientAuthType) *tls.Config {
		return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{c}, ClientAuth: ask}
	}
	trust := func(p *x509.CertPool) *tls.Config { return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: p} }
	for _, c := range []struct {
		name, reason string
		options      server.Options
		url          func(address string) string
		tls          *tls.Config
	}{
		{"no TLS", "offers no TLS", server.Options{}, nil, nil},
		{"unknown authority", "is not trusted", server.Options{TLSConfig: served(cert, tls.NoClientCert)}, nil, nil},
		{"name not in the certificate", "is not trusted", server.Options{TLSConfig: served(elsewhere, tls.NoClientCert)}, nil, trust(elsewherePool)},
		{"client certificate wanted", "does not accept this node's certificate",
			server.Options{TLSConfig: served(cert, tls.RequireAnyClientCert)}, nil, trust(pool)},
		{"wrong password", "refuses the credentials",
			server.Options{TLSConfig: served(cert, tls.NoClientCert), Username: "u", Password: "p"},
			func(a string) string { return "tls://u:wrong@" + a }, trust(pool)},
		{"small messages", "takes messages of 4096 bytes",
			server.Options{TLSConfig: served(cert, tls.NoClientCert), MaxPayload: 4096}, nil, trust(pool)},
	} {
		t.Run(c.name, func(t *testing.T) {
			address, _ := serve(t, c.options)
			url := "tls://" + address
			if c.url != nil {
				url = c.url(address)
			}
			_, err := tryOpen(t, 0, &External{URLs: url, TLS: c.tls})
			checkFailure(t, err, c.reason)
		})
	}
	for _, c := range []struct{ name, urls, reason string }{
		{"nothing", "", "an address of NATS servers is not one"},
		{"no URL", "tls://a,:secret@b", "an address of NATS servers is not one"},
		{"other scheme", "http://u:secret@a", "an address of NATS servers is not one"},
		{"not encrypted", "nats://u:secret@nats.test:4222", "the NATS server nats.test:4222 would not be encrypted"},
		{"one of them not encrypted", "tls://a,nats://b", "the NATS server b would not be encrypted"},
		{"mixed", "tls://a,nats://127.0.0.1", "some are not"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := tryOpen(t, 0, &External{URLs: c.urls})
			checkFailure(t, err, c.reason)
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("password in %q", err)
			}
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		_, err := tryOpen(t, 0, &External{URLs: "tls://127.0.0.1:1"})
		if f := new(bus.Failure); err == nil || errors.As(err, &f) {
			t.Errorf("error is %v, want one that may pass", err)
		}
	})
}

// TestExternalPermissions: a node that may not use the subjects says so.
func TestExternalPermissions(t *testing.T) {
	address, _ := serve(t, server.Options{Users: []*server.User{{
		Username: "u", Password: "p",
		Permissions: &server.Permissions{Publish: &server.SubjectPermission{Allow: []string{"v1.other.>"}}},
	}}})
	n := open(t, 0, &External{URLs: "nats://u:p@" + address})
	if err := n.Publish(bus.Control, "v1.test.hb.a", nil); err != nil {
		t.Fatal(err)
	}
	select {
	case f := <-n.Faults():
		checkFailure(t, f, "forbids subjects")
	case <-time.After(patience):
		t.Fatal("no fault")
	}
}

// TestExternalRestart: while the operator's server is away messages are lost without an error, requests end at once,
// and afterwards all goes on.
func TestExternalRestart(t *testing.T) {
	address, s := serve(t, server.Options{})
	port := s.Addr().(*net.TCPAddr).Port
	n := open(t, 0, &External{URLs: "nats://" + address})
	got := make(chan string, 1024)
	if _, err := n.Subscribe(bus.Data, "v1.test.x", func(m bus.Message) { got <- m.Subject }); err != nil {
		t.Fatal(err)
	}
	s.Shutdown()
	s.WaitForShutdown()
	eventually(t, "loss of the connection noticed", func() bool {
		return !n.Bus.(*natsBus).lanes[bus.Control].conn.IsConnected() && !n.Bus.(*natsBus).lanes[bus.Data].conn.IsConnected()
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := n.Request(ctx, "v1.test.y", nil); !errors.Is(err, bus.ErrNoResponders) {
		t.Errorf("request: %v", err)
	}
	if err := n.Publish(bus.Data, "v1.test.x", nil); err != nil {
		t.Errorf("publish: %v", err)
	}
	serve(t, server.Options{Port: port})
	eventually(t, "message", func() bool {
		if err := n.Publish(bus.Data, "v1.test.x", nil); err != nil {
			t.Errorf("publish: %v", err)
		}
		select {
		case subject := <-got:
			return subject == "v1.test.x"
		default:
			return false
		}
	})
}
