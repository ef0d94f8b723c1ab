package offline

import (
	"context"

	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

// Schema is that of the feature.
var Schema = schema

// SweepBatch is how many accounts are asked for at once.
const SweepBatch = sweepBatch

// On is the feature on a database, and nothing else.
func On(db *store.DB) *Offline { return &Offline{Host: &module.Host{Core: &module.Core{DB: db}}} }

// AnyOf tells for which accounts something waits.
func (o *Offline) AnyOf(ctx context.Context, owners []jid.JID) ([]jid.JID, error) {
	return o.anyOf(ctx, owners)
}

// AnyOfQuery is its query.
func AnyOfQuery(n int) string { return anyOfQuery(n) }

// Owned are its parameters.
func Owned(owners []jid.JID) []any { return owned(owners) }
