package transport

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestSlowHandshakes has many peers stop in the middle of their handshake. They neither keep others out, though only one
// handshake may compute at a time, nor stay.
func TestSlowHandshakes(t *testing.T) {
	noLeaks(t)
	o := &Options{HandshakeTimeout: 300 * time.Millisecond, Handshakes: 1, Metrics: NewMetrics(prometheus.NewRegistry())}
	hello := clientHello(t)
	const each = 8
	var owners []*owner
	for i := range 3 * each {
		s, raw := sockets(t)
		conn, own := New(s, o), newOwner()
		conn.DirectTLS(serverTLS(tls.VersionTLS13))
		serve(t, conn, own)
		owners = append(owners, own)
		raw.Write([][]byte{nil, hello[:len(hello)-1], hello}[i%3])
	}
	own := newOwner()
	_, c, _ := layers[2].open(t, o, func(c *Conn) Handler { own.echo(c); return own }) // shakes hands
	for _, own := range owners {
		if err := own.end(t); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("OnClose heard %v", err)
		}
	}
	c.Write([]byte("x"))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Error("one that shook hands in time: ", err)
	}
	if ok, failed := value(t, o.Metrics.handshakes), value(t, o.Metrics.failures); ok != 1 || failed != 3*each {
		t.Errorf("counted %v handshakes and %v failures", ok, failed)
	}
}

// clientHello returns the first flight of a client.
func clientHello(t *testing.T) []byte {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	go func() {
		tls.Client(far, clientTLS()).Handshake()
		far.Close()
	}()
	buf := make([]byte, 16<<10)
	n, err := near.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

func TestBadHandshakes(t *testing.T) {
	hello := clientHello(t)
	for name, in := range map[string]string{
		"nothing":               "",
		"XML":                   "<stream:stream xmlns='jabber:client'>",
		"HTTP":                  "GET / HTTP/1.1\r\n\r\n",
		"zeros":                 strings.Repeat("\x00", 20<<10),
		"SSLv2":                 "\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10",
		"a record too large":    "\x16\x03\x01\xff\xff" + strings.Repeat("x", 64<<10),
		"an alert":              "\x15\x03\x01\x00\x02\x02\x28",
		"half a ClientHello":    string(hello[:len(hello)/2]),
		"ClientHello and junk":  string(hello) + strings.Repeat("junk", 100),
		"ClientHello, damaged":  string(hello[:100]) + strings.Repeat("\xff", len(hello)-100),
		"ClientHello and alert": string(hello) + "\x15\x03\x03\x00\x02\x02\x28",
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			s, raw := sockets(t)
			conn, own := New(s, &Options{}), newOwner()
			own.bytes = func(b []byte) error { t.Errorf("OnBytes(%q)", b); return nil }
			conn.DirectTLS(serverTLS(tls.VersionTLS13))
			serve(t, conn, own)
			conn.Append([]byte("secret"))
			raw.Write([]byte(in))
			raw.CloseWrite()
			if err := own.end(t); err == nil || !strings.HasPrefix(err.Error(), "TLS handshake: ") {
				t.Errorf("OnClose heard %v", err)
			}
			raw.SetDeadline(time.Now().Add(patience))
			if got, _ := io.ReadAll(raw); bytes.Contains(got, []byte("secret")) {
				t.Errorf("what was meant for TLS left in plaintext: %q", got)
			}
		})
	}
}

// TestCloseDuringHandshake ends connections in the middle of a handshake.
func TestCloseDuringHandshake(t *testing.T) {
	for name, end := range map[string]func(*Conn){
		"Close": func(c *Conn) { c.Close(errBye) },
		"Abort": func(c *Conn) { c.Abort(errBye) },
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			s, raw := sockets(t)
			conn, own := New(s, &Options{HandshakeTimeout: time.Hour}), newOwner()
			conn.DirectTLS(serverTLS(tls.VersionTLS13))
			serve(t, conn, own)
			raw.Write(clientHello(t))
			raw.Read(make([]byte, 1)) // the server's flight: it is in the middle
			end(conn)
			if err := own.end(t); err != errBye {
				t.Errorf("OnClose heard %v", err)
			}
		})
	}
}

// TestTruncation cuts a TLS record in half.
func TestTruncation(t *testing.T) {
	noLeaks(t)
	own := newOwner()
	_, f, _ := forge(t, &Options{}, func(c *Conn) Handler { own.echo(c); return own })
	record := f.record(applicationData, []byte("hello"))
	f.nc.Write(record[:len(record)-3])
	f.nc.CloseWrite()
	if err := own.end(t); err != io.ErrUnexpectedEOF {
		t.Errorf("OnClose heard %v", err)
	}
}

