package cluster

import (
	"context"
	"log/slog"

	"github.com/starling-im/starling/cluster/internal/bus"
)

// On returns the configuration with an engine of the test's.
func (c Config) On(e bus.Engine) Config {
	c.engine = e
	return c
}

// Through returns the configuration with a test between the node and the engine that it asks for: fill completes the
// configuration when the node joins, wrap gets what was opened.
func (c Config) Through(fill func(*Config), wrap func(bus.Bus, bus.Identity) bus.Bus) Config {
	c.engine = &through{c, fill, wrap}
	return c
}

type through struct {
	cfg  Config
	fill func(*Config)
	wrap func(bus.Bus, bus.Identity) bus.Bus
}

// Open implements bus.Engine.
func (e *through) Open(ctx context.Context, self bus.Identity, log *slog.Logger) (bus.Bus, error) {
	cfg := e.cfg
	e.fill(&cfg)
	engine, err := cfg.open()
	if err != nil {
		return nil, err
	}
	b, err := engine.Open(ctx, self, log)
	if err != nil {
		return nil, err
	}
	return e.wrap(b, self), nil
}

// Corrupt damages this node's copy of a row behind the table's back: it vanishes, or its value becomes another one.
func (t *Table[V]) Corrupt(key string, v *V) bool { return t.set.Damage(key, v) }
