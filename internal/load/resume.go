package load

import (
	"context"
	"fmt"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// resume has all sessions but the last lose their connections at the same moment. While they are away the last one
// sends messages to each; then they log in again, resume their streams (XEP-0198 §5) and read what has come: that is
// measured.
func (g *generator) resume(ctx context.Context) error {
	clients, err := g.logIn(ctx)
	if err != nil {
		return err
	}
	defer func() {
		for _, m := range g.kept {
			m.Drop() // the connection that it has now
		}
	}()
	last := len(clients) - 1
	sender := clients[last].JID().String()
	all := make([]*returning, last)
	for n := range all {
		if all[n], err = g.returning(n, uint32(last), sender); err != nil {
			return err
		}
	}
	g.progress("cutting %d connections", last)
	for _, r := range all {
		r.session.Drop()
	}
	if err := Rest(ctx, g.cfg.ServerPIDs...); err != nil {
		return err
	}
	if err := g.whileAway(ctx, all); err != nil {
		return err
	}
	g.progress("coming back")
	m, err := g.begin()
	if err != nil {
		return err
	}
	if err := g.parallel(ctx, last, func(ctx context.Context, n int) error { return g.comeBack(ctx, n, all[n]) }); err != nil {
		return err
	}
	if err := m.end(g.report, uint64(last)); err != nil {
		return err
	}
	return g.parallel(ctx, last, func(ctx context.Context, n int) error { return g.closing(ctx, all[n]) })
}

// returning is a session that loses its connection.
type returning struct {
	session *client.Managed
	out     pattern // what the sender sends to it
	in      receiver
	got     int
	back    bool
}

func (g *generator) returning(n int, sender uint32, from string) (*returning, error) {
	r := &returning{session: g.kept[n]}
	to := r.session.JID().String()
	var err error
	if r.out, err = chatPattern(sender, to, g.cfg.Size); err != nil {
		return nil, err
	}
	r.in = receiver{own: uint32(n), self: to, faults: g.faults, sources: []source{{number: sender, jid: from}}}
	return r, r.in.expect(r.out, "message")
}

// whileAway sends messages to those who are away, and waits until the server has handled them.
func (g *generator) whileAway(ctx context.Context, all []*returning) error {
	sender := g.kept[len(all)]
	g.progress("sending %d messages to each", g.cfg.Away)
	for number := range g.cfg.Away {
		for _, r := range all {
			r.out.number(r.out.bytes, uint32(number))
			if err := sender.Raw(ctx, r.out.bytes); err != nil {
				return err
			}
		}
	}
	if err := roundTrip(ctx, sender.Conn); err != nil {
		return err
	}
	return Rest(ctx, g.cfg.ServerPIDs...)
}

// comeBack resumes a session and reads what waits for it.
func (g *generator) comeBack(ctx context.Context, n int, r *returning) error {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	acc, resource, err := g.cfg.Accounts.session(n, g.cfg.Sessions)
	if err != nil {
		return err
	}
	c, err := client.LogIn(ctx, g.clientConfig(n, acc, resource))
	if err != nil {
		return err
	}
	if err = r.session.Resume(ctx, c); err != nil {
		c.Drop()
	}
	for err == nil && r.got < g.cfg.Away {
		var e xml.Element
		if e, err = r.session.Next(ctx); err == nil {
			r.look(&e)
		}
	}
	if r.back = err == nil; !r.back {
		g.faults.note(func(f *Faults) { f.Broken++ }, fmt.Sprintf("session %s did not come back: %v", r.in.self, err))
	}
	return nil
}

// look checks a message.
func (r *returning) look(e *xml.Element) {
	if e.Local != "message" {
		return
	}
	r.got++
	r.in.scan(e.Append(nil, xml.NSClient))
}

// closing sees what else comes, and counts what has not.
func (g *generator) closing(ctx context.Context, r *returning) error {
	if r.back {
		ctx, cancel := context.WithTimeout(ctx, loginTimeout)
		defer cancel()
		if err := untilAnswer(ctx, r.session, r.look); err != nil {
			g.faults.note(func(f *Faults) { f.Broken++ }, fmt.Sprintf("session %s, after it came back: %v", r.in.self, err))
		}
	}
	s := &r.in.sources[0]
	if n := r.in.lost(s, uint32(g.cfg.Away)); n > 0 {
		g.faults.note(func(f *Faults) { f.Lost += n }, fmt.Sprintf("%d messages to %s never came", n, r.in.self))
	}
	return nil
}
