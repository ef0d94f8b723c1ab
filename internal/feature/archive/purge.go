package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

const (
	purgeEvery = time.Hour
	purgePage  = 500 // owners that are looked up at once
)

// purge removes what is too old or too much, oldest first and without holes (XEP-0313 §3.2), until the context ends. Every
// node does; they find nothing left where another has been.
func (a *Archive) purge(ctx context.Context) {
	for ctx.Err() == nil {
		pause(ctx, purgeEvery)
		if ctx.Err() != nil {
			return
		}
		if err := a.purgeAll(ctx); err != nil && ctx.Err() == nil {
			a.Log.Error("old messages are not removed", "err", err)
		}
	}
}

// purgeAll goes through all owners once.
func (a *Archive) purgeAll(ctx context.Context) error {
	after := ""
	for {
		var owners []string
		var last []int64
		err := a.DB.Read(ctx, func(tx *store.Tx) error {
			owners, last = owners[:0], last[:0]
			return tx.Each(func(scan store.Scan) error {
				var owner string
				var position int64
				if err := scan(&owner, &position); err != nil {
					return err
				}
				owners, last = append(owners, owner), append(last, position)
				return nil
			}, `SELECT owner, last FROM archive_owner WHERE owner > $1 ORDER BY owner LIMIT $2`, after, purgePage)
		})
		if err != nil || len(owners) == 0 {
			return err
		}
		for i, owner := range owners {
			if err := a.purgeOwner(ctx, owner, last[i]); err != nil {
				return err
			}
		}
		after = owners[len(owners)-1]
	}
}

// purgeOwner removes an owner's oldest messages.
func (a *Archive) purgeOwner(ctx context.Context, owner string, last int64) error {
	upTo := int64(0)
	err := a.DB.Read(ctx, func(tx *store.Tx) error {
		r, err := a.reader(tx, owner)
		if err != nil {
			return err
		}
		first, newest, err := r.ends()
		if err != nil || newest == 0 {
			return err
		}
		upTo = 0
		if a.cfg.MaxMessages > 0 {
			upTo = last - int64(a.cfg.MaxMessages)
		}
		if a.cfg.MaxAge > 0 {
			kept, err := r.since(first, newest, store.Micros(a.Now().Add(-a.cfg.MaxAge)))
			if err != nil {
				return err
			}
			upTo = max(upTo, kept-1)
		}
		if upTo < first {
			upTo = 0
		}
		return nil
	})
	if err == nil && upTo > 0 {
		var n int
		n, err = a.cutAll(ctx, owner, upTo)
		a.metrics.purged.Add(float64(n))
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// forget deletes an owner's archive. Positions are not given twice, so the owner's row stays.
func (a *Archive) forget(ctx context.Context, owner jid.JID) error {
	if _, err := a.cutAll(ctx, owner.String(), farthest); err != nil {
		return fmt.Errorf("delete archive of %s: %w", owner, err)
	}
	if p, err := a.prefs.Load(ctx, owner, a.readPrefs); err != nil || p == a.unset {
		return err
	}
	return a.DB.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`DELETE FROM archive_prefs WHERE owner = $1`, owner.String())
		return err
	})
}

// cutAtOnce is how many messages are deleted in one transaction, for which others have to wait.
const cutAtOnce = 1000

// cutAll deletes an owner's oldest messages, up to a position.
func (a *Archive) cutAll(ctx context.Context, owner string, upTo int64) (n int, err error) {
	for some := 1; err == nil && some > 0; n += some {
		some, err = a.cut(ctx, owner, upTo)
	}
	if err == nil { // also what a server has left that died in between
		err = a.sweep(ctx, owner)
	}
	return n, err
}

// cut deletes an owner's oldest messages, up to a position, a number of them at a time. It returns how many it has
// deleted; none when nothing is left to do.
func (a *Archive) cut(ctx context.Context, owner string, upTo int64) (n int, err error) {
	err = a.DB.WriteLocking(ctx, func(tx *store.Tx) error {
		r, err := a.lock(tx, owner)
		if err != nil {
			return err
		}
		var old []kept
		err = r.between(0, upTo, false, func(k *kept) bool {
			old = append(old, *k)
			return len(old) < cutAtOnce
		})
		if n = len(old); err != nil || n == 0 {
			return err
		}
		return r.cut(old)
	})
	return n, err
}

// cut deletes messages that are the oldest ones. What the indexes have of them is swept out when all is done.
func (r *reader) cut(old []kept) error {
	last := old[len(old)-1].position
	found, err := r.some(last, last, true, 1)
	if err != nil || len(found) == 0 {
		return err
	}
	err = r.rewrite(found[0], func(run []kept) []kept {
		return slices.DeleteFunc(run, func(k kept) bool { return k.position <= last })
	})
	if err != nil {
		return err
	}
	_, err = r.tx.Exec(`DELETE FROM archive WHERE owner = $1 AND position <= $2`, r.number, last)
	return err
}

// sweep takes out of the indexes what is not there any more.
func (a *Archive) sweep(ctx context.Context, owner string) error {
	return a.DB.WriteLocking(ctx, func(tx *store.Tx) error {
		r, err := a.lock(tx, owner)
		if err != nil {
			return err
		}
		first := farthest
		if k, err := r.end(false); err != nil {
			return err
		} else if k != nil {
			first = k.position
		}
		if _, err = tx.Exec(`DELETE FROM archive_id WHERE owner = $1 AND position < $2`, r.number, first); err != nil {
			return err
		}
		_, err = tx.Exec(`DELETE FROM archive_peer WHERE owner = $1 AND span < $2`, r.number, span(first))
		return err
	})
}
