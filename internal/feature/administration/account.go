package administration

import (
	"context"
	"errors"

	"github.com/starling-im/starling/internal/account"
	"github.com/starling-im/starling/internal/feature/adhoc"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/form"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/sasl"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/stream"
)

// accountCommands make, change and delete accounts: XEP-0133 §4.1 to §4.5, §4.7.
func (a *Administration) accountCommands(c *adhoc.Commands) {
	a.ask(c, "add-user", "Add a user", a.add,
		form.JID("accountjid", "The address of the new account", jid.JID{}).Must(),
		form.Password("password", "Its password", "").Must(),
		form.Password("password-verify", "The password again", ""))
	a.ask(c, "delete-user", "Delete users", a.remove,
		form.JIDs("accountjids", "The accounts to delete").Must())
	a.ask(c, "disable-user", "Disable users", a.disable,
		form.JIDs("accountjids", "The accounts that may not log in").Must())
	a.ask(c, "reenable-user", "Enable users again", a.enable,
		form.JIDs("accountjids", "The accounts that may log in again").Must())
	a.ask(c, "end-user-session", "End sessions of users", a.endSessions,
		form.JIDs("accountjids", "Accounts, or single sessions of them").Must())
	a.ask(c, "change-user-password", "Change the password of a user", a.changePassword,
		form.JID("accountjid", "The account", jid.JID{}).Must(),
		form.Password("password", "Its new password", "").Must())
}

// add is XEP-0133 §4.1. Choice: mail addresses and names are not asked for, since
// nothing here would use them.
func (a *Administration) add(ctx context.Context, c *adhoc.Call) (adhoc.Reply, error) {
	who, password := c.Values.JID("accountjid"), c.Values.Text("password")
	if err := a.checkAddress(who); err != nil {
		return adhoc.Reply{}, err
	}
	if c.Values.Has("password-verify") && c.Values.Text("password-verify") != password {
		return adhoc.Reply{}, stanza.Err(stanza.NotAcceptable, "the passwords differ")
	}
	err := a.Accounts.Create(ctx, who, password)
	switch {
	case errors.Is(err, account.ErrExists), errors.Is(err, account.ErrTombstone): // XEP-0133 §5
		return adhoc.Reply{}, stanza.Err(stanza.Conflict, "this name is taken").Because(err)
	case errors.Is(err, sasl.ErrPassword):
		return adhoc.Reply{}, stanza.Err(stanza.NotAcceptable, "this password cannot be used").Because(err)
	}
	return adhoc.Reply{}, err
}

// remove is XEP-0133 §4.2.
func (a *Administration) remove(ctx context.Context, c *adhoc.Call) (adhoc.Reply, error) {
	all, err := a.several(ctx, c)
	if err == nil {
		err = notSelf(c, all)
	}
	if err != nil {
		return adhoc.Reply{}, err
	}
	return each(all, func(who jid.JID) error { return a.DeleteAccount(ctx, who) })
}

// disable is XEP-0133 §4.3.
func (a *Administration) disable(ctx context.Context, c *adhoc.Call) (adhoc.Reply, error) {
	all, err := a.several(ctx, c)
	if err == nil {
		err = notSelf(c, all)
	}
	if err != nil {
		return adhoc.Reply{}, err
	}
	return each(all, func(who jid.JID) error {
		if err := a.Accounts.SetDisabled(ctx, who, true); err != nil {
			return err
		}
		for _, s := range a.Sessions.Account(who) {
			s.End(stream.Err(stream.NotAuthorized, "the account was disabled"))
		}
		return nil
	})
}

// enable is XEP-0133 §4.4.
func (a *Administration) enable(ctx context.Context, c *adhoc.Call) (adhoc.Reply, error) {
	all, err := a.several(ctx, c)
	if err != nil {
		return adhoc.Reply{}, err
	}
	return each(all, func(who jid.JID) error { return a.Accounts.SetDisabled(ctx, who, false) })
}

// endSessions is XEP-0133 §4.5. The administrator's own session gets its answer first.
func (a *Administration) endSessions(ctx context.Context, c *adhoc.Call) (adhoc.Reply, error) {
	var all []*session.Session
	for _, who := range c.Values.JIDs("accountjids") {
		if who.IsFull() {
			s := a.Sessions.Find(who)
			if s == nil || s.Ended() {
				return adhoc.Reply{}, stanza.Err(stanza.ItemNotFound, "there is no session "+who.String())
			}
			all = append(all, s)
			continue
		}
		if err := a.check(ctx, who); err != nil {
			return adhoc.Reply{}, err
		}
		// Choice: what a client comes back with, without asking its user, is worth nothing from now on (XEP-0484).
		if _, err := a.Accounts.RevokeTokens(ctx, who); err != nil {
			return adhoc.Reply{}, err
		}
		all = append(all, a.Sessions.Account(who)...)
	}
	end := func(context.Context) {
		for _, s := range all {
			s.Out.Flush()
			s.End(stream.Err(stream.PolicyViolation, "the session was ended by an administrator"))
		}
	}
	if f := session.FlowOf(ctx); f != nil {
		f.After(end)
	} else {
		end(ctx)
	}
	return adhoc.Reply{}, nil
}

// changePassword is XEP-0133 §4.7.
func (a *Administration) changePassword(ctx context.Context, c *adhoc.Call) (adhoc.Reply, error) {
	who, err := a.one(ctx, c)
	if err != nil {
		return adhoc.Reply{}, err
	}
	err = a.Accounts.SetPassword(ctx, who, c.Values.Text("password"))
	if errors.Is(err, sasl.ErrPassword) {
		return adhoc.Reply{}, stanza.Err(stanza.NotAcceptable, "this password cannot be used").Because(err)
	}
	return adhoc.Reply{}, err
}
