package natsbus

import (
	"net"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/starling-im/starling/cluster/internal/bus"
)

const (
	watchClosely = 10 * time.Millisecond // between looks after something happened to a connection,
	watchSpan    = time.Second           // for this long;
	watchSlowly  = time.Second           // otherwise
)

// watch turns the server's list of connections into hints. It looks when the server has spoken about one of them, since
// a look costs about a microsecond for each. It looks again for a while, since the server does not say when a connection
// is ready.
func (s *embedded) watch() {
	up := map[string]bool{} // by node id
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last, until time.Time // of the looks, and of looking closely
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.ear.routes:
			until = time.Now().Add(watchSpan)
			if early := watchClosely - time.Since(last); early > 0 { // strangers may keep the server talking
				timer.Reset(early)
				continue
			}
		case <-timer.C:
		}
		s.compare(up, s.connected())
		last = time.Now()
		if last.Before(until) {
			timer.Reset(watchClosely)
		} else {
			timer.Reset(watchSlowly)
		}
	}
}

// compare gives a hint for each difference, and brings the known state up to date.
func (s *embedded) compare(up, now map[string]bool) {
	for id := range up {
		if !now[id] {
			delete(up, id)
			s.hint(bus.Hint{Peer: id})
		}
	}
	for id := range now {
		if !up[id] {
			up[id] = true
			s.hint(bus.Hint{Peer: id, Up: true})
		}
	}
	if len(up) > 0 {
		s.proven.Store(s.keys.Load())
	}
	if old := s.peers.Swap(int64(len(up))); (old == 0) != (len(up) == 0) {
		s.find.wake()
	}
}

// connected returns the peers to which both lanes have their connection.
func (s *embedded) connected() map[string]bool {
	lanes := map[string]int{} // connections by server name
	for _, r := range s.routes() {
		if r.Account != "" {
			lanes[r.RemoteName]++
		}
	}
	ids := map[string]bool{}
	for name, n := range lanes {
		if n >= bus.Lanes {
			ids[idOf(name)] = true
		}
	}
	return ids
}

func (s *embedded) routes() []*server.RouteInfo {
	z, err := s.server.Routez(nil)
	if err != nil {
		return nil
	}
	return z.Routes
}

// connectedHost says whether there is a connection to a peer on the host of an address.
func (s *embedded) connectedHost(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	for _, r := range s.routes() {
		if r.IP == host {
			return true
		}
	}
	return false
}
