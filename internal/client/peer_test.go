package client

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/xmpp/jid"
)

// limit ends a test that hangs.
const limit = 20 * time.Second

// within returns a context for one test.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// peer is the server's end of one connection, played by a test line by line. Its methods do nothing after a failure.
type peer struct {
	t      *testing.T
	conn   net.Conn
	unread []byte
	state  *tls.Config // of the server
	failed bool
}

// serve plays the server for one connection and returns the address to connect to. The test waits for play's end.
func serve(t *testing.T, play func(*peer)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		conn.SetDeadline(time.Now().Add(limit))
		p := &peer{t: t, conn: conn}
		defer func() { p.conn.Close() }()
		play(p)
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}

func (p *peer) fail(format string, args ...any) {
	if !p.failed {
		p.failed = true
		p.t.Errorf("server: "+format, args...)
	}
}

func (p *peer) send(s string) {
	if p.failed {
		return
	}
	if _, err := p.conn.Write([]byte(s)); err != nil {
		p.fail("write: %v", err)
	}
}

// until reads up to and including end, and returns it all.
func (p *peer) until(end string) string {
	for !p.failed {
		if i := bytes.Index(p.unread, []byte(end)); i >= 0 {
			got := string(p.unread[:i+len(end)])
			p.unread = p.unread[i+len(end):]
			return got
		}
		chunk := make([]byte, 4096)
		n, err := p.conn.Read(chunk)
		p.unread = append(p.unread, chunk[:n]...)
		if err != nil && n == 0 {
			p.fail("awaited %q, got %q and %v", end, p.unread, err)
		}
	}
	return ""
}

// expect reads exactly want.
func (p *peer) expect(want string) {
	if got := p.until(want[len(want)-1:]); !p.failed && got != want {
		for !p.failed && len(got) < len(want) {
			got += p.until(want[len(want)-1:])
		}
		if got != want {
			p.fail("awaited %q, got %q", want, got)
		}
	}
}

const serverHeader = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' from='a.test' id='s1' version='1.0'>"

// open answers a stream header with the features.
func (p *peer) open(features string) {
	got := p.until("?>") + p.until(">")
	want := "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='a.test'"
	if _, secure := p.conn.(*tls.Conn); secure { // RFC 6120 §4.7.1
		want += " from='romeo@a.test'"
	}
	if got != want+">" {
		p.fail("awaited %q, got %q", want+">", got)
	}
	p.send(serverHeader + "<stream:features>" + features + "</stream:features>")
}

// secure makes the connection TLS.
func (p *peer) secure(cfg *tls.Config) {
	if p.failed {
		return
	}
	if len(p.unread) > 0 {
		p.fail("before TLS: %q", p.unread)
		return
	}
	conn := tls.Server(p.conn, cfg)
	if err := conn.Handshake(); err != nil {
		p.fail("handshake: %v", err)
		return
	}
	p.conn = conn
}

// tlsPair returns the configurations of a server a.test and of a client that trusts it.
func tlsPair(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"a.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	certificate := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	return &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"xmpp-client"}},
		&tls.Config{RootCAs: roots}
}

var romeo = jid.MustParse("romeo@a.test/orchard")

// connect connects to a server without TLS that plays its part after the header and features.
func connect(t *testing.T, features string, play func(*peer)) *Conn {
	t.Helper()
	addr := serve(t, func(p *peer) {
		p.open(features)
		play(p)
	})
	c, err := Connect(within(t), Config{Addr: addr, TLS: None, JID: romeo, Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Drop)
	if _, err := c.OpenStream(within(t), "a.test"); err != nil {
		t.Fatal(err)
	}
	return c
}
