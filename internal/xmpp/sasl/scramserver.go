package sasl

import (
	"context"
	"crypto/subtle"
	"slices"
	"strings"

	"github.com/starling-im/starling/internal/xmpp/jid"
)

// scramServer is the server side of SCRAM (RFC 5802 §5). What it answers, and how much it computes, is the same for
// names with and without account.
type scramServer struct {
	cfg   *ServerConfig
	hash  Hash
	plus  bool
	nonce func() string // makes the server's part; tests have their own

	first     clientFirst
	binding   []byte // data of the channel binding in use
	user      string
	keys      Keys
	known     bool
	challenge serverFirst // sent; its nonce is empty before
}

func (e *scramServer) username() string { return e.user }

func (e *scramServer) step(ctx context.Context, in []byte) ([]byte, bool, error) {
	if e.challenge.nonce == "" {
		out, err := e.begin(ctx, in)
		return out, false, err
	}
	out, err := e.finish(in)
	return out, err == nil, err
}

// begin answers the client-first-message.
func (e *scramServer) begin(ctx context.Context, in []byte) ([]byte, error) {
	first, err := parseClientFirst(in)
	if err != nil {
		return nil, err
	}
	if err := e.bind(first.flag, first.binding); err != nil {
		return nil, err
	}
	if e.user, err = jid.Localpart(first.username); err != nil {
		return nil, &Failure{Condition: NotAuthorized, Err: err}
	}
	if e.keys, e.known, err = e.cfg.Credentials.Keys(ctx, e.user, e.hash); err != nil {
		return nil, err
	}
	if err := e.keys.check(e.hash); err != nil {
		return nil, err
	}
	e.first = first
	e.challenge = serverFirst{
		nonce:      first.nonce + e.nonce(),
		salt:       e.keys.Salt,
		iterations: e.keys.Iterations,
		downgrade:  downgradeHash(e.hash, e.cfg.Offered, BindingTypes(e.cfg.Bindings)),
	}
	return []byte(e.challenge.String()), nil
}

// bind checks the flag of channel binding against the mechanism and what was offered (RFC 5802 §6).
func (e *scramServer) bind(flag byte, binding string) error {
	switch {
	case flag == 'p' && !e.plus:
		// Choice: the client asks for a binding under a name that has none, so one of the two was changed on the way.
		return fail(NotAuthorized, "channel-binding-not-supported")
	case flag != 'p' && e.plus:
		return fail(NotAuthorized, "server-does-support-channel-binding")
	case flag == 'y' && slices.ContainsFunc(e.cfg.Offered, isPlus):
		// RFC 5802 §6: the client saw no mechanism that binds, but there was one: somebody took it off the list.
		return fail(NotAuthorized, "server-does-support-channel-binding")
	case flag != 'p':
		return nil
	}
	at := slices.IndexFunc(e.cfg.Bindings, func(b Binding) bool { return b.Type == binding })
	if at < 0 || len(e.cfg.Bindings[at].Data) == 0 {
		return fail(NotAuthorized, "unsupported-channel-binding-type")
	}
	e.binding = e.cfg.Bindings[at].Data
	return nil
}

func isPlus(mechanism string) bool { return strings.HasSuffix(mechanism, PlusSuffix) }

// finish answers the client-final-message: with the server's signature if the proof is right.
func (e *scramServer) finish(in []byte) ([]byte, error) {
	final, err := parseClientFinal(in)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare([]byte(final.nonce), []byte(e.challenge.nonce)) == 0 {
		return nil, fail(NotAuthorized, "")
	}
	// RFC 5802 §6: the attribute "c" is always compared, with or without channel binding.
	if subtle.ConstantTimeCompare(final.binding, append([]byte(e.first.header), e.binding...)) == 0 {
		return nil, fail(NotAuthorized, "channel-bindings-dont-match")
	}
	authMessage := e.first.bare + "," + e.challenge.String() + "," + final.rest
	proven := e.proves(final.proof, authMessage)
	signature := mac(e.hash, e.keys.Server, authMessage)
	// RFC 6120 §6.5.10: a name without account fails as a wrong password does. Choice: without the optional
	// server-final-message of RFC 5802 §5.1, for which a failure of XMPP has no room.
	if !proven || !e.known {
		return nil, fail(NotAuthorized, "")
	}
	if err := e.cfg.authorize(e.first.authzid, e.user); err != nil {
		return nil, err
	}
	return []byte("v=" + encode64(signature)), nil
}

// proves reports whether the proof is made with the client's key: the hash of the key is what is stored.
func (e *scramServer) proves(proof []byte, authMessage string) bool {
	clientKey := mac(e.hash, e.keys.Stored, authMessage)
	if len(proof) != len(clientKey) {
		return false
	}
	subtle.XORBytes(clientKey, clientKey, proof)
	return subtle.ConstantTimeCompare(digest(e.hash, clientKey), e.keys.Stored) == 1
}
