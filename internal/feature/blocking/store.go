package blocking

import (
	"context"
	"fmt"

	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

// read loads a whole list.
func (b *Blocking) read(ctx context.Context, owner jid.JID) (l *List, err error) {
	err = b.DB.Read(ctx, func(tx *store.Tx) (err error) {
		l, err = readList(tx, owner)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("load block list of %s: %w", owner, err)
	}
	return l, nil
}

func readList(tx *store.Tx, owner jid.JID) (*List, error) {
	var items []jid.JID
	err := tx.Each(func(scan store.Scan) error {
		var blocked string
		if err := scan(&blocked); err != nil {
			return err
		}
		j, err := jid.Parse(blocked)
		if err != nil {
			return fmt.Errorf("item %q: %w", blocked, err)
		}
		items = append(items, j)
		return nil
	}, `SELECT blocked FROM blocking WHERE owner = $1`, owner.String())
	return newList(items), err
}

// write replaces the owner's list by what change makes of it, and returns it as it
// was. The caller has the owner's turn.
func (b *Blocking) write(ctx context.Context, owner jid.JID, change func(*List) ([]jid.JID, error)) (before *List, err error) {
	var after *List
	err = b.DB.Write(ctx, func(tx *store.Tx) error {
		if before, err = readList(tx, owner); err != nil {
			return err
		}
		items, err := change(before)
		if err != nil {
			return err
		}
		after = newList(items)
		for _, j := range after.items {
			if before.has(j) {
				continue
			}
			if _, err := tx.Exec(`INSERT INTO blocking (owner, blocked) VALUES ($1, $2)`, owner.String(), j.String()); err != nil {
				return err
			}
		}
		for _, j := range before.items {
			if after.has(j) {
				continue
			}
			if _, err := tx.Exec(`DELETE FROM blocking WHERE owner = $1 AND blocked = $2`, owner.String(), j.String()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("change block list of %s: %w", owner, err)
	}
	b.lists.Put(owner, after)
	return before, nil
}

// deleted forgets the list and the reports of an account.
func (b *Blocking) deleted(ctx context.Context, e *module.AccountEvent) error {
	return b.turns.Run(ctx, e.Account, func() error {
		err := b.DB.Write(ctx, func(tx *store.Tx) error {
			if _, err := tx.Exec(`DELETE FROM blocking WHERE owner = $1`, e.Account.String()); err != nil {
				return err
			}
			_, err := tx.Exec(`DELETE FROM blocking_reports WHERE owner = $1`, e.Account.String())
			return err
		})
		b.lists.Drop(e.Account)
		return err
	})
}
