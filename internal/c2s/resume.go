package c2s

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/stream"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// smFailed is <failed/> (XEP-0198 §6).
func smFailed(c stanza.Condition) xml.Element {
	return xml.New(nsSM, "failed").With(xml.New(stanza.NSErrors, string(c)))
}

// acknowledgement handles what both sides say of their counts (XEP-0198 §4), while there is load with every few stanzas. What is
// appended here leaves with OnFlush: the answers to all requests of one read cost one write.
func (c *conn) acknowledgement(it *xml.Item) error {
	if it.Local[0] == 'r' {
		var b [64]byte
		first, _ := c.sock.Append(appendAck(b[:0], c.in.answer()))
		c.owes = c.owes || first
		return nil
	}
	s := ""
	if a := it.Attr("h"); a != nil {
		s = a.Value()
	}
	h, ok := counter(s)
	if !ok {
		return stream.Err(stream.PolicyViolation, "an <a/> needs a number in 'h'")
	}
	return c.line.acknowledge(c, h)
}

// manage handles the other elements of stream management once a resource is bound (XEP-0198 §3, §5).
func (c *conn) manage(e *xml.Element) error {
	switch {
	case e.Local == "enable" && c.in != nil:
		// XEP-0198 §3: the example answers a second <enable/> with <failed/>, the text with a stream error. Choice: both.
		c.sendElement(smFailed(stanza.UnexpectedRequest))
		return stream.Err(stream.PolicyViolation, "stream management is enabled already")
	case e.Local == "enable":
		c.sendElement(c.enable(e))
	case e.Local == "resume", c.in == nil: // XEP-0198 §5: a bound stream is none that another one could be resumed on
		c.sendElement(smFailed(stanza.UnexpectedRequest))
	default:
		return stream.Err(stream.UnsupportedStanzaType, "")
	}
	return nil
}

// enable begins stream management for the bound resource, as <enable/> asks, and returns the answer (XEP-0198 §3). What
// comes for the client from now on counts as sent after the answer: the caller has the line still closed (newLine), or
// handles input of the client, and sends the answer before anything else.
func (c *conn) enable(e *xml.Element) xml.Element {
	o := &c.srv.opts.Management
	if !o.On {
		return smFailed(stanza.FeatureNotImplemented)
	}
	l := c.line
	m := &management{}
	m.in.begin(l, c.received)
	answer := xml.New(nsSM, "enabled")
	// Choice: a guest is nobody that could prove to be the same when it comes back (XEP-0175).
	if boolean(e.Attr("resume")) && o.Max > 0 && !l.sess.Anonymous {
		m.max = o.Max
		if n, err := strconv.ParseInt(e.Attr("max"), 10, 32); err == nil && n > 0 {
			m.max = min(m.max, time.Duration(n)*time.Second)
		}
		answer = xml.New(nsSM, "enabled", "id", c.srv.keeper.id(l.sess), "resume", "true", "max", strconv.Itoa(int(m.max.Seconds())), "location", o.Location)
	}
	c.in = &m.in
	l.mu.Lock()
	l.sm = m
	if l.phase != opening {
		c.sock.Append(answer.Append(nil, xml.NSClient))
		answer = xml.None
	}
	l.mu.Unlock()
	c.srv.keeper.enter(l)
	c.srv.keeper.enabled.Inc()
	return answer
}

// boolean reads an xs:boolean.
func boolean(s string) bool { return s == "true" || s == "1" }

// counter reads 'h' (XEP-0198 §4).
func counter(s string) (h uint32, ok bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil
}

// appendAck appends an acknowledgement (XEP-0198 §4).
func appendAck(b []byte, h uint32) []byte {
	b = append(b, "<a xmlns='"+nsSM+"' h='"...)
	return append(strconv.AppendUint(b, uint64(h), 10), "'/>"...)
}

// sendElement sends an element that is no stanza; none is none.
func (c *conn) sendElement(e xml.Element) {
	if e.IsNone() {
		c.sock.Flush()
		return
	}
	c.send(e.Append(nil, xml.NSClient))
}

// strangerManages handles elements of stream management before a resource is bound.
func (c *conn) strangerManages(e *xml.Element) error {
	if e.Local != "resume" || !c.talks.authenticated() {
		c.sendElement(smFailed(stanza.UnexpectedRequest)) // XEP-0198 §3
		return nil
	}
	c.async(func(ctx context.Context) error {
		answer, ok, err := c.takeOver(ctx, e)
		if err != nil {
			return err
		}
		c.sendElement(answer)
		if ok {
			c.begin()
		}
		return nil
	})
	return nil
}

