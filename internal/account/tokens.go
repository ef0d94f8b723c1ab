package account

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/sasl"
)

// TokenOptions are about the tokens with which clients log in again without a password (XEP-0484).
type TokenOptions struct {
	// Lifetime of a token; 0 = there are none.
	Lifetime time.Duration
	// Rotate is the age from which a token that is used is replaced.
	Rotate time.Duration
	// Clients of one account that may have tokens; those that were given theirs longest ago lose them; 0 = 50.
	Clients int
	// Key goes into the making of tokens, so that who has the database has no tokens; it is the same on all nodes.
	// Tokens made with another one are worth nothing.
	Key string
}

const defaultTokenClients = 50

// Names of the secrets from which tokens are made, and by which clients are told apart.
const (
	tokenSecret  = "fast-tokens"
	clientSecret = "clients"
)

// Slots of a client's tokens: XEP-0484 §5.1.
const (
	slotCurrent = iota
	slotNew
	slots
)

// sizes in bytes.
const (
	nonceSize  = 16
	clientSize = 16
)

// HasTokens tells whether clients can be given tokens.
func (a *Accounts) HasTokens() bool { return a.o.Tokens.Lifetime > 0 }

// Client tells the clients of an account apart by the ids that they have given themselves (XEP-0388 §2.3). It returns
// 16 bytes which say nothing about that id, and which nobody can compute who does not know a secret of the server.
func (a *Accounts) Client(ctx context.Context, owner jid.JID, id string) ([]byte, error) {
	secret, err := a.Secret(ctx, clientSecret)
	if err != nil {
		return nil, err
	}
	return keyed(secret, owner.Bare().String(), id)[:clientSize], nil
}

// keyed is a keyed hash of texts, none but the last of which has a zero byte.
func keyed(key []byte, parts ...string) []byte {
	m := hmac.New(sha256.New, key)
	for i, p := range parts {
		if i > 0 {
			m.Write([]byte{0})
		}
		m.Write([]byte(p))
	}
	return m.Sum(nil)
}

// token is one that a client was given.
type token struct {
	mechanism       string
	nonce           []byte // empty: there is none
	issued, expires time.Time
	count           int64
}

// tokenText is what the client has: 256 bits that only the server can compute.
func (a *Accounts) tokenText(ctx context.Context, owner jid.JID, client []byte, mechanism string, nonce []byte) (string, error) {
	secret, err := a.Secret(ctx, tokenSecret)
	if err != nil {
		return "", err
	}
	key := keyed(secret, a.o.Tokens.Key)
	return base64.RawURLEncoding.EncodeToString(keyed(key, owner.String(), mechanism, string(client)+string(nonce))), nil
}

// TokenUse is how a client comes with a token: the sasl.Tokens of one attempt to log in.
type TokenUse struct {
	*Attempt
	ID         string // that the client has given itself
	Count      int64  // of the client's uses of the token; 0 when it does not count
	Invalidate bool   // it is the last use

	client    []byte
	mechanism string
	has       [slots]token
}

// Tokens implements sasl.Tokens. Made-up tokens depend on the name, and are known to nobody.
func (u *TokenUse) Tokens(ctx context.Context, username, mechanism string) ([]string, error) {
	if err := u.begin(username); err != nil {
		return nil, err
	}
	a, owner := u.accounts, u.user
	var err error
	if u.client, err = a.Client(ctx, owner, u.ID); err != nil {
		return nil, err
	}
	before := a.known.generation()
	found := false
	err = a.db.Read(ctx, func(tx *store.Tx) error {
		found, u.has, u.mechanism = false, [slots]token{}, mechanism
		return tx.Each(func(scan store.Scan) error {
			var slot, issued, expires int64
			var t token
			if err := scan(&slot, &t.mechanism, &t.nonce, &issued, &expires, &t.count, &u.disabled); err != nil {
				return err
			}
			t.issued, t.expires = store.Time(issued), store.Time(expires)
			found = true
			// XEP-0484 §3.4: a token is worth something with the mechanism only that it was asked for.
			if slot >= 0 && slot < slots && t.mechanism == mechanism {
				u.has[slot] = t
			}
			return nil
		}, `SELECT t.slot, t.mechanism, t.nonce, t.issued_at, t.expires_at, t.count, a.disabled
			FROM account_tokens t JOIN accounts a ON a.owner = t.owner WHERE t.owner = $1 AND t.client = $2`,
			owner.String(), u.client)
	})
	if err != nil {
		return nil, fmt.Errorf("load tokens of %s: %w", owner, err)
	}
	if found {
		a.known.add(owner, before)
	}
	texts := make([]string, slots)
	for slot := range texts {
		nonce := u.has[slot].nonce
		if len(nonce) == 0 {
			nonce = []byte{byte(slot)} // shorter than any
		}
		if texts[slot], err = a.tokenText(ctx, owner, u.client, mechanism, nonce); err != nil {
			return nil, err
		}
	}
	return texts, nil
}

