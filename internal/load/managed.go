package load

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// managed tells whether the sessions have stream management.
func (c *Config) managed() bool {
	return c.Scenario == Resume || c.Managed && (c.Scenario == Chat || c.Scenario == Idle)
}

// manage begins stream management (XEP-0198 §3), so that it can be gone on with over other connections. When it returns
// all that came before has been looked at.
func manage(ctx context.Context, c *client.Conn) (*client.Managed, error) {
	m, err := client.Enable(ctx, c, true)
	if err != nil {
		return nil, err
	}
	if m.ID == "" {
		return nil, fmt.Errorf("the stream of %s cannot be resumed", c.JID())
	}
	if err := untilAnswer(ctx, m, func(*xml.Element) {}); err != nil {
		return nil, err
	}
	return m, m.Acknowledge(ctx) // unasked, so that the server has nothing to keep for it
}

// untilAnswer pings the server, and shows what comes before its answer.
func untilAnswer(ctx context.Context, m *client.Managed, show func(e *xml.Element)) error {
	ping := pingOf(m.Conn).WithAttr("id", m.Conn.ID())
	if err := m.Stanza(ctx, ping.Append(nil, xml.NSClient)); err != nil {
		return err
	}
	for {
		e, err := m.Next(ctx)
		if err != nil {
			return err
		}
		if e.Local == "iq" && e.Attr("id") == ping.Attr("id") {
			return nil
		}
		show(&e)
	}
}

// management is a link's stream management. But for what is atomic it belongs to who reads.
type management struct {
	received uint32 // stanzas since it began
	asked    bool   // the server waits for that number
	before   uint32 // what the client had sent before the load

	acked atomic.Uint64 // stanzas of the load that the server has acknowledged
}

const (
	nsSM      = "urn:xmpp:sm:3"
	request   = "<r xmlns='" + nsSM + "'/>"
	ackStart  = "<a xmlns='" + nsSM + "' h='"
	ackEnd    = "'/>"
	longestSM = 200 // bytes of what a server may send of it
)

// manage makes a link of a client with stream management. If its answers wait for what it sends next they cost nobody another
// write; then only who reads may send.
func (l *link) manage(m *client.Managed, wait bool) {
	sent, received := m.Counts()
	l.in.sm = &management{received: received, before: sent}
	l.unread = m.Unread()
	l.ackWaits = wait
}

// take looks at an element of stream management that b begins with, and returns its length: 0 if b begins with something else, -1 if the
// rest of it has to come.
func (m *management) take(b []byte) int {
	if len(b) < len("<r ") {
		return -1
	}
	if b[0] != '<' || b[1] != 'r' && b[1] != 'a' || b[2] != ' ' && b[2] != '/' {
		return 0
	}
	end := bytes.IndexByte(b, '>') + 1
	if end == 0 {
		if len(b) > longestSM {
			return 0
		}
		return -1
	}
	e, err := xml.Parse(b[:end], xml.NSClient)
	switch {
	case err != nil || e.Space != nsSM:
		return 0
	case e.Local == "r":
		m.asked = true
	default:
		if h, err := strconv.ParseUint(e.Attr("h"), 10, 32); err == nil {
			m.acked.Store(uint64(uint32(h) - m.before))
		}
	}
	return end
}

// appendAnswer appends the acknowledgement that the server has asked for, if it has.
func (m *management) appendAnswer(b []byte) []byte {
	if m == nil || !m.asked {
		return b
	}
	m.asked = false
	b = append(b, ackStart...)
	return append(strconv.AppendUint(b, uint64(m.received), 10), ackEnd...)
}

// answer acknowledges, if the server has asked for it, and nothing has been sent that did.
func (l *link) answer() error {
	b := l.in.sm.appendAnswer(l.reply[:0])
	if len(b) == 0 {
		return nil
	}
	l.reply = b
	_, err := l.nc.Write(b)
	return err
}

// leaveWithin is how long the ends of all streams may take.
const leaveWithin = 5 * time.Second

// leave ends the streams in order, so that no session waits for its client to come back to it, with messages for the one that is
// there in its place.
func (g *generator) leave() {
	end := time.Now().Add(leaveWithin)
	for _, l := range g.links {
		l.nc.SetDeadline(end)
		l.in.sm.asked = true
		l.nc.Write(append(l.in.sm.appendAnswer(nil), "</stream:stream>"...)) // what fails here is broken, and counted
	}
	for _, l := range g.links {
		io.Copy(io.Discard, l.nc)
	}
}

// askEvery is how often the server is asked for what it has not acknowledged at the end.
const askEvery = 50 * time.Millisecond

// acknowledged waits until the server has acknowledged all that was sent, and counts what it has not.
func (t *traffic) acknowledged() {
	began := time.Now()
	for {
		open := uint64(0)
		for _, l := range t.g.links {
			if sent, acked := l.sent.Load(), l.in.sm.acked.Load(); acked < sent {
				open += sent - acked
				l.nc.Write([]byte(request)) // a connection that is broken is noticed by its reader
			}
		}
		after := time.Since(began)
		if open == 0 {
			t.g.report.Behind = after.Seconds()
			return
		}
		if after > t.g.cfg.Drain || t.running.Load() == 0 {
			t.g.faults.note(func(f *Faults) { f.Unacknowledged += open }, fmt.Sprintf("%d stanzas were not acknowledged", open))
			return
		}
		time.Sleep(askEvery)
	}
}