// TestDamagedRecord sees the alert for a record that cannot be decrypted.
func TestDamagedRecord(t *testing.T) {
	noLeaks(t)
	own := newOwner()
	_, f, c := forge(t, &Options{}, func(c *Conn) Handler { own.echo(c); return own })
	record := f.record(applicationData, []byte("hello"))
	record[len(record)-1] ^= 1
	f.nc.Write(record)
	if _, err := c.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "bad record MAC") {
		t.Errorf("the peer sees %v", err)
	}
	if err := own.end(t); err == nil || !strings.Contains(err.Error(), "bad record MAC") {
		t.Errorf("OnClose heard %v", err)
	}
}

// Types of TLS records and messages (RFC 8446).
const (
	alertRecord     = 21
	handshakeRecord = 22
	applicationData = 23
	keyUpdate       = 24
)

// forger writes TLS 1.3 records of its own making, as crypto/tls cannot be made to send a KeyUpdate. It continues the
// client's side of a connection that crypto/tls has opened.
type forger struct {
	nc     *net.TCPConn
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

// forge opens a connection whose client writes with the forger, and reads with crypto/tls.
func forge(t *testing.T, o *Options, own func(*Conn) Handler) (*Conn, *forger, *tls.Conn) {
	t.Helper()
	s, raw := sockets(t)
	raw.SetDeadline(time.Now().Add(patience))
	conn := New(s, o)
	conn.DirectTLS(serverTLS(tls.VersionTLS13))
	serve(t, conn, own(conn))
	var log bytes.Buffer
	cfg := clientTLS()
	cfg.KeyLogWriter = &log
	c := tls.Client(raw, cfg)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	if c.ConnectionState().CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skip("another cipher suite is preferred here")
	}
	f := &forger{nc: raw}
	for line := range strings.Lines(log.String()) {
		if words := strings.Fields(line); words[0] == "CLIENT_TRAFFIC_SECRET_0" {
			f.secret, _ = hex.DecodeString(words[2])
		}
	}
	f.rekey()
	return conn, f, c
}

// expand is HKDF-Expand-Label of RFC 8446, without a context.
func (f *forger) expand(label string, n int) []byte {
	label = "tls13 " + label
	info := append([]byte{byte(n >> 8), byte(n), byte(len(label))}, label...)
	out, err := hkdf.Expand(sha256.New, f.secret, string(append(info, 0)), n)
	if err != nil {
		panic(err)
	}
	return out
}

func (f *forger) rekey() {
	block, err := aes.NewCipher(f.expand("key", 16))
	if err != nil {
		panic(err)
	}
	f.aead, _ = cipher.NewGCM(block)
	f.iv, f.seq = f.expand("iv", 12), 0
}

func (f *forger) record(typ byte, payload []byte) []byte {
	inner := append(bytes.Clone(payload), typ)
	n := len(inner) + f.aead.Overhead()
	header := []byte{applicationData, 3, 3, byte(n >> 8), byte(n)}
	nonce := bytes.Clone(f.iv)
	tail := nonce[len(nonce)-8:]
	binary.BigEndian.PutUint64(tail, binary.BigEndian.Uint64(tail)^f.seq)
	f.seq++
	return f.aead.Seal(header, nonce, inner, header)
}

// update announces new keys for our side, and asks for new ones for the other.
func (f *forger) update(request byte) []byte {
	r := f.record(handshakeRecord, []byte{keyUpdate, 0, 0, 1, request})
	f.secret = f.expand("traffic upd", 32)
	f.rekey()
	return r
}

// TestForgedRecords mixes data, KeyUpdates, and records without data, cut at random places.
func TestForgedRecords(t *testing.T) {
	for seed := range uint64(8) {
		noLeaks(t)
		own := newOwner()
		_, f, c := forge(t, &Options{MaxPending: 8 << 20}, func(c *Conn) Handler { own.echo(c); return own })
		rnd := rand.New(rand.NewPCG(seed, 2))
		var sent, wire []byte
		for range 300 {
			switch rnd.IntN(6) {
			case 0:
				wire = append(wire, f.update(byte(rnd.IntN(2)))...)
			case 1:
				wire = append(wire, f.record(applicationData, nil)...)
			default:
				data := make([]byte, 1+rnd.IntN([]int{64, 1024, 16 << 10}[rnd.IntN(3)]))
				for i := range data {
					data[i] = byte(rnd.Uint32())
				}
				sent = append(sent, data...)
				wire = append(wire, f.record(applicationData, data)...)
			}
		}
		wire = append(wire, f.record(alertRecord, []byte{1, 0})...) // close_notify
		go func() {
			for len(wire) > 0 {
				n := min(len(wire), 1+rnd.IntN([]int{8, 600, 40 << 10}[rnd.IntN(3)]))
				f.nc.Write(wire[:n])
				wire = wire[n:]
			}
		}()
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("seed %d: %d bytes came back of %d, %v", seed, len(got), len(sent), err)
		}
		f.nc.Close()
		if err := own.end(t); err != io.EOF {
			t.Errorf("OnClose heard %v, want EOF", err)
		}
	}
}

