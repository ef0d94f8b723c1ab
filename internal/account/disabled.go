package account

import (
	"context"
	"fmt"

	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

// ListDisabled returns at most limit accounts of a domain that may not log in, in the database's order of names.
func (a *Accounts) ListDisabled(ctx context.Context, domain string, limit int) ([]jid.JID, error) {
	var list []jid.JID
	err := a.db.Read(ctx, func(tx *store.Tx) error {
		list = list[:0]
		return tx.Each(func(scan store.Scan) error {
			var owner string
			if err := scan(&owner); err != nil {
				return err
			}
			bare, err := jid.Parse(owner)
			list = append(list, bare)
			return err
		}, `SELECT owner FROM accounts WHERE domain = $1 AND disabled = $2 ORDER BY owner LIMIT $3`, domain, true, limit)
	})
	if err != nil {
		return nil, fmt.Errorf("list disabled accounts of %s: %w", domain, err)
	}
	return list, nil
}

// CountDisabled returns how many accounts of a domain may not log in.
func (a *Accounts) CountDisabled(ctx context.Context, domain string) (n int, err error) {
	err = a.db.Read(ctx, func(tx *store.Tx) error {
		return tx.Row(`SELECT COUNT(*) FROM accounts WHERE domain = $1 AND disabled = $2`, domain, true).Scan(&n)
	})
	if err != nil {
		return 0, fmt.Errorf("count disabled accounts of %s: %w", domain, err)
	}
	return n, nil
}
