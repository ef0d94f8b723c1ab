// Package version tells which software the server is (XEP-0092).
package version

import (
	"context"

	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// NS is the namespace of the question.
const NS = "jabber:iq:version"

// Module is the feature's declaration.
var Module = module.Def[Config]{
	Name:  "version",
	Doc:   "Tells name and version of the server software.",
	Specs: []module.Spec{{XEP: 92, Version: "1.1"}},
	Disco: module.Disco{module.Server: {NS}},
	Start: start,
}

// Config is the feature's configuration.
type Config struct {
	OS string `toml:"os" doc:"What to say about the operating system. Empty says nothing."`
}

func start(h *module.Host, cfg Config) error {
	// XEP-0092 §2: name and version are required. XEP-0092 §5: the operating system only if it is wanted.
	answer := xml.New(NS, "query").With(
		xml.New(NS, "name").WithText("Starling"),
		xml.New(NS, "version").WithText(h.Version))
	if cfg.OS != "" {
		answer = answer.With(xml.New(NS, "os").WithText(cfg.OS))
	}
	h.IQ(module.Server, stanza.Get, NS, "query", func(context.Context, *stanza.Stanza) (xml.Element, error) {
		return answer, nil
	})
	return nil
}
