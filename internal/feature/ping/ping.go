// Package ping answers pings (XEP-0199). Pings that the server sends itself are a
// matter of the door that watches over the connection.
package ping

import (
	"context"

	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// NS is the namespace of pings.
const NS = "urn:xmpp:ping"

// Module is the feature's declaration.
var Module = module.Def[struct{}]{
	Name:  "ping",
	Doc:   "Answers clients that ask whether the server is still there.",
	Specs: []module.Spec{{XEP: 199, Version: "2.0.1"}},
	Disco: module.Disco{module.Server: {NS}, module.Account: {NS}},
	Start: func(h *module.Host, _ struct{}) error {
		h.IQ(module.Server, stanza.Get, NS, "ping", pong)
		h.IQ(module.Account, stanza.Get, NS, "ping", pong)
		return nil
	},
}

// pong is XEP-0199 §4.2.
func pong(_ context.Context, iq *stanza.Stanza) (xml.Element, error) {
	if iq.To.Local() != "" && iq.To.Bare() != iq.From.Bare() {
		// RFC 6120 §13.10.2: a stranger does not learn from an account whether it is in use.
		return xml.None, stanza.Err(stanza.ServiceUnavailable, "")
	}
	return xml.None, nil
}
