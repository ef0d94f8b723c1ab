package natsbus

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/ipv4"

	"github.com/starling-im/starling/cluster/internal/bus"
)

const (
	announcePrefix = "starling-cluster 1\n"
	maxAnnounce    = 512 // bytes
	forgetAfter    = 15  // announcements missed
)

// announcement says where a node can be reached. It is signed with a key made from the join token; an old one that is
// sent again makes nodes dial an address where nobody has a certificate, no more.
type announcement struct {
	id   string
	host string // empty: where it came from
	port uint16
}

// append encodes and signs the announcement.
func (a announcement) append(b []byte, key []byte) []byte {
	b = append(b, announcePrefix...)
	b = append(b, byte(len(a.id)))
	b = append(b, a.id...)
	b = append(b, byte(len(a.host)))
	b = append(b, a.host...)
	b = binary.BigEndian.AppendUint16(b, a.port)
	return append(b, mac(b, key)...)
}

func mac(b, key []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(b)
	return h.Sum(nil)
}

var errForeign = errors.New("announcement of another cluster or with another join token")

// parseAnnouncement checks and decodes an announcement.
func parseAnnouncement(b []byte, keys [][]byte) (announcement, error) {
	n := len(b) - sha256.Size
	if n < 0 || !bytes.HasPrefix(b, []byte(announcePrefix)) {
		return announcement{}, errForeign
	}
	body, sum := b[:n], b[n:]
	if !slices.ContainsFunc(keys, func(key []byte) bool { return hmac.Equal(mac(body, key), sum) }) {
		return announcement{}, errForeign
	}
	id, rest, ok := cutString(body[len(announcePrefix):])
	host, rest, ok2 := cutString(rest)
	if !ok || !ok2 || len(rest) != 2 {
		return announcement{}, errors.New("malformed announcement")
	}
	return announcement{string(id), string(host), binary.BigEndian.Uint16(rest)}, nil
}

func cutString(b []byte) (s, rest []byte, ok bool) {
	if len(b) == 0 || len(b)-1 < int(b[0]) {
		return nil, nil, false
	}
	end := 1 + int(b[0])
	return b[1:end], b[end:], true
}

// multicast announces this node to a group, and hears others.
type multicast struct {
	group    *net.UDPAddr
	only     string          // the one interface to use, if not empty
	loopback bool            // this node can be reached from this machine only
	keys     func() [][]byte // the first one is ours
	self     announcement
	every    time.Duration
	hear     func(address string, until time.Time)
	log      *slog.Logger
	sparse   *sparseness
	again    chan struct{} // a stranger was heard: announce now
}

// newMulticast reads the configured group.
func newMulticast(conf *Embedded, keys func() [][]byte, log *slog.Logger) (*multicast, error) {
	group, err := netip.ParseAddrPort(conf.Multicast)
	if err != nil || !group.Addr().Is4() || !group.Addr().IsMulticast() || group.Port() == 0 {
		return nil, &bus.Failure{
			Reason: fmt.Sprintf("%q is not a multicast group", conf.Multicast),
			Remedy: "write an IPv4 multicast address and a port, such as 239.255.42.99:7421", Err: err,
		}
	}
	if conf.Interface != "" {
		if _, err := net.InterfaceByName(conf.Interface); err != nil {
			return nil, &bus.Failure{
				Reason: fmt.Sprintf("there is no network interface %q", conf.Interface),
				Remedy: "name one that this machine has, or none", Err: err,
			}
		}
	}
	return &multicast{
		group: net.UDPAddrFromAddrPort(group), only: conf.Interface, keys: keys, every: conf.Announce, log: log,
		sparse: newSparseness(refusalsEvery), again: make(chan struct{}, 1),
	}, nil
}

// run announces and listens until the context ends. While there is no interface to do so, it tries again.
func (m *multicast) run(ctx context.Context) {
	for {
		if err := m.session(ctx); err != nil && ctx.Err() == nil {
			if n, ok := m.sparse.say(err.Error()); ok {
				m.log.Warn("cannot announce this node by multicast", "group", m.group, "err", err, "repeated", n)
			}
		}
		timer := time.NewTimer(m.every)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// session announces and listens on one socket.
func (m *multicast) session(ctx context.Context) error {
	interfaces, err := m.interfaces()
	if err != nil {
		return err
	}
	conn, err := net.ListenMulticastUDP("udp4", &interfaces[0], m.group)
	if err != nil {
		return fmt.Errorf("join the multicast group: %w", err)
	}
	out := ipv4.NewPacketConn(conn)
	if err := errors.Join(out.SetMulticastLoopback(true), out.SetControlMessage(ipv4.FlagInterface, true)); err != nil {
		_ = conn.Close()
		return fmt.Errorf("set up multicast: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer cancel()
		m.read(conn)
	})
	err = m.announce(ctx, out, interfaces[0].Index)
	_ = conn.Close()
	cancel()
	reader.Wait()
	return err
}

// announce sends to all interfaces, and joins the group on those that have come up since.
func (m *multicast) announce(ctx context.Context, out *ipv4.PacketConn, first int) error {
	joined := map[int]bool{first: true}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-m.again:
		case <-timer.C:
		}
		interfaces, err := m.interfaces()
		if err != nil {
			return err
		}
		var errs []error
		sent := false
		for _, i := range interfaces {
			if !joined[i.Index] && out.JoinGroup(&i, m.group) == nil {
				joined[i.Index] = true
			}
			_, err := out.WriteTo(m.self.append(nil, m.keys()[0]), &ipv4.ControlMessage{IfIndex: i.Index}, m.group)
			errs, sent = append(errs, err), sent || err == nil
		}
		if !sent {
			return fmt.Errorf("send to the multicast group: %w", errors.Join(errs...))
		}
		timer.Reset(m.every)
	}
}

// read hears others until the socket is closed.
func (m *multicast) read(conn *net.UDPConn) {
	buf := make([]byte, maxAnnounce)
	known := map[string]bool{}
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		a, err := parseAnnouncement(buf[:n], m.keys())
		switch {
		case err != nil:
			if n, ok := m.sparse.say(from.Addr().String() + err.Error()); ok {
				m.log.Info("announcement ignored", "address", from, "reason", err, "repeated", n)
			}
		case a.id == m.self.id:
		default:
			m.heard(a, from, known)
		}
	}
}

// heard passes an address on, and answers a stranger.
func (m *multicast) heard(a announcement, from netip.AddrPort, known map[string]bool) {
	host := from.Addr().Unmap()
	if a.host != "" {
		var err error
		if host, err = netip.ParseAddr(a.host); err != nil {
			return
		}
	}
	m.hear(netip.AddrPortFrom(host, a.port).String(), time.Now().Add(forgetAfter*m.every))
	if known[a.id] || len(known) >= maxAddresses {
		return
	}
	known[a.id] = true
	select {
	case m.again <- struct{}{}:
	default:
	}
}

// interfaces returns those to announce on, at least one: all that can, or the loopback one if this node can be reached
// there only or there is no other.
func (m *multicast) interfaces() ([]net.Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	var good, local []net.Interface
	for _, i := range all {
		switch {
		case i.Flags&net.FlagUp == 0 || m.only != "" && i.Name != m.only:
		case i.Flags&net.FlagLoopback != 0:
			local = append(local, i)
		case i.Flags&net.FlagMulticast != 0 && !m.loopback:
			good = append(good, i)
		}
	}
	if len(good) == 0 {
		good = local
	}
	if len(good) == 0 {
		return nil, errors.New("no network interface is up")
	}
	return good, nil
}
