package offline

import (
	"context"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// feed gives a session what waits for its account, in portions: the next when the client has acknowledged half of the one
// before, or has answered a ping behind it if it acknowledges nothing. What comes live meanwhile waits behind all of that
// (session.Feeder), and what is given stays stored until the client has it: whatever ends in between, nothing is lost,
// and nothing comes out of order.
type feed struct {
	sess  *session.Session
	claim []byte

	// The owner's turn guards these.
	given     int64 // all up to this position was given, or passed over
	forgotten int64 // all up to this position is deleted
	width     int   // rows that are read at once
	postpones bool

	mu      sync.Mutex // guards what follows
	more    bool       // something waits behind given
	flight  []place    // given, and not known to have been got, in order
	last    int        // messages given with the last portion
	got     int64      // the client has all up to this position
	busy    bool       // a portion is being given, or about to be
	pinging bool       // a ping is not answered
	over    bool       // the session is
	closed  bool
}

// place is a message on its way.
type place struct {
	position int64
	received bool
}

// feeds are those of all sessions here, by account.
type feeds struct {
	mu  sync.Mutex // guards all
	all map[jid.JID][]*feed
}

// of is a session's feed, nil when nothing is on its way to it.
func (f *feeds) of(s *session.Session) *feed {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fd := range f.all[s.Bare] {
		if fd.sess == s {
			return fd
		}
	}
	return nil
}

func (f *feeds) add(fd *feed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all == nil {
		f.all = map[jid.JID][]*feed{}
	}
	f.all[fd.sess.Bare] = append(f.all[fd.sess.Bare], fd)
}

func (f *feeds) remove(fd *feed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	owner := fd.sess.Bare
	f.all[owner] = slices.DeleteFunc(f.all[owner], func(other *feed) bool { return other == fd })
	if len(f.all[owner]) == 0 {
		delete(f.all, owner)
	}
}

// list is a copy of all, or of an account's.
func (f *feeds) list(owner jid.JID) (all []*feed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !owner.IsZero() {
		return slices.Clone(f.all[owner])
	}
	for _, some := range f.all {
		all = append(all, some...)
	}
	return all
}

// heard notes what has become of a message.
func (fd *feed) heard(position int64, received bool) {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	i := slices.IndexFunc(fd.flight, func(p place) bool { return p.position == position })
	if !received || i < 0 { // the session is over, and its end is told
		return
	}
	fd.flight[i].received = true
	n := 0
	for n < len(fd.flight) && fd.flight[n].received {
		fd.got = fd.flight[n].position
		n++
	}
	fd.flight = fd.flight[n:]
}

// due tells whether there is something to do for the feed. If so the caller does it, and calls rest.
func (fd *feed) due() bool {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	switch {
	case fd.closed, fd.busy, fd.pinging && !fd.over:
		return false
	case fd.over, len(fd.flight) == 0, fd.more && len(fd.flight) <= fd.last/2:
		fd.busy = true
	}
	return fd.busy
}

// isOver tells whether the session is.
func (fd *feed) isOver() bool {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	return fd.over
}

// rest ends what due has begun. It tells whether the client is to be pinged: it takes messages without acknowledging
// them, and there are more.
func (fd *feed) rest() (ping bool) {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	fd.busy = false
	fd.pinging = fd.more && fd.last > 0 && len(fd.flight) == 0 && !fd.over && !fd.closed
	return fd.pinging
}

// poke has a worker go on with a feed, if that is due.
func (o *Offline) poke(fd *feed) {
	if !fd.due() {
		return
	}
	o.workers.Do(func() {
		defer func() {
			if p := recover(); p != nil {
				o.Log.Error("panic while delivering what waits", "user", fd.sess.JID.String(), "panic", p, "stack", string(debug.Stack()))
			}
		}()
		ctx, cancel := context.WithTimeout(context.Background(), sweepTime)
		defer cancel()
		session.Within(ctx, func(ctx context.Context, _ *session.Flow) {
			err := o.turns.Run(ctx, fd.sess.Bare, func() error {
				if !fd.sess.State().Reachable() {
					if err := o.stop(ctx, fd); err != nil {
						return err
					}
				}
				return o.goOn(ctx, fd)
			})
			if err != nil {
				o.Log.Warn("what waits is not delivered", "user", fd.sess.Bare.String(), "err", err)
			}
			o.rest(ctx, fd, err)
		})
	})
}

// rest is called after goOn, outside of the owner's turn.
func (o *Offline) rest(ctx context.Context, fd *feed, err error) {
	switch ping := fd.rest(); {
	case ping:
		o.ping(ctx, fd)
	case err == nil:
		o.poke(fd) // what was got meanwhile; after a failure the sweep does
	}
}

// ping waits for a client that does not acknowledge anything: the answer to a ping comes behind what it has got before.
// Choice: one that does not answer in time is given more all the same, and loses its session if it does not read it.
func (o *Offline) ping(ctx context.Context, fd *feed) {
	iq := stanza.NewIQ(stanza.Get, "", fd.sess.Bare.Host(), fd.sess.JID, xml.New(nsPing, "ping"))
	o.Router.Ask(ctx, iq, func(context.Context, *stanza.Stanza) {
		fd.mu.Lock()
		fd.pinging = false
		fd.mu.Unlock()
		o.poke(fd)
	})
}

// goOn forgets what the client has got, and gives it the next portion. The caller has the owner's turn.
func (o *Offline) goOn(ctx context.Context, fd *feed) error {
	fd.mu.Lock()
	more, over, closed := fd.more, fd.over, fd.closed
	fd.mu.Unlock()
	if closed {
		return nil
	}
	err := o.forgetGot(ctx, fd)
	switch {
	case err != nil:
	case over:
		err = o.giveBack(ctx, fd)
	case more:
		err = o.give(ctx, fd)
	default:
		o.finish(fd)
	}
	if err != nil {
		fd.postpone(false) // what comes live does not wait for the database
	}
	return err
}

// finish closes a feed of which nothing is left.
func (o *Offline) finish(fd *feed) {
	fd.mu.Lock()
	fd.closed = !fd.more && len(fd.flight) == 0 || fd.over
	closed := fd.closed
	fd.mu.Unlock()
	if closed {
		o.feeds.remove(fd)
	}
}

// forgetGot deletes what the client has got.
func (o *Offline) forgetGot(ctx context.Context, fd *feed) error {
	fd.mu.Lock()
	got, all := fd.got, len(fd.flight) == 0
	if all && !fd.over {
		got = fd.given // with what was passed over
	}
	fd.mu.Unlock()
	if got > fd.forgotten {
		if err := o.forget(ctx, fd.sess.Bare, fd.claim, got); err != nil {
			return err
		}
		fd.forgotten = got
	}
	if all { // positions begin anew when an owner has no row
		fd.mu.Lock()
		fd.got = 0
		fd.mu.Unlock()
		fd.given, fd.forgotten = 0, 0
	}
	return nil
}

// give hands the next portion to the session.
func (o *Offline) give(ctx context.Context, fd *feed) error {
	count, bytes := portionOf(fd.sess)
	if fd.width == 0 || fd.width > count {
		fd.width = count
	}
	waiting, missing, err := o.waiting(ctx, fd.sess.Bare, fd.claim, fd.given, fd.width)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		if err := o.unclaim(ctx, fd.sess.Bare, missing); err != nil {
			return err
		}
	}
	more, n, size := len(waiting) == fd.width, 0, 0
	for n < len(waiting) && (n == 0 || size < bytes) {
		size += waiting[n].size()
		n++
	}
	if n < len(waiting) { // the next time no more is read than is given
		more, fd.width = true, n
	} else {
		fd.width = min(2*fd.width, count)
	}
	if more {
		fd.postpone(true) // before the session has the last one of this portion
	}
	gone := !o.hand(ctx, fd, waiting[:n])
	fd.mu.Lock()
	fd.more, fd.over = more && !gone, fd.over || gone
	idle := len(fd.flight) == 0
	fd.mu.Unlock()
	if !more {
		fd.postpone(false)
	}
	if gone || more || !idle {
		return nil // ended gives back what is left
	}
	if err := o.forgetGot(ctx, fd); err != nil {
		return err
	}
	o.finish(fd)
	return nil
}

