package certs_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/certs"
)

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * 24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{cert: cert, key: key, pool: x509.NewCertPool()}
	a.pool.AddCert(cert)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue writes a certificate for names into dir, as NAME.crt and NAME.key, and returns its files.
func (a *authority) issue(t *testing.T, dir, file string, lasts time.Duration, names ...string) certs.Files {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lasts), DNSNames: names,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	f := certs.Files{Cert: filepath.Join(dir, file+".crt"), Key: filepath.Join(dir, file+".key")}
	write(t, f.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, f.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	return f
}

// write replaces a file in one step, as tools that renew certificates do.
func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

const month = 30 * 24 * time.Hour

// logBuffer keeps what is logged.
type logBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) count(s string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.buf.String(), s)
}

func open(t *testing.T, o certs.Options) (*certs.Store, *logBuffer) {
	t.Helper()
	out := new(logBuffer)
	o.Log = slog.New(slog.NewTextHandler(out, nil))
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Domains == nil {
		o.Domains = []string{"localhost"}
	}
	s, err := certs.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s, out
}

// handshake connects a client to a door and returns what each side saw.
func handshake(t *testing.T, door *certs.Door, domain string, client *tls.Config) (seen, server tls.ConnectionState, served *certs.Served, err error) {
	t.Helper()
	config, served := door.Connection(domain)
	seen, server, err = connect(t, config, client)
	return seen, server, served, err
}

// connect makes one connection and returns what the client and the server saw of it.
func connect(t *testing.T, config, client *tls.Config) (seen, server tls.ConnectionState, err error) {
	t.Helper()
	near, far := tcpPair(t)
	tlsServer := tls.Server(far, config)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer far.Close()
		if tlsServer.HandshakeContext(t.Context()) == nil {
			_, _ = io.WriteString(tlsServer, "x") // carries session tickets along, if there are any
			_, _ = io.Copy(io.Discard, tlsServer)
		}
	})
	tlsClient := tls.Client(near, client)
	if err = tlsClient.HandshakeContext(t.Context()); err == nil {
		_, err = io.ReadFull(tlsClient, make([]byte, 1))
		seen = tlsClient.ConnectionState()
	}
	near.Close()
	wg.Wait()
	return seen, tlsServer.ConnectionState(), err
}

func tcpPair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

func TestChoice(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	s, _ := open(t, certs.Options{
		Files: []certs.Files{
			a.issue(t, dir, "wild", month, "*.example.org"),
			a.issue(t, dir, "main", month, "Example.ORG", "xn--mnchen-3ya.example"),
			a.issue(t, dir, "chat", month, "chat.example.org"),
			a.issue(t, dir, "again", month, "chat.example.org", "other.example"),
		},
		Domains: []string{"example.org", "chat.example.org", "münchen.example", "other.example"},
	})
	door := s.Door(certs.DoorOptions{})
	for _, tt := range []struct {
		name, sni, domain string
		want              string // first name of the certificate
	}{
		{"exact", "example.org", "", "Example.ORG"},
		{"exact in upper case", "EXAMPLE.org", "", "Example.ORG"},
		{"exact before wildcard, first file first", "chat.example.org", "", "chat.example.org"},
		{"wildcard", "rooms.example.org", "", "*.example.org"},
		{"wildcard stands for one label", "a.rooms.example.org", "", "Example.ORG"},
		{"SNI before domain", "other.example", "chat.example.org", "chat.example.org other.example"},
		{"domain when there is no SNI", "", "other.example", "chat.example.org other.example"},
		{"domain when SNI is foreign", "srv-target.example.net", "chat.example.org", "chat.example.org"},
		{"domain with U-labels", "", "münchen.example", "Example.ORG"},
		{"default for a foreign name", "example.com", "", "Example.ORG"},
		{"default for nothing", "", "", "Example.ORG"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			seen, _, served, err := handshake(t, door, tt.domain, &tls.Config{ServerName: tt.sni, InsecureSkipVerify: true})
			if err != nil {
				t.Fatal(err)
			}
			got := seen.PeerCertificates[0]
			want := strings.Fields(tt.want)
			if len(got.DNSNames) < len(want) || got.DNSNames[len(want)-1] != want[len(want)-1] {
				t.Errorf("got the certificate of %v", got.DNSNames)
			}
			if !bytes.Equal(served.Certificate().Certificate[0], got.Raw) {
				t.Error("Served names another certificate")
			}
		})
	}
	for _, tt := range []struct {
		domain string
		covers bool
	}{{"example.org", true}, {"EXAMPLE.org.", true}, {"x.example.org", true}, {"münchen.example", true}, {"org", false}, {"", false}, {"*.example.org", true}, {"a.b.example.org", false}} {
		if got := s.Covers(tt.domain); got != tt.covers {
			t.Errorf("Covers(%q) = %t", tt.domain, got)
		}
	}
	if got := s.ForDomain("rooms.example.org").Leaf.DNSNames[0]; got != "*.example.org" {
		t.Errorf("ForDomain: %s", got)
	}
}

func TestSelfSigned(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	domains := []string{"example.org", "münchen.example", "a_b.example", "192.0.2.1"}
	s, log := open(t, certs.Options{Dir: dir, Domains: domains})
	leaf := s.ForDomain("example.org").Leaf
	for _, f := range []string{"self-signed.crt", "self-signed.key"} {
		if info, err := os.Stat(filepath.Join(dir, f)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f, info, err)
		}
	}
	if log.count(certs.Fingerprint(leaf)) != 1 {
		t.Error("the fingerprint is not logged once")
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	names := []string{"example.org", "xn--mnchen-3ya.example", "127.0.0.1", "::1", "192.0.2.1"}
	if host, err := os.Hostname(); err == nil && leaf.VerifyHostname(host) == nil {
		names = append(names, host)
	}
	for _, name := range names {
		if _, _, _, err := handshake(t, s.Door(certs.DoorOptions{}), "", &tls.Config{ServerName: name, RootCAs: pool}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if days := leaf.NotAfter.Sub(leaf.NotBefore).Hours() / 24; days > 825 || days < 700 {
		t.Errorf("valid for %.0f days", days)
	}

	same, _ := open(t, certs.Options{Dir: dir, Domains: domains})
	if !same.ForDomain("").Leaf.Equal(leaf) {
		t.Error("made anew at the next start")
	}
	late, _ := open(t, certs.Options{Dir: dir, Domains: domains, Clock: func() time.Time { return time.Now().Add(780 * 24 * time.Hour) }})
	if !late.ForDomain("").Leaf.NotAfter.After(leaf.NotAfter) {
		t.Error("not made anew at a start shortly before its end")
	}
	more, _ := open(t, certs.Options{Dir: dir, Domains: append(domains, "new.example")})
	fresh := more.ForDomain("new.example").Leaf
	if fresh.Equal(leaf) || fresh.VerifyHostname("new.example") != nil {
		t.Error("not made anew for a new domain")
	}
	if !leaf.PublicKey.(*ecdsa.PublicKey).Equal(fresh.PublicKey) {
		t.Error("the key was not kept")
	}
	write(t, filepath.Join(dir, "self-signed.key"), []byte("torn"))
	mended, _ := open(t, certs.Options{Dir: dir, Domains: domains})
	if mended.ForDomain("").Leaf.Equal(fresh) {
		t.Error("not made anew for a torn key")
	}
}

func TestSelfSignedForTheUncovered(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	s, log := open(t, certs.Options{
		Dir: dir, Domains: []string{"a.example", "b.example"}, Files: []certs.Files{a.issue(t, dir, "a", month, "a.example")},
	})
	if s.ForDomain("a.example") == s.ForDomain("b.example") || s.ForDomain("").Leaf.DNSNames[0] != "a.example" {
		t.Error("wrong certificates")
	}
	if log.count("domains without a certificate") != 1 || log.count("b.example") == 0 {
		t.Error("no warning")
	}
	if err := os.Remove(filepath.Join(dir, "self-signed.key")); err != nil {
		t.Errorf("no self-signed certificate: %v", err)
	}
}

func TestSelfSignedIsRenewed(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, _ := open(t, certs.Options{Dir: dir, Interval: time.Hour})
		first := s.ForDomain("").Leaf
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.Run(ctx) }()
		time.Sleep(760 * 24 * time.Hour)
		synctest.Wait()
		if !s.ForDomain("").Leaf.Equal(first) {
			t.Error("renewed too early")
		}
		time.Sleep(15 * 24 * time.Hour)
		synctest.Wait()
		second := s.ForDomain("").Leaf
		if !second.NotAfter.After(first.NotAfter) || !first.PublicKey.(*ecdsa.PublicKey).Equal(second.PublicKey) {
			t.Errorf("ends %v, before %v", second.NotAfter, first.NotAfter)
		}
		cancel()
		<-done
	})
}

