package store_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/store/storetest"
)

// Many write the same rows at once, as nodes do: each gets numbers of its own, in the order of the commits.
func TestWriteLocking(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		exec(t, db, `CREATE TABLE counters (name TEXT PRIMARY KEY, last BIGINT NOT NULL)`)
		exec(t, db, `CREATE TABLE numbers (name TEXT NOT NULL, number BIGINT NOT NULL, PRIMARY KEY (name, number))`)
		const writers, rounds = 8, 25
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() {
				for range rounds {
					if err := db.WriteLocking(t.Context(), takeNumbers("a", "b")); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		for _, name := range []string{"a", "b"} {
			var count, last int
			err := db.Read(t.Context(), func(tx *store.Tx) error {
				return tx.Row(`SELECT COUNT(*), MAX(number) FROM numbers WHERE name = $1`, name).Scan(&count, &last)
			})
			if err != nil || count != writers*rounds || last != count {
				t.Errorf("%s: %d numbers, the last is %d: %v", name, count, last, err)
			}
		}
	})
}

func takeNumbers(names ...string) func(*store.Tx) error {
	return func(tx *store.Tx) error {
		for _, name := range names {
			var last int
			err := tx.Row(`INSERT INTO counters (name, last) VALUES ($1, 1)
				ON CONFLICT (name) DO UPDATE SET last = counters.last + 1 RETURNING last`, name).Scan(&last)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(`INSERT INTO numbers (name, number) VALUES ($1, $2)`, name, last); err != nil {
				return fmt.Errorf("number %d: %w", last, err)
			}
		}
		return nil
	}
}
