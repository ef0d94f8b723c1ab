// Package load puts load on any XMPP server (RFC 6120) and measures what it costs: the work behind `starling bench`.
//
// Five scenarios exist: Login counts the server's CPU per log-in, Idle its memory per session that does nothing, Chat
// its CPU and latency per message, Presence its CPU per copy of a presence, Resume its CPU per session that comes back after
// all have lost their connections (XEP-0198). What is measured is the CPU time and the
// resident memory of the server's processes (proc.go), not the wall clock, since both ends usually share a machine;
// only latency is time.
//
// Nothing is taken on trust: each message carries its sender and a number, and every single one is looked at by the
// receiver (check.go). One that is lost, comes twice, out of order or changed is a fault, and with a fault Run fails.
//
// The generator must be far cheaper than the server. Package client logs in; after that a connection is a socket, a
// goroutine that reads, and stanzas that were built beforehand (link.go).
package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/starling-im/starling/internal/client"
)

// Scenario is what the sessions do.
type Scenario string

// The scenarios.
const (
	Login    Scenario = "login"    // log in, measured, and nothing else
	Idle     Scenario = "idle"     // log in and be silent
	Chat     Scenario = "chat"     // pairs that send messages to each other
	Presence Scenario = "presence" // groups of contacts that change their presence in turn
	Resume   Scenario = "resume"   // lose all connections at once, and come back to what was sent meanwhile
)

// Config describes one run.
type Config struct {
	Scenario Scenario
	Addrs    []string // host:port of the server; if it has several nodes, of each: neighbours in a pair or group are on different ones
	TLS      client.TLSMode
	Raw      bool // a bare relay in place of a server: no negotiation, Chat only (see bench/relay)
	Accounts Accounts

	Mechanism  string // SASL mechanism; empty: the strongest that is offered and safe on the connection
	Sessions   int
	Concurrent int  // log-ins and registrations at a time
	Available  bool // sessions send initial presence and wait until it comes back (RFC 6121 §4.2); Login never does
	Managed    bool // Chat, Idle: sessions have stream management (XEP-0198), which asks for an acknowledgement with all that is sent at once

	Window   int     // Chat, closed loop: messages under way in each pair
	Rate     float64 // Chat: messages a second of all pairs together, sent whether or not answers come; 0: closed loop
	Size     int     // bytes of a stanza as sent
	Words    bool    // Chat: each message says something else, so that it compresses as what people write does
	Contacts int     // Presence: sessions in a group
	Away     int     // Resume: messages that wait for each session when it comes back

	Warmup   time.Duration // under load before the measured interval
	Duration time.Duration // of the measured interval
	Settle   time.Duration // Idle: from the last log-in to the look at the memory
	Drain    time.Duration // how long messages that are still under way are waited for at the end

	// Whole makes the interval of a closed loop of Chat begin with the first message and end when the server is at rest after
	// the last one, so that the work counts that it puts off. There is no warm-up.
	Whole bool

	ServerPIDs []int                 // the server's processes, whose children count too; none: CPU and memory are not measured
	StorePIDs  []int                 // those of its database, likewise, which are reported apart
	Memory     func() (int64, error) // Idle: the server's memory in bytes; nil: what ServerPIDs have resident
	Progress   io.Writer             // what is going on, for people; nil for nothing
}

// ErrFaults says that the server lost, repeated, reordered or changed something, or ended a session. The report says
// what.
var ErrFaults = errors.New("the server made mistakes")

// spareFiles are the open files that a run needs besides its sockets.
const spareFiles = 100

// Run does what cfg says. If the load ran, there is a report even if the error is ErrFaults.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if err := cfg.enoughFiles(); err != nil {
		return nil, err
	}
	g := &generator{cfg: &cfg, faults: &faults{}}
	defer g.close()
	if cfg.Accounts.Register && !cfg.Raw {
		if err := g.register(ctx); err != nil {
			return nil, err
		}
	}
	g.report = newReport(&cfg)
	var err error
	switch cfg.Scenario {
	case Login:
		err = g.login(ctx)
	case Idle:
		err = g.idle(ctx)
	case Chat:
		err = g.chat(ctx)
	case Presence:
		err = g.presence(ctx)
	case Resume:
		err = g.resume(ctx)
	}
	if err != nil {
		return nil, err
	}
	g.report.Faults = g.faults.tally()
	if g.report.Faults.Total() > 0 {
		return g.report, ErrFaults
	}
	return g.report, nil
}

