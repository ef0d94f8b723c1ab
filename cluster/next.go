//go:build !wirenext

package cluster

import (
	"github.com/starling-im/starling/cluster/internal/frame"
	"github.com/starling-im/starling/cluster/internal/rows"
)

// next is what the build with the tag wirenext adds, which stands for the next version in tests: a record, a field of
// rows, a task. Members of this version must not be sent the first two, and do not know the third.
type next struct{}

func (*next) start(*Node)                         {}
func (*next) greet(*peer)                         {}
func (*next) watch(*rows.Replica)                 {}
func (*next) apply(frame.RecordKind, []byte) bool { return false }
