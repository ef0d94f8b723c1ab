package offline

import (
	"context"
	"sync"
	"time"

	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

const (
	sweepEvery = 10 * time.Second
	sweepTime  = 30 * time.Second // for one account
)

// reachable delivers what waits. It is called right before the session counts as
// reachable, and right after, when there is something only if a message was stored
// in between.
func (o *Offline) reachable(ctx context.Context, e *module.Passage) error {
	return o.deliver(ctx, e.Session)
}

// deliver hands all that waits to a session and forgets it.
func (o *Offline) deliver(ctx context.Context, s *session.Session) error {
	if s.Anonymous {
		return nil
	}
	return o.turns.Run(ctx, s.Bare, func() error {
		if found, err := o.any(ctx, s.Bare); err != nil || !found {
			return err
		}
		claim, err := o.claim(ctx, s)
		if err != nil {
			return err
		}
		waiting, missing, err := o.waiting(ctx, s.Bare, claim)
		if err != nil {
			return err
		}
		known := s.State().CaughtUp
		for _, m := range waiting {
			// XEP-0313 §6.1.1: what the client has read, or is reading, in the archive is no news to it.
			if m.Stanza == nil || m.Position != 0 && m.Position <= known {
				continue
			}
			if !o.Router.Deliver(ctx, s, m.Stanza) {
				return o.release(ctx, s.Bare, claim) // the session is gone: the next one gets them all
			}
			o.sent.Inc()
		}
		if f := session.FlowOf(ctx); f != nil {
			f.Flush() // on their way before they are forgotten
		}
		return o.forget(ctx, s.Bare, claim, missing)
	})
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
		if s.State().Reachable() && !s.Leaving() {
			return true
		}
	}
	return false
}

// sweep delivers what nobody else did, until the context ends: what was stored late, or by a node that did not know of a
// session here, or was claimed by one that is gone.
func (o *Offline) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		var owners map[jid.JID]struct{}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			owners = o.present(ctx)
		case <-o.due.wake:
			o.due.mu.Lock()
			owners, o.due.owners = o.due.owners, nil
			o.due.mu.Unlock()
		}
		for owner := range owners {
			o.sweepOne(ctx, owner)
		}
	}
}

// present are the accounts for which something waits though a session is there.
func (o *Offline) present(ctx context.Context) map[jid.JID]struct{} {
	found := map[jid.JID]struct{}{}
	if o.Sessions.Len() == 0 {
		return found
	}
	err := o.DB.Read(ctx, func(tx *store.Tx) error {
		clear(found)
		return tx.Each(func(scan store.Scan) error {
			var owner string
			if err := scan(&owner); err != nil {
				return err
			}
			if j, err := jid.Parse(owner); err == nil && o.someoneThere(j) {
				found[j] = struct{}{}
			}
			return nil
		}, `SELECT DISTINCT owner FROM offline`)
	})
	if err != nil && ctx.Err() == nil {
		o.Log.Debug("messages that wait are not looked for", "err", err)
	}
	return found
}

func (o *Offline) sweepOne(ctx context.Context, owner jid.JID) {
	ctx, cancel := context.WithTimeout(ctx, sweepTime)
	defer cancel()
	for _, s := range o.Sessions.Here(owner) {
		if !s.State().Reachable() || s.Leaving() {
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
