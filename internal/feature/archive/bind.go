package archive

import (
	"context"

	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/session"
)

// bound tells a client that is bound together with its log-in what its archive holds (XEP-0386 §3.2). What waits for it
// there it reads by itself, so it is not delivered. Choice: what the archive does not keep is delivered all the same, else it
// would be lost.
func (a *Archive) bound(ctx context.Context, e *module.BindEvent) error {
	if e.Session.Anonymous {
		return nil
	}
	metadata, last, err := a.Metadata(ctx, e.Session.Bare)
	if err != nil {
		return err
	}
	e.Add = append(e.Add, metadata)
	if last > 0 {
		e.Session.Update(func(state *session.State) { state.CaughtUp = max(state.CaughtUp, last) })
	}
	return nil
}