// Accept implements sasl.Tokens.
func (u *TokenUse) Accept(ctx context.Context, slot int) error {
	t := &u.has[slot]
	switch {
	case len(t.nonce) == 0:
		return &sasl.Failure{Condition: sasl.NotAuthorized, Err: errors.New("a token that was made up")}
	case !u.accounts.o.Clock().Before(t.expires): // XEP-0484 §4.2
		return &sasl.Failure{Condition: sasl.CredentialsExpired}
	case u.Count > 0 && u.Count <= t.count:
		return errReplayed()
	}
	u.known, u.proof = true, t.nonce
	u.stale = u.accounts.o.Clock().Sub(t.issued) >= u.accounts.o.Tokens.Rotate
	if slot == slotCurrent && u.Count == 0 && !u.Invalidate {
		return nil
	}
	err := u.accounts.db.Write(ctx, func(tx *store.Tx) error { return u.note(tx, t) })
	if err != nil {
		return fmt.Errorf("note the use of a token of %s: %w", u.user, err)
	}
	return nil
}

// errReplayed: XEP-0484 §3.4.
func errReplayed() error {
	return &sasl.Failure{Condition: sasl.NotAuthorized, Err: errors.New("the count of a token does not grow")}
}

// note writes down that a token is used, unless it has been revoked since, or was used with this count.
func (u *TokenUse) note(tx *store.Tx, t *token) error {
	owner := u.user.String()
	var slot, count int64
	err := tx.Row(`SELECT slot, count FROM account_tokens WHERE owner = $1 AND client = $2 AND nonce = $3`,
		owner, u.client, t.nonce).Scan(&slot, &count)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return &sasl.Failure{Condition: sasl.NotAuthorized, Err: errors.New("the token was revoked")}
	case err != nil:
		return err
	case u.Count > 0 && u.Count <= count:
		return errReplayed()
	}
	if u.Invalidate { // XEP-0484 §3.6. Choice: with one that is handed out and not used yet, since the client logs out.
		_, err := tx.Exec(`DELETE FROM account_tokens WHERE owner = $1 AND client = $2`, owner, u.client)
		return err
	}
	if slot == slotNew { // XEP-0484 §3.5: what it replaces is worth nothing from now on
		if _, err := tx.Exec(`DELETE FROM account_tokens WHERE owner = $1 AND client = $2 AND slot = $3`, owner, u.client, slotCurrent); err != nil {
			return err
		}
	}
	return change(tx, `UPDATE account_tokens SET slot = $4, count = $5 WHERE owner = $1 AND client = $2 AND nonce = $3`,
		owner, u.client, t.nonce, slotCurrent, max(count, u.Count))
}

// Stale tells whether the token that was used is to be replaced (XEP-0484 §3.5).
func (u *TokenUse) Stale() bool { return u.stale && !u.Invalidate }

// Mechanism is that of the token that was used.
func (u *TokenUse) Mechanism() string { return u.mechanism }

