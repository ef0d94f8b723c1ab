// Package account keeps the accounts of the server's users: who exists, what proves their passwords, and who has guessed
// wrong too often.
//
// Of a password only SCRAM keys are stored, for SHA-1, SHA-256 and SHA-512, each with its own salt (RFC 5802 §3, XEP-0438 §6.2).
// To log in with PLAIN the same keys are derived anew. A name without account is answered with keys that are made up, so
// that neither the answer nor its time tells it from one that has an account.
package account

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/starling-im/starling/internal/cache"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

//go:embed schema
var schema embed.FS

// Migrations returns the tables of this package, for store.DB.Migrate. The table secrets is among them.
func Migrations() store.Migrations { return store.Migrations{Module: "account", FS: schema} }

// What can be wrong with a request, for errors.Is. An account that does not exist is store.ErrNotFound.
var (
	// ErrExists: the name is taken.
	ErrExists = errors.New("account exists already")
	// ErrTombstone: the name belonged to an account that was deleted not long ago.
	ErrTombstone = errors.New("name of a deleted account is not free yet")
	// ErrBusy: too many passwords wait to be hashed.
	ErrBusy = errors.New("too many passwords are being checked")
	// ErrThrottled: too many failed attempts to log in.
	ErrThrottled = errors.New("too many failed attempts")
)

// Options are the optional settings of New; the zero value works.
type Options struct {
	// Iterations of PBKDF2 for new passwords, at least sasl.MinIterations; 0 = 10,000 (XEP-0438 §7).
	Iterations int
	// Workers bounds how many passwords are hashed at a time; 0 = one less than the processors, at least 1.
	Workers int
	// Queue bounds how many more may wait for that; 0 = 1024.
	Queue int
	// Tombstone is how long the name of a deleted account cannot be taken again; 0 = not at all.
	Tombstone time.Duration
	// CacheEntries bounds the accounts that Exists remembers; 0 = 65,536.
	CacheEntries int
	Tokens       TokenOptions
	Throttle     Limits
	Clock        func() time.Time      // nil: time.Now
	Log          *slog.Logger          // nil: nothing is logged
	Registerer   prometheus.Registerer // nil: metrics are kept but not exported
}

// The defaults of Options.
const (
	defaultIterations = 10_000
	defaultCache      = 65_536
	defaultQueue      = 1024
)

// Accounts are the accounts in a database. It is safe for concurrent use.
type Accounts struct {
	db       *store.DB
	o        Options
	hub      *cache.Hub // nil unless other nodes work on the database
	hashers  *hashers
	known    *known
	throttle *Throttle

	mu      sync.Mutex // guards secrets
	secrets map[string][]byte
}

