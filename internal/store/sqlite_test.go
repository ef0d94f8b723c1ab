package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/store"
)

// liteDB opens a SQLite database with its own metrics.
func liteDB(t testing.TB, o store.Options) (*store.DB, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewRegistry()
	o.Registerer = reg
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "test.db"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db, reg
}

// commits returns how many commits there were and how many writes they held.
func commits(t testing.TB, reg *prometheus.Registry) (n uint64, writes float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "starling_store_batch_writes" {
			h := f.GetMetric()[0].GetHistogram()
			return h.GetSampleCount(), h.GetSampleSum()
		}
	}
	t.Fatal("no metric of commits")
	return 0, 0
}

// queued returns the length of the queue as exported.
func queued(t testing.TB, reg *prometheus.Registry) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "starling_store_write_queue_length" {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatal("no metric of the queue")
	return 0
}

// hold keeps the writer busy until release is called, so that what is written meanwhile waits together.
func hold(t testing.TB, db *store.DB) (release func()) {
	t.Helper()
	running, free, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- db.Write(context.Background(), func(*store.Tx) error {
			close(running)
			<-free
			return errors.New("only holds")
		})
	}()
	<-running
	return func() {
		close(free)
		<-ended
	}
}

// write starts a Write and returns when it is in the queue as the n-th.
func write(t testing.TB, db *store.DB, reg *prometheus.Registry, n int, ctx context.Context, fn func(*store.Tx) error) chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- db.Write(ctx, fn) }()
	for queued(t, reg) < float64(n) {
		// Its goroutine is about to get there.
	}
	return done
}

func TestGroupCommit(t *testing.T) {
	fail := errors.New("fails after its insert")
	failing := func(id int) func(*store.Tx) error {
		return func(tx *store.Tx) error { return errors.Join(insert(id)(tx), fail) }
	}
	orphan := func(tx *store.Tx) error { // violates a constraint that is checked at the commit
		_, err := tx.Exec(`INSERT INTO parts (id, item) VALUES (1, 999)`)
		return err
	}
	cases := []struct {
		name    string
		fns     []func(*store.Tx) error
		failed  string // the positions of those that fail
		rows    string
		commits uint64
	}{
		{"all succeed", []func(*store.Tx) error{insert(1), insert(2), insert(3)}, "", "1 2 3", 1},
		{"the first fails", []func(*store.Tx) error{failing(1), insert(2), insert(3)}, "0", "2 3", 1},
		{"one between fails", []func(*store.Tx) error{insert(1), failing(2), insert(3)}, "1", "1 3", 1},
		{"the last fails", []func(*store.Tx) error{insert(1), insert(2), failing(3)}, "2", "1 2", 1},
		{"all fail", []func(*store.Tx) error{failing(1), failing(2)}, "01", "", 0},
		{"a failed statement", []func(*store.Tx) error{insert(1), insert(1), insert(3)}, "1", "1 3", 1},
		{"a panic", []func(*store.Tx) error{insert(1), func(tx *store.Tx) error { panic(insert(2)(tx)) }, insert(3)}, "1", "1 3", 1},
		{"the commit fails", []func(*store.Tx) error{insert(1), orphan, insert(3)}, "1", "1 3", 2},
		{"the commit of one fails", []func(*store.Tx) error{orphan}, "0", "", 0},
		{"the transaction is gone", []func(*store.Tx) error{insert(1), func(tx *store.Tx) error {
			_, err := tx.Exec(`ROLLBACK`) // as SQLite does by itself when the disk is full
			return errors.Join(err, fail)
		}, insert(3)}, "1", "1 3", 2},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			db, reg := liteDB(t, store.Options{})
			table(t, db)
			exec(t, db, `CREATE TABLE parts (id BIGINT PRIMARY KEY,
				item BIGINT NOT NULL REFERENCES items (id) DEFERRABLE INITIALLY DEFERRED)`)
			before, writesBefore := commits(t, reg)
			release := hold(t, db)
			var done []chan error
			for i, fn := range c.fns {
				done = append(done, write(t, db, reg, i+1, t.Context(), fn))
			}
			release()
			failed := ""
			for i, d := range done {
				if err := <-d; err != nil {
					failed += strconv.Itoa(i)
				}
			}
			if failed != c.failed {
				t.Errorf("failed: %q, want %q", failed, c.failed)
			}
			if got := ids(t, db); got != c.rows {
				t.Errorf("rows: %q, want %q", got, c.rows)
			}
			n, writes := commits(t, reg)
			if n -= before; n != c.commits {
				t.Errorf("%d commits, want %d", n, c.commits)
			}
			if writes -= writesBefore; int(writes) != len(c.fns)-len(c.failed) {
				t.Errorf("%v writes counted", writes)
			}
		})
	}
}

