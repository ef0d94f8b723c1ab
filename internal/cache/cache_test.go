package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/xmpp/jid"
)

func user(n int) jid.JID { return jid.MustParse(fmt.Sprintf("u%d@a.test", n)) }

func small(t *testing.T, size int) *Cache[int] {
	t.Helper()
	return New[int](nil, "test", "Numbers", size, prometheus.NewRegistry())
}

// constant reads always the same.
func constant(v int) func(context.Context, jid.JID) (int, error) {
	return func(context.Context, jid.JID) (int, error) { return v, nil }
}

func TestLoad(t *testing.T) {
	c := small(t, 10)
	if _, ok := c.Get(user(1)); ok {
		t.Fatal("found what nobody entered")
	}
	if v, err := c.Load(t.Context(), user(1), constant(7)); v != 7 || err != nil {
		t.Fatalf("read %d, %v", v, err)
	}
	if v, err := c.Load(t.Context(), user(1), constant(8)); v != 7 || err != nil {
		t.Fatalf("read again: %d, %v", v, err)
	}
	c.Put(user(1), 9)
	if v, ok := c.Get(user(1)); v != 9 || !ok {
		t.Fatalf("after Put: %d, %v", v, ok)
	}
	c.Drop(user(1))
	if _, ok := c.Get(user(1)); ok {
		t.Fatal("found after Drop")
	}
	failure := errors.New("away")
	if _, err := c.Load(t.Context(), user(1), func(context.Context, jid.JID) (int, error) { return 0, failure }); !errors.Is(err, failure) {
		t.Fatalf("failure is %v", err)
	}
	if _, ok := c.Get(user(1)); ok {
		t.Fatal("a failure was entered")
	}
}

// A value that was read before a change must not be entered after it.
func TestSlowReader(t *testing.T) {
	for name, change := range map[string]func(*Cache[int]){
		"put":  func(c *Cache[int]) { c.Put(user(1), 2) },
		"drop": func(c *Cache[int]) { c.Drop(user(1)) },
	} {
		t.Run(name, func(t *testing.T) {
			c := small(t, 10)
			v, err := c.Load(t.Context(), user(1), func(context.Context, jid.JID) (int, error) {
				change(c)
				return 1, nil
			})
			if v != 1 || err != nil {
				t.Fatalf("read %d, %v", v, err)
			}
			if v, ok := c.Get(user(1)); ok && v == 1 {
				t.Fatal("the old value was entered")
			}
		})
	}
}

func TestForgets(t *testing.T) {
	c := small(t, 3)
	for n := range 3 {
		c.Put(user(n), n)
	}
	c.Get(user(0))
	c.Put(user(3), 3) // forgets 1: 0 was asked for
	for n, want := range []bool{true, false, true, true} {
		if _, ok := c.Get(user(n)); ok != want {
			t.Errorf("user %d is kept: %v", n, ok)
		}
	}
	for n := range 1000 {
		c.Put(user(n), n)
		if c.Len() > 3 {
			t.Fatalf("%d values", c.Len())
		}
	}
	for n := range 1000 {
		c.Drop(user(n))
	}
	if c.Len() != 0 {
		t.Fatalf("%d values are left", c.Len())
	}
	c.Put(user(1), 1)
	if _, ok := c.Get(user(1)); !ok {
		t.Fatal("nothing can be entered after all were dropped")
	}
}

// What was forgotten with all others is stale, until something newer is known.
func TestStale(t *testing.T) {
	for name, c := range map[string]struct {
		then  func(*Cache[int])
		stale bool
	}{
		"nothing since": {func(*Cache[int]) {}, true},
		"again":         {(*Cache[int]).ForgetAll, true},
		"put":           {func(c *Cache[int]) { c.Put(user(1), 2) }, false},
		"dropped":       {func(c *Cache[int]) { c.Drop(user(1)) }, false},
		"told":          {func(c *Cache[int]) { c.Forget(user(1)) }, false},
		"read":          {func(c *Cache[int]) { c.Load(t.Context(), user(1), constant(2)) }, false},
		"many since": {func(c *Cache[int]) {
			for n := 2; n < 5; n++ {
				c.Put(user(n), n)
			}
			c.ForgetAll()
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			cache := small(t, 3)
			cache.Put(user(1), 1)
			cache.ForgetAll()
			if v, ok := cache.Get(user(1)); ok {
				t.Fatalf("found %d", v)
			}
			c.then(cache)
			if v, ok := cache.Stale(user(1)); ok != c.stale || ok && v != 1 {
				t.Errorf("stale: %d, %v", v, ok)
			}
		})
	}
}

func TestConcurrently(t *testing.T) {
	c := small(t, spreadAt)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for n := range 5000 {
				who := user((n * (g + 1)) % 6000)
				switch n % 7 {
				case 0:
					c.Put(who, n)
				case 1:
					c.Drop(who)
				default:
					if _, err := c.Load(t.Context(), who, constant(n)); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if c.Len() > spreadAt {
		t.Fatalf("%d values", c.Len())
	}
}

func BenchmarkGet(b *testing.B) {
	c := New[int](nil, "test", "Numbers", 100_000, prometheus.NewRegistry())
	for n := range 1000 {
		c.Put(user(n), n)
	}
	who := user(7)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Get(who)
		}
	})
}
