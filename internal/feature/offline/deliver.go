package offline

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

const (
	sweepEvery = 10 * time.Second
	sweepTime  = 30 * time.Second // for one account
	sweepPause = 50               // times as long as a sweep has looked, at least, nothing is looked for
	sweepBatch = 100              // accounts that are asked for at once
)

// reachable delivers what waits. It is called right before the session counts as
// reachable, and right after, when there is something only if a message was stored
// in between.
func (o *Offline) reachable(ctx context.Context, e *module.Passage) error {
	return o.deliver(ctx, e.Session)
}

// deliver begins to hand all that waits to a session. When it returns the first portion is on its way (feed).
func (o *Offline) deliver(ctx context.Context, s *session.Session) error {
	if s.Anonymous {
		return nil
	}
	var fd *feed
	err := o.turns.Run(ctx, s.Bare, func() error {
		if err := o.tidy(ctx, s.Bare); err != nil {
			return err
		}
		fd = o.feeds.of(s)
		var given int64
		if fd != nil {
			if given = fd.given; fd.isOver() {
				fd = nil // ended comes soon
				return nil
			}
		}
		claim, err := o.claim(ctx, s, given)
		if err != nil || claim == nil {
			fd = nil
			return err
		}
		if o.archive != nil {
			if err := o.archive.Settle(ctx, s.Bare); err != nil {
				fd = nil
				return err
			}
		}
		if fd == nil {
			fd = &feed{sess: s, claim: claim}
			o.feeds.add(fd)
		}
		fd.mu.Lock()
		fd.more = true
		fd.mu.Unlock()
		if !fd.due() {
			fd = nil // somebody else goes on with it
			return nil
		}
		return o.goOn(ctx, fd)
	})
	if fd != nil {
		o.rest(ctx, fd, err)
	}
	return err
}

// tidy gives back what sessions of an account have left that could not be given back when they ended. The caller has the
// owner's turn.
func (o *Offline) tidy(ctx context.Context, owner jid.JID) error {
	for _, fd := range o.feeds.list(owner) {
		if fd.isOver() && o.Sessions.Find(fd.sess.JID) != fd.sess {
			if err := o.goOn(ctx, fd); err != nil {
				return err
			}
		}
	}
	return nil
}

// due are accounts for which something was stored after those who would have delivered it had stopped waiting.
type due struct {
	wake chan struct{}

	mu     sync.Mutex // guards owners
	owners map[jid.JID]struct{}
}

// Stored tells that a message for an owner was committed.
func (o *Offline) Stored(owner string) {
	j, err := jid.Parse(owner)
	if err != nil || !o.someoneThere(j) {
		return
	}
	o.due.mu.Lock()
	if o.due.owners == nil {
		o.due.owners = map[jid.JID]struct{}{}
	}
	o.due.owners[j] = struct{}{}
	o.due.mu.Unlock()
	select {
	case o.due.wake <- struct{}{}:
	default:
	}
}

// someoneThere tells whether a session here takes messages for an account.
func (o *Offline) someoneThere(owner jid.JID) bool {
	for _, s := range o.Sessions.Here(owner) {
		if takes(s) {
			return true
		}
	}
	return false
}

// takes tells whether a session takes messages for its account.
func takes(s *session.Session) bool { return s.State().Reachable() && !s.Leaving() && !s.Ended() }

// sweep delivers what nobody else did, until the context ends: what was stored late, or by a node that did not know of a
// session here, or was claimed by one that is gone.
func (o *Offline) sweep(ctx context.Context) {
	next := time.NewTimer(sweepEvery)
	defer next.Stop()
	defer o.workers.Wait()
	for {
		var owners []jid.JID
		select {
		case <-ctx.Done():
			return
		case <-next.C:
			for _, fd := range o.feeds.list(jid.JID{}) {
				o.poke(fd) // which may have failed for want of the database
			}
			begun := time.Now()
			owners = o.present(ctx)
			next.Reset(max(sweepEvery, sweepPause*time.Since(begun)))
		case <-o.due.wake:
			o.due.mu.Lock()
			owners, o.due.owners = slices.Collect(maps.Keys(o.due.owners)), nil
			o.due.mu.Unlock()
		}
		for _, owner := range owners {
			o.sweepOne(ctx, owner)
		}
	}
}

// present are the accounts for which something waits though a session is there. Those that have sessions are asked for,
// since they are fewer than those for which something waits.
func (o *Offline) present(ctx context.Context) (found []jid.JID) {
	there := map[jid.JID]bool{}
	o.Sessions.All(func(s *session.Session) {
		if takes(s) && !s.Anonymous {
			there[s.Bare] = true
		}
	})
	for some := range slices.Chunk(slices.Collect(maps.Keys(there)), sweepBatch) {
		waits, err := o.anyOf(ctx, some)
		if err != nil {
			if ctx.Err() == nil {
				o.Log.Debug("messages that wait are not looked for", "err", err)
			}
			return found
		}
		found = append(found, waits...)
	}
	return found
}

func (o *Offline) sweepOne(ctx context.Context, owner jid.JID) {
	ctx, cancel := context.WithTimeout(ctx, sweepTime)
	defer cancel()
	for _, s := range o.Sessions.Here(owner) {
		if !takes(s) {
			continue
		}
		session.Within(ctx, func(ctx context.Context, _ *session.Flow) {
			if err := o.deliver(ctx, s); err != nil {
				o.Log.Warn("what waits is not delivered", "user", owner.String(), "err", err)
			}
		})
		return
	}
}
