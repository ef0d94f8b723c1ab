package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/starling-im/starling/internal/admin"
	"github.com/starling-im/starling/internal/c2s"
	"github.com/starling-im/starling/internal/certs"
	"github.com/starling-im/starling/internal/telemetry"
	"github.com/starling-im/starling/internal/transport"
	"github.com/starling-im/starling/internal/xmpp/stream"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// door is one open listener.
type door struct {
	name    string // as in [listen]
	address string
	refuse  func() // takes no more connections
}

// Start joins the cluster, opens the doors and writes DATA/run.json. Those for operators are open while it joins.
func (s *Server) Start(ctx context.Context) error {
	if err := s.openCerts(); err != nil {
		return err
	}
	var err error
	if s.clients, err = s.newClients(); err != nil {
		return err
	}
	socket, err := socketPath(s.cfg.Data)
	if err != nil {
		return fmt.Errorf("name the admin socket: %w", err)
	}
	info := RunInfo{PID: os.Getpid(), Addresses: map[string]string{}, AdminSocket: socket}
	for _, open := range []func() error{
		func() error { return s.each("admin", s.cfg.Listen.Admin, s.serveAdmin) },
		func() error { return s.openSocket(socket) },
		func() error { s.join(ctx); return nil },
		func() error { return s.each("c2s", s.cfg.Listen.C2S, s.serveClients(false)) },
		func() error { return s.each("tls", s.cfg.Listen.TLS, s.serveClients(true)) },
		func() error { return s.each("https", s.cfg.Listen.HTTPS, s.serveHTTPS(s.landing())) },
	} {
		if err := open(); err != nil {
			return err
		}
	}
	s.run("garbage collector's pace", s.pace)
	for name, all := range s.Addresses() {
		info.Addresses[name] = all[0]
	}
	if err := info.write(s.cfg.Data); err != nil {
		return fmt.Errorf("write %s: %w", runFile, err)
	}
	s.ready.Set("server", nil)
	s.log.Info("ready", "domains", s.cfg.Domains, "addresses", s.Addresses())
	return nil
}

// Addresses lists where each door listens, by its name in [listen].
func (s *Server) Addresses() map[string][]string {
	all := map[string][]string{}
	for _, d := range s.doors {
		if d.address != "" {
			all[d.name] = append(all[d.name], d.address)
		}
	}
	return all
}

func (s *Server) openCerts() error {
	var files []certs.Files
	for _, f := range s.cfg.TLS.Certificates {
		files = append(files, certs.Files(f))
	}
	store, err := certs.Open(certs.Options{
		Dir: filepath.Join(s.cfg.Data, "tls"), Files: files, Domains: s.cfg.Domains, Log: s.log, Registerer: s.registry,
	})
	if err != nil {
		return err
	}
	s.certs = store
	s.run("certificates", store.Run)
	return nil
}

// newClients makes the door for clients from the configuration.
func (s *Server) newClients() (*c2s.Server, error) {
	l, a := &s.cfg.Limits, &s.cfg.Auth
	bound, stranger := xml.DefaultLimits(), xml.PreAuthLimits()
	bound.Bytes, bound.Elements = int(l.StanzaBytes), l.Elements
	stranger.Bytes, stranger.Elements = int(l.PreAuthBytes), l.PreAuthElements
	var authorities *x509.CertPool
	if a.External {
		var err error
		if authorities, err = certs.LoadPool(s.cfg.TLS.ClientCA); err != nil {
			return nil, err
		}
	}
	if err := transport.ReleasesBuffers(); err != nil {
		s.log.Info("idle TLS connections keep their buffers, which takes about 4 KiB more each", "err", err)
	}
	sockets := &transport.Options{
		MaxPending: int(l.SendQueueBytes), WriteTimeout: l.WriteTimeout, HandshakeTimeout: l.HandshakeTimeout,
		Linger: l.CloseTimeout, Metrics: transport.NewMetrics(s.registry),
	}
	return c2s.New(s.core, s.set, s.router, s.certs, sockets, c2s.Options{
		Mechanisms: a.Mechanisms, AllowPlaintext: a.AllowPlaintext, Anonymous: a.Anonymous,
		ClientCAs: authorities, MinTLS: s.minTLS(),
		Limits: &bound, StrangerLimits: &stranger,
		AuthTimeout: l.AuthTimeout, RequestTimeout: requestTimeout, PingAfter: l.PingAfter, PingTimeout: l.PingTimeout,
		MaxSessions: l.PerAccount, MaxStrangers: l.PreAuthTotal, MaxPerAddress: l.PerAddress,
		MaxStrangersPerAddress: l.PreAuthPerAddress,
		RateBytes:              int64(l.RateBytes), RateBurst: int64(l.RateBurst),
		Management: s.management(), Indication: s.indication(),
		Assembly: &stream.Budget{Max: int64(l.AssemblyTotal)}, Workers: workers,
	}, s.log), nil
}

