package server_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/config"
	"github.com/starling-im/starling/internal/server"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

const (
	password = "wherefore art thou"
	patience = 20 * time.Second // for what takes milliseconds
)

// target is a server under attack: what it writes to its log can be read, and what it holds counted.
type target struct {
	*server.Server
	data string
	log  *journal
}

// attack runs a server on localhost without limit of rates, and with cheap passwords.
func attack(t *testing.T, set ...string) *target {
	t.Helper()
	tg := &target{data: t.TempDir(), log: &journal{}}
	cfg, err := config.Load(config.Sources{Set: append([]string{
		"data=" + tg.data, "listen.c2s=127.0.0.1:0", "listen.tls=127.0.0.1:0", "listen.https=127.0.0.1:0", "listen.admin=127.0.0.1:0",
		"auth.iterations=4096", "limits.rate_bytes=0", "limits.close_timeout=2s",
	}, set...)}, server.Sections()...)
	if err != nil {
		t.Fatal(err)
	}
	tg.Server, err = server.New(t.Context(), cfg, slog.New(slog.NewJSONHandler(tg.log, nil)), "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := tg.Stop(ctx); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			log := tg.log.String()
			t.Log(log[max(0, len(log)-4096):])
		}
	})
	if err := tg.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return tg
}

// account makes an account.
func (tg *target) account(t *testing.T, addresses ...string) {
	t.Helper()
	for _, a := range addresses {
		if err := tg.Core().Accounts.Create(t.Context(), jid.MustParse(a), password); err != nil {
			t.Fatal(err)
		}
	}
}

// insecure is for self-signed certificates.
func insecure() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}
}

func (tg *target) config(address string) client.Config {
	return client.Config{
		Addr: tg.Addresses()["tls"][0], TLS: client.Direct, TLSConfig: insecure(), JID: jid.MustParse(address), Password: password,
	}
}

// login connects an honest client.
func (tg *target) login(t *testing.T, address string) *user {
	t.Helper()
	return dialUser(t, tg.config(address))
}

// user is a logged-in client.
type user struct {
	t *testing.T
	*client.Conn
}

func dialUser(t *testing.T, cfg client.Config) *user {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := client.Dial(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Drop)
	return &user{t, c}
}

func (u *user) send(raw string) {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(u.t.Context(), patience)
	defer cancel()
	if err := u.Raw(ctx, []byte(raw)); err != nil {
		u.t.Fatal(err)
	}
}

// next is the next element as text, or the error that ended the stream.
func (u *user) next() string {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(u.t.Context(), patience)
	defer cancel()
	e, err := u.Next(ctx)
	if err != nil {
		return err.Error()
	}
	return e.String()
}

// heard is everything that comes up to the answer to a ping, which is sent now.
func (u *user) heard() (all []string) {
	u.t.Helper()
	id := u.ID()
	u.send("<iq type='get' id='" + id + "'><ping xmlns='urn:xmpp:ping'/></iq>")
	ctx, cancel := context.WithTimeout(u.t.Context(), patience)
	defer cancel()
	for {
		e, err := u.Next(ctx)
		if err != nil {
			u.t.Fatalf("%v, after %q", err, all)
		}
		if e.Local == "iq" && e.Attr("id") == id {
			return all
		}
		all = append(all, e.String())
	}
}

// available announces the client and reads what that leads to.
func (u *user) available() *user {
	u.t.Helper()
	u.send("<presence/>")
	u.heard()
	return u
}

// journal is a log that can be asked.
type journal struct {
	mu  sync.Mutex // guards all
	all bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.all.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.all.String()
}

// about lists the lines that name the address of a client.
func (j *journal) about(addr net.Addr) (lines []string) {
	for line := range strings.Lines(j.String()) {
		var entry struct{ Addr string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Addr == addr.String() {
			lines = append(lines, line)
		}
	}
	return lines
}

// metric sums a metric over its labels.
func (tg *target) metric(t *testing.T, name string) (sum float64) {
	t.Helper()
	families, err := tg.Core().Metrics.(prometheus.Gatherer).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
			return sum
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// holdings is what a server must have given back when its clients are gone.
func (tg *target) holdings(t *testing.T) map[string]float64 {
	t.Helper()
	h := map[string]float64{"goroutines": float64(runtime.NumGoroutine())}
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		h["descriptors"] = float64(len(fds))
	}
	for _, name := range []string{
		"starling_c2s_connections", "starling_connections_open", "starling_connections_blocked", "starling_sessions",
		"starling_assembly_bytes", "starling_c2s_workers_running", "starling_c2s_workers_waiting",
	} {
		h[name] = tg.metric(t, name)
	}
	return h
}

// released waits until the server holds no more than before.
func (tg *target) released(t *testing.T, before map[string]float64) {
	t.Helper()
	var more []string
	if eventually(func() bool {
		more = nil
		for name, now := range tg.holdings(t) {
			if now > before[name] {
				more = append(more, fmt.Sprintf("%s: %v, before %v", name, now, before[name]))
			}
		}
		return more == nil
	}) {
		return
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	if float64(runtime.NumGoroutine()) <= before["goroutines"] {
		stacks = nil
	}
	t.Errorf("not given back: %q\n%s", more, stacks)
}

// eventually asks again and again until the answer is yes.
func eventually(is func() bool) bool {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		if is() {
			return true
		}
	}
	return false
}

// The steps of a raw client. Each peer has read all that was sent for it.

// opened has an open stream without TLS.
func opened(t *testing.T, s *server.Server) *peer {
	t.Helper()
	p := dial(t, s, "c2s")
	p.send(open)
	p.until("</stream:features>")
	return p
}

// secured has an open stream under TLS.
func secured(t *testing.T, s *server.Server) *peer {
	t.Helper()
	p := over(t, dial(t, s, "tls"))
	p.send(open)
	p.until("</stream:features>")
	return p
}

// over puts TLS on a connection.
func over(t *testing.T, p *peer) *peer {
	t.Helper()
	sec := tls.Client(p.Conn, insecure())
	if err := sec.Handshake(); err != nil {
		t.Fatal(err)
	}
	return &peer{t, sec, bufio.NewReader(sec)}
}

// authenticated has proven to be a user of localhost, and has no resource.
func authenticated(t *testing.T, s *server.Server, user string) *peer {
	t.Helper()
	p := secured(t, s)
	p.send(plain("", user, password))
	if got := p.until(">"); !strings.HasPrefix(got, "<success") {
		t.Fatalf("log-in: %s", got)
	}
	p.send(open)
	p.until("</stream:features>")
	return p
}

// bound has a resource.
func bound(t *testing.T, s *server.Server, user string) *peer {
	t.Helper()
	p := authenticated(t, s, user)
	p.send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
	p.until("</iq>")
	return p
}

// plain is an attempt to log in.
func plain(authzid, user, password string) string {
	return auth("PLAIN", authzid+"\x00"+user+"\x00"+password)
}

// auth begins an exchange.
func auth(mechanism, message string) string {
	return "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='" + mechanism + "'>" + base64.StdEncoding.EncodeToString([]byte(message)) + "</auth>"
}

// rest reads to the end of the connection, also where that is a reset.
func (p *peer) rest() string {
	b, _ := io.ReadAll(p.r)
	return string(b)
}
