// Package vcard keeps what users tell of themselves, with a picture (XEP-0054), and says
// in their presence which picture that is (XEP-0153, as XEP-0398 asks of a server).
package vcard

import (
	"context"
	"embed"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/cache"
	"github.com/starling-im/starling/internal/config"
	"github.com/starling-im/starling/internal/hook"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// Namespaces of cards, and of what presence tells of their picture.
const (
	NS       = "vcard-temp"
	NSUpdate = "vcard-temp:x:update"
)

// maxPhotos is of how many pictures the hash is kept in memory.
const maxPhotos = 50_000

//go:embed schema
var schema embed.FS

// Module is the feature's declaration.
var Module = module.Def[Config]{
	Name: "vcard",
	Doc:  "Keeps what users tell of themselves, with a picture, for everybody to see.",
	Specs: []module.Spec{
		{XEP: 54, Version: "1.3.0"},
		{XEP: 153, Version: "1.1.1"},
		{XEP: 398, Version: "1.0.0", Note: "the hash in presence; no conversion"},
	},
	Disco:    module.Disco{module.Server: {NS}, module.Account: {NS}},
	Defaults: Config{MaxBytes: 192 << 10},
	Schema:   schema,
	Start:    start,
}

// Config is the feature's configuration.
type Config struct {
	MaxBytes config.Size `toml:"max_bytes" min:"1 KiB" doc:"Longest vCard, its picture included."`
}

// VCards answers for the cards of all accounts.
type VCards struct {
	*module.Host
	cfg      Config
	photos   *cache.Cache[photo]
	injected prometheus.Counter
}

func start(h *module.Host, cfg Config) error {
	v := &VCards{Host: h, cfg: cfg, photos: cache.New[photo](&h.Caches, "vcard_photo", "Hashes of pictures", maxPhotos, h.Metrics)}
	v.injected = prometheus.NewCounter(prometheus.CounterOpts{Name: "starling_vcard_hashes_injected_total", Help: "Presence stanzas into which the hash of a picture was put."})
	h.Metrics.MustRegister(v.injected)
	h.Provide(v)
	h.IQ(module.Account, stanza.Get, NS, "vCard", v.get)
	h.IQ(module.Account, stanza.Set, NS, "vCard", v.set)
	h.Hooks.OwnPresence.Add(h.Name, hook.Amend, v.stamp)
	h.Hooks.PresenceOut.Add(h.Name, hook.Amend, v.stamp)
	h.Hooks.Deleted.Add(h.Name, hook.Record, v.deleted)
	return nil
}

// get shows a card to whoever asks: XEP-0054 §3.1, §3.3.
func (v *VCards) get(ctx context.Context, iq *stanza.Stanza) (xml.Element, error) {
	owner := iq.To
	if owner.IsZero() {
		owner = iq.From.Bare()
	}
	card, err := v.load(ctx, owner)
	switch {
	case err != nil:
		return xml.None, err
	case !card.IsNone():
		return card, nil
	case owner == iq.From.Bare(): // XEP-0054 §3.1
		return xml.None, stanza.Err(stanza.ItemNotFound, "there is no vCard yet")
	}
	return xml.None, stanza.Err(stanza.ServiceUnavailable, "") // XEP-0054 §3.3: as if there were no account
}

// set replaces the sender's card: XEP-0054 §3.2.
func (v *VCards) set(ctx context.Context, iq *stanza.Stanza) (xml.Element, error) {
	owner := iq.From.Bare()
	if !iq.To.IsZero() && iq.To != owner {
		return xml.None, stanza.Err(stanza.Forbidden, "only the owner may change a vCard")
	}
	if s := v.Sessions.Find(iq.From); s != nil && s.Anonymous {
		return xml.None, stanza.Err(stanza.NotAllowed, "a guest has no vCard")
	}
	return xml.None, v.save(ctx, owner, iq.Payload())
}