// requestTimeout bounds what one stanza may make the server do; workers, how many
// stanzas may do so at once.
const (
	requestTimeout = 10 * time.Second
	workers        = 256
)

func (s *Server) minTLS() uint16 {
	if s.cfg.TLS.MinVersion == "1.3" {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}

// ListenError says that a door could not be opened.
type ListenError struct {
	Key, Address string // of the setting
	Err          error
}

// Error names the setting, the address and what is wrong.
func (e *ListenError) Error() string {
	return fmt.Sprintf("%s: cannot listen on %s: %v", e.Key, e.Address, e.Err)
}

// Unwrap is the cause.
func (e *ListenError) Unwrap() error { return e.Err }

// each opens a door at every address and serves it until the listener is closed.
func (s *Server) each(name string, addresses []string, serve func(net.Listener) error) error {
	for _, a := range addresses {
		l, err := net.Listen("tcp", a)
		if err != nil {
			return &ListenError{"listen." + name, a, err}
		}
		if name != "admin" {
			l = s.balancers.Listen(l)
		}
		s.open(name, l, serve)
	}
	return nil
}

func (s *Server) open(name string, l net.Listener, serve func(net.Listener) error) {
	address := l.Addr().String()
	if l.Addr().Network() == "unix" {
		address = ""
	}
	s.doors = append(s.doors, door{name, address, func() { l.Close() }})
	s.tasks.Go(func() {
		if err := serve(l); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("door closed", slog.String("door", name), slog.Any("err", err))
		}
	})
}

func (s *Server) serveClients(direct bool) func(net.Listener) error {
	return func(l net.Listener) error { return s.clients.Serve(context.Background(), l, direct) }
}

// serveHTTPS shows people who point a browser at the server where to connect.
func (s *Server) serveHTTPS(page http.Handler) func(net.Listener) error {
	d := s.certs.Door(certs.DoorOptions{ALPN: []string{"h2", "http/1.1"}, MinVersion: s.minTLS()})
	return func(l net.Listener) error { return s.serveHTTP(tls.NewListener(l, d.Config()), page) }
}

func (s *Server) serveAdmin(l net.Listener) error {
	return s.serveHTTP(l, telemetry.NewHandler(s.registry, s.ready, s.log))
}

// openSocket opens the Unix socket through which the command line administers a running server.
func (s *Server) openSocket(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove an old admin socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("open the admin socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(err, l.Close())
	}
	s.open("socket", l, func(l net.Listener) error { return s.serveHTTP(l, admin.Handler(s.core, s.members, s.log)) })
	return nil
}

// serveHTTP answers requests until the server stops.
func (s *Server) serveHTTP(l net.Listener, h http.Handler) error {
	srv := &http.Server{
		Handler: h, ReadTimeout: 30 * time.Second, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: 5 * time.Minute,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(s.loops, func() { srv.Close() })
	defer stop()
	return srv.Serve(l)
}
