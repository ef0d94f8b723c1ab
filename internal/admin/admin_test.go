package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/account"
	"github.com/starling-im/starling/internal/admin"
	"github.com/starling-im/starling/internal/hook"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/store/storetest"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/sasl"
)

// users is what the service and the client have in common.
type users interface {
	Domains(ctx context.Context) ([]string, error)
	Add(ctx context.Context, who jid.JID, password string) (string, error)
	SetPassword(ctx context.Context, who jid.JID, password string) (string, error)
	Delete(ctx context.Context, who jid.JID) error
	List(ctx context.Context, domain string, after jid.JID, limit int) ([]admin.User, error)
}

// newCore makes what the service needs of a server for a.test and b.test.
func newCore(t *testing.T, db *store.DB, o account.Options) *module.Core {
	t.Helper()
	if err := db.Migrate(t.Context(), account.Migrations()); err != nil {
		t.Fatal(err)
	}
	o.Iterations = sasl.MinIterations
	return &module.Core{
		DB: db, Accounts: account.New(db, o), Sessions: session.NewTable(), Hooks: &module.Hooks{},
		Domains: []jid.JID{jid.MustParse("a.test"), jid.MustParse("b.test")}, Now: time.Now,
	}
}

// serve offers the service on a Unix socket, and returns its name.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(h)
	srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	t.Cleanup(srv.Close)
	return socket
}

// both runs fn on the service and on a client of it, each on both databases.
func both(t *testing.T, fn func(t *testing.T, core *module.Core, u users)) {
	t.Helper()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		core := newCore(t, db, account.Options{})
		fn(t, core, admin.NewUsers(core))
	})
	t.Run("client", func(t *testing.T) {
		core := newCore(t, storetest.Open(t, store.SQLite), account.Options{})
		fn(t, core, admin.Dial(serve(t, admin.Handler(core, nil, slog.New(slog.DiscardHandler)))))
	})
}

// proves tells whether a password is the account's.
func proves(t *testing.T, core *module.Core, who jid.JID, password string) bool {
	t.Helper()
	ok, err := core.Accounts.Credentials(who.Domain()).Verify(t.Context(), who.Local(), password)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func TestLife(t *testing.T) {
	both(t, func(t *testing.T, core *module.Core, u users) {
		ctx := t.Context()
		var deleted []jid.JID
		core.Hooks.Deleted.Add("test", hook.Record, func(_ context.Context, e *module.AccountEvent) error {
			deleted = append(deleted, e.Account)
			return nil
		})
		juliet := jid.MustParse("juliet@a.test")
		if got, err := u.Add(ctx, juliet, "wherefore"); err != nil || got != "wherefore" {
			t.Fatalf("Add: %q, %v", got, err)
		}
		if !proves(t, core, juliet, "wherefore") {
			t.Error("the password does not work")
		}
		made, err := u.SetPassword(ctx, juliet, "")
		if err != nil || len(made) < 20 {
			t.Fatalf("SetPassword: %q, %v", made, err)
		}
		if !proves(t, core, juliet, made) || proves(t, core, juliet, "wherefore") {
			t.Error("the new password is not the one that works")
		}
		if err := u.Delete(ctx, juliet); err != nil {
			t.Fatal(err)
		}
		if proves(t, core, juliet, made) || fmt.Sprint(deleted) != "[juliet@a.test]" {
			t.Errorf("not deleted with what features keep: %v", deleted)
		}
		if err := u.Delete(ctx, juliet); !errors.Is(err, admin.NotFound) || len(deleted) != 1 {
			t.Errorf("deleted twice: %v, %v", err, deleted)
		}
		if got, err := u.Domains(ctx); err != nil || fmt.Sprint(got) != "[a.test b.test]" {
			t.Errorf("Domains: %v, %v", got, err)
		}
	})
}

func TestList(t *testing.T) {
	both(t, func(t *testing.T, core *module.Core, u users) {
		ctx := t.Context()
		for _, who := range []string{"c@a.test", "a@a.test", "b@a.test", "d@b.test"} {
			if _, err := u.Add(ctx, jid.MustParse(who), ""); err != nil {
				t.Fatal(err)
			}
		}
		if err := core.Accounts.SetDisabled(ctx, jid.MustParse("b@a.test"), true); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			name, domain, after, want string
			limit                     int
		}{
			{"all", "a.test", "", "a@a.test b@a.test- c@a.test", 0},
			{"a page", "a.test", "", "a@a.test b@a.test-", 2},
			{"the next", "a.test", "b@a.test", "c@a.test", 2},
			{"past the end", "a.test", "c@a.test", "", 2},
			{"another domain", "b.test", "", "d@b.test", 5000},
			{"an unknown domain", "c.test", "", "", 0},
		} {
			var after jid.JID
			if c.after != "" {
				after = jid.MustParse(c.after)
			}
			list, err := u.List(ctx, c.domain, after, c.limit)
			var got []string
			for _, one := range list {
				mark := ""
				if one.Disabled {
					mark = "-"
				}
				got = append(got, one.JID+mark)
				if age := time.Since(one.Created); age < -time.Minute || age > time.Hour {
					t.Errorf("%s: %s was made at %v", c.name, one.JID, one.Created)
				}
			}
			if strings.Join(got, " ") != c.want || err != nil {
				t.Errorf("%s: got %v, %v; want %s", c.name, got, err, c.want)
			}
		}
	})
}

