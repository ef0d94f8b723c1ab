package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/store/storetest"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(writerVariable); path != "" {
		os.Exit(writeUntilKilled(path))
	}
	os.Exit(m.Run())
}

// table makes the table that most tests use.
func table(t testing.TB, db *store.DB) {
	t.Helper()
	exec(t, db, `CREATE TABLE items (id BIGINT PRIMARY KEY, name TEXT NOT NULL UNIQUE)`)
}

func exec(t testing.TB, db *store.DB, query string, args ...any) {
	t.Helper()
	err := db.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(query, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// insert writes one row; the id names it, too.
func insert(id int) func(*store.Tx) error {
	return func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO items (id, name) VALUES ($1, $2)`, id, fmt.Sprint("item ", id))
		return err
	}
}

// ids returns what the table holds, in order.
func ids(t testing.TB, db *store.DB) string {
	t.Helper()
	var all []string
	err := db.Read(context.Background(), func(tx *store.Tx) error {
		return tx.Each(func(scan store.Scan) error {
			var id string
			err := scan(&id)
			all = append(all, id)
			return err
		}, `SELECT id FROM items ORDER BY id`)
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

func TestWriteThenRead(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		table(t, db)
		for id := 3; id > 0; id-- {
			if err := db.Write(t.Context(), insert(id)); err != nil {
				t.Fatal(err)
			}
		}
		if got := ids(t, db); got != "1 2 3" {
			t.Errorf("ids = %q", got)
		}
		var name string
		err := db.Read(t.Context(), func(tx *store.Tx) error {
			return tx.Row(`SELECT name FROM items WHERE id >= $1 ORDER BY id`, 2).Scan(&name)
		})
		if err != nil || name != "item 2" {
			t.Errorf("Row = %q, %v", name, err)
		}
		if err := db.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestTransactionFails(t *testing.T) {
	own := errors.New("own error")
	cases := []struct {
		name string
		fn   func(tx *store.Tx) error
		want error  // with errors.Is
		text string // in its text
	}{
		{"error of the function", func(*store.Tx) error { return own }, own, ""},
		{"no row", func(tx *store.Tx) error {
			var id int
			return tx.Row(`SELECT id FROM items WHERE id = $1`, 99).Scan(&id)
		}, store.ErrNotFound, ""},
		{"primary key", insert(1), store.ErrConflict, ""},
		{"unique column", func(tx *store.Tx) error {
			_, err := tx.Exec(`INSERT INTO items (id, name) VALUES (2, 'item 1')`)
			return err
		}, store.ErrConflict, ""},
		{"conflict that the function hides", func(tx *store.Tx) error {
			_, _ = tx.Exec(`INSERT INTO items (id, name) VALUES (1, 'x')`)
			return nil
		}, store.ErrConflict, ""},
		{"statement after a failed one", func(tx *store.Tx) error {
			_, _ = tx.Exec(`INSERT INTO items (id, name) VALUES (1, 'x')`)
			if _, err := tx.Exec(`INSERT INTO items (id, name) VALUES (9, 'y')`); err == nil {
				return errors.New("the second statement ran")
			}
			return nil
		}, store.ErrConflict, ""},
		{"bad SQL", func(tx *store.Tx) error {
			_, err := tx.Exec(`INSERT INTO nowhere (id) VALUES (1)`)
			return err
		}, nil, "nowhere"},
		{"column of another type", func(tx *store.Tx) error {
			var id int
			return tx.Row(`SELECT name FROM items`).Scan(&id)
		}, nil, "item 1"},
		{"statement inside Each", func(tx *store.Tx) error {
			return tx.Each(func(store.Scan) error {
				_, err := tx.Exec(`DELETE FROM items`)
				return err
			}, `SELECT id FROM items`)
		}, nil, "inside Each"},
		{"panic", func(*store.Tx) error { panic("broken invariant") }, nil, "broken invariant"},
		{"panic shows where", func(*store.Tx) error { panic("x") }, nil, "store_test.go"},
	}
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		table(t, db)
		if err := db.Write(t.Context(), insert(1)); err != nil {
			t.Fatal(err)
		}
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				err := db.Write(t.Context(), func(tx *store.Tx) error {
					if _, err := tx.Exec(`INSERT INTO items (id, name) VALUES (50, 'must not stay')`); err != nil {
						return err
					}
					return c.fn(tx)
				})
				if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
					t.Errorf("Write = %v, want %v %q", err, c.want, c.text)
				}
				if got := ids(t, db); got != "1" {
					t.Errorf("rows after the failure: %q", got)
				}
			})
		}
		if err := db.Write(t.Context(), insert(2)); err != nil {
			t.Errorf("a later Write: %v", err)
		}
	})
}

func TestEachStopsAtTheFirstError(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		table(t, db)
		exec(t, db, `INSERT INTO items (id, name) VALUES (1, 'a'), (2, 'b'), (3, 'c')`)
		enough, seen := errors.New("enough"), 0
		err := db.Read(t.Context(), func(tx *store.Tx) error {
			err := tx.Each(func(store.Scan) error {
				if seen++; seen == 2 {
					return enough
				}
				return nil
			}, `SELECT id FROM items`)
			if err != enough {
				t.Errorf("Each = %v", err)
			}
			// The transaction goes on: it was the function that failed, not the database.
			return tx.Row(`SELECT COUNT(*) FROM items`).Scan(&seen)
		})
		if err != nil || seen != 3 {
			t.Errorf("Read = %v, counted %d", err, seen)
		}
	})
}

func TestValues(t *testing.T) {
	now := time.Date(2026, 2, 3, 4, 5, 6, 789_012_999, time.FixedZone("", 3600))
	if got, want := store.Time(store.Micros(now)), now.Truncate(time.Microsecond); !got.Equal(want) || got.Location() != time.UTC {
		t.Errorf("Time(Micros(%v)) = %v", now, got)
	}
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		exec(t, db, `CREATE TABLE kinds (b BYTEA, empty BYTEA, t TEXT, n BIGINT, yes BOOLEAN, none TEXT)`)
		var (
			b, empty []byte
			text     string
			n        int64
			yes      bool
			none     *string
		)
		err := db.Write(t.Context(), func(tx *store.Tx) error {
			return tx.Row(`INSERT INTO kinds VALUES ($1, $2, $3, $4, $5, $6) RETURNING b, empty, t, n, yes, none`,
				[]byte{0, 255}, []byte{}, "Zoë ☃", store.Micros(now), true, nil).Scan(&b, &empty, &text, &n, &yes, &none)
		})
		if err != nil || !bytes.Equal(b, []byte{0, 255}) || len(empty) != 0 || text != "Zoë ☃" || n != now.UnixMicro() || !yes || none != nil {
			t.Errorf("read back %v %v %q %d %v %v, %v", b, empty, text, n, yes, none, err)
		}
		rows := int64(0)
		err = db.Write(t.Context(), func(tx *store.Tx) (err error) {
			rows, err = tx.Exec(`UPDATE kinds SET n = n + 1 WHERE yes`)
			return err
		})
		if err != nil || rows != 1 {
			t.Errorf("Exec = %d rows, %v", rows, err)
		}
	})
}

func TestReadIsReadOnlyAndOneSnapshot(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		table(t, db)
		if err := db.Read(t.Context(), insert(1)); err == nil {
			t.Error("Read inserted a row")
		}
		count := func(tx *store.Tx) (n int, err error) {
			err = tx.Row(`SELECT COUNT(*) FROM items`).Scan(&n)
			return n, err
		}
		err := db.Read(t.Context(), func(tx *store.Tx) error {
			before, err := count(tx)
			if err != nil {
				return err
			}
			if err := db.Write(t.Context(), insert(1)); err != nil {
				return err
			}
			after, err := count(tx)
			if before != 0 || after != 0 {
				t.Errorf("one snapshot shows %d, then %d rows", before, after)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		if got := ids(t, db); got != "1" {
			t.Errorf("the next snapshot shows %q", got)
		}
	})
}

func TestTransactionUsedAfterItsEnd(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		var kept *store.Tx
		if err := db.Write(t.Context(), func(tx *store.Tx) error { kept = tx; return nil }); err != nil {
			t.Fatal(err)
		}
		if _, err := kept.Exec(`SELECT 1`); err == nil {
			t.Error("a transaction that is over ran a statement")
		}
	})
}

// What reads before it writes must not lose an update, whichever database serialises it.
func TestWritesAreSerialisable(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		exec(t, db, `CREATE TABLE counter (n BIGINT NOT NULL)`)
		exec(t, db, `INSERT INTO counter (n) VALUES (0)`)
		const writers, rounds = 8, 10
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() {
				for range rounds {
					err := db.Write(t.Context(), func(tx *store.Tx) error {
						var n int
						if err := tx.Row(`SELECT n FROM counter`).Scan(&n); err != nil {
							return err
						}
						_, err := tx.Exec(`UPDATE counter SET n = $1`, n+1)
						return err
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		var n int
		err := db.Read(t.Context(), func(tx *store.Tx) error { return tx.Row(`SELECT n FROM counter`).Scan(&n) })
		if err != nil || n != writers*rounds {
			t.Errorf("counter = %d, %v; want %d", n, err, writers*rounds)
		}
	})
}

func TestContextEnded(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		ran := func(*store.Tx) error { t.Error("the function ran"); return nil }
		if err := db.Write(ctx, ran); !errors.Is(err, context.Canceled) {
			t.Errorf("Write = %v", err)
		}
		if err := db.Read(ctx, ran); !errors.Is(err, context.Canceled) {
			t.Errorf("Read = %v", err)
		}
	})
}

func TestClose(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		for name, call := range map[string]func(context.Context, func(*store.Tx) error) error{"Read": db.Read, "Write": db.Write} {
			if err := call(t.Context(), func(*store.Tx) error { return nil }); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("%s after Close = %v", name, err)
			}
		}
	})
}

// A test that gives up inside a transaction (t.FailNow ends the goroutine) must not make the next one hang.
func TestFunctionEndsItsGoroutine(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		table(t, db)
		for name, call := range map[string]func(context.Context, func(*store.Tx) error) error{"Read": db.Read, "Write": db.Write} {
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				if err := call(context.Background(), func(*store.Tx) error { runtime.Goexit(); return nil }); err == nil {
					t.Errorf("%s succeeded", name)
				}
			}()
			<-ended
		}
		if err := db.Write(t.Context(), insert(1)); err != nil {
			t.Fatal(err)
		}
		if got := ids(t, db); got != "1" {
			t.Errorf("ids = %q", got)
		}
	})
}

func TestDurability(t *testing.T) {
	want := map[store.Dialect]string{store.SQLite: "journal_mode=wal synchronous=2", store.Postgres: "synchronous_commit=on fsync="}
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		got, err := db.Durability(t.Context())
		if err != nil || !strings.HasPrefix(got, want[db.Dialect()]) {
			t.Errorf("Durability = %q, %v", got, err)
		}
	})
}

func TestOpenFails(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(text, []byte(strings.Repeat("not a database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	cases := []struct{ name, url, text string }{
		{"no scheme", "data.db", `begins with "data.db"`},
		{"unknown scheme, secret not repeated", "mysql://root:secret@host/x", `begins with "mysql"`},
		{"no path", "sqlite:", "needs the path"},
		{"memory", "sqlite::memory:", "needs the path"},
		{"directory missing", "sqlite:" + dir + "/none/x.db", "directory " + dir + "/none does not exist"},
		{"a directory", "sqlite:" + dir, "is a directory"},
		{"not a database", "sqlite:" + text, "is not a SQLite database"},
		{"bad PostgreSQL URL", "postgres://user:secret@host:port/x", "database URL"},
		{"no PostgreSQL there", "postgres://user:secret@/x?host=" + dir, "unavailable"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			db, err := store.Open(t.Context(), c.url, store.Options{})
			if err == nil {
				db.Close()
				t.Fatal("it opened")
			}
			if !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "secret") {
				t.Errorf("error %q, want %q", err, c.text)
			}
		})
	}
}

// The file system's user is changed for this goroutine's thread only, which ends with it; so root can test it as well.
func TestOpenWithoutPermission(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "test.db")
	db, err := store.Open(t.Context(), "sqlite:"+path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if rest, err := filepath.Glob(path + "-*"); err != nil || len(rest) > 0 {
		t.Errorf("Close leaves %v, %v", rest, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of a new database = %v, %v", info.Mode(), err)
	}
	cases := []struct {
		name, path string
		mode       os.FileMode
		text       string
	}{
		{"may not write", path, 0o444, "may not read and write"},
		{"may not read", path, 0o000, "may not read and write"},
		{"may not make it", filepath.Join(dir, "new.db"), 0o600, "permission denied"},
	}
	t.Cleanup(func() { os.Chmod(dir, 0o755) })
	if err := errors.Join(os.Chmod(dir, 0o555), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		opened := make(chan error)
		go func() {
			runtime.LockOSThread() // and never unlocked
			if os.Getuid() == 0 {
				if err := syscall.Setfsuid(65534); err != nil {
					opened <- err
					return
				}
			}
			_, err := store.Open(context.Background(), "sqlite:"+c.path, store.Options{})
			opened <- err
		}()
		if err := <-opened; err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: Open = %v, want %q", c.name, err, c.text)
		}
	}
}

func TestManyQueries(t *testing.T) { // more than are kept prepared
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		err := db.Read(t.Context(), func(tx *store.Tx) error {
			for i := range 1500 {
				var n int
				if err := tx.Row(fmt.Sprintf("SELECT %d + CAST($1 AS INTEGER)", i), 1).Scan(&n); err != nil || n != i+1 {
					return fmt.Errorf("query %d = %d, %w", i, n, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}