// hand gives messages to the session. It reports whether that took them all: else it is gone.
func (o *Offline) hand(ctx context.Context, fd *feed, portion []Message) (taken bool) {
	taken = true
	known := fd.sess.State().CaughtUp
	fd.mu.Lock()
	fd.last = 0
	fd.mu.Unlock()
	session.Within(ctx, func(_ context.Context, f *session.Flow) {
		for _, m := range portion {
			fd.given = m.place
			// XEP-0313 §6.1.1: what the client has read, or is reading, in the archive is no news to it.
			if m.Stanza == nil || m.Position != 0 && m.Position <= known {
				continue
			}
			fd.mu.Lock()
			fd.last++
			fd.flight = append(fd.flight, place{position: m.place})
			fd.mu.Unlock()
			f.Fork = session.NewDelivery(func(received bool) {
				fd.heard(m.place, received)
				o.poke(fd)
			})
			taken = f.Pass(fd.sess, m.Stanza.String())
			f.Fork = nil
			if !taken {
				return
			}
			o.sent.Inc()
		}
		f.Flush() // on their way before they are forgotten
	})
	return taken
}

// stop gives no more to a session that takes no more messages for its account. What is on its way comes there.
func (o *Offline) stop(ctx context.Context, fd *feed) error {
	fd.mu.Lock()
	more := fd.more && !fd.over
	fd.mu.Unlock()
	if !more {
		return nil
	}
	if err := o.release(ctx, fd.sess.Bare, fd.claim, fd.given); err != nil {
		return err
	}
	fd.mu.Lock()
	fd.more = false
	fd.mu.Unlock()
	fd.postpone(false)
	o.leave(fd.sess.Bare)
	return nil
}