func TestErrors(t *testing.T) {
	both(t, func(t *testing.T, _ *module.Core, u users) {
		ctx := t.Context()
		if _, err := u.Add(ctx, jid.MustParse("a@a.test"), "x"); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			name string
			want admin.Code
			text string
			do   func(who jid.JID) error
			who  string
		}{
			{"add again", admin.Exists, "a@a.test exists", add(ctx, u, "x"), "a@a.test"},
			{"add without a name", admin.InvalidName, "no name", add(ctx, u, "x"), "a.test"},
			{"add with a resource", admin.InvalidName, "resource", add(ctx, u, "x"), "b@a.test/r"},
			{"add elsewhere", admin.ForeignDomain, `["a.test" "b.test"]`, add(ctx, u, "x"), "b@c.test"},
			{"add with a bad password", admin.BadPassword, "1,023 bytes", add(ctx, u, "a\x00b"), "b@a.test"},
			{"set the password of nobody", admin.NotFound, "no account b@a.test", set(ctx, u, "x"), "b@a.test"},
			{"set a bad password", admin.BadPassword, "1,023 bytes", set(ctx, u, "\x07"), "a@a.test"},
			{"set a password elsewhere", admin.ForeignDomain, "c.test", set(ctx, u, "x"), "b@c.test"},
			{"delete nobody", admin.NotFound, "no account b@c.test", func(who jid.JID) error { return u.Delete(ctx, who) }, "b@c.test"},
			{"delete a domain", admin.InvalidName, "no name", func(who jid.JID) error { return u.Delete(ctx, who) }, "a.test"},
		} {
			err := c.do(jid.MustParse(c.who))
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%s: got %v, want %s with %q", c.name, err, c.want, c.text)
			}
		}
	})
}

func add(ctx context.Context, u users, password string) func(jid.JID) error {
	return func(who jid.JID) error {
		_, err := u.Add(ctx, who, password)
		return err
	}
}

func set(ctx context.Context, u users, password string) func(jid.JID) error {
	return func(who jid.JID) error {
		_, err := u.SetPassword(ctx, who, password)
		return err
	}
}

func TestReserved(t *testing.T) {
	core := newCore(t, storetest.Open(t, store.SQLite), account.Options{Tombstone: time.Hour})
	u := admin.NewUsers(core)
	who := jid.MustParse("a@a.test")
	if err := add(t.Context(), u, "x")(who); err != nil {
		t.Fatal(err)
	}
	if err := u.Delete(t.Context(), who); err != nil {
		t.Fatal(err)
	}
	if err := add(t.Context(), u, "x")(who); !errors.Is(err, admin.Reserved) {
		t.Errorf("the name was free: %v", err)
	}
}

func TestDatabaseAway(t *testing.T) {
	db, err := store.Open(t.Context(), storetest.URL(t, store.SQLite), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	core := newCore(t, db, account.Options{})
	client := admin.Dial(serve(t, admin.Handler(core, nil, slog.New(slog.DiscardHandler))))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Add(t.Context(), jid.MustParse("a@a.test"), "x"); !errors.Is(err, admin.Unavailable) {
		t.Errorf("got %v", err)
	}
}

// A failure that is the server's own is logged, and not shown.
func TestInternal(t *testing.T) {
	core := newCore(t, storetest.Open(t, store.SQLite), account.Options{})
	core.Hooks.Deleted.Add("test", hook.Record, func(context.Context, *module.AccountEvent) error {
		return errors.New("the roof is on fire")
	})
	var log bytes.Buffer
	client := admin.Dial(serve(t, admin.Handler(core, nil, slog.New(slog.NewTextHandler(&log, nil)))))
	who := jid.MustParse("a@a.test")
	if err := add(t.Context(), client, "secret")(who); err != nil {
		t.Fatal(err)
	}
	err := client.Delete(t.Context(), who)
	if !errors.Is(err, admin.Internal) || strings.Contains(err.Error(), "roof") {
		t.Errorf("got %v", err)
	}
	if got := log.String(); !strings.Contains(got, "roof") || strings.Contains(got, "secret") {
		t.Errorf("log: %s", got)
	}
}

func TestNoServer(t *testing.T) {
	dir := t.TempDir()
	if _, err := admin.Dial(filepath.Join(dir, "none")).Domains(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a socket: %v", err)
	}
	socket := filepath.Join(dir, "left")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, err := admin.Dial(socket).Domains(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("with a socket that was left behind: %v", err)
	}
}

// What no Client sends is refused all the same.
func TestRequests(t *testing.T) {
	core := newCore(t, storetest.Open(t, store.SQLite), account.Options{})
	h := admin.Handler(core, nil, slog.New(slog.DiscardHandler))
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		code                     admin.Code
	}{
		{"no JSON", "POST", "/v1/users", "jid=a", 400, admin.BadRequest},
		{"unknown field", "POST", "/v1/users", `{"jid":"b@a.test","pass":"x"}`, 400, admin.BadRequest},
		{"two values", "POST", "/v1/users", `{"jid":"b@a.test","password":"x"}{}`, 400, admin.BadRequest},
		{"too long", "POST", "/v1/users", `{"jid":"b@a.test","password":"` + strings.Repeat("x", 70_000) + `"}`, 400, admin.BadRequest},
		{"no address", "POST", "/v1/users", `{"jid":"@a.test","password":"x"}`, 400, admin.InvalidName},
		{"no address in the path", "DELETE", "/v1/users/%20@a.test", "", 400, admin.InvalidName},
		{"no number", "GET", "/v1/users?domain=a.test&limit=many", "", 400, admin.BadRequest},
		{"no address to go on after", "GET", "/v1/users?domain=a.test&after=x", "", 400, admin.InvalidName},
		{"unknown path", "GET", "/v2/users", "", 400, admin.BadRequest},
		{"unknown method", "PATCH", "/v1/users", "{}", 400, admin.BadRequest},
		{"nobody", "DELETE", "/v1/users/x@a.test", "", 404, admin.NotFound},
		{"good", "POST", "/v1/users", `{"jid":"A@A.test","password":"x"}`, 201, ""},
		{"there already", "POST", "/v1/users", `{"jid":"a@a.test","password":"x"}`, 409, admin.Exists},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), c.method, c.path, strings.NewReader(c.body)))
		var answer struct{ Error admin.Error }
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Errorf("%s: %v in %s", c.name, err, w.Body)
		}
		if w.Code != c.status || answer.Error.Code != c.code || (c.code != "") != (answer.Error.Text != "") {
			t.Errorf("%s: got %d %s", c.name, w.Code, w.Body)
		}
	}
}

// An answer that is not the server's own is no success.
func TestStrangeAnswers(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"not JSON":         func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") },
		"error, not JSON":  func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusTeapot) },
		"error, no reason": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusConflict); fmt.Fprint(w, "{}") },
	} {
		if _, err := admin.Dial(serve(t, h)).Domains(t.Context()); err == nil {
			t.Errorf("%s: taken for an answer", name)
		}
	}
}

func TestParseAccount(t *testing.T) {
	if got, err := admin.ParseAccount("Juliet@Example.ORG"); err != nil || got.String() != "juliet@example.org" {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"", "juliet", "juliet@", "@example.org", "juliet@example.org/balcony", "a b@example.org"} {
		if got, err := admin.ParseAccount(bad); !errors.Is(err, admin.InvalidName) {
			t.Errorf("%q: got %v, %v", bad, got, err)
		}
	}
}
