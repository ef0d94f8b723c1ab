package account_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/account"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/store/storetest"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/sasl"
)

// clock is a time that only moves when told to.
type clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// each runs fn on both databases, with passwords that are hashed as fast as is allowed.
func each(t *testing.T, o account.Options, fn func(t *testing.T, a *account.Accounts, db *store.DB)) {
	t.Helper()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		if err := db.Migrate(t.Context(), account.Migrations()); err != nil {
			t.Fatal(err)
		}
		fn(t, fresh(db, o), db)
	})
}

// fresh is what another process sees of the same database.
func fresh(db *store.DB, o account.Options) *account.Accounts {
	if o.Iterations == 0 {
		o.Iterations = sasl.MinIterations
	}
	return account.New(db, o)
}

func create(t testing.TB, a *account.Accounts, addresses ...string) {
	t.Helper()
	for _, s := range addresses {
		if err := a.Create(t.Context(), jid.MustParse(s), "secret of "+s); err != nil {
			t.Fatal(err)
		}
	}
}

var (
	romeo  = jid.MustParse("romeo@a.test")
	juliet = jid.MustParse("juliet@a.test")
)

func TestCreateAndDelete(t *testing.T) {
	each(t, account.Options{}, func(t *testing.T, a *account.Accounts, db *store.DB) {
		other := fresh(db, account.Options{}) // shares nothing but the database
		exists := func(want bool) {
			t.Helper()
			for range 2 { // the second answer may come from memory
				if got, err := a.Exists(t.Context(), romeo); err != nil || got != want {
					t.Errorf("Exists = %v, %v; want %v", got, err, want)
				}
			}
		}
		exists(false)
		create(t, a, "romeo@a.test")
		exists(true)
		for name, from := range map[string]*account.Accounts{"same process": a, "another": other} {
			if err := from.Create(t.Context(), romeo, "other"); !errors.Is(err, account.ErrExists) {
				t.Errorf("%s: second Create = %v", name, err)
			}
		}
		if err := a.Delete(t.Context(), romeo); err != nil {
			t.Error(err)
		}
		exists(false)
		if err := a.Delete(t.Context(), romeo); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("second Delete = %v", err)
		}
		if ok, err := a.Credentials("a.test").Verify(t.Context(), "romeo", "secret of romeo@a.test"); ok || err != nil {
			t.Errorf("Verify after Delete = %v, %v", ok, err)
		}
		create(t, a, "romeo@a.test")
		exists(true)
	})
}

// Of several that want a name at once, one gets it.
func TestCreateTogether(t *testing.T) {
	each(t, account.Options{Workers: 4}, func(t *testing.T, a *account.Accounts, _ *store.DB) {
		results := make(chan error)
		for i := range 4 {
			go func() { results <- a.Create(t.Context(), romeo, fmt.Sprint("password ", i)) }()
		}
		made := 0
		for range 4 {
			switch err := <-results; {
			case err == nil:
				made++
			case !errors.Is(err, account.ErrExists):
				t.Error(err)
			}
		}
		if made != 1 {
			t.Errorf("%d of them made the account", made)
		}
	})
}

func TestCreateRefuses(t *testing.T) {
	cases := []struct {
		name, jid, password string
		want                error
	}{
		{"empty password", "romeo@a.test", "", sasl.ErrPassword},
		{"control character", "romeo@a.test", "a\x00b", sasl.ErrPassword},
		{"domain", "a.test", "secret", nil},
		{"full JID", "romeo@a.test/orchard", "secret", nil},
	}
	each(t, account.Options{}, func(t *testing.T, a *account.Accounts, _ *store.DB) {
		for _, c := range cases {
			err := a.Create(t.Context(), jid.MustParse(c.jid), c.password)
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%s: Create = %v", c.name, err)
			}
		}
		if n, err := a.Count(t.Context(), "a.test"); n != 0 || err != nil {
			t.Errorf("Count = %d, %v", n, err)
		}
	})
}

func TestTombstone(t *testing.T) {
	c := newClock()
	o := account.Options{Tombstone: time.Hour, Clock: c.Now}
	each(t, o, func(t *testing.T, a *account.Accounts, db *store.DB) {
		create(t, a, "romeo@a.test", "juliet@a.test")
		if err := a.Delete(t.Context(), romeo); err != nil {
			t.Fatal(err)
		}
		c.advance(time.Hour - time.Second)
		if err := a.Create(t.Context(), romeo, "new"); !errors.Is(err, account.ErrTombstone) {
			t.Errorf("Create before the time = %v", err)
		}
		if err := fresh(db, account.Options{Clock: c.Now}).Create(t.Context(), jid.MustParse("nurse@a.test"), "x"); err != nil {
			t.Errorf("Create of another name = %v", err)
		}
		c.advance(time.Second)
		if err := a.Create(t.Context(), romeo, "new"); err != nil {
			t.Errorf("Create after the time = %v", err)
		}
		if err := errors.Join(a.Delete(t.Context(), romeo), a.Delete(t.Context(), juliet)); err != nil {
			t.Fatal(err)
		}
		var graves int
		err := db.Read(t.Context(), func(tx *store.Tx) error {
			return tx.Row(`SELECT COUNT(*) FROM account_tombstones`).Scan(&graves)
		})
		if err != nil || graves != 2 {
			t.Errorf("%d tombstones, %v", graves, err)
		}
		c.advance(2 * time.Hour)
		if err := a.Delete(t.Context(), jid.MustParse("nurse@a.test")); err != nil {
			t.Fatal(err)
		}
		err = db.Read(t.Context(), func(tx *store.Tx) error {
			return tx.Row(`SELECT COUNT(*) FROM account_tombstones`).Scan(&graves)
		})
		if err != nil || graves != 1 {
			t.Errorf("%d tombstones after two had expired, %v", graves, err)
		}
	})
}