func TestOpenRefuses(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	good, other := a.issue(t, dir, "a", month, "a.example"), a.issue(t, dir, "b", month, "b.example")
	empty := filepath.Join(dir, "empty")
	write(t, empty, nil)
	for name, f := range map[string]certs.Files{
		"missing certificate": {filepath.Join(dir, "none"), good.Key},
		"missing key":         {good.Cert, filepath.Join(dir, "none")},
		"empty":               {empty, good.Key},
		"another's key":       {good.Cert, other.Key},
	} {
		_, err := certs.Open(certs.Options{Dir: t.TempDir(), Domains: []string{"a.example"}, Files: []certs.Files{good, f}, Log: slog.New(slog.DiscardHandler)})
		if err == nil || !strings.Contains(err.Error(), f.Cert) || !strings.Contains(err.Error(), f.Key) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	file := filepath.Join(dir, "a.crt", "below-a-file")
	if _, err := certs.Open(certs.Options{Dir: file, Domains: []string{"a.example"}, Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("accepted a folder that cannot be made")
	}
}

func TestReloadUnderTraffic(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	files := a.issue(t, dir, "a", month, "a.example")
	s, _ := open(t, certs.Options{Domains: []string{"a.example"}, Files: []certs.Files{files}})
	door := s.Door(certs.DoorOptions{})
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	began := make(chan struct{}, 2)
	for range 2 {
		wg.Go(func() {
			for first := true; ctx.Err() == nil; first = false {
				seen, _, served, err := handshake(t, door, "", &tls.Config{ServerName: "a.example", RootCAs: a.pool})
				switch {
				case err != nil:
					t.Error(err)
				case !bytes.Equal(served.Certificate().Certificate[0], seen.PeerCertificates[0].Raw):
					t.Error("Served names another certificate")
				}
				if first {
					began <- struct{}{}
				}
			}
		})
	}
	<-began
	<-began
	for range 20 {
		before := s.ForDomain("a.example")
		a.issue(t, dir, "a", month, "a.example")
		if err := s.Reload(); err != nil {
			t.Error(err)
		}
		if s.ForDomain("a.example").Leaf.Equal(before.Leaf) {
			t.Error("not taken over")
		}
	}
	stop()
	wg.Wait()
	seen, _, _, err := handshake(t, door, "", &tls.Config{ServerName: "a.example", RootCAs: a.pool})
	if err != nil || !seen.PeerCertificates[0].Equal(s.ForDomain("a.example").Leaf) {
		t.Errorf("the door does not show the newest certificate: %v", err)
	}
}

func TestRunFollowsFiles(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	files := a.issue(t, dir, "a", 10*month, "a.example")
	synctest.Test(t, func(t *testing.T) {
		s, log := open(t, certs.Options{Domains: []string{"a.example"}, Files: []certs.Files{files}, Clock: func() time.Time { return time.Unix(0, 0) }})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.Run(ctx) }()
		pass := func() { time.Sleep(time.Minute); synctest.Wait() }

		first := s.ForDomain("a.example")
		pass()
		if s.ForDomain("a.example") != first {
			t.Error("changed without a change")
		}
		good, err := os.ReadFile(files.Cert)
		if err != nil {
			t.Fatal(err)
		}
		write(t, files.Cert, []byte("broken"))
		pass()
		if s.ForDomain("a.example") != first || log.count("new certificate not taken over") != 1 {
			t.Errorf("a broken file was not refused and logged once: %d", log.count("not taken over"))
		}
		if err := os.Remove(files.Cert); err != nil {
			t.Fatal(err)
		}
		pass()
		if s.ForDomain("a.example") != first || log.count("new certificate not taken over") != 2 {
			t.Error("a missing file was not refused and logged once")
		}
		if err := s.Reload(); err == nil || !strings.Contains(err.Error(), files.Cert) {
			t.Errorf("Reload: %v", err)
		}
		write(t, files.Cert, good)
		pass()
		if log.count("certificate taken over") != 0 {
			t.Error("the same certificate counts as new")
		}
		a.issue(t, dir, "a", 10*month, "a.example")
		pass()
		if s.ForDomain("a.example").Leaf.Equal(first.Leaf) || log.count("certificate taken over") != 1 {
			t.Error("a good file was not taken over")
		}
		a.issue(t, dir, "a", 10*month, "b.example")
		pass()
		if log.count("no certificate covers these domains") != 1 {
			t.Error("no warning of a domain that lost its certificate")
		}
		cancel()
		<-done
	})
}

func TestMetric(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	registry := prometheus.NewRegistry()
	now := time.Now()
	o := certs.Options{
		Domains: []string{"a.example", "b.example"}, Registerer: registry, Clock: func() time.Time { return now },
		Files: []certs.Files{a.issue(t, dir, "a", month, "a.example"), a.issue(t, dir, "b", -time.Minute, "b.example")},
	}
	_, log := open(t, o)
	if log.count("expires soon or has expired") != 1 {
		t.Error("no warning of the one that has expired, or of the other, too")
	}
	families, err := registry.Gather()
	if err != nil || len(families) != 1 || families[0].GetName() != "starling_certificate_expiry_seconds" {
		t.Fatalf("got %v, %v", families, err)
	}
	for i, want := range []float64{month.Seconds(), -60} {
		m := families[0].GetMetric()[i]
		if got := m.GetGauge().GetValue(); m.GetLabel()[0].GetValue() != o.Domains[i] || got < want-5 || got > want+5 {
			t.Errorf("%s: %v, want %v", m.GetLabel(), got, want)
		}
	}
	if _, err := certs.Open(certs.Options{Dir: t.TempDir(), Domains: o.Domains, Registerer: registry, Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("registered twice")
	}
}
