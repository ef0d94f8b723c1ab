// Package bench_test measures the way of a message through a whole server, and holds it to its number of allocations.
// Everything is in this process: for figures of a server by itself see the folder run.
package bench_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/account"
	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/config"
	"github.com/starling-im/starling/internal/server"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

// password is that of every account here.
const password = "a password for tests"

// newServer starts a server with rate limits off, and further settings.
func newServer(tb testing.TB, set ...string) *server.Server {
	tb.Helper()
	cfg, err := config.Load(config.Sources{Set: append([]string{
		"data=" + tb.TempDir(), "listen.c2s=127.0.0.1:0", "listen.tls=127.0.0.1:0", "listen.https=", "listen.admin=",
		"auth.allow_plaintext=true", "auth.iterations=4096", "limits.rate_bytes=0", "limits.ping_after=0s",
		"archive.enabled=false", // what it costs is measured by itself
	}, set...)}, server.Sections()...)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := server.New(tb.Context(), cfg, slog.New(slog.DiscardHandler), "bench")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			tb.Error(err)
		}
	})
	if err := s.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return s
}

// newClient makes an account and logs it in, available.
func newClient(tb testing.TB, s *server.Server, name string, mode client.TLSMode) net.Conn {
	tb.Helper()
	bare := jid.MustParse(name + "@localhost")
	err := s.Core().Accounts.Create(tb.Context(), bare, password)
	if err != nil && err != account.ErrExists {
		tb.Fatal(err)
	}
	full, err := bare.WithResource("bench")
	if err != nil {
		tb.Fatal(err)
	}
	door := map[client.TLSMode]string{client.None: "c2s", client.Direct: "tls"}[mode]
	c, err := client.Dial(tb.Context(), client.Config{
		Addr: s.Addresses()[door][0], TLS: mode, TLSConfig: trusting(), JID: full, Password: password, Mechanism: "PLAIN",
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Drop)
	if err := c.Raw(tb.Context(), []byte("<presence/>")); err != nil {
		tb.Fatal(err)
	}
	for { // until the presence is back, and with it the server done
		e, err := c.Next(tb.Context())
		if err != nil {
			tb.Fatal(err)
		}
		if e.Local == "presence" {
			break
		}
	}
	nc := c.NetConn()
	if err := nc.SetDeadline(time.Now().Add(5 * time.Minute)); err != nil {
		tb.Fatal(err)
	}
	return nc
}

// chat is a message of 432 bytes, the size that the budgets are given for.
func chat(to string) []byte {
	head := "<message to='" + to + "' id='8f2c1a64-7d1b' type='chat'><body>"
	tail := "</body><active xmlns='http://jabber.org/protocol/chatstates'/><request xmlns='urn:xmpp:receipts'/></message>"
	text := strings.Repeat("Wherefore art thou, Romeo? ", 20)
	return []byte(head + text[:432-len(head)-len(tail)] + tail)
}

// pair is a sender and a receiver.
type pair struct {
	from, to net.Conn
	out      []byte // what is sent at once
	in       []byte
	pending  int // bytes of a further message in front of which the last read ended
	batch    int
	seen     []byte // what the last read of a turn has got
}

func newPair(tb testing.TB, mode client.TLSMode, batch int) *pair {
	s := newServer(tb)
	p := &pair{from: newClient(tb, s, "romeo", mode), to: newClient(tb, s, "juliet", mode), in: make([]byte, 64<<10), batch: batch}
	p.out = bytes.Repeat(chat("juliet@localhost/bench"), batch)
	return p
}

var endOfMessage = []byte("</message>")

// turn sends the batch and waits until all of it has come.
func (p *pair) turn(tb testing.TB) {
	if _, err := p.from.Write(p.out); err != nil {
		tb.Fatal(err)
	}
	for seen := 0; seen < p.batch; {
		n, err := p.to.Read(p.in[p.pending:])
		if err != nil {
			tb.Fatal(err)
		}
		got := p.in[:p.pending+n]
		p.seen = got
		seen += bytes.Count(got, endOfMessage)
		whole := bytes.LastIndex(got, endOfMessage)
		if whole >= 0 {
			got = got[whole+len(endOfMessage):]
		}
		p.pending = copy(p.in, got)
	}
}

// BenchmarkRoute is one message from socket to socket, both clients' system calls included.
func BenchmarkRoute(b *testing.B) {
	for _, c := range []struct {
		name  string
		mode  client.TLSMode
		batch int
	}{
		{"plaintext/1", client.None, 1}, {"plaintext/8", client.None, 8}, {"tls/1", client.Direct, 1}, {"tls/8", client.Direct, 8},
	} {
		b.Run(c.name, func(b *testing.B) {
			p := newPair(b, c.mode, c.batch)
			b.ReportAllocs()
			b.SetBytes(int64(len(p.out) / c.batch))
			for done := 0; b.Loop(); done++ {
				if done%c.batch == 0 {
					p.turn(b)
				}
			}
		})
	}
}
