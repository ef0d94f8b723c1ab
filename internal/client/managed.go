package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/starling-im/starling/internal/xmpp/xml"
)

const nsSM = "urn:xmpp:sm:3"

// ErrNotResumed says that the server does not know the stream any more, or has refused to resume it.
var ErrNotResumed = errors.New("the stream was not resumed")

// Managed is a stream with stream management (XEP-0198), which goes on over another connection when one is lost. As with
// Conn, any number of goroutines may send, and one at a time may call Next and Resume.
type Managed struct {
	*Conn
	ID  string        // of the stream; empty when it cannot be resumed
	Max time.Duration // for which it can, as the server has said; 0 when it has not

	mu       sync.Mutex // guards what follows, and the order of what is sent
	received uint32     // stanzas that Next has returned
	acked    uint32     // stanzas that the server has acknowledged
	wait     [][]byte   // what it has not, in order
}

// Enable begins stream management on a connection whose resource is bound (XEP-0198 §3). What comes before the server's
// answer is kept for Next, and not counted.
func Enable(ctx context.Context, c *Conn, resume bool) (*Managed, error) {
	ask := xml.New(nsSM, "enable")
	if resume {
		ask = ask.WithAttr("resume", "true")
	}
	if err := c.Send(ctx, ask); err != nil {
		return nil, err
	}
	for {
		e, err := c.receive(ctx)
		switch {
		case err != nil:
			return nil, err
		case e.Space != nsSM:
			c.aside = append(c.aside, e)
			continue
		case e.Local != "enabled":
			return nil, unexpected("leave to manage the stream", e)
		}
		m := managed(c, &e)
		for _, early := range c.aside {
			if stanzaName(early.Local) {
				m.received-- // Next will count it
			}
		}
		return m, nil
	}
}

// managed is a stream for which the server has said <enabled/>.
func managed(c *Conn, enabled *xml.Element) *Managed {
	m := &Managed{Conn: c}
	if enabled.Attr("resume") == "true" || enabled.Attr("resume") == "1" {
		m.ID = enabled.Attr("id")
	}
	seconds, _ := strconv.Atoi(enabled.Attr("max")) // 0 when there is none
	m.Max = time.Duration(seconds) * time.Second
	return m
}

func stanzaName(local string) bool { return local == "message" || local == "presence" || local == "iq" }

// Stanza sends a stanza, and keeps it until the server has acknowledged it. If it fails the stanza is sent again by
// Resume.
func (m *Managed) Stanza(ctx context.Context, b []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wait = append(m.wait, b)
	return m.Raw(ctx, b)
}

// Ask requests an acknowledgement (XEP-0198 §4).
func (m *Managed) Ask(ctx context.Context) error { return m.Send(ctx, xml.New(nsSM, "r")) }

// Acknowledge tells the server how many stanzas have come (XEP-0198 §4).
func (m *Managed) Acknowledge(ctx context.Context) error {
	_, received := m.Counts()
	return m.Send(ctx, xml.New(nsSM, "a", "h", strconv.FormatUint(uint64(received), 10)))
}

// Waiting is how many stanzas the server has not acknowledged.
func (m *Managed) Waiting() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.wait)
}

// Counts is how many stanzas were sent since stream management began, and how many Next has returned, both as the two ends
// count them (XEP-0198 §4).
func (m *Managed) Counts() (sent, received uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.acked + uint32(len(m.wait)), m.received
}

// Next returns the next element that is not of stream management. Requests of the server are answered.
func (m *Managed) Next(ctx context.Context) (xml.Element, error) {
	for {
		e, err := m.Conn.Next(ctx)
		if err != nil {
			return e, err
		}
		switch {
		case e.Space == nsSM && e.Local == "r":
			if err := m.Acknowledge(ctx); err != nil {
				return xml.None, err
			}
		case e.Space == nsSM && e.Local == "a":
			if err := m.heard(e.Attr("h")); err != nil {
				return xml.None, err
			}
		default:
			if e.Space == xml.NSClient && stanzaName(e.Local) {
				m.mu.Lock()
				m.received++
				m.mu.Unlock()
			}
			return e, nil
		}
	}
}

// heard takes the server's count.
func (m *Managed) heard(h string) error {
	n, err := strconv.ParseUint(h, 10, 32)
	if err != nil {
		return fmt.Errorf("acknowledgement of %q stanzas", h)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	more := uint32(n) - m.acked
	if int64(more) > int64(len(m.wait)) {
		return fmt.Errorf("acknowledgement of %d stanzas, %d were sent", n, m.acked+uint32(len(m.wait)))
	}
	m.acked = uint32(n)
	m.wait = m.wait[more:]
	return nil
}

// Resume goes on over a new connection, which has authenticated and bound nothing (LogIn), and sends again what the
// server has not got (XEP-0198 §5). ErrNotResumed: the connection may bind a resource instead.
func (m *Managed) Resume(ctx context.Context, c *Conn) error {
	if err := c.Send(ctx, m.resumeRequest()); err != nil {
		return err
	}
	e, err := c.receive(ctx)
	switch {
	case err != nil:
		return err
	case e.Space != nsSM || e.Local != "resumed":
		return fmt.Errorf("%w: %s", ErrNotResumed, e)
	}
	return m.goOn(ctx, c, e.Attr("h"))
}

// resumeRequest asks to resume the stream.
func (m *Managed) resumeRequest() xml.Element {
	return xml.New(nsSM, "resume", "previd", m.ID, "h", strconv.FormatUint(uint64(m.received), 10))
}

// goOn goes on over a connection on which the stream was resumed.
func (m *Managed) goOn(ctx context.Context, c *Conn, h string) error {
	if err := m.heard(h); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c.bound = m.bound
	m.Conn = c
	for _, b := range m.wait {
		if err := c.Raw(ctx, b); err != nil {
			return err
		}
	}
	return nil
}
