// Package admin is what operators may do to a running server. Users and Cluster are typed services; everything that
// operators use stands on them: Handler offers them as HTTP with JSON, on a Unix socket in the data folder that only the
// server's own user can open, and Client is the other end of that, with the same methods.
package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/starling-im/starling/internal/account"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/sasl"
)

// MaxList is the most accounts that one call of List returns.
const MaxList = 1000

// User is what operators see of an account.
type User struct {
	JID      string    `json:"jid"` // bare
	Created  time.Time `json:"created"`
	Disabled bool      `json:"disabled"` // may not log in
}

// Users manages the accounts of the domains that a server serves. All methods may be called from any goroutine; their
// errors are an *Error where the caller can do something about them.
type Users struct{ core *module.Core }

// NewUsers returns the service for a server.
func NewUsers(core *module.Core) *Users { return &Users{core} }

// ParseAccount reads the address of an account, name@domain. The error is InvalidName.
func ParseAccount(s string) (jid.JID, error) {
	j, err := jid.Parse(s)
	if err == nil {
		err = checkAccount(j)
	}
	if err != nil {
		return jid.JID{}, fault(InvalidName, err, "%q is not the address of an account, name@domain", s)
	}
	return j, nil
}

// checkAccount says why an address cannot be that of an account.
func checkAccount(j jid.JID) error {
	switch {
	case j.Local() == "":
		return errors.New("it has no name before the @")
	case j.IsFull():
		return errors.New("it has a resource after the domain")
	}
	return nil
}

// Domains lists the domains that are served, the default one first.
func (u *Users) Domains(context.Context) ([]string, error) {
	var names []string
	for _, d := range u.core.Domains {
		names = append(names, d.Domain())
	}
	return names, nil
}

// Add makes an account and returns its password: the given one, or for "" one that is made up. The error is
// InvalidName, ForeignDomain, BadPassword, Exists, Reserved or Unavailable.
func (u *Users) Add(ctx context.Context, who jid.JID, password string) (string, error) {
	if err := u.check(who); err != nil {
		return "", err
	}
	if password == "" {
		password = strings.ToLower(rand.Text()) // 130 bits
	}
	if err := u.core.Accounts.Create(ctx, who, password); err != nil {
		return "", explain(err, who)
	}
	return password, nil
}

// SetPassword gives an account another password and returns it: the given one, or for "" one that is made up. Who is
// logged in stays so. The error is InvalidName, ForeignDomain, BadPassword, NotFound or Unavailable.
func (u *Users) SetPassword(ctx context.Context, who jid.JID, password string) (string, error) {
	if err := u.check(who); err != nil {
		return "", err
	}
	if password == "" {
		password = strings.ToLower(rand.Text()) // 130 bits
	}
	if err := u.core.Accounts.SetPassword(ctx, who, password); err != nil {
		return "", explain(err, who)
	}
	return password, nil
}

// Delete removes an account with all that belongs to it, and ends its sessions. The domain need not be served any
// more. The error is InvalidName, NotFound or Unavailable.
func (u *Users) Delete(ctx context.Context, who jid.JID) error {
	if err := checkAccount(who); err != nil {
		return fault(InvalidName, err, "%q is not the address of an account, name@domain", who)
	}
	// DeleteAccount has its features forget the account first, also one that there never was.
	exists, err := u.core.Accounts.Exists(ctx, who)
	if err == nil && !exists {
		err = store.ErrNotFound
	}
	if err == nil {
		err = u.core.DeleteAccount(ctx, who)
	}
	return explain(err, who)
}

// List returns accounts of a domain in the order of their names, from the one after the given account on; the zero JID
// begins. It returns at most limit, or MaxList where that is less or limit is not positive: fewer mean that there are
// no more. The error is Unavailable.
func (u *Users) List(ctx context.Context, domain string, after jid.JID, limit int) ([]User, error) {
	if limit <= 0 || limit > MaxList {
		limit = MaxList
	}
	list, err := u.core.Accounts.List(ctx, domain, after, limit)
	if err != nil {
		return nil, explain(err, after)
	}
	users := make([]User, len(list))
	for i, a := range list {
		users[i] = User{JID: a.JID.String(), Created: a.Created, Disabled: a.Disabled}
	}
	return users, nil
}

// check says whether there can be such an account here.
func (u *Users) check(who jid.JID) error {
	if err := checkAccount(who); err != nil {
		return fault(InvalidName, err, "%q is not the address of an account, name@domain", who)
	}
	if !slices.Contains(u.core.Domains, who.Host()) {
		names, _ := u.Domains(context.Background())
		return fault(ForeignDomain, nil, "%s is not a domain of this server, which has %q", who.Domain(), names)
	}
	return nil
}

// explain turns an error of the layers below into one that says what the caller can do about it; others stay.
func explain(err error, who jid.JID) error {
	switch {
	case errors.Is(err, account.ErrExists):
		return fault(Exists, err, "%s exists already", who)
	case errors.Is(err, account.ErrTombstone):
		return fault(Reserved, err, "%s was deleted not long ago, and its name is not free yet", who)
	case errors.Is(err, store.ErrNotFound):
		return fault(NotFound, err, "there is no account %s", who)
	case errors.Is(err, sasl.ErrPassword):
		return fault(BadPassword, err, "this cannot be a password: it needs 1 to 1,023 bytes of text without control characters")
	case errors.Is(err, account.ErrBusy), errors.Is(err, store.ErrUnavailable):
		return fault(Unavailable, err, "the server cannot do this now, try again later: %v", err)
	}
	return err
}
