package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// failoverTimeout is how long what a contact sees of a node's death is waited for.
const failoverTimeout = 20 * time.Second

// failover kills the last node of a group, and takes the time until a user elsewhere is told that a contact of theirs
// there is gone, and until they get an answer instead of silence when they ask that contact's client. The group is started for
// it, and is of no use afterwards.
func (b *bench) failover(ctx context.Context, g *group) error {
	up, err := g.start(ctx, b)
	if err != nil {
		return err
	}
	defer func() { _ = up.stop() }() // one has been killed already
	last := up.nodes[len(up.nodes)-1]
	if _, err := b.loadAt(ctx, g.name, up.addrs()[:1], up.pids(), "login", "--register", "-n", "2", "--tls", "none"); err != nil {
		return err
	}
	romeo, err := b.person(ctx, up.nodes[0].addr, 0)
	if err != nil {
		return err
	}
	defer romeo.Drop()
	juliet, err := b.person(ctx, last.addr, 1)
	if err != nil {
		return err
	}
	defer juliet.Drop()
	if err := befriend(ctx, romeo, juliet); err != nil {
		return err
	}
	began := time.Now()
	if err := last.cmd.Process.Kill(); err != nil {
		return err
	}
	told, answered, err := watch(ctx, romeo, juliet.JID(), began)
	if err != nil {
		return err
	}
	for r, d := range map[row]time.Duration{goneTold: told, goneAnswer: answered} {
		if d > 0 {
			b.add(r, g.name, float64(d.Microseconds())/1000)
		}
	}
	fmt.Fprintf(os.Stderr, "%s, node killed: contact told after %v, answer after %v\n", g.name, told, answered)
	return nil
}

// person logs in one of the accounts of the load.
func (b *bench) person(ctx context.Context, addr string, n int) (*client.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	who, err := jid.New("bench"+strconv.Itoa(n), "localhost", "failover")
	if err != nil {
		return nil, err
	}
	return client.Dial(ctx, client.Config{Addr: addr, TLS: client.None, JID: who, Password: "bench-password", Mechanism: "PLAIN"})
}

// befriend has one person see the presence of another.
func befriend(ctx context.Context, who, whom *client.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for _, c := range []*client.Conn{who, whom} {
		if _, err := c.IQ(ctx, xml.New(xml.NSClient, "iq", "type", "get").With(xml.New("jabber:iq:roster", "query"))); err != nil {
			return err
		}
		if err := c.Raw(ctx, []byte("<presence/>")); err != nil {
			return err
		}
		if err := await(ctx, c, presenceOf(c.JID())); err != nil { // a request that comes before is not always shown
			return err
		}
	}
	presence := func(typ string, to jid.JID) xml.Element {
		return xml.New(xml.NSClient, "presence", "type", typ, "to", to.Bare().String())
	}
	if err := who.Send(ctx, presence("subscribe", whom.JID())); err != nil {
		return err
	}
	if err := await(ctx, whom, func(e *xml.Element) bool { return e.Attr("type") == "subscribe" }); err != nil {
		return err
	}
	if err := whom.Send(ctx, presence("subscribed", who.JID())); err != nil {
		return err
	}
	return await(ctx, who, presenceOf(whom.JID()))
}

func presenceOf(who jid.JID) func(e *xml.Element) bool {
	return func(e *xml.Element) bool {
		return e.Local == "presence" && e.Attr("type") == "" && e.Attr("from") == who.String()
	}
}

func await(ctx context.Context, c *client.Conn, is func(e *xml.Element) bool) error {
	for {
		e, err := c.Next(ctx)
		if err != nil {
			return err
		}
		if is(&e) {
			return nil
		}
	}
}

// watch asks somebody's client again and again, and returns after how long the first error came back, and after how long
// they were said to be unavailable; 0 for what does not happen.
func watch(ctx context.Context, c *client.Conn, whom jid.JID, since time.Time) (told, answered time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, failoverTimeout)
	defer cancel()
	asking := make(chan error, 1)
	asks, enough := context.WithCancel(ctx)
	go func() { asking <- askOften(asks, c, whom) }()
	for told == 0 || answered == 0 {
		e, failed := c.Next(ctx)
		if failed != nil {
			err = failed
			break
		}
		switch {
		case e.Attr("from") != whom.String():
		case told == 0 && e.Local == "presence" && e.Attr("type") == "unavailable":
			told = time.Since(since)
		case answered == 0 && e.Local == "iq" && e.Attr("type") == "error":
			answered = time.Since(since)
		}
	}
	enough()
	err = errors.Join(err, <-asking)
	if ctx.Err() != nil {
		err = nil // that is what was to be seen
	}
	return told, answered, err
}

// askOften pings somebody every 10 ms until the context ends.
func askOften(ctx context.Context, c *client.Conn, whom jid.JID) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		ping := xml.New(xml.NSClient, "iq", "type", "get", "id", c.ID(), "to", whom.String()).With(xml.New("urn:xmpp:ping", "ping"))
		if err := c.Send(ctx, ping); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
