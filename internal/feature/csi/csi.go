// Package csi declares client state indication (XEP-0352): clients whose user does not look get less. What it says is done
// where bytes flow, in package c2s.
package csi

import (
	"context"

	"github.com/starling-im/starling/internal/hook"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// NS is the namespace of the indication.
const NS = "urn:xmpp:csi:0"

// Module is the feature's declaration.
var Module = module.Def[Config]{
	Name:     "csi",
	Doc:      "Sends less to clients that say that nobody looks at them.",
	Specs:    []module.Spec{{XEP: 352, Version: "1.0.0"}},
	Defaults: Config{Queue: 256, Presence: true, Events: true, ChatStates: true},
	Start:    start,
}

// Config is the feature's configuration.
type Config struct {
	Queue      int  `toml:"queue" min:"1" max:"10000" doc:"Stanzas that are held back for one client; when there are more, all are sent."`
	Presence   bool `toml:"presence" doc:"Holds presence back until the client is active, or gets something that cannot wait. Of each sender the last one counts."`
	Events     bool `toml:"events" doc:"Holds events of personal eventing (PEP) back likewise."`
	ChatStates bool `toml:"chat_states" doc:"Leaves out messages that say that somebody is typing, and nothing else."`
}

func start(h *module.Host, cfg Config) error {
	h.Provide(cfg)
	h.Hooks.Features.Add(h.Name, hook.Amend, func(_ context.Context, e *module.FeatureEvent) error {
		if e.Authenticated { // XEP-0352 §4.1
			e.Add = append(e.Add, xml.New(NS, "csi"))
		}
		return nil
	})
	return nil
}
