package store_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/store/storetest"
)

func TestPostgresGoesAwayAndComesBack(t *testing.T) {
	w := storetest.NewWire(t, storetest.URL(t, store.Postgres))
	w.Join(t)
	db, err := store.Open(t.Context(), w.URL, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	table(t, db)
	use := func(n int) { // opens n connections, so that as many are dead after the cut
		var wg, together sync.WaitGroup
		together.Add(n)
		for range n {
			wg.Go(func() {
				err := db.Read(context.Background(), func(*store.Tx) error {
					together.Done()
					together.Wait()
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	use(8)

	w.Cut()
	if err := db.Write(t.Context(), insert(1)); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Write without a database = %v", err)
	}
	if err := db.Ping(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Ping without a database = %v", err)
	}

	w.Join(t)
	if err := db.Write(t.Context(), insert(2)); err != nil {
		t.Errorf("Write when the database is back = %v", err)
	}

	// A restart that nobody noticed: every pooled connection is dead, yet no call may fail.
	use(8)
	w.Cut()
	w.Join(t)
	if err := db.Write(t.Context(), insert(3)); err != nil {
		t.Errorf("Write after a restart = %v", err)
	}

	// In the middle of a transaction nothing can be repaired.
	err = db.Write(t.Context(), func(tx *store.Tx) error {
		if err := insert(4)(tx); err != nil {
			return err
		}
		w.Cut()
		return insert(5)(tx)
	})
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Write that lost its connection = %v", err)
	}
	w.Join(t)
	if got := ids(t, db); got != "2 3" {
		t.Errorf("rows: %q", got)
	}
}

func TestPostgresCollisions(t *testing.T) {
	db := storetest.Open(t, store.Postgres)
	cases := []struct {
		name, code string
		fails      int // times
		runs       int
		want       error
	}{
		{"serialisation failure once", "40001", 1, 2, nil},
		{"deadlock three times", "40P01", 3, 4, nil},
		{"always", "40001", 1000, 12, store.ErrUnavailable},
		{"another error", "22012", 1, 1, errAny},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			runs := 0
			err := db.Write(t.Context(), func(tx *store.Tx) error {
				if runs++; runs <= c.fails {
					_, err := tx.Exec(`DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '` + c.code + `'; END $$`)
					return err
				}
				return nil
			})
			if runs != c.runs || (err == nil) != (c.want == nil) || c.want != errAny && !errors.Is(err, c.want) {
				t.Errorf("ran %d times, then %v; want %d, %v", runs, err, c.runs, c.want)
			}
		})
	}
}

var errAny = errors.New("any error")

// Another node may migrate a table whose queries are prepared here.
func TestPostgresTableChangesUnderPreparedStatement(t *testing.T) {
	db := storetest.Open(t, store.Postgres)
	table(t, db)
	read := func() error {
		return db.Read(t.Context(), func(tx *store.Tx) error {
			return tx.Each(func(store.Scan) error { return nil }, `SELECT * FROM items WHERE id = $1`, 1)
		})
	}
	if err := read(); err != nil {
		t.Fatal(err)
	}
	exec(t, db, `ALTER TABLE items ADD COLUMN more TEXT`)
	if err := read(); err != nil {
		t.Errorf("after the change: %v", err)
	}
}

func TestPostgresContextEndsStatement(t *testing.T) {
	db := storetest.Open(t, store.Postgres)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := db.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`SELECT pg_sleep(60)`)
		return err
	})
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Write = %v", err)
	}
	if err := db.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestPostgresNotDurable(t *testing.T) {
	u := storetest.URL(t, store.Postgres)
	option := "?"
	if strings.Contains(u, "?") {
		option = "&"
	}
	_, err := store.Open(t.Context(), u+option+"options=-csynchronous_commit%3Doff", store.Options{})
	if err == nil || !strings.Contains(err.Error(), "ALTER DATABASE") {
		t.Errorf("Open = %v", err)
	}
}
