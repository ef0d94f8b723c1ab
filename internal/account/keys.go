package account

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/netip"

	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/sasl"
)

// saltSize is the length of a salt in bytes (XEP-0438 §6.2).
const saltSize = 16

// fakeSecret names the secret from which the keys of unknown users are made.
const fakeSecret = "scram-unknown-users"

// stored are the keys of one account.
type stored map[sasl.Hash]sasl.Keys

// hashes returns the hash functions for which keys are stored, the one that PLAIN prefers first: where they are equally
// safe, as here, SHA-256 is the fastest on processors that have instructions for it.
func hashes() [3]sasl.Hash { return [...]sasl.Hash{sasl.SHA256, sasl.SHA512, sasl.SHA1} }

// derive computes the keys of a new password, each with a salt of its own.
func (a *Accounts) derive(ctx context.Context, password string) (stored, error) {
	keys := make(stored)
	for _, h := range hashes() {
		salt := make([]byte, saltSize)
		_, _ = rand.Read(salt) // never fails
		var err error
		if keys[h], err = a.hashers.derive(ctx, h, password, salt, a.o.Iterations); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// saveKeys replaces the keys of an account.
func saveKeys(tx *store.Tx, bare jid.JID, keys stored) error {
	for h, k := range keys {
		_, err := tx.Exec(`INSERT INTO account_keys (owner, hash, iterations, salt, stored, server) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (owner, hash) DO UPDATE SET iterations = excluded.iterations, salt = excluded.salt,
			stored = excluded.stored, server = excluded.server`,
			bare.String(), h.Name(), k.Iterations, k.Salt, k.Stored, k.Server)
		if err != nil {
			return err
		}
	}
	return nil
}

// load returns the keys of an account, none if there is no account, and whether it is disabled.
func (a *Accounts) load(ctx context.Context, bare jid.JID) (keys stored, disabled bool, err error) {
	err = a.db.Read(ctx, func(tx *store.Tx) error {
		keys = make(stored)
		return tx.Each(func(scan store.Scan) error {
			var (
				mechanism string
				k         sasl.Keys
			)
			if err := scan(&mechanism, &k.Iterations, &k.Salt, &k.Stored, &k.Server, &disabled); err != nil {
				return err
			}
			if h, _, ok := sasl.ParseScram(mechanism); ok {
				keys[h] = k
			}
			return nil
		}, `SELECT k.hash, k.iterations, k.salt, k.stored, k.server, a.disabled
			FROM account_keys k JOIN accounts a ON a.owner = k.owner WHERE k.owner = $1`, bare.String())
	})
	if err != nil {
		return nil, false, fmt.Errorf("load keys of %s: %w", bare, err)
	}
	return keys, disabled, nil
}

// Credentials returns the accounts of one domain, for SASL. Unlike an Attempt it does not limit guessing.
func (a *Accounts) Credentials(domain string) sasl.Credentials { return credentials{a, domain} }

type credentials struct {
	accounts *Accounts
	domain   string
}

// address returns the account that a username means; the zero JID if it cannot mean any.
func (c credentials) address(username string) jid.JID {
	j, err := jid.New(username, c.domain, "")
	if err != nil || j.Local() == "" {
		return jid.JID{}
	}
	return j
}

// Keys implements sasl.Credentials.
func (c credentials) Keys(ctx context.Context, username string, h sasl.Hash) (k sasl.Keys, known bool, err error) {
	k, known, err = c.keys(ctx, username, h, &Attempt{})
	return k, known, err
}

// keys notes in an attempt what else is known of the account.
func (c credentials) keys(ctx context.Context, username string, h sasl.Hash, t *Attempt) (k sasl.Keys, known bool, err error) {
	bare, before := c.address(username), c.accounts.known.generation()
	keys, disabled, err := c.accounts.load(ctx, bare)
	if err != nil {
		return sasl.Keys{}, false, err
	}
	if len(keys) > 0 { // binding a resource asks next
		c.accounts.known.add(bare, before)
	}
	k, known, err = c.choose(ctx, bare, username, keys, h)
	t.known, t.disabled, t.proof, t.keys = known, disabled, k.Stored, keys
	return k, known, err
}

// choose returns the stored keys for h, or made-up ones. To make those takes no longer than to read stored ones from a row.
func (c credentials) choose(ctx context.Context, bare jid.JID, username string, keys stored, h sasl.Hash) (sasl.Keys, bool, error) {
	if k, known := keys[h]; known {
		return k, true, nil
	}
	secret, err := c.accounts.Secret(ctx, fakeSecret)
	if err != nil {
		return sasl.Keys{}, false, err
	}
	name := bare.String()
	if bare.IsZero() {
		name = username
	}
	return fakeKeys(secret, name, h, c.accounts.o.Iterations), false, nil
}

// fakeKeys makes up keys that depend on nothing but the arguments, so that asking twice shows no difference to an account.
// Nobody knows a password that fits them.
func fakeKeys(secret []byte, name string, h sasl.Hash, iterations int) sasl.Keys {
	part := func(what string, size int) []byte {
		mac := hmac.New(sha512.New, secret)
		for _, s := range []string{what, h.Name(), name} { // only the last can hold a zero byte
			mac.Write([]byte(s))
			mac.Write([]byte{0})
		}
		return mac.Sum(nil)[:size]
	}
	return sasl.Keys{
		Iterations: iterations,
		Salt:       part("salt", saltSize),
		Stored:     part("stored", h.Size()),
		Server:     part("server", h.Size()),
	}
}

// Verify implements sasl.Credentials. It derives one key, whether or not there is an account.
func (c credentials) Verify(ctx context.Context, username, password string) (bool, error) {
	k, _, err := c.verify(ctx, username, password)
	return k != nil, err
}

// verify returns the key that the password has, nil if it is not the account's.
func (c credentials) verify(ctx context.Context, username, password string) (proof []byte, disabled bool, err error) {
	bare := c.address(username)
	keys, disabled, err := c.accounts.load(ctx, bare)
	if err != nil {
		return nil, false, err
	}
	hash := sasl.SHA256
	for _, h := range hashes() {
		if _, ok := keys[h]; ok {
			hash = h
			break
		}
	}
	want, known, err := c.choose(ctx, bare, username, keys, hash)
	if err != nil {
		return nil, false, err
	}
	got, err := c.accounts.hashers.derive(ctx, hash, password, want.Salt, want.Iterations)
	if errors.Is(err, sasl.ErrPassword) {
		return nil, false, nil // It cannot be anyone's.
	}
	if err != nil {
		return nil, false, err
	}
	// XEP-0438 §6.3: the comparison takes constant time.
	if subtle.ConstantTimeCompare(got.Stored, want.Stored) != 1 || !known {
		return nil, false, nil
	}
	return want.Stored, disabled, nil
}

// Attempt is the sasl.Credentials of one client's attempt to log in: those of the accounts, behind the throttle.
type Attempt struct {
	credentials
	addr netip.Addr
	user jid.JID

	known    bool   // the account is there, and so is what follows
	disabled bool   // it may not log in
	proof    []byte // what was proven to be had: a stored key, or the nonce of a token
	keys     stored // of the account, if it logs in by them
	stale    bool   // that token is to be replaced
}

// Attempt begins an attempt to log in to an account of domain from addr. It serves one exchange.
func (a *Accounts) Attempt(domain string, addr netip.Addr) *Attempt {
	return &Attempt{credentials: credentials{a, domain}, addr: addr}
}

// User returns the account that the client claims to be, the zero JID before it has named one.
func (t *Attempt) User() jid.JID { return t.user }

// Keys implements sasl.Credentials.
func (t *Attempt) Keys(ctx context.Context, username string, h sasl.Hash) (sasl.Keys, bool, error) {
	if err := t.begin(username); err != nil {
		return sasl.Keys{}, false, err
	}
	return t.credentials.keys(ctx, username, h, t)
}

// Verify implements sasl.Credentials.
func (t *Attempt) Verify(ctx context.Context, username, password string) (bool, error) {
	if err := t.begin(username); err != nil {
		return false, err
	}
	proof, disabled, err := t.verify(ctx, username, password)
	t.known, t.disabled, t.proof = proof != nil, disabled, proof
	return proof != nil, err
}

// Disabled reports whether the account that was read in this attempt may not log in. known is false if none was.
func (t *Attempt) Disabled() (disabled, known bool) { return t.disabled, t.known }

// Missing returns the hash functions for which the account has no keys, of one that has logged in by keys: it was made
// by another server, or another version of this one.
func (t *Attempt) Missing() []sasl.Hash {
	var missing []sasl.Hash
	for _, h := range hashes() {
		if _, ok := t.keys[h]; !ok && len(t.keys) > 0 {
			missing = append(missing, h)
		}
	}
	return missing
}

// AddKeys stores keys that the account has not, made by whoever has proven to know its password (XEP-0480 §3).
// store.ErrNotFound: the password is another one by now.
func (t *Attempt) AddKeys(ctx context.Context, owner jid.JID, h sasl.Hash, k sasl.Keys) error {
	err := t.accounts.db.Write(ctx, func(tx *store.Tx) error {
		if err := t.stillGood(tx, owner); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO account_keys (owner, hash, iterations, salt, stored, server) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (owner, hash) DO NOTHING`, owner.String(), h.Name(), k.Iterations, k.Salt, k.Stored, k.Server)
		return err
	})
	if err != nil {
		return fmt.Errorf("store more keys of %s: %w", owner, err)
	}
	return nil
}

// Iterations are those of new keys.
func (a *Accounts) Iterations() int { return a.o.Iterations }

// begin notes who is meant, and refuses to go on after too many failures.
func (t *Attempt) begin(username string) error {
	t.user = t.address(username)
	if err := t.accounts.throttle.Allow(t.addr, t.user); err != nil {
		return &sasl.Failure{Condition: sasl.TemporaryAuthFailure, Text: "too many failed attempts, try again later", Err: err}
	}
	return nil
}

// Succeeded tells the throttle that the client is who it claimed to be.
func (t *Attempt) Succeeded() { t.accounts.throttle.Succeeded(t.addr, t.user) }

// Failed tells the throttle that the client could not prove who it is (RFC 6120 §6.5.10).
func (t *Attempt) Failed() { t.accounts.throttle.Failed(t.addr, t.user) }
