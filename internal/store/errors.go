package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// What went wrong, for errors.Is. The database's own error is wrapped beside it.
var (
	// ErrNotFound: Row found no row.
	ErrNotFound = errors.New("not found")
	// ErrConflict: a unique key exists already.
	ErrConflict = errors.New("exists already")
	// ErrUnavailable: the database is away, full or too busy; the same call may succeed later.
	ErrUnavailable = errors.New("database is unavailable")
)

var errClosed = fmt.Errorf("%w: it is closed", ErrUnavailable)

// classify puts a driver's error into one of the classes above, if it belongs to one.
func classify(err error) error {
	var class error
	var lite *sqlite.Error
	var pg *pgconn.PgError
	var connect *pgconn.ConnectError
	switch {
	case err == nil, errors.Is(err, ErrUnavailable), errors.Is(err, ErrConflict):
		return err
	case errors.As(err, &lite):
		class = sqliteClass(lite.Code())
	case errors.As(err, &pg):
		class = postgresClass(pg)
	case errors.As(err, &connect): // even for a time limit: that of connecting is ours
		class = ErrUnavailable
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case connectionLost(err):
		class = ErrUnavailable
	}
	if class == nil {
		return err
	}
	return fmt.Errorf("%w: %w", class, err)
}

// sqliteClass sorts an extended result code.
func sqliteClass(code int) error {
	switch code {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_ROWID:
		return ErrConflict
	}
	switch code & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL,
		sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM:
		return ErrUnavailable
	}
	return nil
}

// postgresClass sorts an error by its SQLSTATE.
func postgresClass(err *pgconn.PgError) error {
	switch err.Code[:min(2, len(err.Code))] {
	case "08", "53", "58": // connection, resources (disk, connections, memory), the machine
		return ErrUnavailable
	case "57": // the server stops or starts; but 57014 is a statement that was cancelled
		if err.Code != "57014" {
			return ErrUnavailable
		}
	case "40": // serialisation failure or deadlock that outlived all retries
		return ErrUnavailable
	}
	switch err.Code {
	case "23505": // unique_violation
		return ErrConflict
	case "25006": // read_only_sql_transaction: the primary became a standby
		return ErrUnavailable
	}
	return nil
}

// connectionLost tells errors of the way to PostgreSQL from errors of what was asked.
func connectionLost(err error) bool {
	var network net.Error
	return errors.As(err, &network) || pgconn.SafeToRetry(err) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// collided reports whether PostgreSQL ended a transaction for reasons of concurrency, so that it is worth another try.
func collided(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	switch pg.Code {
	case "40001", "40P01": // serialization_failure, deadlock_detected
		return true
	case "0A000": // another node migrated the table; the driver forgets the plan and prepares anew
		return strings.Contains(pg.Message, "cached plan")
	}
	return false
}
