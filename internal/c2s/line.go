package c2s

import (
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/transport"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

// phase is where a line is in its life.
type phase uint8

const (
	opening  phase = iota // the client has not been told yet that it is bound, or resumed: all waits
	open                  // what comes is written
	detached              // there is no connection, and the client may come back (XEP-0198 §5)
	ending                // what the client has not got is being sent on; what still comes joins it
	closed                // nothing is taken any more
)

// line is the way of stanzas to the client of a session (session.Out), and outlives the connection when the client can
// come back. Without stream management it passes through what comes. With it, the queue holds all that the client has
// not acknowledged: first what is written to the connection, then what waits to be; it is there only while it holds something.
type line struct {
	srv  *Server
	sess *session.Session

	// The lock is held while bytes are appended to the connection's output, which has a lock of its own, so that the
	// order of the queue is the order on the wire.
	mu    sync.Mutex // guards all below
	conn  *conn      // nil while there is none
	queue *queue     // nil without stream management, once open; with it, while the client rests
	sm    *management
	quiet *quiet // nil while nothing is to be held back (XEP-0352)
	later *later // nil while the client is not given what has waited for it
	phase phase
}

// newLine makes the line of a session whose bind is not answered yet.
func newLine(srv *Server, c *conn, full jid.JID) *line {
	l := &line{srv: srv, conn: c, queue: &queue{}}
	l.sess = session.New(full, l)
	return l
}

// Append queues a stanza for the client (session.Out).
func (l *line) Append(st string) (first bool, err error) { return l.Keep(st, nil) }

// Keep is Append for one way of a fork (session.Keeper).
func (l *line) Keep(st string, k *session.Fork) (first bool, err error) {
	l.mu.Lock()
	if l.sm == nil && l.queue == nil && l.quiet == nil && l.later == nil && l.phase == open {
		first, err = l.conn.sock.Append([]byte(st))
		l.mu.Unlock()
		if k != nil && err == nil {
			k.More()
			k.Close(true)
		}
		return first, err
	}
	defer l.mu.Unlock()
	if l.phase == closed {
		return false, transport.ErrClosed
	}
	if k != nil {
		k.More()
	}
	e := entry{text: st, fork: k, at: time.Now().UnixMicro()}
	if l.later != nil && !k.Stored() && strings.HasPrefix(st, "<message") {
		return false, l.postpone(e)
	}
	if l.quiet != nil {
		return l.hold(e)
	}
	return l.put(e)
}

// put takes a stanza into the queue, or writes it where there is none, with mu held.
func (l *line) put(e entry) (first bool, err error) {
	if l.queue == nil {
		if l.sm == nil {
			e.settle(true)
			return l.conn.sock.Append([]byte(e.text))
		}
		l.queue = &queue{}
	}
	l.queue.push(e)
	first = l.write(e.at)
	if l.overflows(e.at) {
		err = session.ErrOverflow
	}
	return first, err
}

// write appends what is queued to the connection's output, as far as that has room, and a request for an acknowledgement
// when one is due. mu is held.
func (l *line) write(now int64) (first bool) {
	if l.phase != open {
		return false
	}
	q := l.queue
	for q.sent() < q.len() {
		text := q.at(q.written).text
		f, err := l.conn.sock.Append([]byte(text))
		if err != nil { // full: goes on when the client has acknowledged some, or with the next tick; or closed
			break
		}
		first = first || f
		q.written++
		if l.sm != nil {
			l.sm.wrote(len(text))
		}
	}
	if l.sm != nil && (l.sm.due(now) || l.wants()) {
		first = l.ask(now) || first
	}
	return first
}

// ask requests an acknowledgement. mu is held.
func (l *line) ask(now int64) (first bool) {
	first, err := l.conn.sock.Append([]byte("<r xmlns='" + nsSM + "'/>"))
	if err == nil {
		l.sm.requested(now)
	}
	return first
}

// overflows tells whether more waits than may. Choice: a client that is there gets time to answer a request, since the
// server itself sends more than the bound at once to a user with many contacts. mu is held.
func (l *line) overflows(now int64) bool {
	o := &l.srv.opts.Management
	stanzas, bytes := l.waiting()
	exceeds := func(times int) bool { return stanzas > times*o.Stanzas || bytes > times*o.Bytes }
	switch {
	case !exceeds(1):
		return false
	case l.phase == detached, l.phase == ending, exceeds(liveFactor):
		return true
	}
	return l.sm != nil && l.sm.asked && now-l.sm.since > grace.Microseconds()
}

const (
	liveFactor = 10               // how many times the queue of a client that is there may exceed the bound
	grace      = 10 * time.Second // for how long, once it was asked
)

// Flush writes what is queued (session.Out).
func (l *line) Flush() {
	if c := l.connection(); c != nil {
		c.sock.Flush()
	}
}

// connection is the present one, nil when there is none.
func (l *line) connection() *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn
}

// End ends the session, which cannot be resumed, for a reason that the client is told if it is there (session.Out).
func (l *line) End(reason error) {
	l.mu.Lock()
	c := l.conn
	managed := l.sm != nil && (l.phase == detached || c != nil)
	if managed { // nobody waits for the connection: it may be dead
		l.conn, l.phase = nil, ending
	}
	l.mu.Unlock()
	if c != nil {
		c.over.Store(true)
		c.End(reason)
	}
	if managed {
		l.srv.dispose(l, "ended")
	}
}

// Lasts tells whether what comes after End is sent on (session.Laster): a sender's stanzas stay in their order.
func (l *line) Lasts() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return (l.sm != nil || l.later != nil) && l.phase != closed
}

// open lets everything out that has come for the client since it was bound or resumed, whose answer the caller has sent
// over the connection.
func (l *line) open(c *conn) {
	l.mu.Lock()
	if l.conn != c || l.phase != opening {
		l.mu.Unlock()
		return
	}
	l.phase = open
	first := l.write(time.Now().UnixMicro())
	full := false
	if l.sm == nil {
		full = l.queue.written < l.queue.len()
		l.queue.drop(l.queue.len(), true)
		l.queue = nil
	}
	l.mu.Unlock()
	if full {
		l.sess.End(errTooMuch)
	}
	if first {
		c.sock.Flush()
	}
}

// errTooMuch ends a session whose client got more while it was bound than its connection takes.
var errTooMuch = errors.New("too much unread data")

// poke asks a silent client for an acknowledgement.
func (l *line) poke(c *conn) {
	l.mu.Lock()
	if l.conn == c && l.phase == open {
		l.ask(time.Now().UnixMicro())
	}
	l.mu.Unlock()
	c.sock.Flush()
}

// send appends a stanza of the server for the client, and flushes it.
func (l *line) send(st string) {
	if first, err := l.Append(st); err == nil && first {
		l.Flush()
	}
}
