package administration

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

func TestLastLogin(t *testing.T) {
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "test.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Migrate(t.Context(), store.Migrations{Module: "administration", FS: schema}); err != nil {
		t.Fatal(err)
	}
	first := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	now := first
	a := &Administration{Host: &module.Host{Core: &module.Core{DB: db, Now: func() time.Time { return now }}, Log: slog.New(slog.DiscardHandler)}}
	a.logins.at = map[jid.JID]int64{}
	juliet, guest := jid.MustParse("juliet@a.test"), jid.MustParse("guest@a.test")
	expect := func(who jid.JID, want time.Time) {
		t.Helper()
		if got, err := a.LastLogin(t.Context(), who); err != nil || !got.Equal(want) {
			t.Errorf("%s last logged in at %v, %v; want %v", who, got, err, want)
		}
	}
	login := func(e module.LogInEvent) {
		t.Helper()
		if err := a.loggedIn(t.Context(), &e); err != nil {
			t.Fatal(err)
		}
	}
	expect(juliet, time.Time{})
	login(module.LogInEvent{Account: juliet})
	login(module.LogInEvent{Account: guest, Anonymous: true})
	expect(juliet, first) // before it is written down
	a.flushLogins(t.Context())
	expect(juliet, first)
	expect(guest, time.Time{})
	now = now.Add(time.Hour)
	login(module.LogInEvent{Account: juliet})
	expect(juliet, now)
	a.flushLogins(t.Context())
	expect(juliet, now)
	login(module.LogInEvent{Account: juliet})
	if err := a.deleted(t.Context(), &module.AccountEvent{Account: juliet}); err != nil {
		t.Fatal(err)
	}
	a.flushLogins(t.Context())
	expect(juliet, time.Time{})
}

func TestValidate(t *testing.T) {
	for admins, ok := range map[string]bool{"": false, "a.test": false, "admin@a.test/desk": false, "admin@a.test": true, "@": false} {
		cfg := Config{Admins: []string{admins}}
		if err := cfg.Validate(); (err == nil) != ok {
			t.Errorf("%q: %v", admins, err)
		}
	}
}
