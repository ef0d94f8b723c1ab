package c2s

import (
	"errors"

	"github.com/starling-im/starling/internal/session"
)

// later are messages for a client that is being given what has waited for it: they come behind that.
type later struct {
	held  []entry
	bytes int // of the texts
}

// take empties it, which may be nil, and leaves it to the caller to settle what was in it.
func (w *later) take() []entry {
	if w == nil {
		return nil
	}
	all := w.held
	w.held, w.bytes = nil, 0
	return all
}

// unmanagedPortion is how many messages a client is given that does not acknowledge any.
const unmanagedPortion = 1000

// Portion implements session.Feeder. Choice: so much less than the bound of a queue that a client which is lost meanwhile
// can come back to it, and than what a connection takes that it takes what comes besides.
func (l *line) Portion() (messages, bytes int) {
	l.mu.Lock()
	managed := l.sm != nil
	l.mu.Unlock()
	if o := &l.srv.opts.Management; managed {
		return max(1, o.Stanzas/4), o.Bytes / 8
	}
	return unmanagedPortion, l.srv.transport.MaxPending / 4
}

// Postpone implements session.Feeder.
func (l *line) Postpone(on bool) {
	var first bool
	var err error
	l.mu.Lock()
	switch {
	case on && l.later == nil && l.phase != ending && l.phase != closed:
		l.later = &later{}
	case !on:
		first, err = l.catchUp()
	}
	l.mu.Unlock()
	if err != nil {
		l.sess.End(errTooMuch)
	}
	if first {
		l.Flush()
	}
}

// catchUp lets out what was postponed. Past the connection all of it is sent on instead. mu is held.
func (l *line) catchUp() (first bool, err error) {
	if l.later == nil || l.phase == ending || l.phase == closed {
		return false, nil
	}
	all := l.later.take()
	l.later = nil
	for i, e := range all {
		var f bool
		if l.quiet != nil {
			f, err = l.hold(e)
		} else {
			f, err = l.put(e)
		}
		first = first || f
		if err != nil && !errors.Is(err, session.ErrOverflow) { // the session ends, and sends these on
			l.later = &later{held: all[i:]}
			return first, err
		}
	}
	return first, err
}

// postpone takes a message behind what has waited. mu is held.
func (l *line) postpone(e entry) error {
	l.later.held = append(l.later.held, e)
	l.later.bytes += len(e.text)
	if l.overflows(e.at) {
		return session.ErrOverflow
	}
	return nil
}

// wants tells whether more waits for an acknowledgement, and none is asked for. mu is held.
func (l *line) wants() bool { return l.later != nil && !l.sm.asked && l.sm.unasked > 0 }

// waiting is what the client has not acknowledged, or not even been sent. mu is held.
func (l *line) waiting() (stanzas, bytes int) {
	if l.queue != nil {
		stanzas, bytes = l.queue.len(), l.queue.bytes
	}
	if l.later != nil {
		stanzas, bytes = stanzas+len(l.later.held), bytes+l.later.bytes
	}
	return stanzas, bytes
}
