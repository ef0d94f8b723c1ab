// Package server wires the parts of Starling into one that runs.
package server

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/internal/account"
	"github.com/starling-im/starling/internal/c2s"
	"github.com/starling-im/starling/internal/certs"
	"github.com/starling-im/starling/internal/config"
	"github.com/starling-im/starling/internal/feature"
	"github.com/starling-im/starling/internal/fleet"
	"github.com/starling-im/starling/internal/membership"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/proxied"
	"github.com/starling-im/starling/internal/router"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/settings"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/telemetry"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

// Server is one node.
type Server struct {
	cfg      *config.Config
	log      *slog.Logger
	registry *prometheus.Registry
	ready    *telemetry.Readiness
	lock     *os.File
	db       *store.DB
	core     *module.Core
	set      *module.Set
	router   *router.Router
	node     *cluster.Node
	fleet    *fleet.Fleet
	members  *membership.Membership
	certs    *certs.Store // nil until Start
	clients  *c2s.Server  // nil until Start

	balancers *proxied.Balancers

	loops context.Context // ends when the server stops
	halt  context.CancelFunc
	tasks sync.WaitGroup
	doors []door
}

// Sections are the configuration sections of all features.
func Sections() []config.Section { return module.Sections(feature.All()) }

// Tune changes how the node of a server behaves in its cluster, in ways that are no settings: tests have other intervals.
type Tune func(*cluster.Config)

// New takes the data folder, opens the database and starts the features, but opens no
// door. ErrInUse: another server has the folder. Stop releases everything.
func New(ctx context.Context, cfg *config.Config, log *slog.Logger, version string, tune ...Tune) (*Server, error) {
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	lock, err := lockFolder(cfg.Data)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: log, lock: lock, registry: telemetry.NewRegistry(version), ready: &telemetry.Readiness{}}
	s.balancers = proxied.New(cfg.Listen.ProxyProtocolFrom.Prefixes(), log, s.registry)
	s.ready.Set("server", errors.New("starting"))
	s.loops, s.halt = context.WithCancel(context.Background())
	if err := s.assemble(ctx, version, tune); err != nil {
		return nil, errors.Join(err, s.Stop(ctx))
	}
	return s, nil
}

// assemble builds everything that needs no door.
func (s *Server) assemble(ctx context.Context, version string, tune []Tune) error {
	db, err := store.Open(ctx, s.cfg.DatabaseURL(), store.Options{Log: s.log, Registerer: s.registry})
	if err != nil {
		return err
	}
	s.db = db
	s.ready.Check("database", db.Ping)
	if err := db.Migrate(ctx, account.Migrations(), settings.Migrations(), membership.Migrations()); err != nil {
		return err
	}
	if err := s.newNode(ctx, tune); err != nil {
		return err
	}
	s.core = &module.Core{
		DB: db, Sessions: session.NewTable(), Hooks: &module.Hooks{},
		Metrics: s.registry, Version: version, Now: time.Now, Go: s.run, Shared: s.cfg.Cluster.AllowSharedSQLite,
		Accounts: account.New(db, account.Options{
			Iterations: s.cfg.Auth.Iterations, Workers: s.cfg.Auth.Workers, Log: s.log, Registerer: s.registry,
			Tokens: account.TokenOptions{
				Lifetime: s.cfg.Auth.Tokens.Lifetime, Rotate: s.cfg.Auth.Tokens.Rotate,
				Clients: s.cfg.Auth.Tokens.Clients, Key: s.cfg.Auth.Tokens.Key.Reveal(),
			},
			Throttle: account.Limits{Failures: s.cfg.Auth.Failures, Window: s.cfg.Auth.FailureWindow},
		}),
	}
	for _, d := range s.cfg.Domains {
		j, err := jid.New("", d, "")
		if err != nil {
			return fmt.Errorf("domain %q: %w", d, err)
		}
		s.core.Domains = append(s.core.Domains, j)
	}
	s.router = router.New(s.core, s.log)
	s.fleet = fleet.New(s.core, s.node, s.router, fleet.Options{Log: s.log})
	s.run("fleet", s.fleet.Run)
	s.set, err = module.Start(ctx, feature.All(), s.cfg, s.core, s.log)
	if err != nil {
		return err
	}
	s.router.Handle(s.set)
	return s.newMembership(version)
}

// run keeps a loop going until the server stops.
func (s *Server) run(name string, loop func(context.Context)) {
	s.tasks.Go(func() {
		loop(s.loops)
		s.log.Debug("loop ended", "loop", name)
	})
}

// Core is what features and administration work with.
func (s *Server) Core() *module.Core { return s.core }

// Features are the running features with their hooks and handlers.
func (s *Server) Features() *module.Set { return s.set }

// FirstAdmin makes the account admin@DOMAIN with a random password if the server has
// no account at all. The password is empty if there was one.
func (s *Server) FirstAdmin(ctx context.Context) (who jid.JID, password string, err error) {
	who, err = jid.New("admin", s.core.Domains[0].Domain(), "")
	if err != nil {
		return who, "", err
	}
	for _, d := range s.core.Domains {
		n, err := s.core.Accounts.Count(ctx, d.Domain())
		if err != nil || n > 0 {
			return who, "", err
		}
	}
	b := make([]byte, 15)
	if _, err := rand.Read(b); err != nil {
		return who, "", err
	}
	password = strings.ToLower(base32.StdEncoding.EncodeToString(b))
	err = s.core.Accounts.Create(ctx, who, password)
	if errors.Is(err, account.ErrExists) { // another node with this database was faster
		return who, "", nil
	}
	return who, password, err
}

// Fingerprint is the SHA-256 fingerprint of the certificate that is shown for a
// domain, and whether the server signed it itself.
func (s *Server) Fingerprint(domain string) (print string, selfSigned bool) {
	cert := s.certs.ForDomain(domain)
	return certs.Fingerprint(cert.Leaf), cert.Leaf.Issuer.String() == cert.Leaf.Subject.String()
}

// Reload reads certificates again.
func (s *Server) Reload() error { return s.certs.Reload() }

// Stop sends clients to other nodes, or ends every stream with system-shutdown, leaves the cluster, closes the doors and
// the database, and gives the data folder free. What is not done when the context ends is cut off.
func (s *Server) Stop(ctx context.Context) error {
	var all []error
	s.ready.Set("server", errors.New("stopping"))
	for _, d := range s.doors {
		d.refuse()
	}
	if s.members != nil {
		if err := s.members.Stop(ctx); err != nil {
			all = append(all, fmt.Errorf("leave the cluster: %w", err))
		}
	}
	if s.clients != nil {
		if err := s.clients.Shutdown(ctx); err != nil {
			all = append(all, fmt.Errorf("end the streams: %w", err))
		}
	}
	if s.node != nil {
		all = append(all, s.node.Close())
	}
	s.halt()
	s.tasks.Wait()
	if s.db != nil {
		all = append(all, s.db.Close())
	}
	os.Remove(filepath.Join(s.cfg.Data, runFile))
	return errors.Join(append(all, s.lock.Close())...)
}
