// Package feature lists the features of the server.
package feature

import (
	"github.com/starling-im/starling/internal/feature/adhoc"
	"github.com/starling-im/starling/internal/feature/administration"
	"github.com/starling-im/starling/internal/feature/archive"
	"github.com/starling-im/starling/internal/feature/blocking"
	"github.com/starling-im/starling/internal/feature/caps"
	"github.com/starling-im/starling/internal/feature/carbons"
	"github.com/starling-im/starling/internal/feature/clock"
	"github.com/starling-im/starling/internal/feature/csi"
	"github.com/starling-im/starling/internal/feature/disco"
	"github.com/starling-im/starling/internal/feature/lastactivity"
	"github.com/starling-im/starling/internal/feature/offline"
	"github.com/starling-im/starling/internal/feature/ping"
	"github.com/starling-im/starling/internal/feature/presence"
	"github.com/starling-im/starling/internal/feature/private"
	"github.com/starling-im/starling/internal/feature/registration"
	"github.com/starling-im/starling/internal/feature/roster"
	"github.com/starling-im/starling/internal/feature/search"
	"github.com/starling-im/starling/internal/feature/serverinfo"
	"github.com/starling-im/starling/internal/feature/streammanagement"
	"github.com/starling-im/starling/internal/feature/vcard"
	"github.com/starling-im/starling/internal/feature/version"
	"github.com/starling-im/starling/internal/module"
)

// All are the features that the server can run, sorted by name.
func All() []module.Module {
	return []module.Module{
		adhoc.Module,
		administration.Module,
		archive.Module,
		blocking.Module,
		caps.Module,
		carbons.Module,
		clock.Module,
		csi.Module,
		disco.Module,
		lastactivity.Module,
		offline.Module,
		ping.Module,
		presence.Module,
		private.Module,
		registration.Module,
		roster.Module,
		search.Module,
		serverinfo.Module,
		streammanagement.Module,
		vcard.Module,
		version.Module,
	}
}
