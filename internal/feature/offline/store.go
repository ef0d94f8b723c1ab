package offline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/datetime"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// stamped is the message with the time at which it came, by our clock: XEP-0203 §2. What comes from the queue of a
// session that is over has one already; what others claim was taken off (unstamp).
func (o *Offline) stamped(owner jid.JID, st *stanza.Stanza) *stanza.Stanza {
	if st.Has(nsDelay, "delay") {
		for _, e := range st.Elements() {
			if from, err := jid.Parse(e.Attr("from")); e.Space == nsDelay && err == nil && from.IsHost() && o.Local(from) {
				return st
			}
		}
	}
	return st.With(xml.New(nsDelay, "delay", "from", owner.Domain(), "stamp", datetime.Format(o.Now())))
}

// storeTries bounds how often a place that another node has taken meanwhile is looked for anew.
const storeTries = 5

// store keeps a whole message.
func (o *Offline) store(ctx context.Context, owner jid.JID, st *stanza.Stanza) error {
	key := session.FlowOf(ctx).Key(st)
	id := append(append(append([]byte{}, key.Seed[:]...), number(key.N)...), number(key.Hash)...)
	text := o.stamped(owner, st).String()
	return o.turns.Run(ctx, owner, func() error {
		var err error
		for range storeTries {
			err = o.DB.Write(ctx, func(tx *store.Tx) error {
				if full, err := o.full(tx, owner); err != nil || full {
					return errors.Join(err, errFull(full))
				}
				return enter(tx, owner.String(), id, store.Micros(o.Now()), text)
			})
			if !errors.Is(err, store.ErrConflict) {
				break
			}
		}
		if err != nil {
			return fmt.Errorf("keep message for %s: %w", owner, err)
		}
		return nil
	})
}

func errFull(full bool) error {
	if full {
		return stanza.Err(stanza.ServiceUnavailable, "too many messages wait for this user")
	}
	return nil
}

func number(n uint64) []byte {
	b := make([]byte, 8)
	for i := range b {
		b[i] = byte(n >> (56 - 8*i))
	}
	return b
}

// full tells whether no more are kept for an owner.
func (o *Offline) full(tx *store.Tx, owner jid.JID) (bool, error) {
	var count int
	err := tx.Row(`SELECT COUNT(*) FROM offline WHERE owner = $1`, owner.String()).Scan(&count)
	return count >= o.cfg.MaxMessages, err
}

// Room tells whether one more message would be kept for an owner.
func (o *Offline) Room(ctx context.Context, owner jid.JID) (bool, error) {
	var full bool
	err := o.DB.Read(ctx, func(tx *store.Tx) (err error) {
		full, err = o.full(tx, owner)
		return err
	})
	return !full, err
}

// Mark notes in a transaction that a message of the archive waits for its owner, unless that is noted already. stamp is in
// microseconds.
func Mark(tx *store.Tx, owner string, id []byte, stamp int64) error {
	return enter(tx, owner, id, stamp, "")
}

// enter adds a row behind the owner's others.
func enter(tx *store.Tx, owner string, id []byte, stamp int64, text string) error {
	var last int64
	if err := tx.Row(`SELECT COALESCE(MAX(position), 0) FROM offline WHERE owner = $1`, owner).Scan(&last); err != nil {
		return err
	}
	_, err := tx.Exec(`INSERT INTO offline (owner, position, received, stanza, id) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (owner, id) DO NOTHING`, owner, last+1, stamp, text, id)
	return err
}

// any tells whether something waits.
func (o *Offline) any(ctx context.Context, owner jid.JID) (found bool, err error) {
	err = o.DB.Read(ctx, func(tx *store.Tx) error {
		var one int
		err := tx.Row(`SELECT 1 FROM offline WHERE owner = $1 LIMIT 1`, owner.String()).Scan(&one)
		found = err == nil
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	})
	return found, err
}

