package xmpptest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// wire is the connection below a peer: client.Conn, or raw.
type wire interface {
	Raw(ctx context.Context, b []byte) error
	Next(ctx context.Context) (xml.Element, error)
	Drop()
}

// peer is one client of a script. It is used by the script alone, so what came waits in the socket until a step asks.
type peer struct {
	wire
	jid      jid.JID         // full; zero when raw
	ended    <-chan struct{} // closed when the server has handled the end of the session; nil when raw
	managed  bool            // has a session that may outlive its connection (XEP-0198)
	stranger bool            // has no session yet
	unread   []item
	footed   bool // the end of the server's stream was read
	err      error
}

// read waits for one more item.
func (p *peer) read(ctx context.Context) error {
	if p.err != nil {
		return p.err
	}
	e, err := p.Next(ctx)
	var failed *client.StreamError
	switch {
	case err == nil:
		p.unread = append(p.unread, item{Element: e})
	case errors.As(err, &failed):
		p.unread = append(p.unread, item{Element: failed.Element})
	case errors.Is(err, client.ErrFooter):
		p.footed = true
		p.unread = append(p.unread, item{footer: true})
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("waited in vain")
	default:
		p.err = fmt.Errorf("the connection has ended: %w", err)
		return p.err
	}
	return nil
}

// await returns the first item that accept takes, and leaves the others; if raw, only those after it.
func (p *peer) await(ctx context.Context, accept func(item) bool) (item, error) {
	for i := 0; ; i++ {
		for i >= len(p.unread) {
			if err := p.read(ctx); err != nil {
				return item{}, err
			}
		}
		if it := p.unread[i]; accept(it) {
			if p.jid.IsZero() {
				p.unread = p.unread[i+1:]
			} else {
				p.unread = slices.Delete(p.unread, i, i+1)
			}
			return it, nil
		}
	}
}

// atEnd waits until the server has ended the stream, if there was one, and the connection.
func (p *peer) atEnd(ctx context.Context) error {
	for p.err == nil {
		if err := p.read(ctx); err != nil && p.err == nil {
			return fmt.Errorf("still open: %w", err)
		}
	}
	if !errors.Is(p.err, io.EOF) {
		return p.err
	}
	return nil
}

// raw is a connection that does nothing by itself. What it reads is cut into items as a client would, over restarts of
// the stream.
type raw struct {
	net.Conn
	stream  xml.Stream
	scanner *xml.Scanner
	buf     []byte // read and not consumed
}

func dialRaw(ctx context.Context, address string, secure bool) (*raw, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	r := &raw{Conn: c, scanner: xml.AcquireScanner()}
	if secure {
		return r, r.startTLS(ctx)
	}
	return r, nil
}

// startTLS makes the TLS handshake.
func (r *raw) startTLS(ctx context.Context) error {
	if len(r.buf) > 0 {
		return fmt.Errorf("before the TLS handshake came %q", r.buf)
	}
	secure := tls.Client(r.Conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"xmpp-client"}})
	if err := secure.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	r.Conn = secure
	return nil
}

// Raw sends bytes as they are.
func (r *raw) Raw(ctx context.Context, b []byte) error {
	deadline, _ := ctx.Deadline()
	if err := r.SetWriteDeadline(deadline); err != nil {
		return err
	}
	_, err := r.Write(b)
	return err
}

// Next returns the next header or element. <proceed/> and <success/> are the last of their stream (RFC 6120 §4.3.3).
func (r *raw) Next(ctx context.Context) (xml.Element, error) {
	for {
		ev, n, err := r.scanner.Next(&r.stream, &xml.Limits{Bytes: 1 << 24, Elements: 1 << 20}, r.buf)
		if err != nil {
			return xml.None, fmt.Errorf("%w in %q", err, r.buf)
		}
		var e xml.Element
		if ev == xml.Header || ev == xml.FirstLevel {
			e = r.scanner.Item().Element()
		}
		r.buf = r.buf[n:]
		switch {
		case ev == xml.Footer:
			return xml.None, client.ErrFooter
		case ev != xml.NeedMore:
			if e.Local == "proceed" || e.Local == "success" && e.Space == "urn:ietf:params:xml:ns:xmpp-sasl" {
				r.stream.Reset()
			}
			return e, nil
		}
		if err := r.fill(ctx); err != nil {
			return xml.None, err
		}
	}
}

func (r *raw) fill(ctx context.Context) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Time{}
	}
	if err := r.SetReadDeadline(deadline); err != nil {
		return err
	}
	b := make([]byte, 4096)
	n, err := r.Read(b)
	r.buf = append(r.buf[:len(r.buf):len(r.buf)], b[:n]...)
	switch {
	case n > 0:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return context.DeadlineExceeded
	}
	return err
}

// Drop cuts the connection.
func (r *raw) Drop() { r.Close() }