// Issue makes a token for a client of the account that the attempt has proven to be of, to be used with a mechanism. The
// one that the client uses stays good until this one is used; one that it was given and has not used does not
// (XEP-0484 §3.5). store.ErrNotFound: what the attempt has proven is worth nothing any more.
func (t *Attempt) Issue(ctx context.Context, owner jid.JID, id, mechanism string) (text string, expires time.Time, err error) {
	a := t.accounts
	client, err := a.Client(ctx, owner, id)
	if err != nil {
		return "", time.Time{}, err
	}
	nonce := make([]byte, nonceSize)
	_, _ = rand.Read(nonce) // never fails
	now := a.o.Clock()
	expires = now.Add(a.o.Tokens.Lifetime).Truncate(time.Second)
	err = a.db.Write(ctx, func(tx *store.Tx) error {
		if err := t.stillGood(tx, owner); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO account_tokens (owner, client, slot, mechanism, nonce, issued_at, expires_at, count)
			VALUES ($1, $2, $3, $4, $5, $6, $7, 0) ON CONFLICT (owner, client, slot) DO UPDATE SET mechanism = excluded.mechanism,
			nonce = excluded.nonce, issued_at = excluded.issued_at, expires_at = excluded.expires_at, count = 0`,
			owner.String(), client, slotNew, mechanism, nonce, store.Micros(now), store.Micros(expires))
		if err != nil {
			return err
		}
		return a.crop(tx, owner, client, now)
	})
	if err == nil {
		text, err = a.tokenText(ctx, owner, client, mechanism, nonce)
	}
	if err != nil {
		return "", time.Time{}, fmt.Errorf("issue a token to %s: %w", owner, err)
	}
	return text, expires, nil
}

// stillGood finds out whether what the attempt has proven was revoked since: a password that was changed, a token, or the
// account. It locks the account's row, so that whoever revokes does so before or after.
func (t *Attempt) stillGood(tx *store.Tx, owner jid.JID) error {
	if err := change(tx, `UPDATE accounts SET domain = domain WHERE owner = $1 AND disabled = $2`, owner.String(), false); err != nil {
		return err
	}
	if len(t.proof) == 0 { // a certificate
		return nil
	}
	var n int
	err := tx.Row(`SELECT (SELECT COUNT(*) FROM account_keys WHERE owner = $1 AND stored = $2)
		+ (SELECT COUNT(*) FROM account_tokens WHERE owner = $1 AND nonce = $2)`, owner.String(), t.proof).Scan(&n)
	if err == nil && n == 0 {
		err = store.ErrNotFound
	}
	return err
}

// crop removes what other clients of an account do not need any more, and what is too much.
func (a *Accounts) crop(tx *store.Tx, owner jid.JID, client []byte, now time.Time) error {
	_, err := tx.Exec(`DELETE FROM account_tokens WHERE owner = $1 AND client <> $2 AND expires_at <= $3`,
		owner.String(), client, store.Micros(now))
	if err != nil {
		return err
	}
	limit := a.o.Tokens.Clients
	if limit <= 0 {
		limit = defaultTokenClients
	}
	_, err = tx.Exec(`DELETE FROM account_tokens WHERE owner = $1 AND client IN (SELECT client FROM account_tokens
		WHERE owner = $1 AND client <> $2 GROUP BY client ORDER BY MAX(issued_at) DESC LIMIT $3 OFFSET $4)`,
		owner.String(), client, 1_000_000, limit-1)
	return err
}

// RevokeTokens makes the tokens of all clients of an account worth nothing, and returns how many clients had some.
func (a *Accounts) RevokeTokens(ctx context.Context, bare jid.JID) (clients int, err error) {
	err = a.db.Write(ctx, func(tx *store.Tx) error {
		if err := change(tx, `UPDATE accounts SET domain = domain WHERE owner = $1`, bare.String()); err != nil {
			return err
		}
		err := tx.Row(`SELECT COUNT(DISTINCT client) FROM account_tokens WHERE owner = $1`, bare.String()).Scan(&clients)
		if err != nil {
			return err
		}
		return dropTokens(tx, bare)
	})
	if err != nil {
		return 0, fmt.Errorf("revoke tokens of %s: %w", bare, err)
	}
	a.o.Log.LogAttrs(ctx, slog.LevelInfo, "tokens revoked", slog.String("account", bare.String()), slog.Int("clients", clients))
	return clients, nil
}

// dropTokens deletes the tokens of an account.
func dropTokens(tx *store.Tx, bare jid.JID) error {
	_, err := tx.Exec(`DELETE FROM account_tokens WHERE owner = $1`, bare.String())
	return err
}
