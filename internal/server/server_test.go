package server_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/config"
	"github.com/starling-im/starling/internal/server"
)

// start runs a server with settings on a folder of its own.
func start(t *testing.T, set ...string) *server.Server {
	t.Helper()
	cfg, err := config.Load(config.Sources{Set: append([]string{
		"data=" + t.TempDir(), "listen.c2s=127.0.0.1:0", "listen.tls=127.0.0.1:0", "listen.https=127.0.0.1:0", "listen.admin=127.0.0.1:0",
	}, set...)}, server.Sections()...)
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(t.Context(), cfg, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})), "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// peer speaks raw bytes.
type peer struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, s *server.Server, door string) *peer {
	t.Helper()
	c, err := net.Dial("tcp", s.Addresses()[door][0])
	if err != nil {
		t.Fatal(err)
	}
	return newPeer(t, c)
}

func newPeer(t *testing.T, c net.Conn) *peer {
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return &peer{t, c, bufio.NewReader(c)}
}

func (p *peer) send(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p.Conn, s); err != nil {
		p.t.Fatal(err)
	}
}

// until reads up to and including a text, and returns all of it.
func (p *peer) until(end string) string {
	p.t.Helper()
	var b strings.Builder
	for !strings.HasSuffix(b.String(), end) {
		c, err := p.r.ReadByte()
		if err != nil {
			p.t.Fatalf("waiting for %q: %v after %q", end, err, b.String())
		}
		b.WriteByte(c)
	}
	return b.String()
}

const open = "<?xml version='1.0'?><stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"

func TestRegisterAndLogIn(t *testing.T) {
	s := start(t, "registration.open=true", "registration.free_loopback=true")
	p := dial(t, s, "c2s")
	p.send(open)
	if got := p.until("</stream:features>"); !strings.Contains(got, "<required/>") || strings.Contains(got, "mechanism") {
		t.Errorf("before TLS: %s", got)
	}
	p.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
	p.until("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
	sec := tls.Client(p.Conn, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"})
	p = &peer{t, sec, bufio.NewReader(sec)}
	p.send(open)
	if got := p.until("</stream:features>"); !strings.Contains(got, "SCRAM-SHA-256-PLUS") || !strings.Contains(got, "iq-register") {
		t.Errorf("under TLS: %s", got)
	}
	p.send("<iq type='set' id='r'><query xmlns='jabber:iq:register'><username>romeo</username><password>secret</password></query></iq>")
	if got := p.until("/>"); !strings.Contains(got, "type='result'") {
		t.Errorf("registration: %s", got)
	}
	p.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AHJvbWVvAHNlY3JldA==</auth>")
	if got := p.until(">"); !strings.Contains(got, "<success") {
		t.Fatalf("log-in: %s", got)
	}
	p.send(open)
	p.until("</stream:features>")
	p.send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>orchard</resource></bind></iq>")
	if got := p.until("</iq>"); !strings.Contains(got, "<jid>romeo@localhost/orchard</jid>") {
		t.Errorf("bind: %s", got)
	}
	p.send("<iq type='get' id='q'><query xmlns='jabber:iq:roster'/></iq><presence/><message to='romeo@localhost' type='chat' id='m'><body>to myself</body></message>")
	got := p.until("</message>")
	for _, want := range []string{"id='q'", "<presence from='romeo@localhost/orchard'", "to myself"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in %s", want, got)
		}
	}
	p.send("</stream:stream>")
	p.until("</stream:stream>")
	if _, err := p.r.ReadByte(); err != io.EOF {
		t.Errorf("after the footer: %v", err)
	}
}
