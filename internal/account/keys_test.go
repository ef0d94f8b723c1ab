package account_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/account"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/store/storetest"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/sasl"
)

func TestVerify(t *testing.T) {
	cases := []struct {
		name, domain, user, password string
		want                         bool
	}{
		{"right", "a.test", "romeo", "secret of romeo@a.test", true},
		{"name in capitals", "a.test", "ROMEO", "secret of romeo@a.test", true},
		{"wrong", "a.test", "romeo", "secret of juliet@a.test", false},
		{"empty", "a.test", "romeo", "", false},
		{"no such user", "a.test", "tybalt", "secret of romeo@a.test", false},
		{"no possible user", "a.test", "a@b", "secret", false},
		{"no user", "a.test", "", "secret", false},
		{"same name in another domain", "b.test", "romeo", "secret of romeo@a.test", false},
	}
	each(t, account.Options{}, func(t *testing.T, a *account.Accounts, db *store.DB) {
		create(t, a, "romeo@a.test", "juliet@a.test", "romeo@b.test")
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				if got, err := a.Credentials(c.domain).Verify(t.Context(), c.user, c.password); got != c.want || err != nil {
					t.Errorf("Verify = %v, %v", got, err)
				}
			})
		}
	})
}

func TestSetPassword(t *testing.T) {
	each(t, account.Options{}, func(t *testing.T, a *account.Accounts, db *store.DB) {
		create(t, a, "romeo@a.test")
		// Keys are replaced, salt included, whatever the number of iterations has become since.
		later := fresh(db, account.Options{Iterations: sasl.MinIterations + 1})
		before, _, err := a.Credentials("a.test").Keys(t.Context(), "romeo", sasl.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		if err := later.SetPassword(t.Context(), romeo, "new"); err != nil {
			t.Fatal(err)
		}
		after, known, err := a.Credentials("a.test").Keys(t.Context(), "romeo", sasl.SHA256)
		if err != nil || !known || after.Iterations != sasl.MinIterations+1 || string(after.Salt) == string(before.Salt) {
			t.Errorf("keys %+v, then %+v, %v %v", before, after, known, err)
		}
		for password, want := range map[string]bool{"secret of romeo@a.test": false, "new": true} {
			if ok, err := a.Credentials("a.test").Verify(t.Context(), "romeo", password); ok != want || err != nil {
				t.Errorf("Verify(%q) = %v, %v", password, ok, err)
			}
		}
		if err := a.SetPassword(t.Context(), juliet, "new"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("SetPassword of nobody = %v", err)
		}
		if err := a.SetPassword(t.Context(), romeo, ""); !errors.Is(err, sasl.ErrPassword) {
			t.Errorf("SetPassword to nothing = %v", err)
		}
	})
}

// Nothing but salted keys reaches the database.
func TestPasswordIsNotStored(t *testing.T) {
	each(t, account.Options{}, func(t *testing.T, a *account.Accounts, db *store.DB) {
		create(t, a, "romeo@a.test")
		salts := make(map[string]bool)
		err := db.Read(t.Context(), func(tx *store.Tx) error {
			return tx.Each(func(scan store.Scan) error {
				var hash, salt, stored, server string
				if err := scan(&hash, &salt, &stored, &server); err != nil {
					return err
				}
				salts[salt] = true
				if len(salt) < 16 {
					t.Errorf("%s: a salt of %d bytes", hash, len(salt))
				}
				if strings.Contains(stored+server, "secret") {
					t.Errorf("%s: keys hold the password", hash)
				}
				return nil
			}, `SELECT hash, salt, stored, server FROM account_keys WHERE owner = $1`, "romeo@a.test")
		})
		if err != nil || len(salts) != 3 {
			t.Errorf("%d distinct salts, %v; want 3", len(salts), err)
		}
	})
}

// What a client can see of a name without account must not differ from one with an account.
func TestUnknownUserLooksLikeAnother(t *testing.T) {
	each(t, account.Options{}, func(t *testing.T, a *account.Accounts, db *store.DB) {
		create(t, a, "romeo@a.test")
		other := fresh(db, account.Options{}) // another node, or after a restart
		seen := make(map[string]string)
		for _, h := range []sasl.Hash{sasl.SHA1, sasl.SHA256, sasl.SHA512} {
			real, known, err := a.Credentials("a.test").Keys(t.Context(), "romeo", h)
			if err != nil || !known {
				t.Fatalf("%s: real account: %v %v", h.Name(), known, err)
			}
			for _, user := range []string{"tybalt", "TYBALT", "mercutio", "not@possible", ""} {
				fake, known, err := a.Credentials("a.test").Keys(t.Context(), user, h)
				if err != nil || known {
					t.Fatalf("%s %q: %v %v", h.Name(), user, known, err)
				}
				if fake.Iterations != real.Iterations || len(fake.Salt) != len(real.Salt) ||
					len(fake.Stored) != len(real.Stored) || len(fake.Server) != len(real.Server) {
					t.Errorf("%s %q: made-up keys %+v look different from %+v", h.Name(), user, fake, real)
				}
				again, _, err := other.Credentials("a.test").Keys(t.Context(), user, h)
				if err != nil || !reflect.DeepEqual(again, fake) {
					t.Errorf("%s %q: asked again: %+v, %v; was %+v", h.Name(), user, again, err, fake)
				}
				owner := h.Name() + " " + strings.ToLower(user)
				if was := seen[string(fake.Salt)]; was != "" && was != owner {
					t.Errorf("%s has the salt of %s", owner, was)
				}
				seen[string(fake.Salt)] = owner
			}
			elsewhere, _, err := a.Credentials("b.test").Keys(t.Context(), "tybalt", h)
			if err != nil || seen[string(elsewhere.Salt)] != "" {
				t.Errorf("%s: another domain has the same salt, %v", h.Name(), err)
			}
		}
	})
}

// A password check costs one derivation, whoever is asked for.
func TestVerifyDerivesOnce(t *testing.T) {
	db := storetest.Open(t, store.SQLite)
	if err := db.Migrate(t.Context(), account.Migrations()); err != nil {
		t.Fatal(err)
	}
	create(t, fresh(db, account.Options{}), "romeo@a.test")
	for _, user := range []string{"romeo", "tybalt", "not@possible"} {
		reg := prometheus.NewRegistry()
		a := fresh(db, account.Options{Registerer: reg})
		if _, err := a.Credentials("a.test").Verify(t.Context(), user, "wrong"); err != nil {
			t.Fatal(err)
		}
		if n := gauge(t, reg, "starling_account_hash_seconds"); n != 1 {
			t.Errorf("%s: %v derivations", user, n)
		}
	}
}

// login runs a whole exchange and returns what both sides think of it.
func login(ctx context.Context, a *account.Accounts, at *account.Attempt, mechanism, user, password string) (who string, client, server error) {
	offered := []string{mechanism}
	c, err := sasl.NewClient(mechanism, &sasl.ClientConfig{Username: user, Password: password, Offered: offered})
	if err != nil {
		return "", err, nil
	}
	s, err := sasl.NewServer(mechanism, &sasl.ServerConfig{Domain: "a.test", Credentials: at, Offered: offered})
	if err != nil {
		return "", nil, err
	}
	var in []byte
	for done := false; !done; {
		out, err := c.Step(in)
		if err != nil {
			return "", err, nil
		}
		if in, done, err = s.Step(ctx, out); err != nil {
			return "", nil, err
		}
	}
	if !c.Done() {
		_, err = c.Step(in)
	}
	return s.Username(), err, nil
}

func TestLogin(t *testing.T) {
	from := netip.MustParseAddr("192.0.2.1")
	each(t, account.Options{}, func(t *testing.T, a *account.Accounts, db *store.DB) {
		create(t, a, "romeo@a.test")
		for _, mechanism := range []string{sasl.Plain, "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
			at := a.Attempt("a.test", from)
			who, client, server := login(t.Context(), a, at, mechanism, "romeo", "secret of romeo@a.test")
			if who != "romeo" || client != nil || server != nil || at.User() != romeo {
				t.Errorf("%s: %q, client %v, server %v, claimed %v", mechanism, who, client, server, at.User())
			}
			for user, password := range map[string]string{"romeo": "wrong", "tybalt": "secret of romeo@a.test"} {
				var f *sasl.Failure
				_, _, server := login(t.Context(), a, a.Attempt("a.test", from), mechanism, user, password)
				if !errors.As(server, &f) || f.Condition != sasl.NotAuthorized || f.Text != "" {
					t.Errorf("%s as %s: %v", mechanism, user, server)
				}
			}
		}
	})
}

func TestAttemptIsThrottled(t *testing.T) {
	from := netip.MustParseAddr("192.0.2.1")
	each(t, account.Options{Throttle: account.Limits{Failures: 2}}, func(t *testing.T, a *account.Accounts, db *store.DB) {
		create(t, a, "romeo@a.test")
		for _, mechanism := range []string{sasl.Plain, "SCRAM-SHA-256"} {
			from = from.Next()
			try := func(password string) error {
				at := a.Attempt("a.test", from)
				_, _, err := login(t.Context(), a, at, mechanism, "romeo", password)
				if err == nil {
					at.Succeeded()
				} else {
					at.Failed()
				}
				return err
			}
			var f *sasl.Failure
			for range 2 {
				if err := try("wrong"); !errors.As(err, &f) || f.Condition != sasl.NotAuthorized {
					t.Errorf("%s: wrong password: %v", mechanism, err)
				}
			}
			if err := try("secret of romeo@a.test"); !errors.As(err, &f) || f.Condition != sasl.TemporaryAuthFailure || !errors.Is(err, account.ErrThrottled) {
				t.Errorf("%s: after too many failures: %v", mechanism, err)
			}
			a.Throttle().Succeeded(from, romeo) // for the next mechanism
		}
	})
}

// The database being away is not a wrong password.
func TestDatabaseAway(t *testing.T) {
	each(t, account.Options{}, func(t *testing.T, a *account.Accounts, db *store.DB) {
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		_, verify := a.Credentials("a.test").Verify(t.Context(), "romeo", "x")
		_, _, keys := a.Credentials("a.test").Keys(t.Context(), "romeo", sasl.SHA1)
		_, exists := a.Exists(t.Context(), romeo)
		for name, err := range map[string]error{"Verify": verify, "Keys": keys, "Exists": exists} {
			if !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("%s = %v", name, err)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	db := storetest.Open(b, store.SQLite)
	if err := db.Migrate(b.Context(), account.Migrations()); err != nil {
		b.Fatal(err)
	}
	a := account.New(db, account.Options{})
	if err := a.Create(b.Context(), romeo, "secret"); err != nil {
		b.Fatal(err)
	}
	for user, want := range map[string]bool{"romeo": true, "tybalt": false} {
		b.Run(fmt.Sprintf("known=%v", want), func(b *testing.B) {
			for b.Loop() {
				if ok, err := a.Credentials("a.test").Verify(b.Context(), user, "secret"); ok != want || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}

func BenchmarkExists(b *testing.B) {
	db := storetest.Open(b, store.SQLite)
	if err := db.Migrate(b.Context(), account.Migrations()); err != nil {
		b.Fatal(err)
	}
	a := fresh(db, account.Options{})
	create(b, a, "romeo@a.test")
	for name, who := range map[string]jid.JID{"known": romeo, "unknown": juliet} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := a.Exists(b.Context(), who); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