// takeOver makes this connection that of the session which <resume/> names, and returns the answer (XEP-0198 §5). If it
// is <failed/>, the client may go on to bind a resource. Else the caller sends the answer and calls begin.
func (c *conn) takeOver(ctx context.Context, e *xml.Element) (answer xml.Element, ok bool, err error) {
	k, id := c.srv.keeper, e.Attr("previd")
	failed := func(reason string, cond stanza.Condition) (xml.Element, bool, error) {
		k.failed.WithLabelValues(reason).Inc()
		return smFailed(cond), false, nil
	}
	h, valid := counter(e.Attr("h"))
	switch {
	case !c.srv.opts.Management.On:
		return failed("off", stanza.FeatureNotImplemented)
	case id == "" || !valid:
		return failed("malformed", stanza.BadRequest)
	}
	l, left, known := k.find(id, c.talks.user, c.srv.core.Sessions.Here(c.talks.user))
	switch {
	case l == nil && !known:
		return failed("unknown", stanza.ItemNotFound)
	case l == nil:
		answer, ok, err = failed("ended", stanza.ItemNotFound)
		return answer.WithAttr("h", decimal(left.h)), ok, err
	}
	if err := c.remains(ctx, l.sess); err != nil {
		return failed("refused", stanza.NotAuthorized)
	}
	old, err := l.take(c, h)
	switch {
	case err != nil:
		k.failed.WithLabelValues("count").Inc()
		return xml.None, false, err // XEP-0198 §6
	case old == c: // it is over, and what is left is being sent on
		answer, ok, err = failed("ended", stanza.ItemNotFound)
		return answer.WithAttr("h", decimal(l.handled())), ok, err
	case old != nil:
		old.yield()
		old.End(stream.Err(stream.Conflict, "the session goes on over another connection")) // XEP-0198 §5
	}
	c.adopt(l)
	k.resumed.Inc()
	c.srv.log.LogAttrs(ctx, slog.LevelDebug, "session resumed", slog.String("user", l.sess.JID.String()), slog.String("addr", c.addr()))
	return xml.New(nsSM, "resumed", "previd", id, "h", decimal(c.in.resume())), true, nil
}

// handled is how many of the client's stanzas may be acknowledged, of a session with stream management.
func (l *line) handled() uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sm.in.handled()
}

// take gives the line to another connection: what comes waits until the client is told. old is the connection that it
// had until now, c itself if the line is past that. The error is for a client that has got more than it was sent.
func (l *line) take(c *conn, h uint32) (old *conn, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.phase == ending || l.phase == closed || l.sess.Ended() {
		return c, nil
	}
	n, err := l.sm.acknowledged(h, l.queue.sent())
	if err != nil {
		return nil, err
	}
	l.queue.drop(n, true)
	if _, err := l.speak(); err != nil {
		return c, nil // too much waits: the next stanza ends it
	}
	q, m := l.queue, l.sm
	from := l.sess.JID.Domain()
	for i := range q.len() {
		e := q.at(i)
		late := e.delayed(from)
		q.bytes += len(late) - len(e.text)
		e.text = late
	}
	if q != nil {
		q.written = 0 // all that is left is sent again
	}
	m.asked, m.since, m.unasked, m.size = false, 0, 0, 0
	old, l.conn, l.phase = l.conn, c, opening
	return old, nil
}

// yield returns when nothing of what this connection has received is being handled any more, and nothing will be.
func (c *conn) yield() {
	c.work.Lock()
	defer c.work.Unlock()
	if c.task != nil { // was about to begin: it is finished, as if the connection was not lost
		ctx, cancel := context.WithTimeout(c.ctx, c.srv.opts.RequestTimeout)
		defer cancel()
		if err := c.do(session.WithFlow(ctx, &c.flow)); err != nil {
			c.srv.log.Error("last request of a connection not handled", slog.String("user", c.user()), slog.Any("err", err))
		}
		c.flow.Flush()
		c.task = nil
	}
	c.done = true
}

// adopt makes a session that was bound on another connection, or just now, this connection's.
func (c *conn) adopt(l *line) {
	l.mu.Lock()
	if l.sm != nil {
		c.in = &l.sm.in
	}
	l.mu.Unlock()
	c.line, c.sess, c.flow.Session = l, l.sess, l.sess
}

// begin ends the negotiation of a connection whose client has been told that it is bound, or that its session is resumed.
func (c *conn) begin() {
	c.talks.stop()
	c.talks = nil
	c.srv.bound(c)
	c.line.open(c)
}
