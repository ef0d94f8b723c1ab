package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
)

// conn is one connection with its prepared statements.
type conn struct {
	*sql.Conn
	stmts map[string]*sql.Stmt // by query; nil when the driver keeps its own
}

// maxStmts bounds the prepared statements of a connection; a program with more distinct queries builds them at run time.
const maxStmts = 512

func (c *conn) prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	if st := c.stmts[query]; st != nil {
		return st, nil
	}
	if len(c.stmts) >= maxStmts {
		c.forget()
	}
	st, err := c.PrepareContext(ctx, positional(query))
	if err == nil {
		c.stmts[query] = st
	}
	return st, err
}

// positional writes $1, $2, … as ?, where each stands once and in order. SQLite's driver finds a numbered parameter by its
// name, among all arguments and each time; that took a fifth of an insert.
func positional(query string) string {
	whole := query
	if strings.ContainsAny(query, "'\"") || strings.Contains(query, "--") { // what is quoted is no parameter
		return query
	}
	var b strings.Builder
	for n := 1; ; n++ {
		before, after, found := strings.Cut(query, "$")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		rest, next := strings.CutPrefix(after, strconv.Itoa(n))
		if !next || rest != "" && rest[0] >= '0' && rest[0] <= '9' {
			return whole
		}
		b.WriteByte('?')
		query = rest
	}
}

// forget closes the prepared statements, without which SQLite does not close the connection.
func (c *conn) forget() {
	for _, st := range c.stmts {
		st.Close()
	}
	clear(c.stmts)
}

func (c *conn) exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if c.stmts == nil {
		return c.ExecContext(ctx, query, args...)
	}
	st, err := c.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	return st.ExecContext(ctx, args...)
}

func (c *conn) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if c.stmts == nil {
		return c.QueryContext(ctx, query, args...)
	}
	st, err := c.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	return st.QueryContext(ctx, args...)
}

// do runs a statement for its effect only: BEGIN and its kin.
func (c *conn) do(ctx context.Context, query string) error {
	_, err := c.exec(ctx, query)
	return classify(err)
}

// Tx is a transaction under way. It belongs to the function it was given to, and ends with it.
//
// The first statement that fails ends the transaction's usefulness on PostgreSQL, so it does on SQLite: every later statement
// returns the same error, and so does the Write, whatever fn returns. To expect a conflict use ON CONFLICT and look at the
// number of rows.
type Tx struct {
	ctx     context.Context
	conn    *conn
	err     error // the first failure
	reading bool  // rows are being read: the connection is busy
	over    bool
}

// run calls fn and turns its panic into an error.
func (tx *Tx) run(fn func(*Tx) error) (err error) {
	defer func() {
		tx.over = true
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a transaction: %v\n%s", p, debug.Stack())
		}
		if err == nil {
			err = tx.err
		}
	}()
	return fn(tx)
}

// usable returns why no statement may run now.
func (tx *Tx) usable() error {
	switch {
	case tx.over:
		return errors.New("transaction is used after its end")
	case tx.reading:
		return tx.fail(errors.New("statement inside Each: the connection is busy"))
	}
	return tx.err
}

// fail remembers the first failure.
func (tx *Tx) fail(err error) error {
	err = classify(err)
	if tx.err == nil {
		tx.err = err
	}
	return err
}

// Exec runs a statement that returns no rows and returns how many rows it changed.
func (tx *Tx) Exec(query string, args ...any) (rows int64, err error) {
	if err := tx.usable(); err != nil {
		return 0, err
	}
	res, err := tx.conn.exec(tx.ctx, query, args...)
	if err != nil {
		return 0, tx.fail(err)
	}
	return res.RowsAffected()
}

// Scan stores the columns of a row in the variables that dest points to, converted as by database/sql. An empty BYTEA may
// come back as nil.
type Scan = func(dest ...any) error

// Each calls fn for every row of the query, in its order, and stops at the first error. fn runs no statement on tx.
func (tx *Tx) Each(fn func(scan Scan) error, query string, args ...any) error {
	if err := tx.usable(); err != nil {
		return err
	}
	rows, err := tx.conn.query(tx.ctx, query, args...)
	if err != nil {
		return tx.fail(err)
	}
	tx.reading = true
	defer func() {
		tx.reading = false
		rows.Close()
	}()
	for rows.Next() {
		if err := fn(rows.Scan); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return tx.fail(err)
	}
	return nil
}

// Row is a query for one row. It runs when it is scanned.
type Row struct {
	tx    *Tx
	query string
	args  []any
}

// Row prepares to read the first row of a query, which may be an INSERT … RETURNING.
func (tx *Tx) Row(query string, args ...any) Row { return Row{tx, query, args} }

// Scan runs the query and stores the row's columns as the type Scan does. It returns ErrNotFound when there is no row.
func (r Row) Scan(dest ...any) error {
	found := errors.New("found")
	err := r.tx.Each(func(scan Scan) error {
		if err := scan(dest...); err != nil {
			return err
		}
		return found // The other rows are of no interest.
	}, r.query, r.args...)
	switch err {
	case found:
		return nil
	case nil:
		return ErrNotFound
	}
	return err
}
