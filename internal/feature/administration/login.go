package administration

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

// How often log-ins are written down, and how many at most wait for it. Log-ins
// together cost one transaction, and a crash forgets those of a few seconds.
const (
	recordEvery = 5 * time.Second
	maxWaiting  = 100_000
)

// logins are those that are not written down yet.
type logins struct {
	mu sync.Mutex // guards at
	at map[jid.JID]int64
}

// loggedIn notes a log-in.
func (a *Administration) loggedIn(_ context.Context, e *module.LogInEvent) error {
	if e.Anonymous {
		return nil
	}
	a.logins.mu.Lock()
	defer a.logins.mu.Unlock()
	if len(a.logins.at) < maxWaiting {
		a.logins.at[e.Account] = store.Micros(a.Now())
	}
	return nil
}

// recordLogins writes log-ins down until the server stops.
func (a *Administration) recordLogins(ctx context.Context) {
	tick := time.NewTicker(recordEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordEvery)
			defer cancel()
			a.flushLogins(last)
			return
		}
		a.flushLogins(ctx)
	}
}

func (a *Administration) flushLogins(ctx context.Context) {
	a.logins.mu.Lock()
	waiting := a.logins.at
	a.logins.at = map[jid.JID]int64{}
	a.logins.mu.Unlock()
	if len(waiting) == 0 {
		return
	}
	err := a.DB.Write(ctx, func(tx *store.Tx) error {
		for who, at := range waiting {
			_, err := tx.Exec(`INSERT INTO administration_logins (owner, at) VALUES ($1, $2)
				ON CONFLICT (owner) DO UPDATE SET at = excluded.at`, who.String(), at)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		a.Log.Error("log-ins not recorded", "count", len(waiting), "err", err)
	}
}

// LastLogin is when an account last logged in, the zero time when it never did.
func (a *Administration) LastLogin(ctx context.Context, who jid.JID) (time.Time, error) {
	a.logins.mu.Lock()
	at, ok := a.logins.at[who]
	a.logins.mu.Unlock()
	if ok {
		return store.Time(at), nil
	}
	err := a.DB.Read(ctx, func(tx *store.Tx) error {
		return tx.Row(`SELECT at FROM administration_logins WHERE owner = $1`, who.String()).Scan(&at)
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return time.Time{}, nil
	case err != nil:
		return time.Time{}, fmt.Errorf("look up last log-in of %s: %w", who, err)
	}
	return store.Time(at), nil
}

// deleted forgets what is kept of an account.
func (a *Administration) deleted(ctx context.Context, e *module.AccountEvent) error {
	a.logins.mu.Lock()
	delete(a.logins.at, e.Account)
	a.logins.mu.Unlock()
	return a.DB.Write(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec(`DELETE FROM administration_logins WHERE owner = $1`, e.Account.String()); err != nil {
			return err
		}
		_, err := tx.Exec(`DELETE FROM administration_motd_seen WHERE owner = $1`, e.Account.String())
		return err
	})
}