func TestListAndCount(t *testing.T) {
	c := newClock()
	each(t, account.Options{Clock: c.Now}, func(t *testing.T, a *account.Accounts, _ *store.DB) {
		create(t, a, "c@a.test", "a@a.test", "x@b.test", "b@a.test", "zoë@a.test")
		if err := a.SetDisabled(t.Context(), jid.MustParse("b@a.test"), true); err != nil {
			t.Fatal(err)
		}
		var seen []string
		after := jid.JID{}
		for {
			page, err := a.List(t.Context(), "a.test", after, 2)
			if err != nil {
				t.Fatal(err)
			}
			for _, one := range page {
				name := one.JID.Local()
				if one.Disabled {
					name += "(disabled)"
				}
				if !one.Created.Equal(c.Now()) {
					t.Errorf("%s created %v", name, one.Created)
				}
				seen = append(seen, name)
				after = one.JID
			}
			if len(page) < 2 {
				break
			}
		}
		if got := strings.Join(seen, " "); got != "a b(disabled) c zoë" {
			t.Errorf("pages: %s", got)
		}
		for domain, want := range map[string]int{"a.test": 4, "b.test": 1, "c.test": 0} {
			if n, err := a.Count(t.Context(), domain); n != want || err != nil {
				t.Errorf("Count(%s) = %d, %v", domain, n, err)
			}
		}
	})
}

func TestDisabled(t *testing.T) {
	each(t, account.Options{}, func(t *testing.T, a *account.Accounts, _ *store.DB) {
		create(t, a, "romeo@a.test")
		for _, want := range []bool{true, false} {
			if err := a.SetDisabled(t.Context(), romeo, want); err != nil {
				t.Error(err)
			}
			if got, err := a.Disabled(t.Context(), romeo); got != want || err != nil {
				t.Errorf("Disabled = %v, %v", got, err)
			}
		}
		if _, err := a.Disabled(t.Context(), juliet); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Disabled of nobody = %v", err)
		}
		if err := a.SetDisabled(t.Context(), juliet, true); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("SetDisabled of nobody = %v", err)
		}
	})
}

// Another node's Delete is seen once the memory is a minute old.
func TestExistsForgets(t *testing.T) {
	c := newClock()
	each(t, account.Options{Clock: c.Now}, func(t *testing.T, a *account.Accounts, db *store.DB) {
		create(t, a, "romeo@a.test")
		if ok, err := a.Exists(t.Context(), romeo); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if err := fresh(db, account.Options{}).Delete(t.Context(), romeo); err != nil {
			t.Fatal(err)
		}
		if ok, err := a.Exists(t.Context(), romeo); !ok || err != nil {
			t.Errorf("within the minute: Exists = %v, %v", ok, err)
		}
		c.advance(time.Minute)
		if ok, err := a.Exists(t.Context(), romeo); ok || err != nil {
			t.Errorf("after it: Exists = %v, %v", ok, err)
		}
	})
}

func TestSecret(t *testing.T) {
	each(t, account.Options{}, func(t *testing.T, a *account.Accounts, db *store.DB) {
		one, err := a.Secret(t.Context(), "one")
		if err != nil || len(one) != 32 {
			t.Fatalf("Secret = %x, %v", one, err)
		}
		two, err := a.Secret(t.Context(), "two")
		if err != nil || string(two) == string(one) {
			t.Errorf("another name = %x, %v", two, err)
		}
		before := string(one)
		clear(one) // a caller's copy
		for name, from := range map[string]*account.Accounts{"same process": a, "after a restart": fresh(db, account.Options{})} {
			if again, err := from.Secret(t.Context(), "one"); string(again) != before || err != nil {
				t.Errorf("%s: Secret = %x, %v", name, again, err)
			}
		}
	})
}

// gauge returns the value of a metric without labels.
func gauge(t testing.TB, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// Passwords queue up to a bound; those that stop waiting leave the queue.
func TestHashingIsBounded(t *testing.T) {
	db := storetest.Open(t, store.SQLite)
	if err := db.Migrate(t.Context(), account.Migrations()); err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	// The one worker is kept busy for a while by many iterations.
	a := account.New(db, account.Options{Iterations: 200_000, Workers: 1, Queue: 2, Registerer: reg})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	results := make(chan error, 3)
	verify := func(user string) {
		_, err := a.Credentials("a.test").Verify(ctx, user, "wrong")
		results <- err
	}
	for i := range 3 {
		go verify(fmt.Sprint("user", i))
	}
	for gauge(t, reg, "starling_account_hash_queue_length") < 2 {
		runtime.Gosched()
	}
	if _, err := a.Credentials("a.test").Verify(ctx, "more", "wrong"); !errors.Is(err, account.ErrBusy) {
		t.Errorf("Verify with a full queue = %v", err)
	}
	if n := gauge(t, reg, "starling_account_hash_refused_total"); n != 1 {
		t.Errorf("%v refusals counted", n)
	}
	cancel()
	cancelled := 0
	for range 3 {
		if err := <-results; errors.Is(err, context.Canceled) {
			cancelled++
		}
	}
	if cancelled != 2 {
		t.Errorf("%d left the queue, want 2", cancelled)
	}
	if n := gauge(t, reg, "starling_account_hash_queue_length"); n != 0 {
		t.Errorf("queue length %v when nobody waits", n)
	}
}
