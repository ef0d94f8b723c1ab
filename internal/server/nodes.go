package server

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/internal/config"
	"github.com/starling-im/starling/internal/fleet"
	"github.com/starling-im/starling/internal/membership"
	"github.com/starling-im/starling/internal/settings"
)

// beginTime bounds how long a server that starts waits for its cluster before it takes clients.
const beginTime = 10 * time.Second

// NodeName is the name of a server's node: as configured, or the host's with some letters that stand for the data
// folder, so that it is the same after each start and several servers on a host have different ones.
func NodeName(cfg *config.Config) (string, error) {
	if cfg.Cluster.Node != "" {
		return cfg.Cluster.Node, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("name this node: %w", err)
	}
	data, err := filepath.Abs(cfg.Data)
	if err != nil {
		return "", fmt.Errorf("name this node: %w", err)
	}
	sum := sha256.Sum256([]byte(data))
	host, _, _ = strings.Cut(host, ".")
	return host[:min(len(host), 48)] + "-" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:4]), nil
}

// newNode makes the server's node of a cluster, which stands alone for now and opens no port.
func (s *Server) newNode(ctx context.Context, tune []Tune) error {
	name, err := NodeName(s.cfg)
	if err != nil {
		return err
	}
	c := &s.cfg.Cluster
	var nats []string
	for _, u := range c.NATS {
		nats = append(nats, u.Reveal())
	}
	cfg := cluster.Config{
		Name: name, Cluster: c.Name, Token: c.Token.Reveal(), TokenFile: c.TokenFile,
		Listen: c.Listen, Advertise: c.Advertise, Peers: c.Peers, DNS: c.DNS, Multicast: c.Multicast, NATS: strings.Join(nats, ","),
		Log: membership.Quiet(s.log), Registerer: s.registry,
	}
	for _, change := range tune {
		change(&cfg)
	}
	s.node, err = cluster.Start(ctx, cfg)
	return err
}

// newMembership makes what brings the node into its cluster and out of it.
func (s *Server) newMembership(version string) error {
	var err error
	s.members, err = membership.New(s.node, membership.Options{
		Config: s.cfg.Cluster, DB: s.db, Settings: settings.New(s.db, s.core.Now), Version: version, Domains: s.cfg.Domains,
		Log: s.log, Metrics: s.registry, Now: s.core.Now,
		Admit: func(on bool) { s.clients.Admit(on) },
		Clear: func(ctx context.Context, f membership.Farewell) error {
			return s.clients.Clear(ctx, f.Over, f.Elsewhere)
		},
		Flush: s.fleet.Drain,
		Count: s.count,
	})
	if err != nil {
		return err
	}
	s.ready.Check("cluster", s.members.Ready)
	if s.cfg.Cluster.Configured() {
		s.ready.Note("cluster", s.members.Note)
	}
	return nil
}

// count says how many sessions there are on each node.
func (s *Server) count() membership.Count {
	f := s.fleet.Status()
	c := membership.Count{Here: f.Here, Everywhere: f.Everywhere, ByNode: map[string]int{s.node.Self().ID: f.Here}}
	for _, n := range f.Nodes {
		c.ByNode[n.ID] = n.Sessions
	}
	return c
}

// join brings the node into its cluster, if it is to be in one, before there are clients.
func (s *Server) join(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, beginTime)
	defer cancel()
	s.members.Begin(ctx)
}

// Node is this server as a member of its cluster, or alone.
func (s *Server) Node() *cluster.Node { return s.node }

// Fleet is this node's part of what makes all of them one server.
func (s *Server) Fleet() *fleet.Fleet { return s.fleet }

// Membership is the node's life in its cluster.
func (s *Server) Membership() *membership.Membership { return s.members }
