// Package client is an XMPP client (RFC 6120) for load generation, tests and chaos: what an honest client does, and
// every step of it by itself, so that it can be done wrong. It can send any bytes.
//
// Dial does everything up to a bound resource (RFC 6120 §9.1): Connect, OpenStream, StartTLS, Authenticate and Bind
// are its steps. Next then reads what the server sends, IQ asks and waits for the answer. Any number of goroutines
// may send; only one at a time may use the methods that read: Next, IQ, Close and the steps.
package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// TLSMode is how a connection gets its TLS.
type TLSMode uint8

// The modes. Without TLS, Dial uses PLAIN only if Config names it.
const (
	StartTLS TLSMode = iota // RFC 6120 §5; there is no fall-back to plaintext
	Direct                  // XEP-0368 §3: TLS from the first byte, with ALPN
	None
)

// Config says where to connect and as whom.
type Config struct {
	Addr      string // host:port
	TLS       TLSMode
	TLSConfig *tls.Config // nil: the system's roots. ServerName is the domain of JID unless set
	JID       jid.JID     // account to log in to, or only a domain; its resourcepart is asked for when binding
	Password  string
	Mechanism string // SASL mechanism; empty: the strongest offered that is safe on the connection

	// Dialer opens the TCP connection, for those who need another local address or a proxy; nil: a net.Dialer.
	Dialer func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Conn is one connection to a server.
type Conn struct {
	cfg Config
	tcp net.Conn // below any TLS
	ids atomic.Uint64

	// Owned by whoever reads.
	in       input // its connection is tcp, or the TLS on top of it
	header   xml.Element
	features xml.Element
	bound    jid.JID
	aside    []xml.Element // what came while IQ waited, in order

	mu  sync.Mutex // guards out, and is held while writing: the bytes of two elements must not mix
	out net.Conn   // the same as in's
}

// maxAside bounds the elements that IQ keeps for Next.
const maxAside = 10_000

// Dial connects, secures the stream, authenticates and binds a resource. Presence is left to the caller. The error
// may be a *StreamError, a *StanzaError or a *sasl.Failure.
func Dial(ctx context.Context, cfg Config) (*Conn, error) {
	c, err := Connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := c.login(ctx); err != nil {
		c.Drop()
		return nil, fmt.Errorf("log in as %s at %s: %w", cfg.JID, cfg.Addr, err)
	}
	return c, nil
}

func (c *Conn) login(ctx context.Context) error {
	if err := c.authenticate(ctx); err != nil {
		return err
	}
	_, err := c.Bind(ctx, c.cfg.JID.Resource())
	return err
}

// LogIn is Dial without binding a resource: for those who want to resume a stream (XEP-0198 §5).
func LogIn(ctx context.Context, cfg Config) (*Conn, error) {
	c, err := Connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := c.authenticate(ctx); err != nil {
		c.Drop()
		return nil, fmt.Errorf("log in as %s at %s: %w", cfg.JID, cfg.Addr, err)
	}
	return c, nil
}

func (c *Conn) authenticate(ctx context.Context) error {
	if err := c.secure(ctx); err != nil {
		return err
	}
	if err := c.Authenticate(ctx, c.cfg.Mechanism); err != nil {
		return err
	}
	_, err := c.OpenStream(ctx, c.cfg.JID.Domain())
	return err
}

// secure opens the stream and, if the mode asks for it, starts TLS and opens it again.
func (c *Conn) secure(ctx context.Context) error {
	if _, err := c.OpenStream(ctx, c.cfg.JID.Domain()); err != nil {
		return err
	}
	if c.cfg.TLS != StartTLS {
		return nil
	}
	if err := c.StartTLS(ctx); err != nil {
		return err
	}
	_, err := c.OpenStream(ctx, c.cfg.JID.Domain())
	return err
}

// Connect opens the TCP connection, and TLS if the mode is Direct. Nothing of XMPP is sent.
func Connect(ctx context.Context, cfg Config) (*Conn, error) {
	dial := cfg.Dialer
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	tcp, err := dial(ctx, "tcp", cfg.Addr)
	if err != nil {
		return nil, err
	}
	c := &Conn{cfg: cfg, tcp: tcp, out: tcp}
	c.in.from = tcp
	if cfg.TLS == Direct {
		if err := c.handshake(ctx, "xmpp-client"); err != nil { // XEP-0368 §3
			c.Drop()
			return nil, err
		}
	}
	return c, nil
}

// handshake puts TLS on the connection.
func (c *Conn) handshake(ctx context.Context, alpn ...string) error {
	cfg := &tls.Config{}
	if c.cfg.TLSConfig != nil {
		cfg = c.cfg.TLSConfig.Clone()
	}
	if cfg.ServerName == "" {
		cfg.ServerName = c.cfg.JID.Domain()
	}
	if cfg.NextProtos == nil {
		cfg.NextProtos = alpn
	}
	secure := tls.Client(c.tcp, cfg)
	if err := secure.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS with %s: %w", c.cfg.Addr, err)
	}
	c.mu.Lock()
	c.out = secure
	c.mu.Unlock()
	c.in.from = secure
	return nil
}

