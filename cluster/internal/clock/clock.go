// Package clock makes stamps: microseconds of the wall clock, but always larger than every stamp made or seen before.
// Nodes whose clocks differ thus agree on the order of what one saw before it did the other.
package clock

import (
	"sync/atomic"
	"time"
)

// Clock is a source of stamps.
type Clock struct {
	now  func() time.Time
	last atomic.Uint64
}

// New returns a clock that follows a wall clock.
func New(now func() time.Time) *Clock { return &Clock{now: now} }

// Stamp returns a new stamp.
func (c *Clock) Stamp() uint64 {
	wall := uint64(max(c.now().UnixMicro(), 1))
	for {
		last := c.last.Load()
		next := max(wall, last+1)
		if c.last.CompareAndSwap(last, next) {
			return next
		}
	}
}

// Observe makes later stamps larger than one seen elsewhere.
func (c *Clock) Observe(stamp uint64) {
	for {
		last := c.last.Load()
		if stamp <= last || c.last.CompareAndSwap(last, stamp) {
			return
		}
	}
}

// Ahead returns how far a stamp of another node is ahead of the wall clock here.
func (c *Clock) Ahead(stamp uint64) time.Duration {
	return time.Duration(int64(stamp)-c.now().UnixMicro()) * time.Microsecond
}
