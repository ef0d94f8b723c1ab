package client

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/starling-im/starling/internal/xmpp/xml"
)

// ErrFooter says that the server has closed its stream.
var ErrFooter = errors.New("the server closed its stream")

// A client may have to read what a server would refuse to: a roster, a long history.
const (
	maxBytes    = 16 << 20
	maxElements = 1 << 20
)

// Sizes of the buffer that an idle connection keeps, in bytes.
const (
	minBuffer = 2 << 10
	maxIdle   = 4 << 10
)

// Next returns the next first-level element of the server's stream. If the stream is new, that is its header: an
// element stream in xml.NSStream, without content.
//
// Errors are a *StreamError for <stream:error/>, ErrFooter for the end tag of the stream, io.EOF for an orderly end
// of the connection, and io.ErrUnexpectedEOF if it comes in the middle of an element. After a *StreamError and after
// ErrFooter there is more to read: what a server sends after them, or io.EOF. If ctx ends, its error is returned and
// nothing is lost.
func (c *Conn) Next(ctx context.Context) (xml.Element, error) {
	if len(c.aside) > 0 {
		e := c.aside[0]
		c.aside = c.aside[1:]
		return e, nil
	}
	return c.receive(ctx)
}

// receive is Next without what was kept aside.
func (c *Conn) receive(ctx context.Context) (xml.Element, error) {
	event, item, err := c.in.next(ctx)
	if err != nil {
		return xml.None, err
	}
	if event == xml.Footer {
		return xml.None, ErrFooter
	}
	e := item.Element()
	if event == xml.Header {
		c.header = e
		return e, nil
	}
	if e.Space == xml.NSStream && e.Local == "error" {
		return xml.None, newStreamError(e)
	}
	return e, nil
}

// input cuts what comes from a connection into items.
type input struct {
	from    net.Conn
	stream  xml.Stream
	scanner *xml.Scanner // nil between items
	buf     []byte       // read and not consumed, after the first used bytes
	used    int
}

// next returns the next event of the stream; the item is valid until the next call.
func (in *input) next(ctx context.Context) (xml.Event, *xml.Item, error) {
	limits := xml.Limits{Bytes: maxBytes, Elements: maxElements}
	for {
		if rest := in.buf[in.used:]; len(rest) > 0 {
			if in.scanner == nil {
				in.scanner = xml.AcquireScanner()
			}
			event, n, err := in.scanner.Next(&in.stream, &limits, rest)
			in.used += n
			if err != nil {
				return 0, nil, err
			}
			if event != xml.NeedMore {
				return event, in.scanner.Item(), nil
			}
		}
		if err := in.fill(ctx); err != nil {
			return 0, nil, err
		}
	}
}

// fill reads once.
func (in *input) fill(ctx context.Context) error {
	in.tidy()
	stop := bound(ctx, in.from.SetReadDeadline)
	n, err := in.from.Read(in.buf[len(in.buf):cap(in.buf)])
	in.buf = in.buf[:len(in.buf)+n]
	if n > 0 { // an error will come again
		err = nil
	}
	if err = stop(err); err == io.EOF && len(in.buf) > 0 {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// tidy makes room to read, and gives back what an idle connection does not need.
func (in *input) tidy() {
	if in.scanner != nil && in.scanner.Idle() {
		in.scanner.Release()
		in.scanner = nil
	}
	rest := in.buf[in.used:]
	switch {
	case len(rest) == 0 && (cap(in.buf) == 0 || cap(in.buf) > maxIdle):
		in.buf = make([]byte, 0, minBuffer)
	case len(rest) > cap(in.buf)/2:
		in.buf = append(make([]byte, 0, 2*cap(in.buf)), rest...)
	default:
		in.buf = append(in.buf[:0], rest...)
	}
	in.used = 0
}

// restart makes the next item a stream header (RFC 6120 §4.3.3).
func (in *input) restart() { in.stream.Reset() }

// pending tells whether bytes have come that were not looked at.
func (in *input) pending() bool { return in.used < len(in.buf) }
