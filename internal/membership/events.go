package membership

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/starling-im/starling/cluster"
)

// heard logs an event of the cluster, and tells whether there may be something to do about it.
func (m *Membership) heard(e cluster.Event) bool {
	level := slog.LevelInfo
	switch e.Kind {
	case cluster.MemberDied, cluster.Suspected, cluster.Fenced, cluster.Paused, cluster.Missed:
		level = slog.LevelWarn
	case cluster.SeniorChanged, cluster.MemberChanged, cluster.StateChanged: // the latter is told where its cause is known
		level = slog.LevelDebug
	}
	m.o.Log.LogAttrs(context.Background(), level, "cluster: "+words(e), slog.String("member", e.Member.Name),
		slog.Uint64("incarnation", e.Member.Incarnation), slog.Int("members", len(m.node.Members())))
	switch e.Kind {
	case cluster.StateChanged, cluster.MemberJoined, cluster.Fenced, cluster.Missed:
		return true
	}
	return false
}

// words tells an event to a person.
func words(e cluster.Event) string {
	name := e.Member.Name
	switch e.Kind {
	case cluster.StateChanged:
		return fmt.Sprintf("this node is %s: %s", e.State, e.Reason)
	case cluster.MemberJoined:
		return "node " + name + " is there"
	case cluster.MemberChanged:
		return fmt.Sprintf("node %s is %s", name, e.Member.State)
	case cluster.Suspected:
		return fmt.Sprintf("node %s may be dead: it %s", name, e.Reason)
	case cluster.Trusted:
		return "node " + name + " is alive after all"
	case cluster.MemberLeft:
		return "node " + name + " left"
	case cluster.MemberDied:
		return fmt.Sprintf("node %s is dead: %s", name, e.Reason)
	case cluster.SeniorChanged:
		return "node " + name + " is the senior now"
	case cluster.Fenced:
		return fmt.Sprintf("this node was taken for dead and joins again: %s", e.Reason)
	case cluster.Paused:
		return "this node did not run for a while, and asks the others whether they took it for dead"
	case cluster.Resumed:
		return "this node goes on"
	case cluster.Missed:
		return fmt.Sprintf("%d events were not seen", e.Count)
	}
	return e.String()
}

// Quiet is the log for a cluster.Node whose events are told by its Membership: what it tells for information goes to the
// level of debugging, save that it took other join tokens, for which an operator waits who replaces them.
func Quiet(log *slog.Logger) *slog.Logger { return slog.New(quiet{log.Handler()}) }

const tokensChanged = "join tokens changed"

type quiet struct{ slog.Handler }

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	if r.Level == slog.LevelInfo && r.Message != tokensChanged {
		r.Level = slog.LevelDebug
	}
	if !q.Enabled(ctx, r.Level) {
		return nil
	}
	return q.Handler.Handle(ctx, r)
}

func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }

func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }
