// Package caps learns what clients can do from their presence (XEP-0115), and tells
// them what the server can.
package caps

import (
	"context"
	"embed"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/feature/disco"
	"github.com/starling-im/starling/internal/hook"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// NS is the namespace of capabilities.
const NS = "http://jabber.org/protocol/caps"

// serverNode names the software (XEP-0115 §4).
const serverNode = "https://github.com/starling-im/starling"

//go:embed schema
var schema embed.FS

// Module is the feature's declaration.
var Module = module.Def[struct{}]{
	Name:   "caps",
	Doc:    "Learns what clients can do from their presence, and tells them what the server can.",
	Specs:  []module.Spec{{XEP: 115, Version: "1.6.0", Note: "without caps optimization and the legacy format"}},
	Disco:  module.Disco{module.Server: {NS}},
	Needs:  []string{"disco"},
	Schema: schema,
	Start:  start,
}

// Caps knows the capabilities of entities.
type Caps struct {
	own sync.Map // by domain: described
	// Known tells of an entity whose capabilities are known now, or are others than before.
	Known hook.Point[Change]

	*module.Host
	disco *disco.Disco
	asked prometheus.Counter
	wrong prometheus.Counter

	mu      sync.Mutex         // guards all below
	sets    map[string]*Info   // those that could be verified, by key.name
	single  map[jid.JID]own    // those of one entity, that could not
	remote  map[jid.JID]key    // what entities elsewhere have announced
	waiting map[string][]guest // who waits for the same answer; the first is being asked
	queued  int                // in all of waiting
}

// Change is about one entity.
type Change struct {
	Entity  jid.JID          // full JID
	Account jid.JID          // here: the entity's own, or that of the user to whom it has shown its presence
	Session *session.Session // the entity's, nil when it is not of this server
	Info    *Info
}

// key is what presence says about capabilities (XEP-0115 §4).
type key struct{ hash, node, ver string }

// own is what one entity alone has said of itself.
type own struct {
	key  key
	info *Info
}

func start(h *module.Host, _ struct{}) error {
	c := &Caps{
		Host: h, disco: module.Use[*disco.Disco](h, "disco"),
		asked: prometheus.NewCounter(prometheus.CounterOpts{Name: "starling_caps_asked_total", Help: "Clients that were asked what they can do."}),
		wrong: prometheus.NewCounter(prometheus.CounterOpts{Name: "starling_caps_wrong_total", Help: "Answers that did not fit what was announced."}),
		sets:  map[string]*Info{}, single: map[jid.JID]own{}, remote: map[jid.JID]key{}, waiting: map[string][]guest{},
	}
	h.Metrics.MustRegister(c.asked, c.wrong)
	h.Provide(c)
	h.Hooks.Features.Add(h.Name, hook.Amend, c.feature)
	h.Hooks.Info.Add(h.Name, hook.Amend, c.info)
	h.Hooks.OwnPresence.Add(h.Name, hook.Check, c.ownPresence)
	h.Hooks.PresenceIn.Add(h.Name, hook.Record, c.presenceIn)
	h.Hooks.Ended.Add(h.Name, hook.Record, func(_ context.Context, e *module.Passage) error {
		c.forget(e.Session.JID)
		return nil
	})
	return nil
}

// described is what a domain says of itself.
type described struct {
	info *module.InfoEvent
	ver  string
}

// server describes a domain as its disco#info does, and what stands for that. It is
// made at the first log-in, when every feature has started, and does not change then.
func (c *Caps) server(ctx context.Context, domain jid.JID) (*module.InfoEvent, string, error) {
	if d, ok := c.own.Load(domain); ok {
		return d.(described).info, d.(described).ver, nil
	}
	e, ver, err := c.describe(ctx, domain)
	if err == nil {
		c.own.Store(domain, described{e, ver})
	}
	return e, ver, err
}

func (c *Caps) describe(ctx context.Context, domain jid.JID) (*module.InfoEvent, string, error) {
	e := &module.InfoEvent{Target: module.Server, Entity: domain}
	if err := c.disco.Info(ctx, e); err != nil {
		return nil, "", err
	}
	q := disco.Element(e)
	_, s, err := digest(&q)
	if err != nil {
		return nil, "", err
	}
	return e, verification(algorithm("sha-1"), s), nil
}

// feature announces the server's capabilities: XEP-0115 §6.3.
func (c *Caps) feature(ctx context.Context, e *module.FeatureEvent) error {
	if !e.Authenticated {
		return nil
	}
	_, ver, err := c.server(ctx, e.Stranger.Domain)
	if err == nil {
		e.Add = append(e.Add, xml.New(NS, "c", "hash", "sha-1", "node", serverNode, "ver", ver))
	}
	return err
}

// info answers who asks about what was announced: XEP-0115 §6.2.
func (c *Caps) info(ctx context.Context, e *module.InfoEvent) error {
	ver, ok := strings.CutPrefix(e.Node, serverNode+"#")
	if !ok || e.Target != module.Server {
		return nil
	}
	whole, now, err := c.server(ctx, e.Entity)
	if err != nil || ver != now {
		return err
	}
	e.Known, e.Identities, e.Features, e.Forms = true, whole.Identities, whole.Features, whole.Forms
	return nil
}

// keyOf reads what presence says; the zero key when it says nothing that can be used.
func keyOf(st *stanza.Stanza) key {
	if st == nil || !st.Has(NS, "c") {
		return key{}
	}
	e := st.Child(NS, "c")
	k := key{e.Attr("hash"), e.Attr("node"), e.Attr("ver")}
	if k.hash == "" || k.node == "" || k.ver == "" || len(k.hash)+len(k.node)+len(k.ver) > 1024 {
		return key{} // XEP-0115 §13: what has no hash is in the legacy format, and ignored
	}
	return k
}

// ownPresence looks at the presence that a client broadcasts. What follows from it is
// done after everybody else has seen it.
func (c *Caps) ownPresence(ctx context.Context, e *module.Passage) error {
	s, k := e.Session, keyOf(e.Stanza)
	if e.Stanza.Type != stanza.Available || k == (key{}) || k == keyOf(s.State().Presence) {
		return nil
	}
	g := guest{entity: s.JID, account: s.Bare, session: s, key: k}
	if f := session.FlowOf(ctx); f != nil {
		f.After(func(ctx context.Context) { c.resolve(ctx, g) })
	}
	return nil
}

// presenceIn looks at presence from elsewhere.
func (c *Caps) presenceIn(ctx context.Context, e *module.Passage) error {
	from := e.Stanza.From
	if c.Local(from) || !from.IsFull() {
		return nil
	}
	switch k := keyOf(e.Stanza); {
	case e.Stanza.Type == stanza.Unavailable:
		c.forget(from)
	case e.Stanza.Type == stanza.Available && k != (key{}):
		c.mu.Lock()
		for j := range c.remote {
			if len(c.remote) < maxSingle {
				break
			}
			delete(c.remote, j)
		}
		c.remote[from] = k
		c.mu.Unlock()
		c.resolve(ctx, guest{entity: from, account: e.Stanza.To.Bare(), key: k})
	}
	return nil
}

// announced is what an entity says in its latest presence.
func (c *Caps) announced(entity jid.JID) key {
	if s := c.Sessions.Find(entity); s != nil && !s.Remote() {
		return keyOf(s.State().Presence)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.remote[entity]
}

// Of is what an available entity can do, nil when that is not known.
func (c *Caps) Of(ctx context.Context, entity jid.JID) (*Info, error) {
	k := c.announced(entity)
	if k == (key{}) {
		return nil, nil
	}
	c.mu.Lock()
	alone, ok := c.single[entity]
	c.mu.Unlock()
	if ok && alone.key == k {
		return alone.info, nil
	}
	if algorithm(k.hash) == nil {
		return nil, nil
	}
	return c.verified(ctx, k)
}

// forget drops what is known of an entity that is gone.
func (c *Caps) forget(entity jid.JID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.single, entity)
	delete(c.remote, entity)
}