// A caller that stops waiting in the queue is skipped; one whose function runs already gets the result.
func TestWriteContextEndsInQueue(t *testing.T) {
	db, reg := liteDB(t, store.Options{})
	table(t, db)
	release := hold(t, db)
	ctx, cancel := context.WithCancel(t.Context())
	gone := write(t, db, reg, 1, ctx, insert(1))
	stays := write(t, db, reg, 2, t.Context(), insert(2))
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("Write = %v", err)
	}
	release()
	if err := <-stays; err != nil {
		t.Error(err)
	}
	if got := ids(t, db); got != "2" {
		t.Errorf("rows: %q", got)
	}

	ctx, cancel = context.WithCancel(t.Context())
	err := db.Write(ctx, func(tx *store.Tx) error {
		cancel()
		return insert(3)(tx)
	})
	if err != nil {
		t.Errorf("a Write that runs when its context ends = %v", err)
	}
	if got := ids(t, db); got != "2 3" {
		t.Errorf("rows: %q", got)
	}
}

func TestQueueIsBounded(t *testing.T) {
	db, reg := liteDB(t, store.Options{Queue: 2})
	table(t, db)
	release := hold(t, db)
	one := write(t, db, reg, 1, t.Context(), insert(1))
	two := write(t, db, reg, 2, t.Context(), insert(2))
	ctx, cancel := context.WithCancel(t.Context())
	three := make(chan error, 1)
	go func() { three <- db.Write(ctx, insert(3)) }()
	cancel()
	if err := <-three; !errors.Is(err, context.Canceled) {
		t.Errorf("Write on a full queue = %v", err)
	}
	if n := queued(t, reg); n != 2 {
		t.Errorf("%v writes in a queue of 2", n)
	}
	release()
	if err := errors.Join(<-one, <-two); err != nil {
		t.Error(err)
	}
}

// A query that runs for long ends with its caller's context, and the connection is as good as before.
func TestReadContextEndsStatement(t *testing.T) {
	db, _ := liteDB(t, store.Options{Readers: 1})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := db.Read(ctx, func(tx *store.Tx) error {
		var n int
		return tx.Row(`WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT MAX(n) FROM c`).Scan(&n)
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Read = %v", err)
	}
	for range 3 {
		if err := db.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestCloseFinishesWhatIsQueued(t *testing.T) {
	db, reg := liteDB(t, store.Options{})
	table(t, db)
	release := hold(t, db)
	one := write(t, db, reg, 1, t.Context(), insert(1))
	closed := make(chan error, 1)
	go func() { closed <- db.Close() }()
	release()
	if err := <-one; err != nil {
		t.Errorf("a Write that was queued before Close = %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := db.Close(); err != nil {
		t.Errorf("the second Close = %v", err)
	}
}

// writerVariable names the database in the environment of a copy of this program that writes until it is killed.
const writerVariable = "STARLING_STORE_TEST_WRITER"

// writeUntilKilled prints the id of every row whose Write has returned. Between them are writes that fail and must leave
// nothing behind.
func writeUntilKilled(path string) int {
	ctx := context.Background()
	db, err := store.Open(ctx, "sqlite:"+path, store.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	failed := make(chan error)
	var last atomic.Int64
	err = db.Read(ctx, func(tx *store.Tx) error {
		var id int64
		err := tx.Row(`SELECT COALESCE(MAX(id), 0) FROM items`).Scan(&id)
		last.Store(id)
		return err
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for range 8 {
		go func() {
			for {
				id := int(last.Add(1))
				if id%5 == 0 {
					_ = db.Write(ctx, func(tx *store.Tx) error { return errors.Join(insert(id)(tx), errors.New("undo")) })
					continue
				}
				if err := db.Write(ctx, insert(id)); err != nil {
					failed <- err
				}
				fmt.Println(id)
			}
		}()
	}
	fmt.Fprintln(os.Stderr, <-failed)
	return 1
}

func TestAcknowledgedWritesSurviveKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	open := func() *store.DB {
		db, err := store.Open(t.Context(), "sqlite:"+path, store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	db := open()
	table(t, db)
	db.Close()
	acknowledged := make(map[int]bool)
	for range 5 {
		child := osexec.Command(os.Args[0])
		child.Env = append(os.Environ(), writerVariable+"="+path)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines, kill := bufio.NewScanner(out), 1+rand.IntN(300)
		for n := 0; lines.Scan(); n++ {
			id, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatal(err)
			}
			acknowledged[id] = true
			if n == kill {
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = child.Wait()

		db := open()
		found := make(map[int]bool)
		err = db.Read(t.Context(), func(tx *store.Tx) error {
			return tx.Each(func(scan store.Scan) error {
				var id int
				err := scan(&id)
				found[id] = true
				return err
			}, `SELECT id FROM items`)
		})
		if err != nil {
			t.Fatal(err)
		}
		for id := range acknowledged {
			if !found[id] {
				t.Errorf("row %d was acknowledged and is lost", id)
			}
		}
		for id := range found {
			if id%5 == 0 {
				t.Errorf("row %d is there, though its Write failed", id)
			}
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d acknowledged rows, all there", len(acknowledged))
}
