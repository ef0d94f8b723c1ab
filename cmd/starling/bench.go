package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/load"
)

// benchCommand puts load on an XMPP server.
type benchCommand struct {
	Scenario string `arg:"" enum:"login,idle,chat,presence" help:"login, idle, chat or presence."`
	Addr     string `arg:"" help:"The server: host:port. Several nodes of one have commas between them: then the two of a pair are on different nodes."`

	Domain     string `default:"localhost" help:"Domain of the accounts."`
	Account    string `default:"bench%d" help:"User names; %d is the number of the account, from 0."`
	Password   string `default:"bench-password" help:"Password of these accounts."`
	Accounts   string `type:"existingfile" placeholder:"FILE" help:"File of accounts instead, one a line: address and password."`
	PerAccount int    `default:"1" help:"Sessions of each account."`
	Register   bool   `help:"Make the accounts that do not exist, in-band."`

	TLS       string `name:"tls" enum:"none,starttls,direct" default:"starttls" help:"none, starttls or direct. The certificate is not checked."`
	Mechanism string `help:"SASL mechanism, as in PLAIN; by default the strongest that is offered. Without TLS, PLAIN is used only when it is named here."`
	Raw       bool   `help:"The other end is bench/relay, not a server (chat only)."`

	Sessions   int  `short:"n" default:"100" help:"Sessions."`
	Concurrent int  `default:"16" help:"Log-ins at a time."`
	Available  bool `default:"true" negatable:"" help:"Sessions fetch the roster and send presence (not in login)."`
	Managed    bool `help:"Sessions have stream management, and ask for an acknowledgement with all that they send at once (chat, idle)."`

	Window   int     `short:"w" default:"1" help:"Messages under way in each pair (chat)."`
	Rate     float64 `help:"Messages a second of all sessions together, whatever comes back; measures latency (chat)."`
	Size     int     `default:"432" help:"Bytes of a message or presence as sent."`
	Words    bool    `help:"Each message says something else; without, all of a session say the same, which an archive may compress to very little (chat)."`
	Contacts int     `default:"5" help:"Sessions in each group of contacts (presence)."`

	Warmup   time.Duration `default:"1s" help:"Load before the measurement."`
	Duration time.Duration `default:"5s" help:"Length of the measurement."`
	Settle   time.Duration `default:"10s" help:"Time from the last log-in to the look at the memory (idle)."`
	Drain    time.Duration `default:"10s" help:"How long to wait for messages that are under way at the end."`

	ServerPIDs []int  `name:"server-pid" placeholder:"PID,..." help:"Processes of the server, on this machine, whose processor time and memory are measured, with their children's."`
	JSON       string `name:"json" type:"path" placeholder:"FILE" help:"Write the report there as JSON, too."`
	Quiet      bool   `short:"q" help:"Do not tell what is going on."`
}

// Help is the long help text.
func (*benchCommand) Help() string {
	return `The server may be any that speaks XMPP. Every message is checked: it must come once, in order and
unchanged; if one does not, the exit code is 1.

What is measured is the server's processor time and resident memory, so the two ends may share a
machine; only the latency, which counts from the moment when a message was due, suffers from it.

    starling bench chat 127.0.0.1:5222 --register -n 1000 -w 8 --server-pid 4711
    starling bench chat 127.0.0.1:5222 -n 1000 --rate 5000
    starling bench chat 10.0.0.1:5222,10.0.0.2:5222 -n 1000 --server-pid 4711,4712
    starling bench login 127.0.0.1:5222 --tls none --mechanism PLAIN -n 1000 --server-pid 4711
    starling bench idle 127.0.0.1:5223 --tls direct -n 5000 --server-pid 4711`
}

// Run is called by the parser.
func (b *benchCommand) Run(c *console) error {
	cfg, err := b.config()
	if err != nil {
		return err
	}
	if !b.Quiet {
		cfg.Progress = c.err
	}
	ctx, release := signal.NotifyContext(c, syscall.SIGINT, syscall.SIGTERM)
	defer release()
	r, err := load.Run(ctx, cfg)
	if errors.Is(err, context.Canceled) {
		return errors.New("stopped before the end")
	}
	if r == nil {
		return err
	}
	return errors.Join(r.Write(c.out), b.writeJSON(r), err)
}

func (b *benchCommand) config() (load.Config, error) {
	cfg := load.Config{
		Scenario: load.Scenario(b.Scenario), Addrs: strings.Split(b.Addr, ","), Raw: b.Raw, Mechanism: b.Mechanism,
		TLS: map[string]client.TLSMode{"none": client.None, "starttls": client.StartTLS, "direct": client.Direct}[b.TLS],
		Accounts: load.Accounts{
			Domain: b.Domain, Pattern: b.Account, Password: b.Password, PerAccount: b.PerAccount, Register: b.Register,
		},
		Sessions: b.Sessions, Concurrent: b.Concurrent, Available: b.Available, Managed: b.Managed,
		Window: b.Window, Rate: b.Rate, Size: b.Size, Words: b.Words, Contacts: b.Contacts,
		Warmup: b.Warmup, Duration: b.Duration, Settle: b.Settle, Drain: b.Drain,
		ServerPIDs: b.ServerPIDs,
	}
	if b.Raw {
		cfg.TLS = client.None
	}
	if b.Accounts == "" {
		return cfg, nil
	}
	f, err := os.Open(b.Accounts)
	if err != nil {
		return cfg, err
	}
	defer f.Close()
	if cfg.Accounts.List, err = load.ReadAccounts(f); err != nil {
		return cfg, usage(fmt.Sprintf("%s: %v", b.Accounts, err))
	}
	return cfg, nil
}

func (b *benchCommand) writeJSON(r *load.Report) error {
	if b.JSON == "" {
		return nil
	}
	out, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(b.JSON, append(out, '\n'), 0o644)
}
