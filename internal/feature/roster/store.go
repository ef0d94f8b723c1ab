package roster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
)

// Bits of the column subscription.
const (
	bitTo   = 1
	bitFrom = 2
)

// read loads a whole roster.
func (r *Roster) read(ctx context.Context, owner jid.JID) (*List, error) {
	var l *List
	err := r.host.DB.Read(ctx, func(tx *store.Tx) (err error) {
		l, err = readList(tx, owner)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("load roster of %s: %w", owner, err)
	}
	return l, nil
}

func readList(tx *store.Tx, owner jid.JID) (*List, error) {
	l := &List{index: map[jid.JID]int{}}
	err := tx.Row(`SELECT version FROM roster_version WHERE owner = $1`, owner.String()).Scan(&l.Version)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	err = tx.Each(func(scan func(...any) error) error {
		var (
			i                          Item
			contact, groups            string
			listed, sub, ask, approved int64
		)
		if err := scan(&contact, &listed, &i.Name, &groups, &sub, &ask, &approved, &i.Request); err != nil {
			return err
		}
		j, err := jid.Parse(contact)
		if err != nil {
			return fmt.Errorf("contact %q: %w", contact, err)
		}
		if err := json.Unmarshal([]byte(groups), &i.Groups); err != nil {
			return fmt.Errorf("groups of %s: %w", contact, err)
		}
		i.Contact, i.Listed, i.Ask, i.Approved = j, listed != 0, ask != 0, approved != 0
		i.To, i.From = sub&bitTo != 0, sub&bitFrom != 0
		l.index[j] = len(l.Items)
		l.Items = append(l.Items, i)
		return nil
	}, `SELECT contact, listed, name, grouped, subscription, ask, approved, request
		FROM roster WHERE owner = $1 ORDER BY contact`, owner.String())
	return l, err
}

// write changes one item and makes a new version. The caller has the owner's turn.
func (r *Roster) write(ctx context.Context, owner, contact jid.JID, change func(*Item) bool) (l *List, changed bool, err error) {
	err = r.host.DB.Write(ctx, func(tx *store.Tx) error {
		changed = false
		if l, err = readList(tx, owner); err != nil {
			return err
		}
		was := l.Item(contact)
		item := was
		if !change(&item) {
			return nil
		}
		if err := r.admit(l, &was, &item); err != nil {
			return err
		}
		if err := save(tx, owner, &item); err != nil {
			return err
		}
		changed = !item.visiblySame(&was)
		if changed {
			if err := r.advance(tx, owner, l); err != nil {
				return err
			}
		}
		l, err = readList(tx, owner)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("change roster of %s: %w", owner, err)
	}
	r.cache.Put(owner, l)
	return l, changed, nil
}

// renew makes a new version of a roster as it is. The caller has the owner's turn.
func (r *Roster) renew(ctx context.Context, owner jid.JID) (l *List, err error) {
	err = r.host.DB.Write(ctx, func(tx *store.Tx) error {
		if l, err = readList(tx, owner); err != nil {
			return err
		}
		return r.advance(tx, owner, l)
	})
	if err != nil {
		return nil, fmt.Errorf("renew roster of %s: %w", owner, err)
	}
	r.cache.Put(owner, l)
	return l, nil
}

// advance gives a roster its next version: RFC 6121 §2.6.3, never the same twice.
func (r *Roster) advance(tx *store.Tx, owner jid.JID, l *List) error {
	l.Version = max(l.Version+1, store.Micros(r.host.Now()))
	_, err := tx.Exec(`INSERT INTO roster_version (owner, version) VALUES ($1, $2)
		ON CONFLICT (owner) DO UPDATE SET version = excluded.version`, owner.String(), l.Version)
	return err
}

// admit holds a change against the limits.
func (r *Roster) admit(l *List, was, item *Item) error {
	listed, requests := 0, 0
	for i := range l.Items {
		if l.Items[i].Listed {
			listed++
		}
		if l.Items[i].Request != "" {
			requests++
		}
	}
	if item.Listed && !was.Listed && listed >= r.cfg.MaxItems {
		return stanza.Err(stanza.ResourceConstraint, "the roster is full")
	}
	if item.Request != "" && was.Request == "" && requests >= r.cfg.MaxRequests {
		return stanza.Err(stanza.ResourceConstraint, "too many requests wait for an answer")
	}
	return nil
}

func save(tx *store.Tx, owner jid.JID, i *Item) error {
	if !i.Listed && i.Request == "" {
		_, err := tx.Exec(`DELETE FROM roster WHERE owner = $1 AND contact = $2`, owner.String(), i.Contact.String())
		return err
	}
	groups, err := json.Marshal(i.Groups)
	if err != nil {
		return err
	}
	sub := int64(0)
	if i.To {
		sub |= bitTo
	}
	if i.From {
		sub |= bitFrom
	}
	_, err = tx.Exec(`INSERT INTO roster (owner, contact, listed, name, grouped, subscription, ask, approved, request)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT (owner, contact) DO UPDATE SET listed = excluded.listed, name = excluded.name,
			grouped = excluded.grouped, subscription = excluded.subscription, ask = excluded.ask,
			approved = excluded.approved, request = excluded.request`,
		owner.String(), i.Contact.String(), bit(i.Listed), i.Name, string(groups), sub, bit(i.Ask), bit(i.Approved), i.Request)
	return err
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// forget deletes all rows of an owner. The version stays, so that it never repeats.
func (r *Roster) forget(ctx context.Context, owner jid.JID) error {
	return r.turns.Run(ctx, owner, func() error {
		err := r.host.DB.Write(ctx, func(tx *store.Tx) error {
			_, err := tx.Exec(`DELETE FROM roster WHERE owner = $1`, owner.String())
			return err
		})
		r.cache.Drop(owner)
		return err
	})
}
