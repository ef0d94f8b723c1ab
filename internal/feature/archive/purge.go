package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
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
		return nil
	})
	for err == nil && upTo > 0 {
		var n int
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

// forget deletes an owner's archive. Positions are not given twice, so the owner's row stays.
func (a *Archive) forget(ctx context.Context, owner jid.JID) error {
	var err error
	for n := 1; err == nil && n > 0; {
		n, err = a.cut(ctx, owner.String(), farthest)
	}
	if err != nil {
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

// cut deletes messages that are the oldest ones, where they stand and in the indexes.
func (r *reader) cut(old []kept) error {
	last := old[len(old)-1].position
	err := r.rewrite(last, func(run []kept) []kept {
		return slices.DeleteFunc(run, func(k kept) bool { return k.position <= last })
	})
	if err != nil {
		return err
	}
	if _, err := r.tx.Exec(`DELETE FROM archive WHERE owner = $1 AND position <= $2`, r.number, last); err != nil {
		return err
	}
	if _, err := r.tx.Exec(`DELETE FROM archive_peer WHERE owner = $1 AND span < $2`, r.number, span(last)); err != nil {
		return err
	}
	return chunks(len(old), manyRows, 1, func(n int) string {
		return `DELETE FROM archive_id WHERE owner = $1 AND id IN ($2` + more(n-1) + `)`
	}, func(i int, args []any) []any {
		if len(args) == 0 {
			args = append(args, r.number)
		}
		return append(args, old[i].id[:])
	}, func(query string, args []any) error {
		_, err := r.tx.Exec(query, args...)
		return err
	})
}

// more is n parameters behind the first two.
func more(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(", $" + strconv.Itoa(i+3))
	}
	return b.String()
}
