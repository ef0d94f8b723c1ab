package module

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/account"
	"github.com/starling-im/starling/internal/cache"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// Core is what the server lends to every feature.
type Core struct {
	DB       *store.DB
	Accounts *account.Accounts
	Sessions *session.Table
	Router   Router
	Hooks    *Hooks
	Metrics  prometheus.Registerer
	Domains  []jid.JID // served here, the first is the default
	Version  string    // of the server
	Now      func() time.Time
	Caches   cache.Hub // of what features keep in memory
	Shared   bool      // other nodes may use the database's file, if it is one
	// Go runs a loop until the server stops; the loop ends with its context.
	Go func(name string, loop func(context.Context))
}

// Router is how stanzas that the server makes go their way.
type Router interface {
	// Route sends a stanza where its 'to' says.
	Route(ctx context.Context, st *stanza.Stanza)
	// Bounce answers a stanza with an error, if it may be answered (RFC 6120 §8.3.1).
	Bounce(ctx context.Context, st *stanza.Stanza, err error)
	// Deliver hands a stanza to one session of this server, on whichever node.
	Deliver(ctx context.Context, to *session.Session, st *stanza.Stanza) bool
	// Tell gives a stanza to those sessions of a local account, on all nodes, that are of an audience.
	Tell(ctx context.Context, owner jid.JID, to session.Audience, st *stanza.Stanza)
	// Ask sends an iq get or set with an id of its own; its 'from' is the server or an
	// account here. done is called once, maybe before Ask returns. Who is asked must be connected to this node: of others
	// the reply would come to theirs.
	Ask(ctx context.Context, iq *stanza.Stanza, done ReplyFunc)
}

// ReplyFunc takes the reply to an iq that the server has sent: a result, an error, or
// nil when none has come in time. It runs where the reply came in, so what it waits
// for holds up whoever replied; nobody waits for it to be called, since the one who is
// asked may not be read before the present stanza is dealt with.
type ReplyFunc func(ctx context.Context, reply *stanza.Stanza)

// Host is one feature's view of the server.
type Host struct {
	*Core
	Name string
	Log  *slog.Logger
	set  *Set
}

// IQFunc answers an iq get or set: with the payload of the result (None for an
// empty one), or an error (RFC 6120 §8.2.3).
type IQFunc func(ctx context.Context, iq *stanza.Stanza) (xml.Element, error)

// Stranger is a client that has not authenticated.
type Stranger struct {
	Domain    jid.JID
	Addr      netip.Addr
	Encrypted bool
}

// StrangerFunc answers an iq of a client that has not authenticated.
type StrangerFunc func(ctx context.Context, who Stranger, iq *stanza.Stanza) (xml.Element, error)

// IQ registers who answers an iq of this type (stanza.Get or stanza.Set) and payload.
func (h *Host) IQ(t Target, typ, space, local string, fn IQFunc) {
	key := iqKey{t, typ, space, local}
	if _, taken := h.set.iq[key]; taken {
		panic(fmt.Sprintf("module %s: %v is answered by two features", h.Name, key))
	}
	h.set.iq[key] = fn
}

// Stranger registers who answers iqs of this payload before authentication.
func (h *Host) Stranger(typ, space, local string, fn StrangerFunc) {
	h.set.strangers[iqKey{0, typ, space, local}] = fn
}

// Provide makes v available to features that name this one in Needs.
func (h *Host) Provide(v any) { h.set.provided[h.Name] = v }

// Use is what the feature of that name provides. The caller names it in Needs.
func Use[T any](h *Host, name string) T {
	v, ok := h.set.provided[name].(T)
	if !ok {
		panic(fmt.Sprintf("module %s: %s provides no %T; is it in Needs?", h.Name, name, v))
	}
	return v
}

// Local tells whether a domain is served here.
func (c *Core) Local(j jid.JID) bool { return slices.Contains(c.Domains, j.Host()) }

// Modules lists the features that run, in the order of their start.
func (h *Host) Modules() []Info { return h.set.running }
