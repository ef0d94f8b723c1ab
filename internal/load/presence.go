package load

import (
	"context"
	"fmt"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// presence measures changes of presence in groups of mutual contacts. In each group one change is under way at a time:
// a session changes its presence when it has seen that of the session before it.
func (g *generator) presence(ctx context.Context) error {
	g.cfg.Available = true
	clients, err := g.logIn(ctx)
	if err != nil {
		return err
	}
	err = g.befriend(ctx, clients)
	g.takeOver(clients)
	if err != nil {
		return err
	}
	size := g.cfg.Contacts
	for n, l := range g.links {
		first := n - n%size
		p, err := presencePattern(l.number, g.cfg.Size)
		if err != nil {
			return err
		}
		l.ready(p, 1)
		l.in.self, l.in.echoes = "", true // Choice of the server: to the bare or the full JID (RFC 6121 §4.4.2)
		if err := l.in.expect(p, "presence"); err != nil {
			return err
		}
		before := g.links[first+(n-first+size-1)%size]
		l.peer = before
		for _, other := range g.links[first : first+size] {
			if other != l {
				l.in.sources = append(l.in.sources, source{number: other.number, jid: other.jid})
			}
		}
	}
	return g.presenceLoop(ctx)
}

func (g *generator) presenceLoop(ctx context.Context) error {
	seen := make([]uint32, len(g.links)) // of the presences of the session before; each is its link's reader's
	g.progress("%d groups of %d change their presence", len(g.links)/g.cfg.Contacts, g.cfg.Contacts)
	opening := func(l *link) int {
		if int(l.number)%g.cfg.Contacts == 0 {
			return 1
		}
		return 0
	}
	t := g.start(opening, func(l *link, _ int) int {
		next := l.in.source(l.peer.number).next
		n := next - seen[l.number]
		seen[l.number] = next
		return int(n)
	})
	defer t.finish()
	return g.interval(ctx)
}

// friend is a session on its way to mutual subscriptions with its group (RFC 6121 §3).
type friend struct {
	c          *client.Conn
	strangers  []jid.JID           // contacts without a subscription in both directions
	asked      map[string]struct{} // those who have asked for one
	subscribed map[string]struct{} // those who have agreed to ours
}

// befriend gives the sessions of each group subscriptions to each other's presence, as far as they have none. It goes
// in steps that each session takes before any takes the next, so that none waits for one whose turn has not come.
func (g *generator) befriend(ctx context.Context, clients []*client.Conn) error {
	g.progress("subscribing %d sessions in groups of %d", len(clients), g.cfg.Contacts)
	all := make([]*friend, len(clients))
	for n, c := range clients {
		all[n] = &friend{c: c, asked: map[string]struct{}{}, subscribed: map[string]struct{}{}}
	}
	steps := []func(ctx context.Context, f *friend, group []*friend) error{
		func(ctx context.Context, f *friend, group []*friend) error { return f.ask(ctx, group) },
		func(ctx context.Context, f *friend, _ []*friend) error { return f.until(ctx, &f.asked) },
		func(ctx context.Context, f *friend, _ []*friend) error { return f.until(ctx, &f.subscribed) },
		func(ctx context.Context, f *friend, _ []*friend) error { return roundTrip(ctx, f.c) },
	}
	for _, step := range steps {
		err := g.parallel(ctx, len(all), func(ctx context.Context, n int) error {
			ctx, cancel := context.WithTimeout(ctx, loginTimeout)
			defer cancel()
			first := n - n%g.cfg.Contacts
			if err := step(ctx, all[n], all[first:first+g.cfg.Contacts]); err != nil {
				return fmt.Errorf("subscribe %s: %w", all[n].c.JID(), err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// ask looks in the roster who is missing, and asks them.
func (f *friend) ask(ctx context.Context, group []*friend) error {
	reply, err := f.c.IQ(ctx, xml.New(xml.NSClient, "iq", "type", "get").With(xml.New(nsRoster, "query")))
	if err != nil {
		return err
	}
	both := map[string]bool{}
	for item := range reply.Child(nsRoster, "query").Elements() {
		both[item.Attr("jid")] = item.Attr("subscription") == "both"
	}
	for _, other := range group {
		to := other.c.JID().Bare()
		if other == f || both[to.String()] {
			continue
		}
		f.strangers = append(f.strangers, to)
		if err := f.c.Send(ctx, xml.New(xml.NSClient, "presence", "type", "subscribe", "to", to.String())); err != nil {
			return err
		}
	}
	return nil
}

// until reads, and agrees to every request, until seen holds everybody.
func (f *friend) until(ctx context.Context, seen *map[string]struct{}) error {
	for len(*seen) < len(f.strangers) {
		e, err := f.c.Next(ctx)
		if err != nil {
			return err
		}
		if e.Local != "presence" {
			continue
		}
		from, err := jid.Parse(e.Attr("from"))
		if err != nil {
			return err
		}
		who := from.Bare().String()
		switch e.Attr("type") {
		case "subscribe":
			f.asked[who] = struct{}{}
			if err := f.c.Send(ctx, xml.New(xml.NSClient, "presence", "type", "subscribed", "to", who)); err != nil {
				return err
			}
		case "subscribed":
			f.subscribed[who] = struct{}{}
		}
	}
	return nil
}
