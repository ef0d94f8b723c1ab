// Package registration lets people make accounts with their client, change the
// password, and delete the account (XEP-0077).
package registration

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/starling-im/starling/internal/account"
	"github.com/starling-im/starling/internal/hook"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/sasl"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// NS is the namespace of requests; nsFeature that of the stream feature (XEP-0077 §8).
const (
	NS        = "jabber:iq:register"
	nsFeature = "http://jabber.org/features/iq-register"
)

// Module is the feature's declaration.
var Module = module.Def[Config]{
	Name:     "registration",
	Doc:      "Lets people change their password or delete their account, and make accounts if open.",
	Specs:    []module.Spec{{XEP: 77, Version: "2.4"}},
	Disco:    module.Disco{module.Server: {NS}},
	Defaults: Config{PerHour: 5},
	Start:    start,
}

// Config is the feature's configuration.
type Config struct {
	Open         bool `toml:"open" doc:"Lets anybody make an account."`
	PerHour      int  `toml:"per_hour" doc:"Accounts that may be made from one address in an hour (IPv6: from one /64 network)."`
	FreeLoopback bool `toml:"free_loopback" doc:"No such limit for clients on this machine."`
}

type registration struct {
	*module.Host
	cfg   Config
	quota *quota
}

func start(h *module.Host, cfg Config) error {
	r := &registration{Host: h, cfg: cfg, quota: newQuota(cfg.PerHour, time.Hour, h.Now)}
	if cfg.Open {
		h.Stranger(stanza.Get, NS, "query", r.form)
		h.Stranger(stanza.Set, NS, "query", r.register)
		h.Hooks.Features.Add(h.Name, hook.Amend, func(_ context.Context, e *module.FeatureEvent) error {
			if !e.Authenticated {
				e.Add = append(e.Add, xml.New(nsFeature, "register"))
			}
			return nil
		})
	}
	for _, t := range []module.Target{module.Server, module.Account} {
		h.IQ(t, stanza.Get, NS, "query", r.show)
		h.IQ(t, stanza.Set, NS, "query", r.change)
	}
	return nil
}

// form asks a stranger for what an account needs: XEP-0077 §3.1.
func (r *registration) form(_ context.Context, _ module.Stranger, _ *stanza.Stanza) (xml.Element, error) {
	return xml.New(NS, "query").With(
		xml.New(NS, "instructions").WithText("Choose a user name and a password."),
		xml.New(NS, "username"), xml.New(NS, "password")), nil
}

// register makes an account: XEP-0077 §3.1.
func (r *registration) register(ctx context.Context, who module.Stranger, iq *stanza.Stanza) (xml.Element, error) {
	q := iq.Payload()
	username, password := q.Child(NS, "username").Text(), q.Child(NS, "password").Text()
	if username == "" || password == "" {
		return xml.None, stanza.Err(stanza.NotAcceptable, "a user name and a password are needed")
	}
	bare, err := jid.New(username, who.Domain.Domain(), "")
	if err != nil {
		return xml.None, stanza.Err(stanza.NotAcceptable, "not a valid user name").Because(err)
	}
	if !r.spend(who.Addr) {
		return xml.None, stanza.Err(stanza.ResourceConstraint, "too many accounts were made from this address; try again in an hour")
	}
	if err = r.Accounts.Create(ctx, bare, password); err != nil {
		r.quota.refund(who.Addr)
	}
	switch {
	case errors.Is(err, account.ErrExists), errors.Is(err, account.ErrTombstone):
		return xml.None, stanza.Err(stanza.Conflict, "this name is taken").Because(err)
	case errors.Is(err, sasl.ErrPassword):
		return xml.None, stanza.Err(stanza.NotAcceptable, "this password cannot be used").Because(err)
	}
	return xml.None, err
}

// spend counts an account before it is made, since many may be made at once; false when
// the address has had its share.
func (r *registration) spend(a netip.Addr) bool {
	return r.cfg.FreeLoopback && a.IsLoopback() || r.quota.spend(a)
}

// show tells a user that the account exists: XEP-0077 §3.1, example 4.
func (r *registration) show(_ context.Context, iq *stanza.Stanza) (xml.Element, error) {
	if err := own(iq); err != nil {
		return xml.None, err
	}
	return xml.New(NS, "query").With(xml.New(NS, "registered"),
		xml.New(NS, "username").WithText(iq.From.Local()), xml.New(NS, "password")), nil
}

// own refuses to act on somebody else's account.
func own(iq *stanza.Stanza) error {
	if iq.To.Local() != "" && iq.To.Bare() != iq.From.Bare() || !iq.To.IsZero() && iq.To.Host() != iq.From.Host() {
		return stanza.Err(stanza.Forbidden, "")
	}
	return nil
}

// change sets a new password (XEP-0077 §3.3) or deletes the account (XEP-0077 §3.2).
func (r *registration) change(ctx context.Context, iq *stanza.Stanza) (xml.Element, error) {
	if err := own(iq); err != nil {
		return xml.None, err
	}
	if f := session.FlowOf(ctx); f != nil && f.Session != nil && f.Session.Anonymous {
		return xml.None, stanza.Err(stanza.NotAllowed, "a guest has no account")
	}
	q, bare := iq.Payload(), iq.From.Bare()
	if q.Child(NS, "remove") != nil {
		if len(q.Nodes) != 1 {
			return xml.None, stanza.Err(stanza.BadRequest, "<remove/> stands alone")
		}
		return xml.None, r.remove(ctx, bare)
	}
	username, password := q.Child(NS, "username").Text(), q.Child(NS, "password").Text()
	if prepared, err := jid.Localpart(username); err != nil || prepared != bare.Local() || password == "" {
		return xml.None, stanza.Err(stanza.BadRequest, "the own user name and a new password are needed")
	}
	err := r.Accounts.SetPassword(ctx, bare, password)
	if errors.Is(err, sasl.ErrPassword) {
		return xml.None, stanza.Err(stanza.NotAcceptable, "this password cannot be used").Because(err)
	}
	return xml.None, err
}

// remove deletes the account once the client has its answer, since the answer is the
// last that it gets.
func (r *registration) remove(ctx context.Context, bare jid.JID) error {
	f := session.FlowOf(ctx)
	if f == nil {
		return r.DeleteAccount(ctx, bare)
	}
	f.After(func(ctx context.Context) {
		f.Flush()
		if err := r.DeleteAccount(ctx, bare); err != nil {
			r.Log.Error("account not deleted", "account", bare.String(), "err", err)
		}
	})
	return nil
}
