// Package streammanagement declares stream management (XEP-0198) for clients: acknowledgements, and sessions that survive
// the loss of a connection. What it says is done where bytes flow, in package c2s.
package streammanagement

import (
	"context"
	"net"
	"time"

	"github.com/starling-im/starling/internal/config"
	"github.com/starling-im/starling/internal/hook"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// NS is the namespace of stream management.
const NS = "urn:xmpp:sm:3"

// Module is the feature's declaration.
var Module = module.Def[Config]{
	Name:  "stream_management",
	Doc:   "Lets clients know what has arrived, and come back after their connection was lost.",
	Specs: []module.Spec{{XEP: 198, Version: "1.6.3", Note: "for clients"}},
	Defaults: Config{
		Max: 5 * time.Minute, Queue: 1000, QueueBytes: 1 << 20, AckTimeout: time.Minute,
		SettlePause: 30 * time.Second, SettleTimeout: 2 * time.Minute, PerAccount: 10,
	},
	Start: start,
}

// Config is the feature's configuration.
type Config struct {
	Max           time.Duration `toml:"max" min:"0s" max:"24h" doc:"Time for which a session waits for its client after the connection was lost; a client may ask for less. 0 = sessions end with their connections."`
	Queue         int           `toml:"queue" min:"10" doc:"Stanzas that may wait for the acknowledgement of a client. A session that waits for its client ends when there are more; what was in it is kept for later, as when the time is over. A client that is there may have ten times as many, but ends when it has not answered for 10 s."`
	QueueBytes    config.Size   `toml:"queue_bytes" min:"64 KiB" doc:"Size of these stanzas, likewise."`
	AckTimeout    time.Duration `toml:"ack_timeout" min:"0s" doc:"Time for the answer of a client that is asked what it has got, after which its connection counts as lost; 0 = any."`
	SettlePause   time.Duration `toml:"settle_pause" min:"1s" doc:"Time for which what a client has sent may wait for the database, after which nothing more is read of that client until the wait is over. Messages are delivered meanwhile; only their acknowledgements wait."`
	SettleTimeout time.Duration `toml:"settle_timeout" min:"1s" doc:"The same, after which the stream is closed without the acknowledgement. The client may come back to its session."`
	PerAccount    int           `toml:"per_account" min:"1" doc:"Sessions of one account that may wait for their clients; the one that waits longest ends first."`
	Location      string        `toml:"location" doc:"Where clients should connect to come back, as host:port, if not everywhere. Empty means anywhere."`
}

// Validate checks the location.
func (c *Config) Validate() error {
	if c.Location == "" {
		return nil
	}
	if _, _, err := net.SplitHostPort(c.Location); err != nil {
		return config.Invalid("location", "is not an address", `write host:port, as in "xmpp.example.org:5222" or "[2001:db8::1]:5222"`)
	}
	return nil
}

func start(h *module.Host, cfg Config) error {
	h.Provide(cfg)
	h.Hooks.Features.Add(h.Name, hook.Amend, func(_ context.Context, e *module.FeatureEvent) error {
		if e.Authenticated { // XEP-0198 §2: only then it can be used
			e.Add = append(e.Add, xml.New(NS, "sm"))
		}
		return nil
	})
	return nil
}
