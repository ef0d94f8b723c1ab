package mem_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/starling-im/starling/cluster/internal/bus"
	"github.com/starling-im/starling/cluster/internal/bus/bustest"
	"github.com/starling-im/starling/cluster/internal/mem"
)

func openAll(t *testing.T, e *mem.Engine, names ...string) []bus.Bus {
	t.Helper()
	var bs []bus.Bus
	for _, name := range names {
		b, err := e.Open(t.Context(), bus.Identity{ID: name, Name: name, Cluster: "test"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close(context.Background()) })
		bs = append(bs, b)
	}
	return bs
}

func TestConformance(t *testing.T) {
	for name, o := range map[string]mem.Options{
		"perfect": {},
		"slow":    {Seed: 1, MinDelay: time.Millisecond, MaxDelay: 50 * time.Millisecond},
		"lossy":   {Seed: 2, Loss: 0.2, Duplicate: 0.2, MaxDelay: 20 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			bustest.Run(t, bustest.Harness{
				Bubble: func(t *testing.T, fn func(*testing.T)) { synctest.Test(t, fn) },
				Open: func(t *testing.T, n int) []bus.Bus {
					var names []string
					for i := range n {
						names = append(names, fmt.Sprint("node", i))
					}
					return openAll(t, mem.New(o), names...)
				},
				Lossy: o.Loss > 0,
			})
		})
	}
}

// received counts what arrives at b on a subject.
func received(t *testing.T, b bus.Bus, subject string) *[]string {
	t.Helper()
	var got []string
	if _, err := b.Subscribe(bus.Data, subject, func(m bus.Message) { got = append(got, string(m.Data)) }); err != nil {
		t.Fatal(err)
	}
	return &got
}

func TestFaults(t *testing.T) {
	const subject = "x"
	for _, c := range []struct {
		name         string
		fault        func(e *mem.Engine)
		during       int // messages that b hears of a, of 1
		heal         func(e *mem.Engine)
		after, other int // messages in all that b hears of a, and a of b, of 2
	}{
		{"cut", func(e *mem.Engine) { e.Cut("a", "b") }, 0, func(e *mem.Engine) { e.Heal("a", "b") }, 1, 2},
		{"hold", func(e *mem.Engine) { e.Hold("a", "b") }, 0, func(e *mem.Engine) { e.Heal("a", "b") }, 2, 2},
		{"partition", func(e *mem.Engine) { e.Partition([]string{"a"}, []string{"b"}) }, 0, (*mem.Engine).HealAll, 1, 1},
		{"loss", func(e *mem.Engine) { e.Set(mem.Options{Loss: 1}) }, 0, func(e *mem.Engine) { e.Set(mem.Options{}) }, 1, 1},
		{"double", func(e *mem.Engine) { e.Set(mem.Options{Duplicate: 1}) }, 2, func(e *mem.Engine) { e.Set(mem.Options{}) }, 3, 3},
		{"receiver paused", func(e *mem.Engine) { e.Pause("b") }, 0, func(e *mem.Engine) { e.Resume("b") }, 2, 2},
		{"killed", func(e *mem.Engine) { e.Kill("b") }, 0, func(*mem.Engine) {}, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := mem.New(mem.Options{})
				bs := openAll(t, e, "a", "b")
				atA, atB := received(t, bs[0], "to.a"), received(t, bs[1], "to.b")
				send := func() {
					for i, to := range []string{"to.b", "to.a"} {
						go func() { _ = bs[i].Publish(bus.Data, to, []byte(subject)) }()
					}
					synctest.Wait()
				}
				c.fault(e)
				send()
				if n := len(*atB); n != c.during {
					t.Errorf("during the fault: %d messages, want %d", n, c.during)
				}
				c.heal(e)
				synctest.Wait()
				send()
				if n, m := len(*atB), len(*atA); n != c.after || m != c.other {
					t.Errorf("in the end: %d and %d messages, want %d and %d", n, m, c.after, c.other)
				}
			})
		})
	}
}

// TestSeed: the same seed treats the same messages in the same way.
func TestSeed(t *testing.T) {
	run := func(seed uint64) (out string) {
		synctest.Test(t, func(t *testing.T) {
			bs := openAll(t, mem.New(mem.Options{Seed: seed, Loss: 0.3, Duplicate: 0.3, MaxDelay: time.Second}), "a", "b")
			got := received(t, bs[1], "x")
			for i := range 100 {
				_ = bs[0].Publish(bus.Data, "x", fmt.Append(nil, i))
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			out = fmt.Sprint(*got)
		})
		return out
	}
	if a, b := run(7), run(7); a != b {
		t.Errorf("seed 7 gave %s, then %s", a, b)
	}
	if a, b := run(7), run(8); a == b {
		t.Error("seeds 7 and 8 gave the same")
	}
}

func TestHints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := mem.New(mem.Options{Hints: true})
		bs := openAll(t, e, "a", "b")
		if h := <-bs[0].Hints(); h != (bus.Hint{Peer: "b", Up: true}) {
			t.Errorf("hint %v, want b up", h)
		}
		e.Kill("b")
		if h := <-bs[0].Hints(); h != (bus.Hint{Peer: "b"}) {
			t.Errorf("hint %v, want b down", h)
		}
	})
}
