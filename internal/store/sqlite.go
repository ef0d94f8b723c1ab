package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// liteDB is a SQLite file: one connection that writes, some that read.
type liteDB struct {
	reading *sql.DB
	writing *sql.DB
	conns   []*conn    // all of them
	readers chan *conn // those that are free
	writer  *writer
}

// What every connection is told. Timeouts are milliseconds, sizes KiB (negative) or bytes. The log is copied into the file
// when it has 8000 pages, 32 MB: pages that are written again and again, as those of indexes, are copied once.
const (
	pragmaBoth  = "_pragma=busy_timeout(5000)&_pragma=cache_size(-16384)&_pragma=temp_store(memory)&_dqs=0&_error_rc=1"
	pragmaWrite = pragmaBoth + "&_pragma=journal_mode(wal)&_pragma=synchronous(full)&_pragma=fullfsync(1)" +
		"&_pragma=foreign_keys(1)&_pragma=journal_size_limit(67108864)&_pragma=wal_autocheckpoint(8000)"
	pragmaRead = pragmaBoth + "&mode=ro"
)

// openWait is how long another program may hold the lock when a file is opened.
const openWait = 5 * time.Second

// maxReaders bounds the connections for Read: each keeps a page cache.
const maxReaders = 16

func openSQLite(ctx context.Context, path string, o *Options, m *metrics) (_ *liteDB, err error) {
	if err := prepareFile(path); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	file := "file:" + (&url.URL{Path: path}).EscapedPath() + "?"
	db := &liteDB{}
	defer func() {
		if err != nil {
			err = errors.Join(explain(path, err), db.closeConns())
		}
	}()
	if db.writing, err = sql.Open("sqlite", file+pragmaWrite); err != nil {
		return nil, err
	}
	c, err := db.connect(ctx, db.writing)
	// Of several that make a new file use WAL at once all but one fail at once, without SQLite's own waiting.
	for begun := time.Now(); busy(err) && time.Since(begun) < openWait; {
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return nil, err
		}
		c, err = db.connect(ctx, db.writing)
	}
	if err != nil {
		return nil, err
	}
	// A file that cannot be written is opened all the same, to be read only; the first change tells.
	for _, query := range []string{"BEGIN IMMEDIATE", "CREATE TABLE starling_probe (x)", "ROLLBACK"} {
		if err := c.do(ctx, query); err != nil {
			return nil, err
		}
	}
	if db.reading, err = sql.Open("sqlite", file+pragmaRead); err != nil {
		return nil, err
	}
	n := o.Readers
	if n <= 0 {
		n = min(max(2, runtime.GOMAXPROCS(0)), maxReaders)
	}
	db.readers = make(chan *conn, n)
	for range n {
		c, err := db.connect(ctx, db.reading)
		if err != nil {
			return nil, err
		}
		db.readers <- c
	}
	db.writer = startWriter(c, o.Queue, m)
	return db, nil
}

// busy reports whether SQLite could not get a lock.
func busy(err error) bool {
	var lite *sqlite.Error
	return errors.As(err, &lite) && lite.Code()&0xff == sqlite3.SQLITE_BUSY
}

// connect takes a connection out of a pool until closeConns.
func (db *liteDB) connect(ctx context.Context, pool *sql.DB) (*conn, error) {
	sc, err := pool.Conn(ctx)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: sc, stmts: make(map[string]*sql.Stmt)}
	db.conns = append(db.conns, c)
	return c, nil
}

// prepareFile makes a missing file, readable by its owner only, since it will hold everybody's keys and messages.
func prepareFile(path string) error {
	if path == "" || path == ":memory:" {
		return errors.New("sqlite: needs the path of a file, as in sqlite:data/starling.db")
	}
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return fmt.Errorf("%s is a directory, not a file", path)
	case err == nil:
		return nil // Not opened to try: closing it again would drop SQLite's own locks on it.
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if _, err := os.Stat(filepath.Dir(path)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("directory %s does not exist: create it first", filepath.Dir(path))
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil // Another process made it just now.
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// explain says in words what an operator can do about a file that does not open.
func explain(path string, err error) error {
	what := "open database " + path
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		switch lite.Code() & 0xff {
		case sqlite3.SQLITE_NOTADB:
			what += ": the file is not a SQLite database"
		case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
			what += ": this user may not read and write the file and its directory"
		case sqlite3.SQLITE_BUSY:
			what += ": another program holds its lock"
		}
	}
	return fmt.Errorf("%s: %w", what, classify(err))
}

func (db *liteDB) read(ctx context.Context, fn func(*Tx) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	var c *conn
	select {
	case c = <-db.readers:
	case <-db.writer.closing:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { db.readers <- c }()
	if err := c.do(context.Background(), "BEGIN"); err != nil {
		return err
	}
	// Deferred, so that a fn that ends its goroutine (t.FailNow) leaves the connection clean. Nothing was changed: the
	// transaction only needs to end.
	defer func() {
		if end := c.do(context.Background(), "ROLLBACK"); err == nil {
			err = end
		}
	}()
	tx := &Tx{ctx: ctx, conn: c}
	return tx.run(fn)
}

func (db *liteDB) write(ctx context.Context, _ time.Duration, fn func(*Tx) error) error {
	return db.writer.write(ctx, fn)
}

// writeLocking needs nothing of its own: one transaction runs at a time.
func (db *liteDB) writeLocking(ctx context.Context, fn func(*Tx) error) error {
	return db.writer.write(ctx, fn)
}

// close waits for the writer and the readers.
func (db *liteDB) close() error {
	if !db.writer.stop() {
		return nil
	}
	for range cap(db.readers) {
		<-db.readers
	}
	return db.closeConns()
}

// closeConns closes everything. The last connection to close empties the write-ahead log into the file: the one that writes,
// since the others may not.
func (db *liteDB) closeConns() error {
	var errs []error
	for _, c := range db.conns {
		c.forget()
		errs = append(errs, c.Close())
	}
	for _, pool := range []*sql.DB{db.reading, db.writing} {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	return errors.Join(errs...)
}
