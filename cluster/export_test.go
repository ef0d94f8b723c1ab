package cluster

import (
	"github.com/starling-im/starling/cluster/internal/bus"
)

// On returns the configuration with an engine of the test's.
func (c Config) On(e bus.Engine) Config {
	c.engine = e
	return c
}

// Corrupt damages this node's copy of a row behind the table's back: it vanishes, or its value becomes another one.
func (t *Table[V]) Corrupt(key string, v *V) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.rows[key]
	if r == nil {
		return false
	}
	if v == nil {
		delete(t.rows, key)
		return true
	}
	bad := *r
	bad.value = *v
	t.rows[key] = &bad
	return true
}
