package proxied

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/prometheus/client_golang/prometheus"
)

// v2 writes a header of version 2.
func v2(command, family byte, rest string) string {
	return string(proxyproto.SIGV2) + string([]byte{command, family, byte(len(rest) >> 8), byte(len(rest))}) + rest
}

const (
	tcp4 = "\xc0\x00\x02\x07\x0a\x00\x00\x01\x9c\x40\x14\x66" // 192.0.2.7:40000 to 10.0.0.1:5222
	tcp6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x9c\x40\x14\x66"
)

func headers() map[string]struct{ header, client, fault string } {
	type c = struct{ header, client, fault string }
	return map[string]c{
		"version 1, IPv4":             {"PROXY TCP4 192.0.2.7 10.0.0.1 40000 5222\r\n", "192.0.2.7:40000", ""},
		"version 1, IPv6":             {"PROXY TCP6 2001:db8::7 2001:db8::1 40000 5222\r\n", "[2001:db8::7]:40000", ""},
		"version 1, unknown":          {"PROXY UNKNOWN\r\n", "", ""},
		"version 1, unknown with all": {"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", "", ""},
		"version 1, no address":       {"PROXY TCP4 example.org 10.0.0.1 40000 5222\r\n", "", "invalid"},
		"version 1, wrong family":     {"PROXY TCP4 2001:db8::7 2001:db8::1 40000 5222\r\n", "", "invalid"},
		"version 1, bare line feed":   {"PROXY TCP4 192.0.2.7 10.0.0.1 40000 5222\n", "", `\r\n`},
		"version 1, no end":           {"PROXY TCP4 " + strings.Repeat("1", 200), "", "too long"},
		"version 1, cut off":          {"PROXY TCP4 192.0.2.7", "", "unexpected EOF"},
		"version 2, IPv4":             {v2(0x21, 0x11, tcp4), "192.0.2.7:40000", ""},
		"version 2, IPv6":             {v2(0x21, 0x21, tcp6), "[2001:db8::7]:40000", ""},
		"version 2, more than it needs": {
			v2(0x21, 0x11, tcp4+"\x04\x00\x03abc"), "192.0.2.7:40000", "",
		},
		"version 2, LOCAL":            {v2(0x20, 0x00, ""), "", ""},
		"version 2, LOCAL, addresses": {v2(0x20, 0x11, tcp4), "", ""},
		"version 2, Unix sockets":     {v2(0x21, 0x31, strings.Repeat("\x00", 216)), "", ""},
		"version 2, datagrams":        {v2(0x21, 0x12, tcp4), "", ""},
		"version 2, too short":        {v2(0x21, 0x11, tcp4[:8]), "", "invalid"},
		"version 2, another command":  {v2(0x2f, 0x11, tcp4), "", "unsupported"},
		"version 2, version 3":        {v2(0x31, 0x11, tcp4), "", "unsupported"},
		"version 2, too long":         {v2(0x21, 0x11, strings.Repeat("x", maxV2)), "", "too many"},
		"version 2, cut off":          {v2(0x21, 0x11, tcp4)[:20], "", "unexpected EOF"},
		"a stream without a header":   {"<?xml version='1.0'?><stream:stream", "", "no PROXY header"},
		"TLS without a header":        {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\xf7\x7b", "", "no PROXY header"},
		"a few bytes":                 {"GET", "", "no PROXY header"},
		"nothing":                     {"", "", "EOF"},
	}
}

// What follows a header stays where it is, however the bytes come.
func TestHeader(t *testing.T) {
	for name, c := range headers() {
		t.Run(name, func(t *testing.T) {
			const next = "<stream:stream"
			stream := c.header
			if c.fault == "" {
				stream += next
			}
			for pace, r := range map[string]io.Reader{"at once": strings.NewReader(stream), "byte by byte": iotest.OneByteReader(strings.NewReader(stream))} {
				client, err := read(r)
				if c.fault != "" {
					if err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(c.fault)) {
						t.Errorf("%s: got %v, %v, want an error with %q", pace, client, err, c.fault)
					}
					continue
				}
				got := ""
				if client != nil {
					got = client.String()
				}
				rest, _ := io.ReadAll(r)
				if err != nil || got != c.client || string(rest) != next {
					t.Errorf("%s: got %q, %v, want %q; %q is left", pace, got, err, c.client, rest)
				}
			}
		})
	}
}

