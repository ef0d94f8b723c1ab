package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
)

// Accounts says as whom the sessions log in.
type Accounts struct {
	Domain   string
	Pattern  string    // user name, "%d" in it stands for the number of the account, from 0
	Password string    // of every account that Pattern names
	List     []Account // used instead of the pattern if not empty

	PerAccount int  // sessions of one account; 0 means 1
	Register   bool // make the accounts that do not exist, in-band (XEP-0077)
}

// Account is one account and its password.
type Account struct {
	JID      jid.JID
	Password string
}

// ReadAccounts reads accounts, one a line: the bare JID, white space, the password. Empty lines and those that start
// with # are left out.
func ReadAccounts(r io.Reader) ([]Account, error) {
	var all []Account
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		name, password, ok := strings.Cut(text, " ")
		if !ok {
			return nil, fmt.Errorf("line %d: no password", n)
		}
		j, err := jid.Parse(name)
		if err != nil || j.Local() == "" || !j.IsBare() {
			return nil, fmt.Errorf("line %d: %q is not the address of an account", n, name)
		}
		all = append(all, Account{j, strings.TrimSpace(password)})
	}
	return all, lines.Err()
}

// account returns the account with a number.
func (a *Accounts) account(n int) (Account, error) {
	if len(a.List) > 0 {
		if n >= len(a.List) {
			return Account{}, fmt.Errorf("%d accounts are not enough", len(a.List))
		}
		return a.List[n], nil
	}
	name := strings.ReplaceAll(a.Pattern, "%d", strconv.Itoa(n))
	j, err := jid.New(name, a.Domain, "")
	if err != nil {
		return Account{}, fmt.Errorf("account %q: %w", name, err)
	}
	if n > 0 && name == a.Pattern {
		return Account{}, fmt.Errorf("the pattern %q names only one account: it needs a %%d", a.Pattern)
	}
	return Account{j, a.Password}, nil
}

func (a *Accounts) perAccount() int { return max(a.PerAccount, 1) }

// session returns the account of a session, and the resource that it asks for. The sessions of one account are spread,
// so that the two of a pair are never one user's.
func (a *Accounts) session(n, sessions int) (Account, string, error) {
	accounts := (sessions + a.perAccount() - 1) / a.perAccount()
	acc, err := a.account(n % accounts)
	return acc, "bench" + strconv.Itoa(n/accounts), err
}

// register makes the accounts that are missing.
func (g *generator) register(ctx context.Context) error {
	a := &g.cfg.Accounts
	accounts := (g.cfg.Sessions + a.perAccount() - 1) / a.perAccount()
	g.progress("registering %d accounts", accounts)
	return g.parallel(ctx, accounts, func(ctx context.Context, n int) error {
		acc, err := a.account(n)
		if err != nil {
			return err
		}
		err = client.Register(ctx, g.clientConfig(n, acc, ""))
		var refused *client.StanzaError
		if errors.As(err, &refused) && refused.Condition == stanza.Conflict {
			return nil // it exists
		}
		return err
	})
}

// parallel calls fn for 0 to n-1, some at a time, and returns the first error.
func (g *generator) parallel(ctx context.Context, n int, fn func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(g.cfg.Concurrent, n) {
		all.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := fn(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}
