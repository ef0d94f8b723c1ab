package sasl

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/starling-im/starling/internal/xmpp/jid"
)

// The mechanisms of hashed tokens (draft-schmaus-kitten-sasl-ht), named by the channel binding of each. There is none for
// tls-unique, which TLS 1.3 does not have.
const (
	HTExporter = "HT-SHA-256-EXPR"
	HTEndPoint = "HT-SHA-256-ENDP"
	HTNone     = "HT-SHA-256-NONE"
)

// ParseHT tells which type of channel binding a mechanism of hashed tokens has, "" for none; ok is false if it is no such
// mechanism.
func ParseHT(mechanism string) (binding string, ok bool) {
	switch mechanism {
	case HTExporter:
		return TLSExporterType, true
	case HTEndPoint:
		return TLSServerEndPointType, true
	case HTNone:
		return "", true
	}
	return "", false
}

// HTMechanisms returns the mechanisms of hashed tokens that can be used where there are these bindings, strongest first.
func HTMechanisms(bindings []Binding) []string {
	var names []string
	for _, name := range []string{HTExporter, HTEndPoint, HTNone} {
		binding, _ := ParseHT(name)
		if _, ok := htData(binding, bindings); ok {
			names = append(names, name)
		}
	}
	return names
}

// htData is the data of a type of binding, none for none.
func htData(binding string, bindings []Binding) ([]byte, bool) {
	if binding == "" {
		return nil, true
	}
	for _, b := range bindings {
		if b.Type == binding && len(b.Data) > 0 {
			return b.Data, true
		}
	}
	return nil, false
}

// Tokens is the server's view of the tokens that one client was given. Its errors are treated as those of Credentials.
type Tokens interface {
	// Tokens returns what an account's client may prove to have for a mechanism: always as many, made-up ones where there
	// are fewer, so that it cannot be told which accounts there are.
	Tokens(ctx context.Context, username, mechanism string) (tokens []string, err error)
	// Accept is told which of the tokens was proven, and decides whether it is still good.
	Accept(ctx context.Context, token int) error
}

// The two messages of an exchange differ in this.
const (
	htInitiator = "Initiator"
	htResponder = "Responder"
)

// htHash is what proves to have a token.
func htHash(token, role string, binding []byte) []byte {
	m := hmac.New(sha256.New, []byte(token))
	m.Write([]byte(role))
	m.Write(binding)
	return m.Sum(nil)
}

// htServer is the server side of hashed tokens.
type htServer struct {
	cfg       *ServerConfig
	mechanism string
	user      string
}

func (e *htServer) username() string { return e.user }

func (e *htServer) step(ctx context.Context, in []byte) ([]byte, bool, error) {
	name, proof, ok := bytes.Cut(in, []byte{0})
	if !ok || len(name) == 0 || len(name) > maxUsername || !utf8.Valid(name) || len(proof) != sha256.Size {
		return nil, false, malformed("")
	}
	binding, _ := ParseHT(e.mechanism)
	data, ok := htData(binding, e.cfg.Bindings)
	if !ok || e.cfg.Tokens == nil {
		return nil, false, errors.New("a mechanism of tokens is offered, but cannot be used")
	}
	user, err := jid.Localpart(string(name))
	if err != nil {
		return nil, false, &Failure{Condition: NotAuthorized, Err: err}
	}
	tokens, err := e.cfg.Tokens.Tokens(ctx, user, e.mechanism)
	if err != nil {
		return nil, false, err
	}
	proven := -1
	for i, token := range tokens { // all, so that it takes the same time
		// XEP-0484 §5.1: the comparison takes constant time.
		if hmac.Equal(proof, htHash(token, htInitiator, data)) {
			proven = i
		}
	}
	if proven < 0 {
		return nil, false, fail(NotAuthorized, "")
	}
	if err := e.cfg.Tokens.Accept(ctx, proven); err != nil {
		return nil, false, err
	}
	e.user = user
	return htHash(tokens[proven], htResponder, data), true, nil
}

// token is the client side of hashed tokens: the only message, and the check of what comes with success.
func (c *Client) token(in []byte) ([]byte, error) {
	if c.steps == 1 {
		return append([]byte(c.cfg.Username+"\x00"), htHash(c.cfg.Password, htInitiator, c.htBinding())...), nil
	}
	if !hmac.Equal(in, htHash(c.cfg.Password, htResponder, c.htBinding())) {
		return nil, ErrServer
	}
	c.done = true
	return []byte{}, nil
}

// htBinding is the data that the mechanism binds to.
func (c *Client) htBinding() []byte {
	if strings.HasSuffix(c.mechanism, "-NONE") {
		return nil
	}
	return c.cfg.Binding.Data
}
