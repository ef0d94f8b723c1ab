// Package feature lists the features of the server.
package feature

import (
	"github.com/starling-im/starling/internal/feature/disco"
	"github.com/starling-im/starling/internal/feature/offline"
	"github.com/starling-im/starling/internal/feature/ping"
	"github.com/starling-im/starling/internal/feature/presence"
	"github.com/starling-im/starling/internal/feature/registration"
	"github.com/starling-im/starling/internal/feature/roster"
	"github.com/starling-im/starling/internal/module"
)

// All are the features that the server can run, sorted by name.
func All() []module.Module {
	return []module.Module{
		disco.Module,
		offline.Module,
		ping.Module,
		presence.Module,
		registration.Module,
		roster.Module,
	}
}