// claim takes what waits for a session's account, but for what another session of it is about to get on another node.
func (o *Offline) claim(ctx context.Context, s *session.Session) (claim []byte, err error) {
	claim = claimOf(s)
	live := map[string]bool{}
	for _, other := range o.Sessions.Account(s.Bare) {
		if other != s {
			live[string(claimOf(other))] = true
		}
	}
	err = o.DB.Write(ctx, func(tx *store.Tx) error {
		owner := s.Bare.String()
		var left [][]byte // by sessions that are over
		err := tx.Each(func(scan store.Scan) error {
			var c []byte
			if err := scan(&c); err != nil {
				return err
			}
			if !live[string(c)] {
				left = append(left, c)
			}
			return nil
		}, `SELECT DISTINCT claim FROM offline WHERE owner = $1 AND claim IS NOT NULL`, owner)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`UPDATE offline SET claim = $2 WHERE owner = $1 AND claim IS NULL`, owner, claim); err != nil {
			return err
		}
		for _, c := range left {
			if _, err := tx.Exec(`UPDATE offline SET claim = $2 WHERE owner = $1 AND claim = $3`, owner, claim, c); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("claim messages kept for %s: %w", s.Bare, err)
	}
	return claim, nil
}

// claimOf is the name by which all nodes know a session.
func claimOf(s *session.Session) []byte {
	if s.UID != (session.UID{}) {
		return s.UID[:]
	}
	return s.Seed[:]
}

// missFor is how long a message that is not in the archive is waited for: the node that it passed may be slow to commit
// it, and has not acknowledged it then.
const missFor = 5 * time.Minute

// waiting reads what a claim has, in order, and the ids of what may yet come.
func (o *Offline) waiting(ctx context.Context, owner jid.JID, claim []byte) (all []Message, missing [][]byte, err error) {
	if o.archive != nil {
		if err := o.archive.Settle(ctx, owner); err != nil {
			return nil, nil, err
		}
	}
	young := store.Micros(o.Now().Add(-missFor))
	err = o.DB.Read(ctx, func(tx *store.Tx) error {
		all, missing = all[:0], nil
		var ids [][]byte
		var marks []int // places in all of those whose text is in the archive
		recent := map[string]bool{}
		err := tx.Each(func(scan store.Scan) error {
			var raw string
			var id []byte
			var received int64
			if err := scan(&raw, &id, &received); err != nil {
				return err
			}
			var m Message
			if raw == "" {
				ids, marks = append(ids, id), append(marks, len(all))
				recent[string(id)] = received > young
			} else if m.Stanza, err = stanza.Decode(raw); err != nil {
				o.Log.Error("kept message is broken", "owner", owner.String(), "err", err)
				return nil
			}
			all = append(all, m)
			return nil
		}, `SELECT stanza, id, received FROM offline WHERE owner = $1 AND claim = $2 ORDER BY position`, owner.String(), claim)
		if err != nil || len(ids) == 0 || o.archive == nil {
			return err
		}
		found, err := o.archive.Waiting(tx, owner, ids)
		for i := range found {
			all[marks[i]] = found[i]
			if found[i].Stanza == nil && recent[string(ids[i])] {
				missing = append(missing, ids[i])
			}
		}
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read messages kept for %s: %w", owner, err)
	}
	return all, missing, nil
}

// forget deletes what a claim has had, and gives back what may yet come.
func (o *Offline) forget(ctx context.Context, owner jid.JID, claim []byte, missing [][]byte) error {
	err := o.DB.Write(ctx, func(tx *store.Tx) error {
		for _, id := range missing {
			if _, err := tx.Exec(`UPDATE offline SET claim = NULL WHERE owner = $1 AND id = $2`, owner.String(), id); err != nil {
				return err
			}
		}
		_, err := tx.Exec(`DELETE FROM offline WHERE owner = $1 AND claim = $2`, owner.String(), claim)
		return err
	})
	if err != nil {
		return fmt.Errorf("forget messages delivered to %s: %w", owner, err)
	}
	return nil
}

// release gives back what a claim has not had.
func (o *Offline) release(ctx context.Context, owner jid.JID, claim []byte) error {
	err := o.DB.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE offline SET claim = NULL WHERE owner = $1 AND claim = $2`, owner.String(), claim)
		return err
	})
	if err != nil {
		return fmt.Errorf("give back messages for %s: %w", owner, err)
	}
	return nil
}

// deleted forgets what was kept for an account.
func (o *Offline) deleted(ctx context.Context, e *module.AccountEvent) error {
	return o.turns.Run(ctx, e.Account, func() error {
		return o.DB.Write(ctx, func(tx *store.Tx) error {
			_, err := tx.Exec(`DELETE FROM offline WHERE owner = $1`, e.Account.String())
			return err
		})
	})
}
