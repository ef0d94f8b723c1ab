package offline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
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

// claim takes what waits for a session's account behind a position, but for what another session of it is about to get.
// It returns nil when there is nothing.
func (o *Offline) claim(ctx context.Context, s *session.Session, behind int64) (claim []byte, err error) {
	live := map[string]bool{}
	for _, other := range o.Sessions.Account(s.Bare) {
		if other != s {
			live[string(claimOf(other))] = true
		}
	}
	owner := s.Bare.String()
	var own, free bool
	var left [][]byte // by sessions that are over
	err = o.DB.Read(ctx, func(tx *store.Tx) error {
		own, free, left = false, false, nil
		return tx.Each(func(scan store.Scan) error {
			var c []byte
			if err := scan(&c); err != nil {
				return err
			}
			switch {
			case c == nil:
				free = true
			case bytes.Equal(c, claimOf(s)):
				own = true
			case !live[string(c)]:
				left = append(left, c)
			}
			return nil
		}, `SELECT DISTINCT claim FROM offline WHERE owner = $1 AND position > $2`, owner, behind)
	})
	if err == nil && (free || len(left) > 0) {
		own = true
		err = o.DB.Write(ctx, func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE offline SET claim = $2 WHERE owner = $1 AND claim IS NULL AND position > $3`, owner, claimOf(s), behind)
			if err != nil {
				return err
			}
			for _, c := range left {
				_, err := tx.Exec(`UPDATE offline SET claim = $2 WHERE owner = $1 AND claim = $3 AND position > $4`, owner, claimOf(s), c, behind)
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("claim messages kept for %s: %w", s.Bare, err)
	case !own:
		return nil, nil
	}
	return claimOf(s), nil
}

// anyOf asks for at most sweepBatch accounts for which of them something waits.
func (o *Offline) anyOf(ctx context.Context, owners []jid.JID) (found []jid.JID, err error) {
	err = o.DB.Read(ctx, func(tx *store.Tx) error {
		found = nil
		return tx.Each(func(scan store.Scan) error {
			var owner string
			if err := scan(&owner); err != nil {
				return err
			}
			found = append(found, jid.MustParse(owner))
			return nil
		}, anyOfQuery(len(owners)), owned(owners)...)
	})
	return found, err
}

// anyOfQuery looks for each account in the index, whatever else is in the table: an IN would read all of an account's rows.
func anyOfQuery(n int) string {
	var b strings.Builder
	b.WriteString("SELECT column1 FROM (VALUES ($1)")
	for i := 2; i <= n; i++ {
		b.WriteString(", ($" + strconv.Itoa(i) + ")")
	}
	b.WriteString(") AS own WHERE EXISTS (SELECT 1 FROM offline WHERE owner = column1)")
	return b.String()
}

// owned are the accounts as parameters.
func owned(owners []jid.JID) []any {
	all := make([]any, len(owners))
	for i, j := range owners {
		all[i] = j.String()
	}
	return all
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

// waiting reads so many messages that a claim has behind a position, in order, and the ids of those that may yet come. One
// that is there no more has no stanza.
func (o *Offline) waiting(ctx context.Context, owner jid.JID, claim []byte, behind int64, limit int) (all []Message, missing [][]byte, err error) {
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
			var m Message
			err := scan(&m.place, &raw, &id, &received)
			if err != nil {
				return err
			}
			if raw == "" {
				ids, marks = append(ids, id), append(marks, len(all))
				recent[string(id)] = received > young
			} else if m.Stanza, err = stanza.Decode(raw); err != nil {
				o.Log.Error("kept message is broken", "owner", owner.String(), "err", err)
			}
			all = append(all, m)
			return nil
		}, `SELECT position, stanza, id, received FROM offline WHERE owner = $1 AND claim = $2 AND position > $3 ORDER BY position LIMIT $4`,
			owner.String(), claim, behind, limit)
		if err != nil || len(ids) == 0 || o.archive == nil {
			return err
		}
		found, err := o.archive.Waiting(tx, owner, ids)
		for i, m := range found {
			at := &all[marks[i]]
			at.Stanza, at.Position = m.Stanza, m.Position
			if m.Stanza == nil && recent[string(ids[i])] {
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

// forget deletes what a claim has had, up to a position.
func (o *Offline) forget(ctx context.Context, owner jid.JID, claim []byte, upTo int64) error {
	return o.change(ctx, "forget messages delivered to", owner,
		`DELETE FROM offline WHERE owner = $1 AND claim = $2 AND position <= $3`, owner.String(), claim, upTo)
}

// release gives back what a claim has not had, behind a position.
func (o *Offline) release(ctx context.Context, owner jid.JID, claim []byte, behind int64) error {
	return o.change(ctx, "give back messages for", owner,
		`UPDATE offline SET claim = NULL WHERE owner = $1 AND claim = $2 AND position > $3`, owner.String(), claim, behind)
}

// unclaim gives back what may yet come.
func (o *Offline) unclaim(ctx context.Context, owner jid.JID, ids [][]byte) error {
	err := o.DB.Write(ctx, func(tx *store.Tx) error {
		for _, id := range ids {
			if _, err := tx.Exec(`UPDATE offline SET claim = NULL WHERE owner = $1 AND id = $2`, owner.String(), id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("give back messages for %s: %w", owner, err)
	}
	return nil
}

func (o *Offline) change(ctx context.Context, what string, owner jid.JID, query string, args ...any) error {
	err := o.DB.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(query, args...)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, owner, err)
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
