// Package storetest gives tests a fresh database of each kind that the server supports, so that storage is tested on both.
//
// SQLite is a file in the test's own directory. PostgreSQL is a database of its own on the server named by the environment
// variable STARLING_TEST_POSTGRES, or else on a private server that is started once per test program and ends with it.
// Without PostgreSQL's programs those tests are skipped, or fail where CI=true.
package storetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/starling-im/starling/internal/store"
)

// ServerVariable is the environment variable that names a PostgreSQL server, as a postgres:// URL of a user who may create
// databases.
const ServerVariable = "STARLING_TEST_POSTGRES"

// Each runs fn as a subtest on an empty database of each kind. The database is closed and removed after it.
func Each(t *testing.T, fn func(t *testing.T, db *store.DB)) {
	t.Helper()
	for _, d := range []store.Dialect{store.SQLite, store.Postgres} {
		t.Run(d.String(), func(t *testing.T) { fn(t, Open(t, d)) })
	}
}

// Open opens an empty database, which is closed and removed when the test ends.
func Open(t testing.TB, d store.Dialect) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), URL(t, d), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// URL returns the URL of an empty database, to be opened with store.Open. It is removed when the test ends.
func URL(t testing.TB, d store.Dialect) string {
	t.Helper()
	if d == store.SQLite {
		return "sqlite:" + filepath.Join(t.TempDir(), "test.db")
	}
	server, err := postgres()
	need(t, err)
	name := "starling_test_" + strings.ToLower(rand.Text())
	command(t, server.URL, "CREATE DATABASE "+name)
	t.Cleanup(func() { command(t, server.URL, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)") })
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

// Server starts a PostgreSQL server for this test alone, which may halt it.
func Server(t testing.TB) *PostgresServer {
	t.Helper()
	server, err := StartPostgres(false)
	need(t, err)
	t.Cleanup(server.Stop)
	return server
}

// need ends the test if PostgreSQL cannot be had.
func need(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, errNoPostgres) && os.Getenv("CI") != "true" {
		t.Skipf("PostgreSQL is not tested: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// postgres returns the server of this test program; the first call may have to start it. A started one ends with the process.
var postgres = sync.OnceValues(func() (*PostgresServer, error) {
	if u := os.Getenv(ServerVariable); u != "" {
		return &PostgresServer{URL: u}, nil
	}
	return StartPostgres(false)
})

// command runs one statement on the server, outside of any test database. CREATE DATABASE waits for others that copy the
// same template, so the limit is generous.
func command(t testing.TB, server, query string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := pgx.Connect(ctx, server)
	if err == nil {
		defer c.Close(ctx)
		_, err = c.Exec(ctx, query)
	}
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", query, err))
	}
}
