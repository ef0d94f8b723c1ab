package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// pgDB is a PostgreSQL database behind a pool of connections.
type pgDB struct {
	pool    *sql.DB
	conns   int
	metrics *metrics
}

// Limits of PostgreSQL transactions.
const (
	pgConns       = 16
	pgDial        = 5 * time.Second  // to connect
	pgTransaction = 30 * time.Second // when the caller's context has no deadline
	pgEnd         = 15 * time.Second // for COMMIT or ROLLBACK, which the caller's context does not bound
	pgTries       = 12               // of a write that collides with others
	pgIdle        = 5 * time.Minute  // until an unused connection is closed
)

// How transactions begin. Choice: writes are SERIALIZABLE as they are on SQLite, so that what reads before it writes is right
// on both; the price is a retry now and then.
const (
	beginRead  = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
	beginWrite = "BEGIN ISOLATION LEVEL SERIALIZABLE"
	beginLocks = "BEGIN ISOLATION LEVEL READ COMMITTED"
)

func openPostgres(ctx context.Context, url string, o *Options, m *metrics) (*pgDB, error) {
	cfg, err := pgx.ParseConfig(url) // Its error hides the password.
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	if cfg.ConnectTimeout == 0 || cfg.ConnectTimeout > pgDial {
		cfg.ConnectTimeout = pgDial
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "starling"
	}
	db := &pgDB{pool: stdlib.OpenDB(*cfg), conns: o.MaxConns, metrics: m}
	if db.conns <= 0 {
		db.conns = pgConns
	}
	db.pool.SetMaxOpenConns(db.conns)
	db.pool.SetMaxIdleConns(db.conns)
	db.pool.SetConnMaxIdleTime(pgIdle)
	if err := db.pool.PingContext(ctx); err != nil {
		db.pool.Close()
		return nil, fmt.Errorf("connect to PostgreSQL: %w", classify(err))
	}
	return db, nil
}

func (db *pgDB) read(ctx context.Context, fn func(*Tx) error) error {
	return db.transact(ctx, 0, beginRead, fn)
}

func (db *pgDB) write(ctx context.Context, limit time.Duration, fn func(*Tx) error) error {
	return db.transact(ctx, limit, beginWrite, fn)
}

func (db *pgDB) writeLocking(ctx context.Context, fn func(*Tx) error) error {
	return db.transact(ctx, 0, beginLocks, fn)
}

// transact runs a transaction, again when it collided with another, after a pause that grows and differs for each.
func (db *pgDB) transact(ctx context.Context, limit time.Duration, begin string, fn func(*Tx) error) error {
	for try := 1; ; try++ {
		err, again := db.once(ctx, limit, begin, fn)
		if !again {
			return err
		}
		if try == pgTries {
			return fmt.Errorf("gave up after %d collisions: %w", try, err)
		}
		db.metrics.retries.Inc()
		if err := pause(ctx, time.Millisecond<<min(try, 7)); err != nil {
			return err
		}
	}
}

// pause waits for a random part of longest, or until ctx ends.
func pause(ctx context.Context, longest time.Duration) error {
	var part [1]byte
	_, _ = rand.Read(part[:]) // never fails
	timer := time.NewTimer(longest * time.Duration(part[0]) / 256)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// once runs the transaction one time. again reports that it was undone because it collided with another transaction.
func (db *pgDB) once(ctx context.Context, limit time.Duration, begin string, fn func(*Tx) error) (err error, again bool) {
	own := ctx
	if _, bounded := ctx.Deadline(); !bounded || limit > 0 {
		if limit == 0 {
			limit = pgTransaction
		}
		var cancel context.CancelFunc
		own, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	defer func() {
		// Our own limit is no wish of the caller's: the database did not answer.
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil && !errors.Is(err, ErrUnavailable) {
			err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}()
	c, err := db.begin(own, begin)
	if err != nil {
		return err, false
	}
	committed := false
	defer func() { // Deferred, so that a fn that ends its goroutine (t.FailNow) leaks no connection.
		if !committed {
			end(c, "ROLLBACK")
		}
		c.Close()
	}()
	tx := &Tx{ctx: own, conn: c}
	if err = tx.run(fn); err == nil {
		if err = end(c, "COMMIT"); err == nil {
			committed = true
			return nil, false
		}
	}
	return err, collided(tx.err) || collided(err)
}

// begin takes a connection and opens a transaction. After a restart of the database every pooled connection is dead, and only
// using it shows: nothing was asked yet, so the next one is tried, until a fresh one is made or cannot be made.
func (db *pgDB) begin(ctx context.Context, query string) (*conn, error) {
	for tries := db.conns; ; tries-- {
		sc, err := db.pool.Conn(ctx)
		if err != nil {
			if err == sql.ErrConnDone || err.Error() == "sql: database is closed" {
				return nil, errClosed
			}
			return nil, classify(err)
		}
		c := &conn{Conn: sc}
		if err = c.do(ctx, query); err == nil {
			return c, nil
		}
		discard(c)
		if tries == 0 || ctx.Err() != nil || !errors.Is(err, ErrUnavailable) {
			return nil, err
		}
	}
}

// end finishes a transaction. It is not bound by the caller's context, which may have ended.
func end(c *conn, query string) error {
	ctx, cancel := context.WithTimeout(context.Background(), pgEnd)
	defer cancel()
	err := c.do(ctx, query)
	if err != nil {
		discard(c)
	}
	return err
}

// discard closes a connection in place of returning it to the pool.
func discard(c *conn) {
	_ = c.Raw(func(any) error { return driver.ErrBadConn })
	c.Close()
}

func (db *pgDB) close() error { return db.pool.Close() }
