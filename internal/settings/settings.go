// Package settings keeps what operators decide while the server runs in the database, where it is the same for all
// nodes and survives restarts. A decision is for all nodes, or for one of them by its name; that for the one counts
// more. Where nothing was decided, the server's configuration file counts, which this package does not know.
package settings

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"time"

	"github.com/starling-im/starling/internal/store"
)

//go:embed schema
var schema embed.FS

// Migrations returns the table of this package.
func Migrations() store.Migrations { return store.Migrations{Module: "settings", FS: schema} }

// AllNodes stands for all nodes where a name of one is asked for.
const AllNodes = ""

// Settings are the decisions in a database. Nothing is cached.
type Settings struct {
	db  *store.DB
	now func() time.Time
}

// New returns the settings in a database that has been migrated.
func New(db *store.DB, now func() time.Time) *Settings { return &Settings{db, now} }

// Decision is a setting that an operator has made.
type Decision struct {
	Node    string // whom it is for: a node, or AllNodes
	Value   string
	Changed time.Time
}

// Lookup returns what was decided for a node: for just this one, or else for all. The error is store.ErrNotFound
// where nothing was.
func (s *Settings) Lookup(ctx context.Context, node, name string) (Decision, error) {
	var d Decision
	var changed int64
	err := s.db.Read(ctx, func(tx *store.Tx) error {
		// '' comes before every name.
		return tx.Row(`SELECT node, value, changed_at FROM settings WHERE name = $1 AND node IN ($2, '') ORDER BY node DESC LIMIT 1`,
			name, node).Scan(&d.Node, &d.Value, &changed)
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return d, fmt.Errorf("look up setting %s: %w", name, err)
	}
	d.Changed = store.Time(changed)
	return d, err
}

// Decide keeps a decision. One for AllNodes ends those for single nodes.
func (s *Settings) Decide(ctx context.Context, node, name, value string) error {
	err := s.db.Write(ctx, func(tx *store.Tx) error {
		if node == AllNodes {
			if _, err := tx.Exec(`DELETE FROM settings WHERE name = $1 AND node <> ''`, name); err != nil {
				return err
			}
		}
		_, err := tx.Exec(`INSERT INTO settings (node, name, value, changed_at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (node, name) DO UPDATE SET value = excluded.value, changed_at = excluded.changed_at`,
			node, name, value, store.Micros(s.now()))
		return err
	})
	if err != nil {
		return fmt.Errorf("keep setting %s: %w", name, err)
	}
	return nil
}
