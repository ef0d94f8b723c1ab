// Package administration lets administrators manage accounts with their client, by the
// commands of XEP-0133.
package administration

import (
	"context"
	"embed"
	"errors"
	"slices"
	"strconv"

	"github.com/starling-im/starling/internal/cache"
	"github.com/starling-im/starling/internal/config"
	"github.com/starling-im/starling/internal/feature/adhoc"
	"github.com/starling-im/starling/internal/feature/roster"
	"github.com/starling-im/starling/internal/hook"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/xmpp/form"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
)

// NS is the context of the forms; the nodes of commands begin with it (XEP-0133 §4).
const NS = "http://jabber.org/protocol/admin"

//go:embed schema
var schema embed.FS

// Module is the feature's declaration.
var Module = module.Def[Config]{
	Name: "administration",
	Doc:  "Lets administrators manage accounts with their client.",
	Specs: []module.Spec{{XEP: 133, Version: "1.3.1",
		Note: "accounts, lists, announcements and message of the day; no lists of refused domains, no welcome message, no restart"}},
	Needs:  []string{"adhoc", "roster"},
	Schema: schema,
	Start:  start,
}

// Config is the feature's configuration.
type Config struct {
	Admins []string `toml:"admins" doc:"Accounts of administrators: name@domain. Empty means admin at the first domain."`
}

// Validate checks that every administrator is an account.
func (c *Config) Validate() error {
	for _, s := range c.Admins {
		if j, err := jid.Parse(s); err != nil || j.Local() == "" || j.IsFull() {
			return config.Invalid("admins", strconv.Quote(s)+" is not an account", `write name@domain, as in "admin@example.org"`)
		}
	}
	return nil
}

// Administration knows who may administer the server.
type Administration struct {
	*module.Host
	admins []jid.JID
	roster *roster.Roster
	logins logins
	motds  *cache.Cache[*motd] // by domain
}

func start(h *module.Host, cfg Config) error {
	a := &Administration{Host: h, roster: module.Use[*roster.Roster](h, "roster"),
		motds: cache.New[*motd](&h.Caches, "motd", "Messages of the day", 100, h.Metrics)}
	a.logins.at = map[jid.JID]int64{}
	if len(cfg.Admins) == 0 {
		cfg.Admins = []string{"admin@" + h.Domains[0].Domain()}
	}
	for _, s := range cfg.Admins {
		j, err := jid.Parse(s)
		if err != nil {
			return err
		}
		a.admins = append(a.admins, j)
	}
	h.Provide(a)
	c := module.Use[*adhoc.Commands](h, "adhoc")
	a.accountCommands(c)
	a.userCommands(c)
	a.listCommands(c)
	a.messageCommands(c)
	h.Hooks.LogIn.Add(h.Name, hook.Record, a.loggedIn)
	h.Hooks.Reachable.Add(h.Name, hook.Copy, a.greet)
	h.Hooks.Deleted.Add(h.Name, hook.Record, a.deleted)
	h.Go("record log-ins", a.recordLogins)
	return nil
}

// IsAdmin tells whether a JID is an administrator's.
func (a *Administration) IsAdmin(j jid.JID) bool { return slices.Contains(a.admins, j.Bare()) }

// command offers a command to administrators (XEP-0133 §6).
func (a *Administration) command(c *adhoc.Commands, node, name string, run adhoc.Stage) {
	c.Add(adhoc.Command{
		Target: module.Server, Node: NS + "#" + node, Name: name, Run: run,
		Allowed: func(call *adhoc.Call) bool { return a.IsAdmin(call.Asker) },
	})
}

// ask offers a command with one form.
func (a *Administration) ask(c *adhoc.Commands, node, name string, do adhoc.Stage, fields ...form.Field) {
	a.command(c, node, name, func(context.Context, *adhoc.Call) (adhoc.Reply, error) {
		f := form.New(form.TypeForm, NS, fields...).Titled(name)
		return adhoc.Reply{Form: &f, Next: do}, nil
	})
}

// result is a reply that shows values.
func result(fields ...form.Field) adhoc.Reply {
	f := form.New(form.TypeResult, NS, fields...)
	return adhoc.Reply{Form: &f}
}

// one is the account that a form names in accountjid.
func (a *Administration) one(ctx context.Context, c *adhoc.Call) (jid.JID, error) {
	who := c.Values.JID("accountjid")
	return who, a.check(ctx, who)
}

// several are the accounts that a form names in accountjids.
func (a *Administration) several(ctx context.Context, c *adhoc.Call) ([]jid.JID, error) {
	all := c.Values.JIDs("accountjids")
	for _, who := range all {
		if err := a.check(ctx, who); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// check refuses addresses that are no account here.
func (a *Administration) check(ctx context.Context, who jid.JID) error {
	if err := a.checkAddress(who); err != nil {
		return err
	}
	known, err := a.Accounts.Exists(ctx, who)
	if err == nil && !known {
		err = stanza.Err(stanza.ItemNotFound, "there is no account "+who.String())
	}
	return err
}

func (a *Administration) checkAddress(who jid.JID) error {
	if who.Local() == "" || who.IsFull() || !a.Local(who) {
		return stanza.Err(stanza.NotAcceptable, who.String()+" is not the address of an account here")
	}
	return nil
}

// notSelf keeps administrators from locking themselves out.
func notSelf(c *adhoc.Call, all []jid.JID) error {
	if slices.Contains(all, c.Asker.Bare()) {
		return stanza.Err(stanza.NotAllowed, "this is your own account")
	}
	return nil
}

// each does something for all accounts, and joins what goes wrong.
func each(all []jid.JID, do func(jid.JID) error) (adhoc.Reply, error) {
	var errs []error
	for _, who := range all {
		errs = append(errs, do(who))
	}
	return adhoc.Reply{}, errors.Join(errs...)
}
