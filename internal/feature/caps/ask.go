package caps

import (
	"context"

	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

const (
	maxSingle = 10_000 // entities of which something is kept for themselves
	maxQueued = 10_000 // entities that wait for what stands behind a hash
)

// guest is an entity whose capabilities are wanted.
type guest struct {
	entity, account jid.JID
	session         *session.Session // nil when it is not of this server
	key             key
}

// question is what guests have in common who wait for the same answer. What cannot be
// verified is asked of each.
func (g *guest) question() string {
	if algorithm(g.key.hash) == nil {
		return g.key.name() + " " + g.entity.String()
	}
	return g.key.name()
}

// resolve finds out what a guest can do: XEP-0115 §5.4.
func (c *Caps) resolve(ctx context.Context, g guest) {
	if algorithm(g.key.hash) != nil {
		info, err := c.verified(ctx, g.key)
		if err != nil {
			c.Log.Error("capabilities not looked up", "entity", g.entity.String(), "err", err)
			return
		}
		if info != nil {
			c.tell(ctx, g, info)
			return
		}
	}
	if c.enqueue(g) {
		c.ask(ctx, g)
	}
}

// enqueue adds a guest to those who wait. It reports whether it is the first, and is to be asked.
func (c *Caps) enqueue(g guest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.queued >= maxQueued {
		return false
	}
	c.queued++
	q := g.question()
	c.waiting[q] = append(c.waiting[q], g)
	return len(c.waiting[q]) == 1
}

// ask puts the question to a guest: XEP-0115 §6.2.
func (c *Caps) ask(ctx context.Context, g guest) {
	c.asked.Inc()
	payload := xml.New(nsInfo, "query", "node", g.key.node+"#"+g.key.ver)
	iq := stanza.NewIQ(stanza.Get, "", g.account.Host(), g.entity, payload)
	c.Router.Ask(ctx, iq, func(ctx context.Context, reply *stanza.Stanza) { c.answered(ctx, g, reply) })
}

// answered judges a guest's answer. When it does not settle the matter for all who
// wait, the next of them is asked.
func (c *Caps) answered(ctx context.Context, g guest, reply *stanza.Stanza) {
	info, sound := c.judge(g, reply)
	if sound {
		c.remember(g.key, info)
		if err := c.save(ctx, g.key, info); err != nil {
			c.Log.Error("capabilities not kept", "err", err)
		}
		for _, other := range c.release(g.question()) {
			c.tell(ctx, other, info)
		}
		return
	}
	if info != nil {
		c.keepSingle(g, info)
		c.tell(ctx, g, info)
	}
	if other, ok := c.next(g.question()); ok { // XEP-0115 §5.4 rule 3
		c.ask(ctx, other)
	}
}

// judge reads an answer: nil when it is none, and whether it is what the hash stands
// for. Choice: what does not fit the hash is believed of the entity itself, which may
// say what it wants, and of nobody else.
func (c *Caps) judge(g guest, reply *stanza.Stanza) (info *Info, sound bool) {
	if reply == nil || reply.Type != stanza.Result || !reply.Has(nsInfo, "query") {
		return nil, false
	}
	q := reply.Child(nsInfo, "query")
	info, s, err := digest(&q)
	h := algorithm(g.key.hash)
	switch {
	case err != nil:
		c.wrong.Inc()
		return nil, false
	case h == nil:
		return info, false
	case verification(h, s) == g.key.ver:
		return info, true
	}
	c.wrong.Inc()
	return info, false
}

// release takes all who wait for an answer.
func (c *Caps) release(question string) []guest {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.waiting[question]
	delete(c.waiting, question)
	c.queued -= len(all)
	return all
}

// next takes the guest who was asked from those who wait, and returns the one after.
func (c *Caps) next(question string) (g guest, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rest := c.waiting[question][1:]
	c.queued--
	if len(rest) == 0 {
		delete(c.waiting, question)
		return guest{}, false
	}
	c.waiting[question] = rest
	return rest[0], true
}

func (c *Caps) keepSingle(g guest, info *Info) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for j := range c.single {
		if len(c.single) < maxSingle {
			break
		}
		delete(c.single, j)
	}
	c.single[g.entity] = own{g.key, info}
}

// tell passes on what a guest can do, if it still says so.
func (c *Caps) tell(ctx context.Context, g guest, info *Info) {
	if g.session != nil && c.Sessions.Find(g.entity) != g.session || c.announced(g.entity) != g.key {
		return
	}
	err := c.Known.Each(ctx, &Change{Entity: g.entity, Account: g.account, Session: g.session, Info: info})
	if err != nil {
		c.Log.Error("capabilities not passed on", "entity", g.entity.String(), "err", err)
	}
}
