package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/starling-im/starling/internal/config"
	"github.com/starling-im/starling/internal/server"
	"github.com/starling-im/starling/internal/telemetry"
)

// stopTimeout is what streams have to end in. Choice: less than the 10 s after which container engines kill.
const stopTimeout = 8 * time.Second

// serveCommand runs the server until it is told to stop.
type serveCommand struct {
	Sources
	Overrides
}

// Help is the long help text.
func (*serveCommand) Help() string {
	return `Without flags and without a file of settings the server makes ./starling-data, a
self-signed certificate and an administrator's account, and serves the domain localhost.

Where a setting is named several times, the first of these counts: its flag, --set, the
environment (STARLING_LISTEN__C2S for listen.c2s), the file, the default.

The log goes to standard error. SIGTERM or Ctrl-C ends all streams and stops the server, a
second one stops it at once. SIGHUP reads the certificates again.

    starling serve
    starling serve --domain example.org --data /var/lib/starling
    starling serve --config /etc/starling.toml --set log.level=debug
    starling serve --listen-c2s 127.0.0.1:0 --listen-https=

A server joins a cluster when it is told of a join token; without one it opens no port for that.

    starling cluster token --out join-token
    starling serve --join-token join-token --cluster-peers second.example.org`
}

// Run is called by the parser.
func (s *serveCommand) Run(c *console) error {
	cfg, err := s.load(&s.Overrides)
	if err != nil {
		return err
	}
	level, err := telemetry.ParseLevel(cfg.Log.Level)
	if err != nil {
		return err
	}
	var limit slog.LevelVar
	limit.Set(level)
	log, err := telemetry.NewLog(c.err, cfg.Log.Format, &limit)
	if err != nil {
		return err
	}

	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	ctx, release := signal.NotifyContext(c, syscall.SIGINT, syscall.SIGTERM)
	defer release()

	srv, err := s.start(ctx, c, cfg, log)
	if err != nil {
		if ctx.Err() != nil {
			return errors.New("stopped before the server was ready")
		}
		return err
	}
	for {
		select {
		case <-hangups:
			if err := srv.Reload(); err != nil {
				log.Error("certificates not read again, the old ones stay", slog.Any("err", err))
			}
		case <-ctx.Done():
			release() // the next signal ends the process
			log.Info("stopping")
			return stop(srv)
		}
	}
}

// start brings the server up and welcomes the operator.
func (s *serveCommand) start(ctx context.Context, c *console, cfg *config.Config, log *slog.Logger) (*server.Server, error) {
	srv, err := server.New(ctx, cfg, log, version())
	if err != nil {
		return nil, err
	}
	admin, password, err := srv.FirstAdmin(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the administrator's account: %w", err), stop(srv))
	}
	if password != "" {
		// At once: should opening the doors fail, nobody else would ever know it.
		fmt.Fprintf(c.out, firstAdmin, admin, password)
	}
	if err := srv.Start(ctx); err != nil {
		return nil, errors.Join(err, stop(srv))
	}
	w := welcome{cfg: cfg, server: srv, flags: s.flags()}
	return srv, w.write(c.out)
}

// stop ends streams and gives everything free.
func stop(srv *server.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return srv.Stop(ctx)
}
