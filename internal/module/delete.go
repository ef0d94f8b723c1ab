package module

import (
	"context"
	"fmt"

	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stream"
)

// DeleteAccount forgets an account and all that features keep of it, and ends its
// sessions. store.ErrNotFound: there is none.
func (c *Core) DeleteAccount(ctx context.Context, account jid.JID) error {
	if err := c.Hooks.Deleted.Each(ctx, &AccountEvent{account}); err != nil {
		return fmt.Errorf("delete %s: %w", account, err)
	}
	if err := c.Accounts.Delete(ctx, account); err != nil {
		return err
	}
	for _, s := range c.Sessions.Account(account) {
		s.End(stream.Err(stream.NotAuthorized, "the account was deleted")) // XEP-0077 §3.2
	}
	return nil
}
