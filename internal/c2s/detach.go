package c2s

import (
	"context"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/stream"
)

// lost tells the line that a connection is gone. Without stream management that is the end of the session. With it the
// session waits for its client, unless it cannot be resumed, or has ended on purpose (XEP-0198 §7).
func (l *line) lost(c *conn) {
	l.mu.Lock()
	if l.conn != c {
		l.mu.Unlock()
		return // another connection has it
	}
	l.conn = nil
	s := l.srv
	if l.queue == nil && l.later != nil {
		l.queue = &queue{} // for what still comes
	}
	switch {
	case l.sm == nil && l.queue == nil:
		l.phase = closed
		l.mu.Unlock()
		if s.core.Sessions.Remove(l.sess) {
			s.workers.Do(func() { s.sessionEnded(l.sess) })
		}
	case l.sm == nil || l.sm.max == 0 || c.over.Load() || l.sess.Ended():
		l.phase = ending
		l.mu.Unlock()
		s.dispose(l, "closed")
	default:
		l.phase = detached
		l.sm.since = time.Now().UnixMicro()
		l.hush(false) // no need to keep what is out of date when the client is back
		l.mu.Unlock()
		s.crowd(l)
	}
}

// crowd ends the session of an account that has waited longest for its client, if too many do.
func (s *Server) crowd(l *line) {
	var oldest *line
	var since int64
	waiting := 0
	for _, sess := range s.core.Sessions.Here(l.sess.Bare) {
		other, ok := sess.Out.(*line)
		if !ok {
			continue
		}
		other.mu.Lock()
		if other.phase == detached {
			waiting++
			if oldest == nil || other.sm.since < since {
				oldest, since = other, other.sm.since
			}
		}
		other.mu.Unlock()
	}
	if waiting > s.opts.Management.Detached {
		oldest.expire("crowded")
	}
}

// expire ends a session that waits for its client.
func (l *line) expire(why string) {
	l.mu.Lock()
	waits := l.phase == detached
	if waits {
		l.phase = ending
	}
	l.mu.Unlock()
	if waits {
		l.srv.dispose(l, why)
	}
}

// resumable tells whether the session is one that can be resumed.
func (l *line) resumable() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sm != nil && l.sm.max > 0
}

// waits tells whether the session has no connection, and its client may come back.
func (l *line) waits() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.phase == detached
}

// tick does what is due by the clock.
func (l *line) tick(now int64) {
	l.mu.Lock()
	m, c := l.sm, l.conn
	switch l.phase {
	case detached:
		over := now-m.since >= m.max.Microseconds()
		l.mu.Unlock()
		if over {
			l.expire("timeout")
		}
		return
	case open:
	default:
		l.mu.Unlock()
		return
	}
	first := l.write(now)
	if l.queue.len() == 0 {
		l.queue = nil // the client rests
	}
	if m.unasked > 0 && !m.asked && now-m.since >= askRest.Microseconds() {
		first = l.ask(now) || first
	}
	wait := l.srv.opts.Management.AckTimeout
	if m.asked && c.gate.closed() {
		m.since = now // the answer cannot be heard
	}
	silent := m.asked && wait > 0 && now-m.since >= wait.Microseconds()
	l.mu.Unlock()
	if first {
		c.sock.Flush()
	}
	stuck := m.in.tick(now)
	switch {
	case stuck:
		// Nothing was acknowledged, so nothing is answered with an error either, which may have been delivered.
		c.End(stream.Err(stream.ResourceConstraint, "what was sent cannot be kept at present"))
	case silent:
		c.End(stream.Err(stream.ConnectionTimeout, "no answer to a request for an acknowledgement"))
	}
}

// follow sends an acknowledgement that has become due after the request for it was answered (XEP-0198 §4), and lets
// reading go on.
func (l *line) follow() {
	if l.lostOne() {
		return
	}
	l.mu.Lock()
	c := l.conn
	if c == nil || l.phase != open {
		l.mu.Unlock()
		return
	}
	first := false
	if h, due := l.sm.in.follow(); due {
		first, _ = c.sock.Append(appendAck(nil, h))
	}
	l.mu.Unlock()
	if first {
		c.sock.Flush()
	}
	c.resume(unsettled)
}

// lostOne ends the session if one of its client's stanzas will never be acknowledged. Choice: at once and for good, since
// nothing after that stanza could be acknowledged either; the client learns how many were handled (XEP-0198 §5).
func (l *line) lostOne() bool {
	l.mu.Lock()
	in := &l.sm.in
	l.mu.Unlock()
	if !in.hasLost() {
		return false
	}
	l.sess.End(stream.Err(stream.ResourceConstraint, "what was sent cannot be kept"))
	return true
}

// dispose ends a session whose line is past its connection: what its client has not got is sent on, in order, and only
// then contacts are told that it is gone.
func (s *Server) dispose(l *line, why string) {
	s.keeper.over.WithLabelValues(why).Inc()
	id := ""
	if l.sm != nil {
		id = s.keeper.retire(l)
	}
	s.workers.Do(func() {
		defer func() {
			if p := recover(); p != nil {
				s.log.Error("panic while sending on what a client did not get", slog.String("user", l.sess.JID.String()),
					slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			}
		}()
		s.handOn(l)
		if l.sm != nil {
			s.keeper.leave(l, id, remains{l.sess.Bare, l.handled(), time.Now().UnixMicro()})
		}
		if s.core.Sessions.Remove(l.sess) {
			s.sessionEnded(l.sess)
		}
	})
}

// handOnRounds is how often a session that is over takes up what came for it meanwhile, so that it stays behind what came
// before. Senders that are faster than storage go past it then.
const handOnRounds = 20

// handOn sends on what a session's client has not got, until nothing is left and nothing more is taken.
func (s *Server) handOn(l *line) {
	l.sess.Leave()
	for round := 1; ; round++ {
		l.mu.Lock()
		l.speak()
		rest := append(l.queue.take(), l.later.take()...)
		if len(rest) == 0 || round == handOnRounds {
			l.phase = closed
		}
		l.mu.Unlock()
		if len(rest) == 0 {
			return
		}
		var f session.Flow
		f.Past = l.sess
		for i := range rest {
			s.sendOn(&f, l, &rest[i])
		}
		f.Flush()
	}
}

// sendOn treats a stanza as one for a resource that is gone (XEP-0198 §4).
func (s *Server) sendOn(f *session.Flow, l *line, e *entry) {
	if !e.settle(false) {
		return // another resource has it
	}
	st, err := stanza.Decode(e.delayed(l.sess.JID.Domain()))
	if err != nil {
		s.log.Error("stanza for a client is broken", "user", l.sess.JID.String(), "err", err)
		return
	}
	ctx, cancel := context.WithTimeout(session.WithFlow(context.Background(), f), s.opts.RequestTimeout)
	defer cancel()
	s.keeper.sentOn.Inc()
	s.router.SendOn(ctx, l.sess, st, e.at)
	f.Settle(ctx)
}