// TestKeyUpdateAnswer asks for new keys when there is nothing else to send.
func TestKeyUpdateAnswer(t *testing.T) {
	noLeaks(t)
	own := newOwner()
	_, f, c := forge(t, &Options{}, func(c *Conn) Handler {
		own.echo(c)
		echo := own.bytes
		own.bytes = func(b []byte) error { defer c.Flush(); return echo(b) }
		own.flush = nil // or it would flush the answer too
		return own
	})
	got := make([]byte, 100)
	f.nc.Write(f.record(applicationData, []byte("x")))
	if _, err := c.Read(got); err != nil { // and the session ticket before it
		t.Fatal(err)
	}
	f.nc.Write(f.update(1))
	if n, err := f.nc.Read(got); err != nil || n == 0 || got[0] != applicationData {
		t.Errorf("%x, %v", got[:n], err)
	}
}

// TestPauseWithinRecord pauses when the handler has got the first part of a record.
func TestPauseWithinRecord(t *testing.T) {
	noLeaks(t)
	own := newOwner()
	var got []byte
	_, f, _ := forge(t, &Options{}, func(c *Conn) Handler {
		own.bytes = func(b []byte) error {
			got = append(got, b...)
			if len(b) > 0 {
				c.Pause()
				go c.Resume()
			}
			return nil
		}
		return own
	})
	var sent, wire []byte
	for i := range 20 {
		data := bytes.Repeat([]byte{byte(i)}, 15000+i)
		sent = append(sent, data...)
		wire = append(wire, f.record(applicationData, data)...)
	}
	f.nc.Write(wire)
	f.nc.CloseWrite()
	if err := own.end(t); err != io.EOF {
		t.Errorf("OnClose heard %v, want EOF", err)
	}
	if !bytes.Equal(got, sent) {
		t.Errorf("%d bytes arrived of %d, or others", len(got), len(sent))
	}
}

// TestKeyUpdateFlood asks for new keys again and again without reading the answers: memory stays bounded.
func TestKeyUpdateFlood(t *testing.T) {
	noLeaks(t)
	own := newOwner()
	_, f, _ := forge(t, &Options{MaxPending: 8 << 10, WriteTimeout: time.Hour}, func(c *Conn) Handler {
		c.nc.SetWriteBuffer(4 << 10)
		return own
	})
	go func() {
		for {
			wire := append(f.update(1), f.record(applicationData, []byte("x"))...)
			if _, err := f.nc.Write(wire); err != nil {
				return
			}
		}
	}()
	if err := own.end(t); err != ErrFull {
		t.Errorf("OnClose heard %v, want ErrFull", err)
	}
}

// TestOpenSSL talks with a foreign implementation, which changes its keys and asks us to.
func TestOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl here")
	}
	noLeaks(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), openssl, "s_client", "-connect", l.Addr().String(), "-tls1_3")
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	cmd.Stderr = cmd.Stdout // where it tells of its commands
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	nc, err := l.Accept()
	l.Close()
	if err != nil {
		t.Fatal(err)
	}
	conn, own := New(nc.(*net.TCPConn), &Options{}), newOwner()
	own.echo(conn)
	conn.DirectTLS(serverTLS(tls.VersionTLS13))
	serve(t, conn, own)
	lines := bufio.NewScanner(out)
	say := func(line, want string) {
		t.Helper()
		io.WriteString(in, line+"\n")
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), want) {
				return
			}
		}
		t.Fatalf("no %q after %q", want, line)
	}
	say("one", "one")
	say("K", "KEYUPDATE") // new keys for both
	say("two", "two")
	say("k", "KEYUPDATE") // new keys for the client
	say("three", "three")
	say("Q", "DONE")
	in.Close()
	if err := own.end(t); err != io.EOF {
		t.Errorf("OnClose heard %v, want EOF", err)
	}
	cmd.Wait()
}
