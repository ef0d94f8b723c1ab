// Package serverinfo tells how to reach the people who run the server (XEP-0157), as
// a form in what service discovery tells about its domains (XEP-0128).
package serverinfo

import (
	"context"
	"fmt"
	"net/url"

	"github.com/starling-im/starling/internal/hook"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/xmpp/form"
)

// NS is the context of the form (XEP-0157 §7.1).
const NS = "http://jabber.org/network/serverinfo"

// Module is the feature's declaration.
var Module = module.Def[Config]{
	Name: "serverinfo",
	Doc:  "Tells how to reach the people who run the server.",
	Specs: []module.Spec{
		{XEP: 128, Version: "1.0.1"},
		{XEP: 157, Version: "1.1.1"},
	},
	Start: start,
}

// Config is the feature's configuration.
type Config struct {
	Abuse    []string `toml:"abuse" doc:"Where to report abuse: URIs such as xmpp:abuse@example.org or mailto:abuse@example.org."`
	Admin    []string `toml:"admin" doc:"URIs of the administrators."`
	Feedback []string `toml:"feedback" doc:"URIs for feedback."`
	Sales    []string `toml:"sales" doc:"URIs of the sales department."`
	Security []string `toml:"security" doc:"URIs for reports of weaknesses."`
	Status   []string `toml:"status" doc:"URIs that tell whether the service works."`
	Support  []string `toml:"support" doc:"URIs where users find help."`
}

func start(h *module.Host, cfg Config) error {
	var fields []form.Field
	for _, f := range []struct {
		name string
		uris []string
	}{
		{"abuse", cfg.Abuse}, {"admin", cfg.Admin}, {"feedback", cfg.Feedback}, {"sales", cfg.Sales},
		{"security", cfg.Security}, {"status", cfg.Status}, {"support", cfg.Support},
	} {
		for _, uri := range f.uris {
			// XEP-0157 §3: what is no URI helps nobody. Choice: for all of them, not only where it is a must.
			if u, err := url.Parse(uri); err != nil || u.Scheme == "" {
				return fmt.Errorf("serverinfo.%s: %q is not a URI such as mailto:name@example.org", f.name, uri)
			}
		}
		if len(f.uris) > 0 {
			fields = append(fields, form.Value(f.name+"-addresses", f.uris...))
		}
	}
	if fields == nil {
		return nil
	}
	info := form.New(form.TypeResult, NS, fields...).Element()
	h.Hooks.Info.Add(h.Name, hook.Amend, func(_ context.Context, e *module.InfoEvent) error {
		if e.Target == module.Server && e.Node == "" { // XEP-0128 §2
			e.Forms = append(e.Forms, info)
		}
		return nil
	})
	return nil
}
