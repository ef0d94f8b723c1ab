package certs_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/certs"
)

func TestVersionsAndALPN(t *testing.T) {
	s, _ := open(t, certs.Options{})
	for _, tt := range []struct {
		name   string
		door   certs.DoorOptions
		client *tls.Config
		ok     bool
		alpn   string
	}{
		{"1.1 is refused", certs.DoorOptions{MinVersion: tls.VersionTLS10}, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false, ""},
		{"1.2", certs.DoorOptions{}, &tls.Config{MaxVersion: tls.VersionTLS12}, true, ""},
		{"1.2 is refused if 1.3 is demanded", certs.DoorOptions{MinVersion: tls.VersionTLS13}, &tls.Config{MaxVersion: tls.VersionTLS12}, false, ""},
		{"1.3", certs.DoorOptions{MinVersion: tls.VersionTLS13}, &tls.Config{}, true, ""},
		{"protocol", certs.DoorOptions{ALPN: []string{"xmpp-client"}}, &tls.Config{NextProtos: []string{"http/1.1", "xmpp-client"}}, true, "xmpp-client"},
		{"client without protocol", certs.DoorOptions{ALPN: []string{"xmpp-client"}}, &tls.Config{}, true, ""},
		{"foreign protocol", certs.DoorOptions{ALPN: []string{"xmpp-client"}}, &tls.Config{NextProtos: []string{"http/1.1"}}, false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.client.InsecureSkipVerify = true
			tt.client.ServerName = "localhost"
			seen, _, _, err := handshake(t, s.Door(tt.door), "", tt.client)
			if (err == nil) != tt.ok || seen.NegotiatedProtocol != tt.alpn {
				t.Errorf("got %q, %v", seen.NegotiatedProtocol, err)
			}
		})
	}
}

func TestNoResumption(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	s, _ := open(t, certs.Options{
		Domains: []string{"a.example"}, Files: []certs.Files{a.issue(t, dir, "a", month, "a.example")},
	})
	shared := s.Door(certs.DoorOptions{}).Config() // one for all connections, which could share the keys of tickets
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client := &tls.Config{ServerName: "a.example", RootCAs: a.pool, MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(8)}
		for range 2 {
			seen, _, err := connect(t, shared, client)
			if err != nil || seen.DidResume {
				t.Errorf("%s: resumed: %t, %v", tls.VersionName(version), seen.DidResume, err)
			}
		}
	}
}

func TestClientCertificates(t *testing.T) {
	a, stranger, dir := newAuthority(t), newAuthority(t), t.TempDir()
	s, _ := open(t, certs.Options{})
	door := s.Door(certs.DoorOptions{ClientAuth: tls.RequestClientCert, ClientCAs: a.pool})
	for _, tt := range []struct {
		name   string
		issuer *authority
		lasts  time.Duration
		want   string // part of the error; empty if there is none
	}{
		{"none", nil, 0, "showed no certificate"},
		{"good", a, month, ""},
		{"expired", a, -time.Minute, "expired"},
		{"of another authority", stranger, month, "unknown authority"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client := &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}
			if tt.issuer != nil {
				f := tt.issuer.issue(t, dir, "client", tt.lasts, "client.example")
				cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
				if err != nil {
					t.Fatal(err)
				}
				client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
			}
			_, server, _, err := handshake(t, door, "", client)
			if err != nil {
				t.Fatalf("a certificate that is not good must not end the handshake: %v", err)
			}
			cert, err := certs.VerifyClient(server, a.pool)
			if tt.want == "" {
				if err != nil || cert.DNSNames[0] != "client.example" {
					t.Errorf("got %v, %v", cert, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestLoadPool(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	f := a.issue(t, dir, "a", month, "a.example")
	if _, err := certs.LoadPool(f.Cert); err != nil {
		t.Error(err)
	}
	for _, file := range []string{f.Key, filepath.Join(dir, "none")} {
		if _, err := certs.LoadPool(file); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("got %v", err)
		}
	}
}

func TestHTTPServer(t *testing.T) {
	s, _ := open(t, certs.Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{
		TLSConfig:         s.Door(certs.DoorOptions{ALPN: []string{"h2", "http/1.1"}}).Config(),
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }),
		ReadHeaderTimeout: time.Minute,
	}
	done := make(chan error, 1)
	go func() { done <- server.ServeTLS(l, "", "") }()
	pool := x509.NewCertPool()
	pool.AddCert(s.ForDomain("").Leaf)
	for _, h2 := range []bool{true, false} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: h2}
		resp, err := (&http.Client{Transport: transport}).Get("https://" + l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if want := map[bool]string{true: "HTTP/2.0", false: "HTTP/1.1"}[h2]; err != nil || string(body) != want {
			t.Errorf("got %s, want %s, %v", body, want, err)
		}
		resp.Body.Close()
		transport.CloseIdleConnections()
	}
	server.Close()
	<-done
}

func TestFingerprint(t *testing.T) {
	got := certs.Fingerprint(&x509.Certificate{Raw: []byte("abc")})
	if want := "BA:78:16:BF:8F:01:CF:EA:41:41:40:DE:5D:AE:22:23:B0:03:61:A3:96:17:7A:9C:B4:10:FF:61:F2:00:15:AD"; got != want {
		t.Errorf("got %s", got)
	}
}
