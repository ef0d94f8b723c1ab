package transport

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// certificate is made once for all tests.
var certificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

func serverTLS(version uint16) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{certificate()}, MinVersion: version, MaxVersion: version,
		DynamicRecordSizingDisabled: true,
	}
}

func clientTLS() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }

// until polls a condition that other goroutines or the kernel bring about.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(patience); !holds(); <-tick.C {
		if time.Now().After(limit) {
			buf := make([]byte, 1<<20)
			t.Fatalf("not reached: %s\n%s", what, buf[:runtime.Stack(buf, true)])
		}
	}
}

// noLeaks fails the test if goroutines or descriptors are left when all its cleanups have run.
func noLeaks(t *testing.T) {
	t.Helper()
	certificate() // and whatever else is opened once
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	t.Cleanup(func() {
		if t.Failed() {
			return
		}
		until(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines })
		until(t, "descriptors are closed", func() bool { return descriptors(t) <= files })
	})
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	n := 0
	for _, fd := range all {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

// sockets returns the two ends of a TCP connection over loopback; the accepted one is the server's.
func sockets(t testing.TB) (server, client *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return s.(*net.TCPConn), c.(*net.TCPConn)
}

// owner is a Handler made of functions, each of which may be nil.
type owner struct {
	bytes  func(b []byte) error
	flush  func()
	closed chan error // gets what OnClose got
}

func newOwner() *owner { return &owner{closed: make(chan error, 2)} }

func (o *owner) OnBytes(b []byte) error {
	if o.bytes == nil {
		return nil
	}
	return o.bytes(b)
}

func (o *owner) OnFlush() {
	if o.flush != nil {
		o.flush()
	}
}

func (o *owner) OnClose(err error) { o.closed <- err }

// end waits for OnClose and returns its error; it fails if there was more than one call.
func (o *owner) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-o.closed:
		if len(o.closed) > 0 {
			t.Error("OnClose was called twice")
		}
		return err
	case <-time.After(patience):
		buf := make([]byte, 1<<20)
		t.Fatalf("connection does not end\n%s", buf[:runtime.Stack(buf, true)])
		return nil
	}
}

// echo makes o send back what comes.
func (o *owner) echo(c *Conn) {
	o.bytes = func(b []byte) error {
		_, err := c.Append(b)
		return err
	}
	o.flush = c.Flush
}

// serve runs c on a goroutine of its own; the test's end waits for it.
func serve(t testing.TB, c *Conn, h Handler) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Serve(ctx, h)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

// layer is a way to lay XMPP's bytes on a connection.
type layer struct {
	name   string
	config func() *tls.Config // nil: plaintext
}

var layers = []layer{
	{"plaintext", nil},
	{"TLS 1.2", func() *tls.Config { return serverTLS(tls.VersionTLS12) }},
	{"TLS 1.3", func() *tls.Config { return serverTLS(tls.VersionTLS13) }},
}

// client is what net.TCPConn and tls.Conn have in common.
type client interface {
	net.Conn
	CloseWrite() error
}

// open makes a served connection with the given owner, and the client's side of it. The handshake is over on both.
func (l layer) open(t testing.TB, o *Options, own func(*Conn) Handler) (*Conn, client, *net.TCPConn) {
	t.Helper()
	s, c := sockets(t)
	c.SetDeadline(time.Now().Add(patience))
	conn := New(s, o)
	h := own(conn)
	if l.config == nil {
		serve(t, conn, h)
		return conn, c, c
	}
	conn.DirectTLS(l.config())
	serve(t, conn, h)
	tc := tls.Client(c, clientTLS())
	if err := tc.Handshake(); err != nil {
		t.Fatal(err)
	}
	until(t, "the server's handshake ends", func() bool { _, ok := conn.TLSState(); return ok })
	return conn, tc, c
}

// each runs a test on every layer.
func each(t *testing.T, test func(t *testing.T, l layer)) {
	for _, l := range layers {
		t.Run(l.name, func(t *testing.T) {
			noLeaks(t)
			test(t, l)
		})
	}
}

// value reads one metric.
func value(t *testing.T, c prometheus.Collector) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(c)
	all, err := r.Gather()
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	m := all[0].GetMetric()[0]
	return m.GetCounter().GetValue() + m.GetGauge().GetValue()
}
