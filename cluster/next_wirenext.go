//go:build wirenext

package cluster

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/starling-im/starling/cluster/internal/frame"
	"github.com/starling-im/starling/cluster/internal/rows"
)

// NextTask is the name of the task that the next version adds. Its result tells what came that the version before does
// not have: "greetings=N fields=N".
const NextTask = "cluster/next"

// next stands for the next version in tests.
type next struct{ greetings, fields atomic.Int64 }

func (x *next) start(n *Node) {
	NewTask(n, NextTask, Text(), Text(), func(context.Context, Member, string) (string, error) {
		return fmt.Sprintf("greetings=%d fields=%d", x.greetings.Load(), x.fields.Load()), nil
	})
}

// greet sends the record that the next version adds, to those who know it.
func (x *next) greet(p *peer) {
	if p.version >= 2 {
		_ = p.bulk.Post(frame.Greeting, []byte("from "+p.s.n.id)) // a link that was just made has room
	}
}

// watch counts rows with the field that the next version adds.
func (x *next) watch(r *rows.Replica) {
	r.Watch(func(op *frame.Op) {
		if op.More.Sum != 0 {
			x.fields.Add(1)
		}
	})
}

func (x *next) apply(k frame.RecordKind, _ []byte) bool {
	if k != frame.Greeting {
		return false
	}
	x.greetings.Add(1)
	return true
}