// New returns the accounts in db, whose tables exist already (Migrations).
func New(db *store.DB, o Options) *Accounts {
	if o.Iterations == 0 {
		o.Iterations = defaultIterations
	}
	if o.CacheEntries <= 0 {
		o.CacheEntries = defaultCache
	}
	if o.Queue <= 0 {
		o.Queue = defaultQueue
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	metrics := promauto.With(o.Registerer)
	return &Accounts{
		db:       db,
		o:        o,
		hashers:  newHashers(o.Workers, o.Queue, metrics),
		known:    newKnown(o.CacheEntries, o.Clock),
		throttle: newThrottle(o.Throttle, o.Clock, metrics),
		secrets:  make(map[string][]byte),
	}
}

// hubName is under which other nodes are told of deleted accounts.
const hubName = "accounts"

// Share has other nodes told of deleted accounts, and hear of theirs. It is called once, before all else.
func (a *Accounts) Share(hub *cache.Hub) {
	a.hub = hub
	hub.Enter(hubName, a.known)
}

// Throttle returns the counter of failed attempts to log in.
func (a *Accounts) Throttle() *Throttle { return a.throttle }

// Create makes an account. The error wraps ErrExists, ErrTombstone, sasl.ErrPassword, ErrBusy or store.ErrUnavailable.
func (a *Accounts) Create(ctx context.Context, bare jid.JID, password string) error {
	if bare.Local() == "" || !bare.IsBare() {
		return fmt.Errorf("create account: %q is not of the form name@domain", bare)
	}
	if err := a.create(ctx, bare, password); err != nil {
		return fmt.Errorf("create account %s: %w", bare, err)
	}
	a.o.Log.LogAttrs(ctx, slog.LevelInfo, "account created", slog.String("account", bare.String()))
	return nil
}

func (a *Accounts) create(ctx context.Context, bare jid.JID, password string) error {
	// Only to spare the hashing; the transaction decides.
	switch exists, err := a.Exists(ctx, bare); {
	case err != nil:
		return err
	case exists:
		return ErrExists
	}
	keys, err := a.derive(ctx, password)
	if err != nil {
		return err
	}
	now := a.o.Clock()
	return a.db.Write(ctx, func(tx *store.Tx) error {
		if buried, err := a.buried(tx, bare, now); err != nil {
			return err
		} else if buried {
			return ErrTombstone
		}
		made, err := tx.Exec(`INSERT INTO accounts (owner, domain, created_at, disabled) VALUES ($1, $2, $3, $4)
			ON CONFLICT (owner) DO NOTHING`, bare.String(), bare.Domain(), store.Micros(now), false)
		switch {
		case err != nil:
			return err
		case made == 0:
			return ErrExists
		}
		return saveKeys(tx, bare, keys)
	})
}

// buried reports whether the name belonged to an account until a short time ago.
func (a *Accounts) buried(tx *store.Tx, bare jid.JID, now time.Time) (bool, error) {
	if a.o.Tombstone <= 0 {
		return false, nil
	}
	var at int64
	err := tx.Row(`SELECT deleted_at FROM account_tombstones WHERE owner = $1 AND deleted_at > $2`,
		bare.String(), store.Micros(now.Add(-a.o.Tombstone))).Scan(&at)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Delete removes an account, and leaves a tombstone if Options say so. What features keep of it they delete themselves.
func (a *Accounts) Delete(ctx context.Context, bare jid.JID) error {
	now := a.o.Clock()
	err := a.db.Write(ctx, func(tx *store.Tx) error {
		if err := change(tx, `DELETE FROM accounts WHERE owner = $1`, bare.String()); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM account_keys WHERE owner = $1`, bare.String()); err != nil {
			return err
		}
		if err := dropTokens(tx, bare); err != nil {
			return err
		}
		if a.o.Tombstone <= 0 {
			return nil
		}
		if _, err := tx.Exec(`DELETE FROM account_tombstones WHERE deleted_at <= $1`, store.Micros(now.Add(-a.o.Tombstone))); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO account_tombstones (owner, deleted_at) VALUES ($1, $2)
			ON CONFLICT (owner) DO UPDATE SET deleted_at = excluded.deleted_at`, bare.String(), store.Micros(now))
		return err
	})
	a.known.Forget(bare) // whatever err says: the commit may have taken place all the same
	a.hub.Changed(hubName, bare)
	if err != nil {
		return fmt.Errorf("delete account %s: %w", bare, err)
	}
	a.o.Log.LogAttrs(ctx, slog.LevelInfo, "account deleted", slog.String("account", bare.String()))
	return nil
}

// SetPassword gives an account another password, and revokes its tokens. The errors are those of Create, and store.ErrNotFound.
func (a *Accounts) SetPassword(ctx context.Context, bare jid.JID, password string) error {
	keys, err := a.derive(ctx, password)
	if err == nil {
		err = a.db.Write(ctx, func(tx *store.Tx) error {
			// Touching the row keeps a Delete at the same time from leaving the keys behind.
			if err := change(tx, `UPDATE accounts SET domain = domain WHERE owner = $1`, bare.String()); err != nil {
				return err
			}
			if err := dropTokens(tx, bare); err != nil { // whoever knows the old one may have got some
				return err
			}
			return saveKeys(tx, bare, keys)
		})
	}
	if err != nil {
		return fmt.Errorf("set password of %s: %w", bare, err)
	}
	return nil
}

// change runs a statement that has to change one row, else it returns store.ErrNotFound.
func change(tx *store.Tx, query string, args ...any) error {
	n, err := tx.Exec(query, args...)
	if err == nil && n == 0 {
		err = store.ErrNotFound
	}
	return err
}

// SetDisabled forbids the account to log in, and revokes its tokens, or allows it again. Who is logged in stays so: sessions are the server's matter.
func (a *Accounts) SetDisabled(ctx context.Context, bare jid.JID, disabled bool) error {
	err := a.db.Write(ctx, func(tx *store.Tx) error {
		err := change(tx, `UPDATE accounts SET disabled = $2 WHERE owner = $1`, bare.String(), disabled)
		if err == nil && disabled {
			err = dropTokens(tx, bare)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("disable account %s: %w", bare, err)
	}
	return nil
}

// Disabled reports whether the account is forbidden to log in. It is to be asked after the password was proven, since
// account-disabled (RFC 6120 §6.5.2) tells that there is an account.
func (a *Accounts) Disabled(ctx context.Context, bare jid.JID) (disabled bool, err error) {
	err = a.db.Read(ctx, func(tx *store.Tx) error {
		return tx.Row(`SELECT disabled FROM accounts WHERE owner = $1`, bare.String()).Scan(&disabled)
	})
	if err != nil {
		return false, fmt.Errorf("look up account %s: %w", bare, err)
	}
	return disabled, nil
}

// Exists reports whether there is an account of this bare JID. That there is one may be remembered for a minute, unless
// this node or another one (Share) deletes it.
func (a *Accounts) Exists(ctx context.Context, bare jid.JID) (exists bool, err error) {
	if a.known.has(bare) {
		return true, nil
	}
	before := a.known.generation()
	err = a.db.Read(ctx, func(tx *store.Tx) error {
		var n int
		err := tx.Row(`SELECT COUNT(*) FROM accounts WHERE owner = $1`, bare.String()).Scan(&n)
		exists = n > 0
		return err
	})
	if err != nil {
		return false, fmt.Errorf("look up account %s: %w", bare, err)
	}
	if exists {
		a.known.add(bare, before)
	}
	return exists, nil
}

// Account is what lists show.
type Account struct {
	JID      jid.JID // bare
	Created  time.Time
	Disabled bool
}

// List returns at most limit accounts of a domain, in the database's order of names, from the one after the given JID on;
// the zero JID begins.
func (a *Accounts) List(ctx context.Context, domain string, after jid.JID, limit int) ([]Account, error) {
	var list []Account
	err := a.db.Read(ctx, func(tx *store.Tx) error {
		list = list[:0]
		return tx.Each(func(scan store.Scan) error {
			var (
				owner   string
				created int64
				one     Account
			)
			if err := scan(&owner, &created, &one.Disabled); err != nil {
				return err
			}
			bare, err := jid.Parse(owner)
			one.JID, one.Created = bare, store.Time(created)
			list = append(list, one)
			return err
		}, `SELECT owner, created_at, disabled FROM accounts WHERE domain = $1 AND owner > $2 ORDER BY owner LIMIT $3`,
			domain, after.String(), limit)
	})
	if err != nil {
		return nil, fmt.Errorf("list accounts of %s: %w", domain, err)
	}
	return list, nil
}

// Count returns the number of accounts of a domain.
func (a *Accounts) Count(ctx context.Context, domain string) (n int, err error) {
	err = a.db.Read(ctx, func(tx *store.Tx) error {
		return tx.Row(`SELECT COUNT(*) FROM accounts WHERE domain = $1`, domain).Scan(&n)
	})
	if err != nil {
		return 0, fmt.Errorf("count accounts of %s: %w", domain, err)
	}
	return n, nil
}