// giveBack leaves to others what a session that is over has not got.
func (o *Offline) giveBack(ctx context.Context, fd *feed) error {
	if err := o.release(ctx, fd.sess.Bare, fd.claim, 0); err != nil {
		return err
	}
	o.finish(fd)
	o.leave(fd.sess.Bare)
	return nil
}

// leave has what waits given to whoever else is there.
func (o *Offline) leave(owner jid.JID) {
	o.Stored(owner.String())
	o.Sessions.Nudge(owner)
}

// ended is told of sessions that are over.
func (o *Offline) ended(ctx context.Context, e *module.Passage) error {
	fd := o.feeds.of(e.Session)
	if fd == nil {
		return nil
	}
	fd.mu.Lock()
	fd.over = true
	fd.mu.Unlock()
	return o.turns.Run(ctx, fd.sess.Bare, func() error { return o.goOn(ctx, fd) })
}

// portionOf is how much is given to a session at once.
func portionOf(s *session.Session) (messages, bytes int) {
	if f, ok := s.Out.(session.Feeder); ok {
		return f.Portion()
	}
	return defaultPortion, defaultPortionBytes
}

// Portions for a session that does not tell.
const (
	defaultPortion      = 100
	defaultPortionBytes = 64 << 10
)

// postpone has what comes live for the session wait, or no more.
func (fd *feed) postpone(on bool) {
	if fd.postpones == on {
		return
	}
	if f, ok := fd.sess.Out.(session.Feeder); ok {
		f.Postpone(on)
	}
	fd.postpones = on
}

func (m *Message) size() int {
	if m.Stanza == nil {
		return 0
	}
	return len(m.Stanza.String())
}
