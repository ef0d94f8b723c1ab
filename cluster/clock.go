package cluster

import (
	"sync/atomic"
	"time"
)

// clock makes stamps: microseconds of the wall clock, but always larger than every stamp made or seen before. Nodes
// whose clocks differ thus agree on the order of what one saw before it did the other.
type clock struct {
	now  func() time.Time
	last atomic.Uint64
}

// stamp returns a new stamp.
func (c *clock) stamp() uint64 {
	wall := uint64(max(c.now().UnixMicro(), 1))
	for {
		last := c.last.Load()
		next := max(wall, last+1)
		if c.last.CompareAndSwap(last, next) {
			return next
		}
	}
}

// observe makes later stamps larger than one seen elsewhere.
func (c *clock) observe(stamp uint64) {
	for {
		last := c.last.Load()
		if stamp <= last || c.last.CompareAndSwap(last, stamp) {
			return
		}
	}
}

// ahead returns how far a stamp of another node is ahead of the wall clock here.
func (c *clock) ahead(stamp uint64) time.Duration {
	return time.Duration(int64(stamp)-c.now().UnixMicro()) * time.Microsecond
}