func FuzzHeader(f *testing.F) {
	for _, c := range headers() {
		f.Add([]byte(c.header + "more"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		client, err := read(r)
		taken := b[:len(b)-r.Len()]
		if err != nil || client == nil {
			return
		}
		// What was taken is one whole header, and says the same to who reads it alone.
		again, err := read(bytes.NewReader(taken))
		if err != nil || again.String() != client.String() || len(taken) > maxV2 {
			t.Errorf("%q: %v, then %v, %v", taken, client, again, err)
		}
	})
}

// door is a listener with balancers in front.
type door struct {
	net.Listener
	of      *Balancers
	metrics *prometheus.Registry
	log     bytes.Buffer
}

// count is how many headers had an outcome.
func (d *door) count(t *testing.T, outcome string) float64 {
	t.Helper()
	families, err := d.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if l := m.GetLabel(); f.GetName() == "starling_proxied_total" && l[0].GetValue() == outcome {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func open(t *testing.T, from ...string) *door {
	t.Helper()
	return openWithin(t, headerTimeout, from...)
}

func openWithin(t *testing.T, within time.Duration, from ...string) *door {
	t.Helper()
	d := &door{metrics: prometheus.NewRegistry()}
	var trusted []netip.Prefix
	for _, p := range from {
		trusted = append(trusted, netip.MustParsePrefix(p))
	}
	d.of = New(trusted, slog.New(slog.NewTextHandler(&d.log, nil)), d.metrics)
	d.of.within = within
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.Listener = d.of.Listen(l)
	t.Cleanup(func() { d.Close() })
	return d
}

// dial connects and sends what is given.
func (d *door) dial(t *testing.T, first string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", d.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, first); err != nil {
		t.Fatal(err)
	}
	return c
}

// next accepts, and returns who it is and what comes.
func (d *door) next(t *testing.T, length int) (who, first string) {
	t.Helper()
	nc, err := d.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	b := make([]byte, length)
	if _, err := io.ReadFull(nc, b); err != nil {
		t.Fatal(err)
	}
	return nc.RemoteAddr().String(), string(b)
}

func TestBalancerIsBelieved(t *testing.T) {
	d := open(t, "10.0.0.0/8", "127.0.0.0/8")
	waiting := d.dial(t, "PROXY") // does not hold up those that come after it
	d.dial(t, v2(0x21, 0x11, tcp4)+"hello")
	if who, first := d.next(t, 5); who != "192.0.2.7:40000" || first != "hello" {
		t.Errorf("%s says %s", who, first)
	}
	own := d.dial(t, v2(0x20, 0, "")+"check")
	if who, first := d.next(t, 5); who != own.LocalAddr().String() || first != "check" {
		t.Errorf("%s says %s", who, first)
	}
	io.WriteString(waiting, " TCP4 198.51.100.3 10.0.0.1 1 2\r\nhello")
	if who, first := d.next(t, 5); who != "198.51.100.3:1" || first != "hello" {
		t.Errorf("%s says %s", who, first)
	}
}

func TestOthersAreNotBelieved(t *testing.T) {
	for name, from := range map[string][]string{"not in the list": {"10.0.0.0/8", "::1/128"}, "no list": nil} {
		t.Run(name, func(t *testing.T) {
			d := open(t, from...)
			const header = "PROXY TCP4 192.0.2.7 10.0.0.1 40000 5222\r\n"
			c := d.dial(t, header)
			if who, first := d.next(t, len(header)); who != c.LocalAddr().String() || first != header {
				t.Errorf("%s says %s", who, first)
			}
		})
	}
}

func TestMalformed(t *testing.T) {
	d := open(t, "127.0.0.0/8")
	c := d.dial(t, "<?xml version='1.0'?>")
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, io.ErrNoProgress) {
		t.Errorf("not closed: %v", err)
	}
	probe := d.dial(t, "")
	probe.(*net.TCPConn).CloseWrite()
	if _, err := probe.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("who sends nothing: %v", err)
	}
	d.Close()
	if log := d.log.String(); !strings.Contains(log, c.LocalAddr().String()) || strings.Contains(log, probe.LocalAddr().String()) {
		t.Errorf("log: %s", log)
	}
	for outcome, want := range map[string]float64{"malformed": 1, "empty": 1, "client": 0} {
		if got := d.count(t, outcome); got != want {
			t.Errorf("%s: %v", outcome, got)
		}
	}
}

// A header that does not come is not waited for any longer than it should be.
func TestSlowHeader(t *testing.T) {
	d := openWithin(t, 100*time.Millisecond, "127.0.0.0/8")
	begun := time.Now()
	c := d.dial(t, string(proxyproto.SIGV2)+"\x21")
	if _, err := io.ReadAll(c); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Fatal(err)
	}
	if took := time.Since(begun); took < d.of.within || took > headerTimeout {
		t.Errorf("closed after %v", took)
	}
	d.Close()
	if log := d.log.String(); !strings.Contains(log, "timeout") || !strings.Contains(log, c.LocalAddr().String()) {
		t.Errorf("log: %s", log)
	}
}

func TestTooManyWait(t *testing.T) {
	d := open(t, "127.0.0.0/8")
	for range mostWaiting {
		d.of.slots <- struct{}{}
	}
	c := d.dial(t, "")
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("not refused")
	}
	<-d.of.slots
	d.dial(t, v2(0x21, 0x11, tcp4)+"hello")
	if who, _ := d.next(t, 5); who != "192.0.2.7:40000" {
		t.Error(who)
	}
}

// Closing ends also those whose header has not come and those that nobody has accepted.
func TestClose(t *testing.T) {
	d := open(t, "127.0.0.0/8")
	silent, ready := d.dial(t, "PROXY "), d.dial(t, v2(0x21, 0x11, tcp4))
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for d.count(t, "client") == 0 || len(d.of.slots) != 1 {
		<-again.C
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if _, err := d.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept: %v", err)
	}
	for _, c := range []net.Conn{silent, ready} {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("still open")
		}
	}
	if log := d.log.String(); log != "" {
		t.Errorf("log: %s", log)
	}
}

// troubled is a listener that has no descriptors left for a while.
type troubled struct {
	net.Listener
	errs chan error
}

func (l troubled) Accept() (net.Conn, error) {
	if err, ok := <-l.errs; ok {
		return nil, err
	}
	return nil, net.ErrClosed
}

func (l troubled) Close() error { close(l.errs); return nil }

func TestAcceptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		inner := troubled{errs: make(chan error, 1)}
		l := b.Listen(inner)
		full := errors.New("too many open files")
		inner.errs <- full
		if _, err := l.Accept(); err != full {
			t.Errorf("got %v", err)
		}
		l.Close()
	})
}
