// Package serial runs what belongs to one object one at a time, whichever
// goroutines ask for it.
package serial

import (
	"context"
	"sync"
)

// Keys runs functions of the same key one after another, those of different keys
// side by side. The zero value is ready. A key costs nothing while nobody uses it.
type Keys[K comparable] struct {
	mu   sync.Mutex // guards held
	held map[K]*turn
}

type turn struct {
	free  chan struct{} // holds one token while nobody runs
	users int
}

// Run waits for its turn, at most until the context ends, and runs fn. fn must not
// call Run for another key, or two of them could wait for each other.
func (k *Keys[K]) Run(ctx context.Context, key K, fn func() error) error {
	t := k.enter(key)
	defer k.leave(key, t)
	select {
	case <-t.free:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { t.free <- struct{}{} }()
	return fn()
}

func (k *Keys[K]) enter(key K) *turn {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held == nil {
		k.held = map[K]*turn{}
	}
	t := k.held[key]
	if t == nil {
		t = &turn{free: make(chan struct{}, 1)}
		t.free <- struct{}{}
		k.held[key] = t
	}
	t.users++
	return t
}

func (k *Keys[K]) leave(key K, t *turn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if t.users--; t.users == 0 {
		delete(k.held, key)
	}
}
