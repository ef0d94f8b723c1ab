package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Migrations are the tables of one module: FS holds schema/001_init.sql, schema/002_….sql, and so on without a gap. A file
// may hold several statements, in SQL that both databases understand, but for what follows --sqlite on a line: that only
// SQLite reads. Once released, a file never changes.
type Migrations struct {
	Module string
	FS     fs.FS
}

// migration is one file.
type migration struct {
	number   int
	name     string // "001_init.sql"
	sql      string
	checksum string
}

// migrateLimit bounds one file on PostgreSQL: it may rewrite a large table.
const migrateLimit = time.Hour

// migrateLock is the key of PostgreSQL's advisory lock.
const migrateLock = 0x5374_6172_6c69_6e67

// Migrate brings the tables of every module in set up to date, in that order. Each file is one transaction, recorded with its
// checksum; servers that start together wait for each other. It refuses a database that a newer program has migrated, and a
// file that changed after it was applied.
func (db *DB) Migrate(ctx context.Context, set ...Migrations) error {
	for _, m := range set {
		files, err := m.files()
		if err != nil {
			return fmt.Errorf("schema of %s: %w", m.Module, err)
		}
		for done := false; !done; {
			if done, err = db.migrateNext(ctx, m.Module, files); err != nil {
				return fmt.Errorf("schema of %s: %w", m.Module, err)
			}
		}
	}
	return nil
}

// migrateNext applies the first file that was not yet applied; done means that there is none.
func (db *DB) migrateNext(ctx context.Context, module string, files []migration) (done bool, err error) {
	begun := time.Now()
	var next *migration
	err = db.engine.write(ctx, migrateLimit, func(tx *Tx) error {
		next = nil
		if err := db.migrateBegin(tx); err != nil {
			return err
		}
		applied, err := checkApplied(tx, module, files)
		if err != nil || applied == len(files) {
			return err
		}
		next = &files[applied]
		text := next.sql
		if db.dialect == SQLite {
			text = strings.ReplaceAll(text, "--sqlite ", "")
		}
		if err := tx.script(text); err != nil {
			return fmt.Errorf("%s: %w", next.name, err)
		}
		_, err = tx.Exec(`INSERT INTO schema_migrations (module, number, name, checksum, applied_at) VALUES ($1, $2, $3, $4, $5)`,
			module, next.number, next.name, next.checksum, Micros(time.Now()))
		return err
	})
	if err != nil || next == nil {
		return true, err
	}
	db.log.LogAttrs(ctx, slog.LevelInfo, "database schema migrated", slog.String("module", module),
		slog.String("file", next.name), slog.Duration("took", time.Since(begun)))
	return false, nil
}

// migrateBegin keeps other servers out until the transaction ends. On SQLite the transaction itself does.
func (db *DB) migrateBegin(tx *Tx) error {
	if db.dialect == Postgres {
		// A serialisable transaction would see the state of before it had the lock.
		if _, err := tx.Exec(`SET TRANSACTION ISOLATION LEVEL READ COMMITTED`); err != nil {
			return err
		}
		if _, err := tx.Exec(`SELECT pg_advisory_xact_lock($1)`, int64(migrateLock)); err != nil {
			return err
		}
	}
	_, err := tx.Exec(`CREATE TABLE IF NOT EXISTS schema_migrations (
		module TEXT NOT NULL, number BIGINT NOT NULL, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at BIGINT NOT NULL,
		PRIMARY KEY (module, number))`)
	return err
}

// checkApplied compares what was applied with the files, and returns how many were.
func checkApplied(tx *Tx, module string, files []migration) (applied int, err error) {
	err = tx.Each(func(scan Scan) error {
		var was migration
		if err := scan(&was.number, &was.name, &was.checksum); err != nil {
			return err
		}
		applied++
		if was.number > len(files) {
			return fmt.Errorf("the database has %s, this program knows only %d files: "+
				"the database was used by a newer version, which is needed to open it", was.name, len(files))
		}
		if was.number != applied {
			return fmt.Errorf("the database has %s, but not number %d before it: its table schema_migrations was tampered with",
				was.name, applied)
		}
		if file := files[applied-1]; was.checksum != file.checksum {
			return fmt.Errorf("%s differs from the %s that was applied to this database: "+
				"a released file never changes, add a new one", file.name, was.name)
		}
		return nil
	}, `SELECT number, name, checksum FROM schema_migrations WHERE module = $1 ORDER BY number`, module)
	return applied, err
}

// files reads and orders the module's files.
func (m Migrations) files() ([]migration, error) {
	form := regexp.MustCompile(`^([0-9]{3})_[a-z0-9_]+\.sql$`)
	entries, err := fs.ReadDir(m.FS, "schema")
	if err != nil {
		return nil, err
	}
	var files []migration
	for _, e := range entries {
		parts := form.FindStringSubmatch(e.Name())
		if parts == nil {
			return nil, fmt.Errorf("file name %s is not of the form 001_what.sql", e.Name())
		}
		text, err := fs.ReadFile(m.FS, "schema/"+e.Name())
		if err != nil {
			return nil, err
		}
		number, _ := strconv.Atoi(parts[1])
		clean := strings.ReplaceAll(string(text), "\r\n", "\n") // as some version control systems check it out
		sum := sha256.Sum256([]byte(clean))
		files = append(files, migration{number, e.Name(), clean, hex.EncodeToString(sum[:])})
	}
	slices.SortFunc(files, func(a, b migration) int { return a.number - b.number })
	for i, f := range files {
		if f.number != i+1 {
			return nil, fmt.Errorf("file %s should have number %03d", f.name, i+1)
		}
	}
	if len(files) == 0 {
		return nil, errors.New("no files")
	}
	return files, nil
}

// script runs several statements, which take no arguments.
func (tx *Tx) script(query string) error {
	if err := tx.usable(); err != nil {
		return err
	}
	if _, err := tx.conn.ExecContext(tx.ctx, query); err != nil {
		return tx.fail(err)
	}
	return nil
}
