package account

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"

	"github.com/starling-im/starling/internal/store"
)

// secretSize is the length of a secret in bytes.
const secretSize = 32

// Secret returns the random 32 bytes of this name. They are made when first asked for, kept in the database, and thus the
// same on every node and after every restart.
func (a *Accounts) Secret(ctx context.Context, name string) ([]byte, error) {
	a.mu.Lock()
	secret := a.secrets[name]
	a.mu.Unlock()
	if secret != nil {
		return slices.Clone(secret), nil
	}
	fresh := make([]byte, secretSize)
	_, _ = rand.Read(fresh) // never fails
	err := a.db.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO secrets (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`, name, fresh)
		if err != nil {
			return err
		}
		return tx.Row(`SELECT value FROM secrets WHERE name = $1`, name).Scan(&secret)
	})
	if err != nil {
		return nil, fmt.Errorf("load secret %s: %w", name, err)
	}
	a.mu.Lock()
	a.secrets[name] = secret
	a.mu.Unlock()
	return slices.Clone(secret), nil
}