// check refuses what makes no sense.
func (c *Config) check() error {
	switch {
	case len(c.Addrs) == 0:
		return errors.New("no address of a server")
	case c.Sessions <= 0:
		return errors.New("at least one session is needed")
	case c.Concurrent <= 0:
		return errors.New("at least one log-in at a time is needed")
	case c.Raw && c.Scenario != Chat:
		return errors.New("a relay can only be used for chat")
	case c.Raw && c.TLS != client.None:
		return errors.New("a relay has no TLS")
	case c.Raw && c.Managed:
		return errors.New("a relay has no stream management")
	case c.Scenario == Idle && len(c.ServerPIDs) == 0 && c.Memory == nil:
		return errors.New("memory cannot be measured without the server's process id")
	}
	switch c.Scenario {
	case Login, Idle:
	case Chat:
		return c.checkChat()
	case Presence:
		if c.Contacts < 2 || c.Sessions%c.Contacts != 0 {
			return fmt.Errorf("%d sessions are not whole groups of %d (at least 2)", c.Sessions, c.Contacts)
		}
	case Resume:
		if c.Sessions < 2 || c.Away < 1 {
			return errors.New("to come back takes somebody to send a message, and a session that gets it")
		}
	default:
		return fmt.Errorf("there is no scenario %q", c.Scenario)
	}
	return nil
}

// maxWindow keeps what a pair has under way below what socket buffers hold, so that no writer ever waits for a reader.
const maxWindow = 64

func (c *Config) checkChat() error {
	switch {
	case c.Sessions%2 != 0:
		return errors.New("chat needs an even number of sessions")
	case c.Rate == 0 && (c.Window < 1 || c.Window > maxWindow):
		return fmt.Errorf("a window of %d messages is not between 1 and %d", c.Window, maxWindow)
	case c.Rate < 0:
		return errors.New("a rate below zero")
	case c.Words && c.Size > maxWords:
		return fmt.Errorf("messages of %d bytes are too long to say something else each, at most %d", c.Size, maxWords)
	}
	return nil
}

// enoughFiles refuses more sessions than this process can have sockets.
func (c *Config) enoughFiles() error {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	if need := uint64(c.Sessions + spareFiles); need > files.Max {
		return fmt.Errorf("%d sessions need %d open files, and the hard limit of a process here is %d (ulimit -Hn): "+
			"use fewer, or several processes with accounts of their own", c.Sessions, need, files.Max)
	}
	return nil
}

// addr is where a session connects.
func (c *Config) addr(n int) string { return c.Addrs[n%len(c.Addrs)] }

// generator is one run.
type generator struct {
	cfg    *Config
	links  []*link
	kept   []*client.Managed // of each session, if they have stream management
	faults *faults
	report *Report
}

func (g *generator) progress(format string, args ...any) {
	if g.cfg.Progress != nil {
		fmt.Fprintf(g.cfg.Progress, format+"\n", args...)
	}
}

func (g *generator) close() {
	if g.cfg.managed() {
		g.leave()
	}
	for _, l := range g.links {
		if l != nil {
			l.nc.Close()
		}
	}
}

// login measures what log-ins cost the server.
func (g *generator) login(ctx context.Context) error {
	m, err := g.begin()
	if err != nil {
		return err
	}
	if err := g.connect(ctx); err != nil {
		return err
	}
	if err := m.end(g.report, uint64(len(g.links))); err != nil {
		return err
	}
	g.checkAlive()
	return nil
}

// idle measures the memory of sessions that do nothing.
func (g *generator) idle(ctx context.Context) error {
	memory := g.cfg.Memory
	if memory == nil {
		memory = func() (int64, error) { return residentMemory(g.cfg.ServerPIDs) }
	}
	before, err := memory()
	if err != nil {
		return err
	}
	if err := g.connect(ctx); err != nil {
		return err
	}
	g.progress("settling for %v", g.cfg.Settle)
	m, err := g.begin()
	if err != nil {
		return err
	}
	if err := sleep(ctx, g.cfg.Settle); err != nil {
		return err
	}
	if err := m.end(g.report, 0); err != nil {
		return err
	}
	after, err := memory()
	if err != nil {
		return err
	}
	g.report.Memory = &Memory{Before: before, After: after, PerSession: float64(after-before) / float64(len(g.links))}
	g.checkAlive()
	return nil
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
