package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// loginTimeout is what one log-in, or one registration, may take.
const loginTimeout = time.Minute

// clientConfig is for the session with a number: an account that asks for a resource. The server's certificate is not looked at: what is
// measured is not a client that should protect anybody.
func (g *generator) clientConfig(n int, a Account, resource string) client.Config {
	cfg := client.Config{
		Addr: g.cfg.addr(n), TLS: g.cfg.TLS, TLSConfig: &tls.Config{InsecureSkipVerify: true},
		JID: a.JID, Password: a.Password, Mechanism: g.cfg.Mechanism,
	}
	if full, err := a.JID.WithResource(resource); err == nil {
		cfg.JID = full
	}
	return cfg
}

// connect logs every session in.
func (g *generator) connect(ctx context.Context) error {
	clients, err := g.logIn(ctx)
	if err != nil {
		return err
	}
	g.takeOver(clients)
	return nil
}

// logIn logs every session in.
func (g *generator) logIn(ctx context.Context) ([]*client.Conn, error) {
	g.progress("logging in %d sessions", g.cfg.Sessions)
	all := make([]*client.Conn, g.cfg.Sessions)
	g.kept = make([]*client.Managed, g.cfg.Sessions)
	err := g.parallel(ctx, len(all), func(ctx context.Context, n int) error {
		ctx, cancel := context.WithTimeout(ctx, loginTimeout)
		defer cancel()
		acc, resource, err := g.cfg.Accounts.session(n, g.cfg.Sessions)
		if err != nil {
			return err
		}
		c, err := client.Dial(ctx, g.clientConfig(n, acc, resource))
		if err != nil {
			return err
		}
		all[n] = c
		if g.cfg.Available && g.cfg.Scenario != Login {
			if err := announce(ctx, c); err != nil {
				return err
			}
		}
		if g.cfg.managed() {
			g.kept[n], err = manage(ctx, c)
		}
		return err
	})
	if err != nil {
		for _, c := range all {
			if c != nil {
				c.Drop()
			}
		}
		return nil, err
	}
	return all, nil
}

// announce does what a client does after log-in: it fetches the roster (RFC 6121 §2.2) and sends initial presence
// (RFC 6121 §4.2). When it returns the server has handled both.
func announce(ctx context.Context, c *client.Conn) error {
	roster := xml.New(xml.NSClient, "iq", "type", "get").With(xml.New(nsRoster, "query"))
	if _, err := c.IQ(ctx, roster); err != nil {
		return fmt.Errorf("fetch the roster of %s: %w", c.JID(), err)
	}
	if err := c.Raw(ctx, []byte("<presence/>")); err != nil {
		return err
	}
	return roundTrip(ctx, c)
}

const nsRoster = "jabber:iq:roster"

// roundTrip returns when the server has handled all that was sent before.
func roundTrip(ctx context.Context, c *client.Conn) error {
	_, err := c.IQ(ctx, pingOf(c))
	if refused := (*client.StanzaError)(nil); errors.As(err, &refused) {
		return nil // that is an answer too
	}
	return err
}

// pingOf is a request that any server answers.
func pingOf(c *client.Conn) xml.Element {
	return xml.New(xml.NSClient, "iq", "type", "get", "to", c.JID().Domain()).With(xml.New("urn:xmpp:ping", "ping"))
}

// takeOver makes links of clients. What these have read and not looked at was sent before the load begins.
func (g *generator) takeOver(clients []*client.Conn) {
	for n, c := range clients {
		nc := c.NetConn()
		nc.SetDeadline(time.Time{})
		g.addLink(nc, n, c.JID().String())
		if m := g.kept[n]; m != nil {
			g.links[n].manage(m, g.cfg.Rate == 0)
		}
	}
}

func (g *generator) addLink(nc net.Conn, n int, jid string) {
	g.links = append(g.links, &link{nc: nc, jid: jid, number: uint32(n), in: receiver{own: uint32(n), self: jid, faults: g.faults}})
}

// connectRaw opens the connections to a relay, which joins the two of a pair.
func (g *generator) connectRaw(ctx context.Context) error {
	var d net.Dialer
	for n := range g.cfg.Sessions {
		nc, err := d.DialContext(ctx, "tcp", g.cfg.addr(n))
		if err != nil {
			return err
		}
		g.addLink(nc, n, fmt.Sprintf("bench%d@localhost/bench0", n))
		g.links[n].in.self = "" // a relay stamps nothing
		if _, err := fmt.Fprintf(nc, "%d\n", n/2); err != nil {
			return err
		}
	}
	return nil
}

// checkAlive counts the sessions that the server has ended meanwhile.
func (g *generator) checkAlive() {
	for _, l := range g.links {
		if err := alive(l.nc); err != nil {
			g.broken(l, err)
		}
	}
}

// alive drops what a connection has received, and returns an error if its end was there.
func alive(nc net.Conn) error {
	if secure, ok := nc.(*tls.Conn); ok {
		nc = secure.NetConn()
	}
	raw, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	var buf [4 << 10]byte
	var end error
	err = raw.Control(func(fd uintptr) {
		for {
			n, err := unix.Read(int(fd), buf[:])
			switch {
			case err == unix.EAGAIN:
				return
			case err != nil && err != unix.EINTR:
				end = err
				return
			case err == nil && n == 0:
				end = errors.New("the server has closed the connection")
				return
			}
		}
	})
	return errors.Join(err, end)
}
