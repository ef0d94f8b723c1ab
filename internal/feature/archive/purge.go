package archive

import (
	"context"
	"errors"
	"time"

	"github.com/starling-im/starling/internal/store"
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
		first, newest, err := ends(tx, owner)
		if err != nil || newest == 0 {
			return err
		}
		upTo = 0
		if a.cfg.MaxMessages > 0 {
			upTo = last - int64(a.cfg.MaxMessages)
		}
		if a.cfg.MaxAge > 0 {
			kept, err := since(tx, owner, first, newest, store.Micros(a.Now().Add(-a.cfg.MaxAge)))
			if err != nil {
				return err
			}
			upTo = max(upTo, kept-1)
		}
		return nil
	})
	for err == nil && upTo > 0 {
		var n int64
		if n, err = a.cut(ctx, owner, upTo); n == 0 {
			break
		}
		a.metrics.purged.Add(float64(n))
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}