// NetConn returns the connection below the stream, for looking at it and for doing to it what a client must not.
func (c *Conn) NetConn() net.Conn { return c.in.from }

// Unread returns what was read from the connection and has not been returned by any method, for those who go on reading from NetConn
// themselves.
func (c *Conn) Unread() []byte { return c.in.buf[c.in.used:] }

// TLS returns the TLS connection below the stream, nil if there is none.
func (c *Conn) TLS() *tls.Conn {
	secure, _ := c.in.from.(*tls.Conn)
	return secure
}

// JID returns the address that the server has bound, zero before that.
func (c *Conn) JID() jid.JID { return c.bound }

// Header returns the start tag of the server's stream, which has no content. The stream's id is in it. It is not
// to be changed.
func (c *Conn) Header() *xml.Element { return &c.header }

// Features returns the stream features that the server sent last.
func (c *Conn) Features() *xml.Element { return &c.features }

// ID returns a stanza id that this connection has not used.
func (c *Conn) ID() string { return "c" + strconv.FormatUint(c.ids.Add(1), 36) }

// Send sends one element, as it stands in a stream of jabber:client.
func (c *Conn) Send(ctx context.Context, e xml.Element) error {
	return c.Raw(ctx, e.Append(nil, xml.NSClient))
}

// Raw sends bytes as they are. If it fails they may have been sent in part.
func (c *Conn) Raw(ctx context.Context, b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	stop := bound(ctx, c.out.SetWriteDeadline)
	_, err := c.out.Write(b)
	return stop(err)
}

// IQ sends an iq stanza, with an id if it has none, and returns the result. What comes before that is kept for Next.
// An error reply is a *StanzaError.
func (c *Conn) IQ(ctx context.Context, iq xml.Element) (xml.Element, error) {
	if _, ok := iq.Lookup("id"); !ok {
		iq = iq.WithAttr("id", c.ID())
	}
	if err := c.Send(ctx, iq); err != nil {
		return xml.None, err
	}
	for {
		e, err := c.receive(ctx)
		if err != nil {
			return xml.None, err
		}
		if e.Space == xml.NSClient && e.Local == "iq" && e.Attr("id") == iq.Attr("id") {
			switch e.Attr("type") {
			case "result":
				return e, nil
			case "error":
				return xml.None, newStanzaError(e)
			}
		}
		if len(c.aside) == maxAside {
			return xml.None, errors.New("too many elements before the reply to an iq")
		}
		c.aside = append(c.aside, e)
	}
}

// Close ends the stream in order: it sends the end tag, reads until the server's (RFC 6120 §4.4) and closes the
// connection, also if it fails. What comes in between is dropped.
func (c *Conn) Close(ctx context.Context) error {
	defer c.Drop()
	c.aside = nil
	if err := c.Raw(ctx, []byte("</stream:stream>")); err != nil {
		return err
	}
	for {
		_, err := c.receive(ctx)
		switch {
		case errors.Is(err, ErrFooter):
			return c.closeTLS()
		case err != nil:
			return err
		}
	}
}

// closeTLS says goodbye in TLS, too, so that the server knows that nothing was cut off.
func (c *Conn) closeTLS() error {
	if secure := c.TLS(); secure != nil {
		return secure.CloseWrite()
	}
	return nil
}

// Drop cuts the TCP connection, with no end of stream or TLS, as when a process dies. It may be called at any time
// and from any goroutine; who waits to read or write gets an error.
func (c *Conn) Drop() { c.tcp.Close() }

// bound makes what follows on a connection end with ctx, by the deadlines that set sets. The function that it returns
// must be called with the outcome, and returns it, or the error of ctx if that was the cause.
func bound(ctx context.Context, set func(time.Time) error) func(error) error {
	deadline, limited := ctx.Deadline()
	set(deadline) // zero: none
	ended := func() bool { return false }
	if ctx.Done() != nil {
		expired := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			set(time.Unix(1, 0))
			close(expired)
		})
		ended = func() bool {
			if stop() {
				return false
			}
			<-expired // it must not touch the deadline of the next call
			return true
		}
	}
	return func(err error) error {
		var timeout net.Error
		switch done := ended(); {
		case err == nil || !errors.As(err, &timeout) || !timeout.Timeout():
			return err
		case done:
			return context.Cause(ctx)
		case limited: // the deadline of the connection was a little earlier than the context's timer
			return context.DeadlineExceeded
		}
		return err
	}
}
