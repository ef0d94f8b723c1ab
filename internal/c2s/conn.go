// Package c2s is the door for clients: XML streams over TCP with STARTTLS or direct
// TLS (RFC 6120, XEP-0368), authentication, resource binding, and the stamping of
// what authenticated clients send.
package c2s

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/starling-im/starling/internal/certs"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/transport"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/stream"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// conn is one client's connection. Everything but what End touches belongs to
// whoever runs OnBytes, or to the worker that it waits for.
type conn struct {
	srv    *Server
	sock   *transport.Conn
	served *certs.Served // the certificate that was shown; nil without TLS
	reader stream.Reader
	ctx    context.Context // carries flow
	flow   session.Flow

	domain jid.JID // pinned by the first header
	lang   string  // default language of what the client sends (RFC 6120 §4.7.4)

	talks *negotiation     // nil once a resource is bound
	sess  *session.Session // nil until then
	line  *line            // the session's, likewise
	in    *inbound         // the session's; nil without stream management
	rate  bucket
	gate  gate

	received uint64 // stanzas of the session so far, without stream management

	task   func(ctx context.Context) error // what a worker is to do, or does; nothing is handled meanwhile
	work   sync.Mutex                      // held while input is handled, here or by a worker
	done   bool                            // nothing more is read
	rested bool                            // nothing has come for restAfter
	pinged bool                            // the client was asked whether it is still there
	owes   bool                            // OnFlush has to send answers to requests for acknowledgements
	opened atomic.Bool                     // our header of the present stream is sent
	ended  atomic.Bool
	over   atomic.Bool // the session ends with the connection
}

// OnBytes handles what arrived.
func (c *conn) OnBytes(b []byte) error {
	c.work.Lock()
	defer c.work.Unlock()
	if c.done {
		return nil
	}
	if c.rested && len(b) > 0 {
		c.rested, c.pinged = false, false
		c.sock.SetIdle(c.srv.restAfter())
	}
	err := c.reader.Feed(b)
	if err == nil {
		err = c.drain()
	}
	if kept := c.reader.Keep(); err == nil {
		err = kept
	}
	if err != nil {
		c.fail(err)
	}
	if !c.done {
		c.throttle(len(b))
	}
	return nil
}

