// Package clock tells the time at the server (XEP-0202).
package clock

import (
	"context"

	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/xmpp/datetime"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// NS is the namespace of the question.
const NS = "urn:xmpp:time"

// Module is the feature's declaration.
var Module = module.Def[struct{}]{
	Name: "clock",
	Doc:  "Tells the time at the server.",
	Specs: []module.Spec{
		{XEP: 82, Version: "1.1.1"}, // the notation
		{XEP: 202, Version: "2.0"},
	},
	Disco: module.Disco{module.Server: {NS}},
	Start: func(h *module.Host, _ struct{}) error {
		h.IQ(module.Server, stanza.Get, NS, "time", func(context.Context, *stanza.Stanza) (xml.Element, error) {
			return xml.New(NS, "time").With(
				// XEP-0082 §6, XEP-0202 §6: where the server stands is nobody's business.
				// Choice: its time zone is always UTC.
				xml.New(NS, "tzo").WithText("+00:00"),
				xml.New(NS, "utc").WithText(datetime.FormatSeconds(h.Now()))), nil
		})
		return nil
	},
}
