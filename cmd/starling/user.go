package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"syscall"
	"text/tabwriter"

	"github.com/starling-im/starling/internal/admin"
	"github.com/starling-im/starling/internal/config"
	"github.com/starling-im/starling/internal/server"
	"github.com/starling-im/starling/internal/telemetry"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

// userCommands manage accounts, through the running server or, when none runs, in the database.
type userCommands struct {
	Add    userAdd    `cmd:"" help:"Add an account."`
	Passwd userPasswd `cmd:"" help:"Set the password of an account."`
	Del    userDel    `cmd:"" help:"Delete an account and all that belongs to it, and end its sessions."`
	List   userList   `cmd:"" help:"List accounts."`
}

// users is what these commands need: the service itself, or a client of the running server's.
type users interface {
	Domains(ctx context.Context) ([]string, error)
	Add(ctx context.Context, who jid.JID, password string) (string, error)
	SetPassword(ctx context.Context, who jid.JID, password string) (string, error)
	Delete(ctx context.Context, who jid.JID) error
	List(ctx context.Context, domain string, after jid.JID, limit int) ([]admin.User, error)
}

type userAdd struct {
	Sources
	Password
	JID string `arg:"" name:"jid" help:"Address of the account, name@domain."`
}

// Help is the long help text.
func (*userAdd) Help() string {
	return `Without a flag for the password, it is asked for.

    starling user add juliet@example.org
    starling user add juliet@example.org --generate
    pass show juliet | starling user add juliet@example.org --password-stdin`
}

// Run is called by the parser.
func (u *userAdd) Run(c *console) error {
	return u.Password.give(c, &u.Sources, u.JID, "was added.", users.Add)
}

// give lets set give an account the password that is chosen, and says what was done.
func (p *Password) give(c *console, from *Sources, name, done string, set func(users, context.Context, jid.JID, string) (string, error)) error {
	who, err := account(name)
	if err != nil {
		return err
	}
	return from.with(c, func(all users) error {
		password, err := p.choose(c, who.String())
		if err != nil {
			return err
		}
		made, err := set(all, c, who, password)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.out, "%s %s\n", who, done)
		return p.show(c, made)
	})
}

type userPasswd struct {
	Sources
	Password
	JID string `arg:"" name:"jid" help:"Address of the account, name@domain."`
}

// Help is the long help text.
func (*userPasswd) Help() string {
	return `Without a flag for the password, it is asked for. Who is logged in stays so, but no client
comes back without the new password.

    starling user passwd juliet@example.org`
}

// Run is called by the parser.
func (u *userPasswd) Run(c *console) error {
	return u.Password.give(c, &u.Sources, u.JID, "has a new password.", users.SetPassword)
}

type userDel struct {
	Sources
	JID string `arg:"" name:"jid" help:"Address of the account, name@domain."`
}

// Run is called by the parser.
func (u *userDel) Run(c *console) error {
	who, err := account(u.JID)
	if err != nil {
		return err
	}
	return u.with(c, func(all users) error {
		if err := all.Delete(c, who); err != nil {
			return err
		}
		_, err := fmt.Fprintf(c.out, "%s was deleted.\n", who)
		return err
	})
}

type userList struct {
	Sources
	Domain string `placeholder:"NAME" help:"Only the accounts of this domain."`
}

// Help is the long help text.
func (*userList) Help() string {
	return `One account a line: its address, when it was made, and whether it is disabled.

    starling user list
    starling user list --domain example.org`
}

// Run is called by the parser.
func (u *userList) Run(c *console) error {
	return u.with(c, func(all users) error {
		domains, err := u.domains(c, all)
		if err != nil {
			return err
		}
		t := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
		for _, d := range domains {
			if err := list(c, t, all, d); err != nil {
				return errors.Join(err, t.Flush())
			}
		}
		return t.Flush()
	})
}

// domains names those whose accounts are to be listed.
func (u *userList) domains(ctx context.Context, all users) ([]string, error) {
	if u.Domain == "" {
		return all.Domains(ctx)
	}
	domain, err := jid.Domainpart(u.Domain)
	if err != nil {
		return nil, usage(fmt.Sprintf("%q is not a domain: %v", u.Domain, err))
	}
	return []string{domain}, nil
}

// list writes all accounts of a domain, page by page.
func list(ctx context.Context, t *tabwriter.Writer, all users, domain string) error {
	var after jid.JID
	for {
		page, err := all.List(ctx, domain, after, admin.MaxList)
		if err != nil {
			return err
		}
		for _, u := range page {
			state := ""
			if u.Disabled {
				state = "\tdisabled"
			}
			fmt.Fprintf(t, "%s\t%s%s\n", u.JID, u.Created.Format("2006-01-02 15:04"), state)
		}
		if len(page) < admin.MaxList {
			return nil
		}
		if after, err = admin.ParseAccount(page[len(page)-1].JID); err != nil {
			return err
		}
	}
}

// account reads an address from the command line.
func account(s string) (jid.JID, error) {
	who, err := admin.ParseAccount(s)
	if err != nil {
		return who, usage(err.Error())
	}
	return who, nil
}

// with runs fn on the accounts of the running server, or of the database if none runs.
func (s *Sources) with(c *console, fn func(users) error) error {
	cfg, err := s.load(&Overrides{})
	if err != nil {
		return err
	}
	client, _, err := running(c, cfg.Data)
	if err != nil {
		return err
	}
	if client != nil {
		return fn(client)
	}
	return offline(c, cfg, fn)
}

// running returns a client for the server that runs on a data folder; nil if none does.
func running(ctx context.Context, data string) (*admin.Client, server.RunInfo, error) {
	info, err := server.ReadRunInfo(data)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, info, nil
	}
	if err != nil {
		return nil, info, fmt.Errorf("find the running server: %w", err)
	}
	client := admin.Dial(info.AdminSocket)
	_, err = client.Domains(ctx)
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return nil, info, nil // it crashed, and left its files behind
	}
	return client, info, err
}

// offline runs fn on the accounts in the database of a server that does not run.
func offline(c *console, cfg *config.Config, fn func(users) error) error {
	if _, err := os.Stat(cfg.Data); errors.Is(err, fs.ErrNotExist) {
		return usage(fmt.Sprintf("there is no data folder %s: run this where the server runs, or name the folder with --data", cfg.Data))
	}
	var level slog.LevelVar
	level.Set(slog.LevelWarn)
	log, err := telemetry.NewLog(c.err, cfg.Log.Format, &level)
	if err != nil {
		return err
	}
	srv, err := server.New(c, cfg, log, version())
	if errors.Is(err, server.ErrInUse) {
		return fmt.Errorf("%w and does not answer yet, or no more: try again in a moment", err)
	}
	if err != nil {
		return err
	}
	return errors.Join(fn(admin.NewUsers(srv.Core())), stop(srv))
}
