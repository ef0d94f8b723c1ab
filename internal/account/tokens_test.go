package account_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/account"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/sasl"
)

var somewhere = netip.MustParseAddr("192.0.2.1")

// eachWithTokens is each, with tokens and a clock that the test moves.
func eachWithTokens(t *testing.T, test func(t *testing.T, a *account.Accounts, now *time.Time)) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	o := account.Options{
		Tokens: account.TokenOptions{Lifetime: 10 * 24 * time.Hour, Rotate: 24 * time.Hour, Clients: 3},
		Clock:  func() time.Time { return now },
	}
	each(t, o, func(t *testing.T, a *account.Accounts, _ *store.DB) {
		now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
		create(t, a, "romeo@a.test")
		test(t, a, &now)
	})
}

// password proves the password of romeo.
func password(t *testing.T, a *account.Accounts) *account.Attempt {
	t.Helper()
	attempt := a.Attempt("a.test", somewhere)
	if ok, err := attempt.Verify(t.Context(), "romeo", "secret of romeo@a.test"); !ok || err != nil {
		t.Fatalf("Verify = %v, %v", ok, err)
	}
	return attempt
}

func issue(t *testing.T, attempt *account.Attempt, client string) string {
	t.Helper()
	text, _, err := attempt.Issue(t.Context(), romeo, client, sasl.HTNone)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// use logs romeo in with a token.
func use(t *testing.T, a *account.Accounts, client, text string) (*account.TokenUse, error) {
	t.Helper()
	u := &account.TokenUse{Attempt: a.Attempt("a.test", somewhere), ID: client}
	tokens, err := u.Tokens(t.Context(), "romeo", sasl.HTNone)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.Index(tokens, text)
	if i < 0 {
		return u, &sasl.Failure{Condition: sasl.NotAuthorized}
	}
	return u, u.Accept(t.Context(), i)
}

// condition is that of a failure, "" for success.
func condition(err error) sasl.Condition {
	var f *sasl.Failure
	if errors.As(err, &f) {
		return f.Condition
	}
	if err != nil {
		return sasl.Condition(err.Error())
	}
	return ""
}

func TestTokenAges(t *testing.T) {
	eachWithTokens(t, func(t *testing.T, a *account.Accounts, now *time.Time) {
		text := issue(t, password(t, a), "phone")
		if len(text) < 22 { // 128 bits
			t.Errorf("a token of %d characters", len(text))
		}
		u, err := use(t, a, "phone", text)
		if err != nil || u.Stale() {
			t.Fatalf("%v, stale %v", err, u.Stale())
		}
		*now = now.Add(24 * time.Hour)
		u, err = use(t, a, "phone", text)
		if err != nil || !u.Stale() {
			t.Fatalf("after a day: %v, stale %v", err, u.Stale())
		}
		next := issue(t, u.Attempt, "phone")
		*now = now.Add(9 * 24 * time.Hour)
		if _, err := use(t, a, "phone", text); condition(err) != sasl.CredentialsExpired {
			t.Errorf("expired: %v", err)
		}
		if _, err := use(t, a, "phone", next); err != nil {
			t.Errorf("the next one: %v", err)
		}
		if _, err := use(t, a, "phone", text); condition(err) != sasl.NotAuthorized {
			t.Errorf("expired, and another one was used: %v", err)
		}
	})
}

// Whatever revokes tokens revokes all of them.
func TestTokensAreRevoked(t *testing.T) {
	for name, revoke := range map[string]func(*testing.T, *account.Accounts) error{
		"password": func(t *testing.T, a *account.Accounts) error {
			return a.SetPassword(t.Context(), romeo, "secret of romeo@a.test")
		},
		"disabled": func(t *testing.T, a *account.Accounts) error {
			return errors.Join(a.SetDisabled(t.Context(), romeo, true), a.SetDisabled(t.Context(), romeo, false))
		},
		"deleted": func(t *testing.T, a *account.Accounts) error {
			return errors.Join(a.Delete(t.Context(), romeo), a.Create(t.Context(), romeo, "secret of romeo@a.test"))
		},
		"operator": func(t *testing.T, a *account.Accounts) error {
			n, err := a.RevokeTokens(t.Context(), romeo)
			if n != 1 {
				return fmt.Errorf("%d clients, %w", n, err)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachWithTokens(t, func(t *testing.T, a *account.Accounts, _ *time.Time) {
				text := issue(t, password(t, a), "phone")
				used, err := use(t, a, "phone", text)
				if err != nil {
					t.Fatal(err)
				}
				if err := revoke(t, a); err != nil {
					t.Fatal(err)
				}
				if _, err := use(t, a, "phone", text); condition(err) != sasl.NotAuthorized {
					t.Errorf("still good: %v", err)
				}
				// Nor can anybody get another one who has proven to have it before.
				if _, _, err := used.Issue(t.Context(), romeo, "phone", sasl.HTNone); !errors.Is(err, store.ErrNotFound) {
					t.Errorf("another one is issued: %v", err)
				}
			})
		})
	}
}

// A token is not issued for a password that was changed since it was proven.
func TestTokenForAnOldPassword(t *testing.T) {
	eachWithTokens(t, func(t *testing.T, a *account.Accounts, _ *time.Time) {
		before := password(t, a)
		if err := a.SetPassword(t.Context(), romeo, "another"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := before.Issue(t.Context(), romeo, "phone", sasl.HTNone); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Issue = %v", err)
		}
	})
}

func TestTokensAreBounded(t *testing.T) {
	eachWithTokens(t, func(t *testing.T, a *account.Accounts, now *time.Time) {
		texts := make([]string, 5)
		for i := range texts {
			*now = now.Add(time.Minute)
			texts[i] = issue(t, password(t, a), fmt.Sprint("client ", i))
		}
		for i, text := range texts {
			want := sasl.Condition("")
			if i < 2 {
				want = sasl.NotAuthorized
			}
			if _, err := use(t, a, fmt.Sprint("client ", i), text); condition(err) != want {
				t.Errorf("client %d: %v", i, err)
			}
		}
	})
}

// A count that does not grow is that of a request which was sent before, on whichever node.
func TestTokenCounts(t *testing.T) {
	eachWithTokens(t, func(t *testing.T, a *account.Accounts, _ *time.Time) {
		text := issue(t, password(t, a), "phone")
		for _, c := range []struct {
			count int64
			want  sasl.Condition
		}{{1, ""}, {1, sasl.NotAuthorized}, {5, ""}, {4, sasl.NotAuthorized}, {0, ""}, {6, ""}} {
			u := &account.TokenUse{Attempt: a.Attempt("a.test", somewhere), ID: "phone", Count: c.count}
			tokens, err := u.Tokens(t.Context(), "romeo", sasl.HTNone)
			if err != nil {
				t.Fatal(err)
			}
			if err := u.Accept(t.Context(), slices.Index(tokens, text)); condition(err) != c.want {
				t.Errorf("count %d: %v", c.count, err)
			}
		}
	})
}

// Two requests with one count at a time: one wins.
func TestTokenReplayedAtOnce(t *testing.T) {
	eachWithTokens(t, func(t *testing.T, a *account.Accounts, _ *time.Time) {
		text := issue(t, password(t, a), "phone")
		var ready []*account.TokenUse
		for range 4 {
			u := &account.TokenUse{Attempt: a.Attempt("a.test", somewhere), ID: "phone", Count: 1}
			if _, err := u.Tokens(t.Context(), "romeo", sasl.HTNone); err != nil {
				t.Fatal(err)
			}
			ready = append(ready, u)
		}
		_ = text
		good := make(chan bool)
		for _, u := range ready {
			go func() { good <- u.Accept(t.Context(), 1) == nil }()
		}
		n := 0
		for range ready {
			if <-good {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%d of them were taken", n)
		}
	})
}

// A name without account, and an account without token, have as many tokens as any, which say nothing and stay the same.
func TestMadeUpTokens(t *testing.T) {
	eachWithTokens(t, func(t *testing.T, a *account.Accounts, _ *time.Time) {
		issue(t, password(t, a), "phone")
		for _, name := range []string{"romeo", "nobody", ""} {
			var all [2][]string
			for i := range all {
				u := &account.TokenUse{Attempt: a.Attempt("a.test", somewhere), ID: "laptop"}
				var err error
				if all[i], err = u.Tokens(t.Context(), name, sasl.HTNone); err != nil {
					t.Fatal(err)
				}
				for slot := range all[i] {
					if err := u.Accept(t.Context(), slot); condition(err) != sasl.NotAuthorized {
						t.Errorf("%q: a made-up token is taken: %v", name, err)
					}
				}
			}
			if len(all[0]) != 2 || !slices.Equal(all[0], all[1]) {
				t.Errorf("%q has %v, then %v", name, all[0], all[1])
			}
		}
	})
}

// What tells clients apart depends on the account and says nothing of what the client has said.
func TestClient(t *testing.T) {
	each(t, account.Options{}, func(t *testing.T, a *account.Accounts, db *store.DB) {
		seen := map[string]bool{}
		for _, who := range []jid.JID{romeo, juliet} {
			for _, id := range []string{"one", "two"} {
				one, err := a.Client(t.Context(), who, id)
				if err != nil {
					t.Fatal(err)
				}
				if again, _ := fresh(db, account.Options{}).Client(t.Context(), who, id); !slices.Equal(one, again) {
					t.Errorf("%s %s is not the same on another node", who, id)
				}
				seen[string(one)] = true
			}
		}
		if len(seen) != 4 {
			t.Errorf("%d of 4 are different", len(seen))
		}
	})
}

// An account that came with some keys only gets the others.
func TestMissingKeys(t *testing.T) {
	each(t, account.Options{}, func(t *testing.T, a *account.Accounts, db *store.DB) {
		create(t, a, "romeo@a.test")
		err := db.Write(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Exec(`DELETE FROM account_keys WHERE hash <> $1`, sasl.SHA1.Name())
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		attempt := a.Attempt("a.test", somewhere)
		if _, known, err := attempt.Keys(t.Context(), "romeo", sasl.SHA1); !known || err != nil {
			t.Fatal(known, err)
		}
		if missing := attempt.Missing(); len(missing) != 2 || slices.Contains(missing, sasl.SHA1) {
			t.Errorf("missing %v", missing)
		}
		salt := []byte("sixteen bytes, ok")
		keys, err := sasl.DeriveKeys(sasl.SHA256, "secret of romeo@a.test", salt, sasl.MinIterations)
		if err != nil {
			t.Fatal(err)
		}
		if err := attempt.AddKeys(t.Context(), romeo, sasl.SHA256, keys); err != nil {
			t.Fatal(err)
		}
		if ok, err := a.Credentials("a.test").Verify(t.Context(), "romeo", "secret of romeo@a.test"); !ok || err != nil {
			t.Errorf("Verify = %v, %v", ok, err)
		}
	})
}
