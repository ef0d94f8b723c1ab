package rows

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestWait: a record waits for the rows written before it, also for those in a gap, but only for so long.
func TestWait(t *testing.T) {
	_, aAndC := ops(putOp("a", 1), putOp("c", 4))
	for _, test := range []struct {
		name string
		run  func(c *copied)
		till time.Duration // when the wait for change 4 ends; the snapshot comes after 500 ms
	}{
		{"all there", func(c *copied) {
			c.snapshot(1, putOp("a", 1))
			c.change(1, 4, aAndC, putOp("c", 4))
		}, 0},
		{"no snapshot yet", func(c *copied) { c.change(1, 4, aAndC, putOp("c", 4)) }, 500 * time.Millisecond},
		{"a gap", func(c *copied) {
			c.snapshot(1, putOp("a", 1))
			c.change(3, 4, aAndC, putOp("c", 4))
		}, 500 * time.Millisecond},
		{"while a copy that was complete is repaired", func(c *copied) {
			c.snapshot(3, putOp("a", 1))
			c.load("test")
			c.change(3, 4, aAndC, putOp("c", 4))
		}, 0},
		{"nothing comes", func(c *copied) {
			c.snapshot(1, putOp("a", 1))
			c.asked = []uint64{0}
		}, time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCopied()
				test.run(c)
				time.AfterFunc(500*time.Millisecond, func() { c.snapshot(4, putOp("a", 1), putOp("c", 4)) })
				start := time.Now()
				c.Wait(4, nil)
				if took := time.Since(start); took != test.till {
					t.Errorf("waited %v, want %v", took, test.till)
				}
				time.Sleep(time.Second)
			})
		})
	}
}