// drain handles elements until bytes run out, or a worker has the connection.
func (c *conn) drain() (err error) {
	defer c.recovered(&err)
	for c.task == nil && !c.done {
		if c.in != nil && c.in.pause(c.await) {
			return nil
		}
		ev, it, err := c.reader.Next()
		if err != nil {
			return err
		}
		switch ev {
		case xml.NeedMore:
			return nil
		case xml.Header:
			err = c.header(it)
		case xml.FirstLevel:
			if c.sess != nil {
				err = c.stanza(it)
			} else {
				err = c.negotiate(it)
			}
		case xml.Footer: // XEP-0198 §7: the session is over
			c.over.Store(true)
			if c.ended.CompareAndSwap(false, true) {
				c.close(nil, errClosed)
			}
			if c.in != nil {
				c.line.lost(c)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// OnIdle asks a silent client whether it is still there, and gives it up when it
// does not answer (RFC 6120 §4.6.4, XEP-0199 §4.2).
func (c *conn) OnIdle() {
	switch {
	case c.sess == nil: // has a deadline of its own
	case !c.rested:
		c.rested = true
		c.sock.Rest()
		if after := c.srv.opts.PingAfter; after > 0 {
			after = max(after-c.srv.restAfter(), time.Millisecond)
			c.sock.SetIdle(after)
		} else {
			c.sock.SetIdle(0)
		}
	case c.pinged:
		c.fail(stream.Err(stream.ConnectionTimeout, "no answer to a ping"))
	default:
		c.pinged = true
		c.sock.SetIdle(c.srv.opts.PingTimeout)
		if c.in != nil { // is answered at once, too, and is no stanza that would have to be acknowledged
			c.line.poke(c)
			return
		}
		ping := stanza.NewIQ(stanza.Get, stream.NewID(), c.sess.JID.Host(), c.sess.JID, xml.New("urn:xmpp:ping", "ping"))
		c.line.send(ping.String())
	}
}

// errClosed ends a connection whose client closed the stream (RFC 6120 §4.4).
var errClosed = errors.New("stream closed by the client")

// stanza stamps, checks and routes one stanza of a bound client.
func (c *conn) stanza(it *xml.Item) error {
	if kindOf(it) == 0 {
		return c.noStanza(it)
	}
	if a := it.Attr("from"); a != nil && !c.owns(a) { // RFC 6120 §8.1.2.1
		return stream.Err(stream.InvalidFrom, "")
	}
	st, err := stanza.Parse(it, c.sess.JID, c.lang)
	if !c.count(st) {
		return nil
	}
	if err != nil {
		c.srv.router.Bounce(c.ctx, st, err)
		c.counted()
		return nil
	}
	if st.Kind == stanza.IQ && st.Type == stanza.Set && st.Children()[0].Space == nsSession {
		// RFC 3921 had clients ask for a session after binding. Choice: old clients are told that all is well.
		c.line.send(c.srv.router.Answer(st, xml.None, nil).String())
		c.counted()
		return nil
	}
	if c.srv.router.Inline(c.ctx, &c.flow, c.sess, st) {
		c.counted()
		return nil
	}
	c.async(func(ctx context.Context) error {
		c.srv.router.FromClient(ctx, c.sess, st)
		c.counted()
		return nil
	})
	return nil
}

// count gives a stanza its position in the session's stream. It reports false for one that was handled before the session
// was resumed, and that the client could only not know of.
func (c *conn) count(st *stanza.Stanza) bool {
	if c.in == nil {
		c.received++
		c.flow.N = c.received
		return true
	}
	n, t := c.in.receive(st)
	if t == nil {
		return false
	}
	c.flow.N, c.flow.Held = n, t.Held
	return true
}

// counted ends the handling of a stanza: it may be acknowledged as soon as those say so who have yet to.
func (c *conn) counted() {
	held := c.flow.Held
	c.flow.N, c.flow.Held = 0, nil
	held.Settle()
}

// await pauses reading until more of what the client has sent is settled.
func (c *conn) await() { c.pause(unsettled) }

// noStanza handles what a client sends beside stanzas.
func (c *conn) noStanza(it *xml.Item) error {
	if it.Space == nsSM && c.in != nil && (string(it.Local) == "r" || string(it.Local) == "a") {
		return c.acknowledgement(it)
	}
	switch e := it.Element(); {
	case e.Space == nsSM:
		return c.manage(&e)
	case e.Space == nsCSI && c.srv.opts.Indication.On && (e.Local == "active" || e.Local == "inactive"):
		c.line.indicate(e.Local == "inactive")
		return nil
	}
	return stream.Err(stream.UnsupportedStanzaType, "") // RFC 6120 §4.9.3.24
}

// kindOf is the kind of stanza an item is in the content namespace of a client's stream
// (RFC 6120 §4.8.2), 0 when it is none: the server's namespace is another.
func kindOf(it *xml.Item) stanza.Kind {
	if it.Space != xml.NSClient {
		return 0
	}
	return stanza.KindOf(it)
}

// owns tells whether the client may name the JID as the sender.
func (c *conn) owns(from *xml.Attr) bool {
	if string(from.Raw) == c.sess.JID.String() || string(from.Raw) == c.sess.Bare.String() {
		return true
	}
	j, err := jid.Parse(from.Value())
	return err == nil && (j == c.sess.JID || j == c.sess.Bare)
}

// async lets a worker run what may block. The connection is not read meanwhile,
// so that the order of its stanzas is kept (RFC 6120 §10.1). The worker begins when
// OnFlush gives it the connection.
func (c *conn) async(task func(ctx context.Context) error) {
	c.task = task
	c.pause(busy)
}

// OnFlush ends the handling of one read.
func (c *conn) OnFlush() {
	c.work.Lock()
	if c.task == nil {
		c.flow.Settle(c.ctx)
		c.flush()
		c.hold()
		c.work.Unlock()
		return
	}
	c.flush()
	c.srv.workers.Do(c.perform)
}

// flush sends what was handled to those whom it is for, and then the client what it asked for.
func (c *conn) flush() {
	c.flow.Flush()
	if c.owes {
		c.owes = false
		c.sock.Flush()
	}
}

// hold stops reading while other nodes do not take what the client has sent. It goes on by itself.
func (c *conn) hold() {
	if c.sess == nil || c.done || !c.sess.Jammed(nil) {
		return
	}
	c.pause(jammed)
	if !c.sess.Jammed(func() { c.resume(jammed) }) {
		c.resume(jammed) // it was over in between
	}
}

// perform runs the task on a worker, and gives the connection back to its driver.
func (c *conn) perform() {
	ctx, cancel := context.WithTimeout(c.ctx, c.srv.opts.RequestTimeout)
	err := c.do(session.WithFlow(ctx, &c.flow))
	cancel()
	if err != nil {
		c.fail(err)
	}
	c.flow.Flush()
	c.task = nil
	c.work.Unlock()
	c.resume(busy)
}

func (c *conn) do(ctx context.Context) (err error) {
	defer c.recovered(&err)
	err = c.task(ctx)
	c.flow.Settle(ctx)
	return err
}

// recovered turns a panic into the end of this one stream.
func (c *conn) recovered(err *error) {
	if p := recover(); p != nil {
		c.srv.log.Error("panic while handling a client", slog.String("addr", c.addr()),
			slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		*err = stream.Err(stream.InternalServerError, "").Because(fmt.Errorf("panic: %v", p))
	}
}

// End closes the stream for a reason. A peer that has not opened one is told nothing.
func (c *conn) End(reason error) {
	if !c.ended.CompareAndSwap(false, true) {
		return
	}
	e := stream.AsError(reason)
	c.report(e, reason, "") // who the user is belongs to the driver
	if !c.opened.Load() {
		c.sock.Abort(reason)
		return
	}
	c.close(e.Append(nil), reason)
}

// send queues bytes of the negotiation.
func (c *conn) send(b []byte) {
	if _, err := c.sock.Append(b); err == nil {
		c.sock.Flush()
	}
}

// fail ends the stream with the error that err stands for.
func (c *conn) fail(err error) {
	c.done = true
	if !c.ended.CompareAndSwap(false, true) {
		return
	}
	e := stream.AsError(err)
	if e.Condition != stream.ConnectionTimeout { // the fault of the client, not of its connection
		c.over.Store(true)
	}
	if !c.opened.Load() {
		c.openResponse(c.srv.defaultHeader()) // RFC 6120 §4.9.1.2
	}
	c.report(e, err, c.user())
	c.close(e.Append(nil), err)
}

// report logs and counts an error that ends the stream.
func (c *conn) report(e *stream.Error, err error, user string) {
	level := slog.LevelInfo
	switch e.Condition {
	case stream.InternalServerError:
		level = slog.LevelError
	case stream.SystemShutdown, stream.SeeOtherHost, stream.Conflict: // the server's own doing, and the user's
		level = slog.LevelDebug
	}
	c.srv.log.LogAttrs(c.ctx, level, "client stream ended with an error", slog.String("addr", c.addr()),
		slog.String("user", user), slog.String("condition", string(e.Condition)), slog.Any("err", err))
	c.srv.metrics.streamErrors.WithLabelValues(string(e.Condition)).Inc()
}

// close sends the last bytes and ends the stream (RFC 6120 §4.4, §4.9.1.1). The caller
// has set ended.
func (c *conn) close(last []byte, reason error) {
	c.sock.Append(append(last, stream.Footer...))
	c.sock.Close(reason)
}

// OnClose releases everything. The session's end is told on a worker, since it
// reads rosters.
func (c *conn) OnClose(err error) {
	c.work.Lock() // what a worker does for this client is finished, not cut off
	defer c.work.Unlock()
	c.done = true
	told := c.ended.Swap(true)
	c.reader.Release()
	if c.talks != nil {
		c.talks.stop()
	}
	if c.line != nil {
		c.line.lost(c)
	}
	if err != nil && !told && !errors.Is(err, io.EOF) {
		level := slog.LevelDebug
		if c.sess == nil {
			level = slog.LevelInfo // such as what is no TLS handshake
		}
		c.srv.log.LogAttrs(c.ctx, level, "client connection ended",
			slog.String("addr", c.addr()), slog.String("user", c.user()), slog.Any("err", err))
	}
	c.srv.gone(c)
}

func (c *conn) addr() string { return c.sock.RemoteAddr().String() }

func (c *conn) user() string {
	switch {
	case c.sess != nil:
		return c.sess.JID.String()
	case c.talks != nil:
		return c.talks.user.String()
	}
	return ""
}

// bucket is a token bucket over the bytes that a client sends.
type bucket struct {
	tokens int64
	last   time.Time
}

// throttle pauses reading when the client sends faster than it may (XEP-0205 §4.7). What
// comes while a worker has the connection is counted, and paid for when it is back.
func (c *conn) throttle(n int) {
	rate, burst := c.srv.opts.RateBytes, c.srv.opts.RateBurst
	if rate <= 0 || n == 0 && c.rate.tokens >= 0 {
		return
	}
	now := time.Now()
	b := &c.rate
	if b.last.IsZero() {
		b.tokens = burst
	} else {
		elapsed := min(now.Sub(b.last), time.Hour)
		b.tokens = min(burst, b.tokens+elapsed.Microseconds()*rate/1e6)
	}
	b.last = now
	b.tokens -= int64(n)
	if b.tokens >= 0 || c.task != nil {
		return
	}
	wait := time.Duration(-b.tokens) * time.Second / time.Duration(rate)
	c.srv.metrics.throttled.Inc()
	c.pause(throttled)
	time.AfterFunc(wait, func() { c.resume(throttled) })
}
