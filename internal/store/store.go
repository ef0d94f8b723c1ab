// Package store gives the server's parts one way to keep data, on SQLite (one node, nothing to install) and on PostgreSQL
// (clusters). Callers write plain SQL in the common part of both: $1 placeholders, ON CONFLICT … DO UPDATE, RETURNING,
// BIGINT microseconds, BYTEA, no autoincrement. Whatever the database, transactions behave alike: writes are serialisable
// and durable when they return, reads see one snapshot, the first failed statement ends the transaction.
//
// On SQLite all writes go through one goroutine that commits those that wait together at once (group commit, writer.go).
// On PostgreSQL each write is a transaction of its own, run again if it collides with another (postgres.go).
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Dialect says which database a DB stands on.
type Dialect uint8

// The databases.
const (
	SQLite Dialect = iota + 1
	Postgres
)

// String returns the name as written in logs and test names.
func (d Dialect) String() string {
	switch d {
	case SQLite:
		return "sqlite"
	case Postgres:
		return "postgres"
	}
	return "unknown"
}

// Options are the optional settings of Open; the zero value works.
type Options struct {
	Log        *slog.Logger          // nil: nothing is logged
	Registerer prometheus.Registerer // nil: metrics are kept but not exported
	Readers    int                   // SQLite: connections for Read; 0 = one per processor, at least 2
	Queue      int                   // SQLite: writes that may wait for their turn; 0 = 1024
	MaxConns   int                   // PostgreSQL: connections; 0 = 16
}

// engine is what differs between the databases.
type engine interface {
	// Both may run fn again, so long as no earlier run was committed.
	read(ctx context.Context, fn func(*Tx) error) error
	// limit bounds the time on PostgreSQL; 0 = default.
	write(ctx context.Context, limit time.Duration, fn func(*Tx) error) error
	writeLocking(ctx context.Context, fn func(*Tx) error) error
	close() error
}

// DB is an open database. It is safe for concurrent use.
type DB struct {
	dialect Dialect
	engine  engine
	log     *slog.Logger
	metrics *metrics
}

// Open connects to the database named by url, "sqlite:PATH" or "postgres://…", and checks that what it commits is durable.
// ctx bounds the opening only.
func Open(ctx context.Context, url string, o Options) (*DB, error) {
	db := &DB{log: o.Log, metrics: newMetrics(o.Registerer)}
	if db.log == nil {
		db.log = slog.New(slog.DiscardHandler)
	}
	scheme, rest, _ := strings.Cut(url, ":")
	var err error
	switch scheme {
	case "sqlite":
		db.dialect = SQLite
		db.engine, err = openSQLite(ctx, rest, &o, db.metrics)
	case "postgres", "postgresql":
		db.dialect = Postgres
		db.engine, err = openPostgres(ctx, url, &o, db.metrics)
	default: // The rest of the URL may hold a password.
		return nil, fmt.Errorf("database URL begins with %q: it has to be sqlite:PATH or postgres://USER:PASSWORD@HOST/NAME", scheme)
	}
	if err != nil {
		return nil, err
	}
	if err := db.checkDurable(ctx); err != nil {
		return nil, errors.Join(err, db.engine.close())
	}
	return db, nil
}

// Dialect says which database this is.
func (db *DB) Dialect() Dialect { return db.dialect }

// Read runs fn in a read-only transaction that sees one consistent snapshot, the effect of every finished Write included.
// Reads run concurrently. ctx bounds the wait for a connection and every statement. An error of fn is returned as it is, a
// panic as an error that carries the stack. fn may run more than once, so it sets its results afresh each time.
func (db *DB) Read(ctx context.Context, fn func(tx *Tx) error) error {
	begun := time.Now()
	err := db.engine.read(ctx, fn)
	db.metrics.observe("read", begun, err)
	return err
}

// Write runs fn in a transaction and returns nil after its commit is durable. An error of fn rolls back and is returned as it
// is; so does a panic, as an error that carries the stack. Transactions are serialisable on both databases.
//
// fn may run more than once before a commit, so it sets its results afresh each time. It may run on another goroutine and
// others wait behind it: it does nothing but talk to tx, and neither calls Read or Write nor t.FailNow.
//
// A ctx that ends before fn's turn skips it. Once fn runs on SQLite the result is waited for. On PostgreSQL ctx bounds the
// statements, and the commit no more. ErrUnavailable leaves open whether the commit took place, if the database went away
// during it.
func (db *DB) Write(ctx context.Context, fn func(tx *Tx) error) error {
	begun := time.Now()
	err := db.engine.write(ctx, 0, fn)
	db.metrics.observe("write", begun, err)
	return err
}

// WriteLocking is Write for transactions that change, or insert, each row that they depend on before they read it, always in
// the same order: batches that several nodes write at once. On PostgreSQL they wait for each other's rows, where Write
// would collide and run again; what they only read may be newer than what they read before.
func (db *DB) WriteLocking(ctx context.Context, fn func(tx *Tx) error) error {
	begun := time.Now()
	err := db.engine.writeLocking(ctx, fn)
	db.metrics.observe("write", begun, err)
	return err
}

// Ping asks the database for an answer.
func (db *DB) Ping(ctx context.Context) error {
	return db.Read(ctx, func(tx *Tx) error {
		var one int
		return tx.Row(`SELECT 1`).Scan(&one)
	})
}

// Close waits for the writes that were accepted, then releases the database. Later calls fail with ErrUnavailable.
func (db *DB) Close() error { return db.engine.close() }

// Durability returns the settings that decide whether a commit survives a crash of the machine, as the connection that
// writes reports them: "journal_mode=wal synchronous=2" or "synchronous_commit=on fsync=on".
func (db *DB) Durability(ctx context.Context) (string, error) {
	names, query := []string{"journal_mode", "synchronous"}, "PRAGMA "
	if db.dialect == Postgres {
		names, query = []string{"synchronous_commit", "fsync"}, "SHOW "
	}
	var settings []string
	err := db.Write(ctx, func(tx *Tx) error {
		settings = settings[:0]
		for _, name := range names {
			var value string
			if err := tx.Row(query + name).Scan(&value); err != nil {
				return err
			}
			settings = append(settings, name+"="+value)
		}
		return nil
	})
	return strings.Join(settings, " "), err
}

// checkDurable refuses a database whose commits may be lost, since acknowledgements to clients stand on them.
func (db *DB) checkDurable(ctx context.Context) error {
	settings, err := db.Durability(ctx)
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	switch {
	case db.dialect == SQLite && settings != "journal_mode=wal synchronous=2":
		return fmt.Errorf("SQLite refused durable settings (%s): the file has to lie on a local file system that supports WAL", settings)
	case strings.Contains(settings, "synchronous_commit=off"):
		return errors.New("PostgreSQL runs with synchronous_commit=off, so committed data can be lost: " +
			"set it to on in postgresql.conf, or run ALTER DATABASE name SET synchronous_commit = on")
	case strings.Contains(settings, "fsync=off"):
		db.log.LogAttrs(ctx, slog.LevelWarn, "PostgreSQL runs with fsync=off: a crash of its machine can destroy the database")
	}
	return nil
}

// Micros returns t as stored: microseconds since 1970, UTC.
func Micros(t time.Time) int64 { return t.UnixMicro() }

// Time returns the time of a stored number of microseconds, in UTC.
func Time(us int64) time.Time { return time.UnixMicro(us).UTC() }
