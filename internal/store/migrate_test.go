package store_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/store/storetest"
)

// schema makes a module of files given as name, text pairs.
func schema(module string, files ...string) store.Migrations {
	fsys := fstest.MapFS{}
	for i := 0; i < len(files); i += 2 {
		fsys["schema/"+files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	return store.Migrations{Module: module, FS: fsys}
}

const (
	itemsSQL = `
-- Two statements; a ; in a comment.
CREATE TABLE items (id BIGINT PRIMARY KEY, name TEXT NOT NULL);
INSERT INTO items (id, name) VALUES (1, 'semi;colon');
`
	moreSQL = `INSERT INTO items (id, name) VALUES (2, 'two');`
)

func TestMigrate(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		one := schema("things", "001_items.sql", itemsSQL)
		two := schema("things", "001_items.sql", itemsSQL, "002_more.sql", moreSQL)
		other := schema("other", "001_other.sql", "CREATE TABLE other (owner TEXT PRIMARY KEY)")
		steps := []struct {
			name string
			set  []store.Migrations
			rows string
		}{
			{"first time", []store.Migrations{one}, "1"},
			{"again", []store.Migrations{one}, "1"},
			{"a module more", []store.Migrations{one, other}, "1"},
			{"a file more", []store.Migrations{other, two}, "1 2"},
			{"line ends of another system", []store.Migrations{schema("things",
				"001_items.sql", strings.ReplaceAll(itemsSQL, "\n", "\r\n"), "002_more.sql", moreSQL)}, "1 2"},
			{"a module left out", []store.Migrations{two}, "1 2"},
		}
		for _, s := range steps {
			if err := db.Migrate(t.Context(), s.set...); err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
			if got := ids(t, db); got != s.rows {
				t.Fatalf("%s: rows %q, want %q", s.name, got, s.rows)
			}
		}
		refused := []struct {
			name string
			set  store.Migrations
			text string
		}{
			{"changed file", schema("things", "001_items.sql", itemsSQL+" ", "002_more.sql", moreSQL), "001_items.sql differs"},
			{"database is newer", one, "newer version"},
			{"gap", schema("gap", "001_a.sql", "SELECT 1", "003_c.sql", "SELECT 1"), "003_c.sql should have number 002"},
			{"two of one number", schema("twice", "001_a.sql", "SELECT 1", "001_b.sql", "SELECT 1"), "should have number 002"},
			{"bad name", schema("name", "1.sql", "SELECT 1"), "not of the form"},
			{"no files", store.Migrations{Module: "none", FS: fstest.MapFS{}}, "schema of none"},
			{"bad SQL", schema("bad", "001_bad.sql", "CREATE TABLE half (id BIGINT); CREATE NONSENSE"), "schema of bad: 001_bad.sql"},
		}
		for _, r := range refused {
			if err := db.Migrate(t.Context(), r.set); err == nil || !strings.Contains(err.Error(), r.text) {
				t.Errorf("%s: Migrate = %v, want %q", r.name, err, r.text)
			}
		}
		// What failed was undone whole, and can be mended.
		if err := db.Migrate(t.Context(), schema("bad", "001_bad.sql", "CREATE TABLE half (id BIGINT)")); err != nil {
			t.Error(err)
		}
	})
}

// What follows --sqlite is for SQLite alone.
func TestMigrateForOne(t *testing.T) {
	for _, d := range []store.Dialect{store.SQLite, store.Postgres} {
		t.Run(d.String(), func(t *testing.T) {
			db := storetest.Open(t, d)
			if err := db.Migrate(t.Context(), schema("one", "001_a.sql", "CREATE TABLE one (id BIGINT PRIMARY KEY)\n--sqlite WITHOUT ROWID\n;")); err != nil {
				t.Fatal(err)
			}
			exec(t, db, `INSERT INTO one (id) VALUES (1)`)
			err := db.Read(t.Context(), func(tx *store.Tx) error {
				var n int
				return tx.Row(`SELECT rowid FROM one`).Scan(&n)
			})
			if err == nil {
				t.Error("the rows have a rowid")
			}
		})
	}
}

// Servers that start together on one database apply each file once.
func TestMigrateTogether(t *testing.T) {
	for _, d := range []store.Dialect{store.SQLite, store.Postgres} {
		t.Run(d.String(), func(t *testing.T) {
			url := storetest.URL(t, d)
			var files []string
			for i := range 10 {
				text := fmt.Sprintf("INSERT INTO items (id, name) VALUES (%d, 'x')", i+1)
				if i == 0 {
					text = itemsSQL
				}
				files = append(files, fmt.Sprintf("%03d_x.sql", i+1), text)
			}
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					db, err := store.Open(t.Context(), url, store.Options{})
					if err != nil {
						t.Error(err)
						return
					}
					defer db.Close()
					if err := db.Migrate(context.Background(), schema("things", files...)); err != nil {
						t.Error(err)
					}
					if got := ids(t, db); got != "1 2 3 4 5 6 7 8 9 10" {
						t.Errorf("rows %q", got)
					}
				})
			}
			wg.Wait()
		})
	}
}
