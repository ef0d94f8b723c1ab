// Package proxied lets load balancers say for whom they connect. A balancer that passes connections on begins each of them
// with a header of the PROXY protocol, version 1 or 2, which names the client; the connection then counts as the client's,
// in limits, throttles and logs. Only balancers that the configuration names are believed, and they must send it: from
// everybody else such a header is what it is to any server, no XML and no TLS.
//
// The header is read on a goroutine of its own before anybody else sees the connection, and not a byte more than it.
package proxied

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	headerTimeout = 5 * time.Second // balancers send the header with their first packet
	mostWaiting   = 1024            // connections whose header has not come, over all doors
)

// Conn is a connection that a balancer has made for a client.
type Conn struct {
	*net.TCPConn
	client *net.TCPAddr
}

// RemoteAddr is the client's address, a *net.TCPAddr.
func (c *Conn) RemoteAddr() net.Addr { return c.client }

// Balancers are the load balancers that are believed.
type Balancers struct {
	from    []netip.Prefix
	log     *slog.Logger
	within  time.Duration // in which a header has to come
	slots   chan struct{} // one for each header that is waited for
	headers *prometheus.CounterVec
}

// New makes the balancers of all doors from their networks; none turns the PROXY protocol off.
func New(from []netip.Prefix, log *slog.Logger, r prometheus.Registerer) *Balancers {
	b := &Balancers{
		from: from, log: log, within: headerTimeout, slots: make(chan struct{}, mostWaiting),
		headers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "starling_proxied_total", Help: "Connections from load balancers, by what became of their PROXY header.",
		}, []string{"outcome"}),
	}
	r.MustRegister(b.headers, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "starling_proxied_waiting", Help: "Connections from load balancers whose PROXY header has not come yet.",
	}, func() float64 { return float64(len(b.slots)) }))
	return b
}

// Listen returns a listener that accepts what l does, a *net.TCPConn each, and gives a *Conn for each connection that a
// balancer has made for a client. It takes l over: closing it closes l, and every connection that nobody has accepted.
func (b *Balancers) Listen(l net.Listener) net.Listener {
	if len(b.from) == 0 {
		return l
	}
	p := &listener{Listener: l, of: b, accepted: make(chan result)}
	p.ctx, p.halt = context.WithCancel(context.Background())
	p.tasks.Go(p.run)
	return p
}

// listener accepts on a goroutine of its own, so that no connection waits for the header of another.
type listener struct {
	net.Listener
	of       *Balancers
	accepted chan result
	ctx      context.Context // ends when the listener is closed
	halt     context.CancelFunc
	tasks    sync.WaitGroup
}

type result struct {
	nc  net.Conn
	err error
}

// Accept waits for the next connection that is ready to be served.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case r := <-l.accepted:
		return r.nc, r.err
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close ends the listener and whatever it waits for.
func (l *listener) Close() error {
	l.halt()
	err := l.Listener.Close()
	l.tasks.Wait()
	return err
}

func (l *listener) run() {
	for {
		nc, err := l.Listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			l.halt()
			return
		case err != nil:
			l.offer(result{err: err}) // whoever accepts decides when to go on
		case !l.of.trusts(nc.RemoteAddr()):
			l.offer(result{nc: nc})
		default:
			l.welcome(nc.(*net.TCPConn))
		}
	}
}

// offer waits until the connection is accepted.
func (l *listener) offer(r result) {
	select {
	case l.accepted <- r:
	case <-l.ctx.Done():
		if r.nc != nil {
			r.nc.Close()
		}
	}
}

// welcome reads the header of a balancer's connection while others go on.
func (l *listener) welcome(nc *net.TCPConn) {
	select {
	case l.of.slots <- struct{}{}:
	default:
		l.of.refuse(nc, "full", errors.New("too many others have not sent their header yet"))
		return
	}
	l.tasks.Go(func() {
		client, err := l.header(nc)
		<-l.of.slots
		switch {
		case err == nil && client == nil:
			l.of.headers.WithLabelValues("local").Inc()
			l.offer(result{nc: nc})
		case err == nil:
			l.of.headers.WithLabelValues("client").Inc()
			l.offer(result{nc: &Conn{nc, client}})
		case l.ctx.Err() != nil:
			nc.Close()
		case errors.Is(err, io.EOF): // not a byte: somebody looks whether the port is open
			l.of.headers.WithLabelValues("empty").Inc()
			nc.Close()
		case errors.Is(err, os.ErrDeadlineExceeded):
			l.of.refuse(nc, "slow", err)
		default:
			l.of.refuse(nc, "malformed", err)
		}
	})
}

// header reads who the client is, nil if the balancer speaks for itself.
func (l *listener) header(nc *net.TCPConn) (*net.TCPAddr, error) {
	if err := nc.SetReadDeadline(time.Now().Add(l.of.within)); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(l.ctx, func() { nc.CloseRead() })
	defer stop()
	client, err := read(nc)
	if err != nil {
		return nil, err
	}
	return client, nc.SetReadDeadline(time.Time{})
}

func (b *Balancers) trusts(peer net.Addr) bool {
	tcp, ok := peer.(*net.TCPAddr)
	if !ok {
		return false
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	return slices.ContainsFunc(b.from, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// refuse closes a connection that cannot be served, since nobody knows whose it is.
func (b *Balancers) refuse(nc *net.TCPConn, outcome string, err error) {
	b.headers.WithLabelValues(outcome).Inc()
	b.log.LogAttrs(context.Background(), slog.LevelWarn, "connection of a load balancer refused",
		slog.String("addr", nc.RemoteAddr().String()), slog.Any("err", err))
	nc.Close()
}
