package caps

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/starling-im/starling/internal/store"
)

const (
	maxVerified = 1000 // sets in memory
	maxStored   = 10_000
	spare       = maxStored / 20 // how many of the stored give way at once
)

// name is what a set that could be verified is found by.
func (k key) name() string { return k.hash + " " + k.ver }

// verified is what a verification string stands for; nil when it is not known.
func (c *Caps) verified(ctx context.Context, k key) (*Info, error) {
	c.mu.Lock()
	info := c.sets[k.name()]
	c.mu.Unlock()
	if info != nil {
		return info, nil
	}
	info, err := c.read(ctx, k.name())
	if err != nil || info == nil {
		return nil, err
	}
	c.remember(k, info)
	return info, nil
}

// remember keeps a set in memory. Which one gives way does not matter, since it can be
// read again.
func (c *Caps) remember(k key, info *Info) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.sets {
		if len(c.sets) < maxVerified {
			break
		}
		delete(c.sets, name)
	}
	c.sets[k.name()] = info
}

func (c *Caps) read(ctx context.Context, name string) (*Info, error) {
	var (
		text string
		used int64
	)
	err := c.DB.Read(ctx, func(tx *store.Tx) error {
		return tx.Row(`SELECT info, used FROM caps WHERE name = $1`, name).Scan(&text, &used)
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	info := &Info{}
	if err == nil {
		err = json.Unmarshal([]byte(text), info)
	}
	if now := c.Now(); err == nil && now.Sub(store.Time(used)) > 24*time.Hour {
		err = c.DB.Write(ctx, func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE caps SET used = $2 WHERE name = $1`, name, store.Micros(now))
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("look up capabilities %q: %w", name, err)
	}
	return info, nil
}

// save keeps a set that was verified.
func (c *Caps) save(ctx context.Context, k key, info *Info) error {
	text, err := json.Marshal(info)
	if err != nil {
		return err
	}
	err = c.DB.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO caps (name, info, used) VALUES ($1, $2, $3) ON CONFLICT (name) DO UPDATE SET used = excluded.used`,
			k.name(), string(text), store.Micros(c.Now()))
		if err != nil {
			return err
		}
		var n int64
		if err := tx.Row(`SELECT COUNT(*) FROM caps`).Scan(&n); err != nil || n <= maxStored {
			return err
		}
		_, err = tx.Exec(`DELETE FROM caps WHERE name IN (SELECT name FROM caps ORDER BY used, name LIMIT $1)`, n-maxStored+spare)
		return err
	})
	if err != nil {
		return fmt.Errorf("keep capabilities %q: %w", k.name(), err)
	}
	return nil
}
