package sasl

import (
	"context"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/starling-im/starling/internal/xmpp/jid"
)

// Credentials is the server's view of the accounts of one domain. Usernames are prepared localparts. Errors that are
// a Failure reach the peer as they are, others as temporary-auth-failure.
type Credentials interface {
	// Keys returns the stored keys of an account. For a name without account, or without keys for the hash, known is
	// false and the keys are made up, always the same for the same name and no different to look at; the exchange
	// then runs to its end and fails there.
	Keys(ctx context.Context, username string, h Hash) (k Keys, known bool, err error)
	// Verify checks a password, prepared by PreparePassword, and takes as long for a name without account.
	Verify(ctx context.Context, username, password string) (bool, error)
}

// ServerConfig is what the server side of an exchange depends on. It is only read, and may serve many exchanges.
type ServerConfig struct {
	Domain      string // prepared domainpart of the accounts
	Credentials Credentials
	// Bindings are the channel bindings announced on this stream (XEP-0440); none if there was no announcement.
	Bindings []Binding
	// Offered has the mechanisms as advertised in the profile in use. No other mechanism can be used, and for SCRAM
	// the list is hashed (XEP-0474).
	Offered []string
	// Tokens are those of the client, for the mechanisms of tokens.
	Tokens Tokens
	// External decides who the holder of the certificate is, given the authorization identity, which may be empty.
	// Its errors are treated as those of Credentials.
	External func(authzid string) (user string, err error)
	// Anonymous makes up a username for a guest.
	Anonymous func() (user string, err error)
}

// authorize checks an authorization identity. RFC 6120 §6.3.8: it is a bare JID. Choice: nobody may act as somebody
// else, so it must be the user's own.
func (c *ServerConfig) authorize(authzid, user string) error {
	if authzid == "" {
		return nil
	}
	j, err := jid.Parse(authzid)
	if err != nil || !j.IsBare() || j.Local() != user || j.Domain() != c.Domain {
		return &Failure{Condition: InvalidAuthzid, Err: err}
	}
	return nil
}

// exchange is a mechanism at work. After an error or done it is not called again.
type exchange interface {
	step(ctx context.Context, in []byte) (out []byte, done bool, err error)
	username() string
}

// Server is the server side of one exchange. It is used by one goroutine at a time.
type Server struct {
	exchange exchange
	begun    bool // the peer has sent something
	optional bool // the mechanism does without a message of the client
	ended    bool
	user     string
}

// NewServer begins an exchange. The error is a Failure with InvalidMechanism if the mechanism was not offered or is
// not known (RFC 6120 §6.5.7).
func NewServer(mechanism string, cfg *ServerConfig) (*Server, error) {
	if !slices.Contains(cfg.Offered, mechanism) {
		return nil, fail(InvalidMechanism, "")
	}
	if h, plus, ok := ParseScram(mechanism); ok {
		return &Server{exchange: &scramServer{cfg: cfg, hash: h, plus: plus, nonce: newNonce}}, nil
	}
	if _, ok := ParseHT(mechanism); ok {
		return &Server{exchange: &htServer{cfg: cfg, mechanism: mechanism}}, nil
	}
	switch mechanism {
	case Plain:
		return &Server{exchange: &plainServer{cfg: cfg}}, nil
	case External:
		return &Server{exchange: &externalServer{cfg: cfg}}, nil
	case Anonymous:
		return &Server{exchange: &anonymousServer{cfg: cfg}, optional: true}, nil
	}
	return nil, fail(InvalidMechanism, "")
}

// Step takes a message of the client and returns the server's next: a challenge or, if done, the additional data of
// success, nil if there is none. in is nil if the client sent no initial response, and then the challenge is empty
// (RFC 6120 §6.3.10). It may block on Credentials until ctx ends. Every error is a Failure, and ends the exchange.
func (s *Server) Step(ctx context.Context, in []byte) (out []byte, done bool, err error) {
	if s.ended {
		return nil, false, malformed("the exchange has ended")
	}
	if in == nil && !s.begun && !s.optional {
		s.begun = true
		return []byte{}, false, nil
	}
	s.begun = true
	if len(in) > maxMessage {
		s.ended = true
		return nil, false, malformed("message too long")
	}
	out, done, err = s.exchange.step(ctx, in)
	s.ended = done || err != nil
	if done {
		s.user = s.exchange.username()
		if s.user == "" {
			err = errors.New("authenticated, but as nobody")
		}
	}
	if err != nil {
		return nil, false, asFailure(err)
	}
	return out, done, nil
}

// Username returns who has been authenticated, and "" before that: a prepared localpart, or what the callback of
// EXTERNAL or ANONYMOUS returned.
func (s *Server) Username() string { return s.user }

type plainServer struct {
	cfg  *ServerConfig
	user string
}

func (p *plainServer) username() string { return p.user }

func (p *plainServer) step(ctx context.Context, in []byte) ([]byte, bool, error) {
	authzid, authcid, password, err := parsePlain(in)
	if err != nil {
		return nil, false, err
	}
	user, err := jid.Localpart(authcid)
	if err != nil {
		return nil, false, &Failure{Condition: NotAuthorized, Err: err}
	}
	// RFC 4616 §2: where preparation fails, verification fails.
	if password, err = PreparePassword(password); err != nil {
		return nil, false, &Failure{Condition: NotAuthorized, Err: err}
	}
	ok, err := p.cfg.Credentials.Verify(ctx, user, password)
	if err != nil {
		return nil, false, err
	}
	if !ok {
		return nil, false, fail(NotAuthorized, "")
	}
	if err := p.cfg.authorize(authzid, user); err != nil {
		return nil, false, err
	}
	p.user = user
	return nil, true, nil
}

// parsePlain splits the message of PLAIN: authzid NUL authcid NUL passwd, the first of which may be empty (RFC 4616
// §2). Bounds: those of an address, a localpart and a password.
func parsePlain(in []byte) (authzid, authcid, password string, err error) {
	parts := strings.Split(string(in), "\x00")
	if len(parts) != 3 || !utf8.Valid(in) {
		return "", "", "", malformed("")
	}
	authzid, authcid, password = parts[0], parts[1], parts[2]
	if authcid == "" || password == "" ||
		len(authzid) > maxAuthzid || len(authcid) > maxUsername || len(password) > maxPassword {
		return "", "", "", malformed("")
	}
	return authzid, authcid, password, nil
}

type externalServer struct {
	cfg  *ServerConfig
	user string
}

func (e *externalServer) username() string { return e.user }

func (e *externalServer) step(_ context.Context, in []byte) ([]byte, bool, error) {
	if len(in) > maxAuthzid || !utf8.Valid(in) || slices.Contains(in, 0) {
		return nil, false, malformed("")
	}
	if e.cfg.External == nil {
		return nil, false, errors.New("EXTERNAL is offered, but nothing decides on it")
	}
	user, err := e.cfg.External(string(in))
	if err != nil {
		return nil, false, err
	}
	e.user = user
	return nil, true, nil
}

type anonymousServer struct {
	cfg  *ServerConfig
	user string
}

func (a *anonymousServer) username() string { return a.user }

// step ignores the trace, which must serve nothing but tracing (XEP-0175 §3).
func (a *anonymousServer) step(_ context.Context, in []byte) ([]byte, bool, error) {
	// RFC 6120 §6.5.8: a trace of more than 255 characters violates the syntax.
	if !utf8.Valid(in) || utf8.RuneCount(in) > 255 {
		return nil, false, malformed("")
	}
	if a.cfg.Anonymous == nil {
		return nil, false, errors.New("ANONYMOUS is offered, but nothing names the guests")
	}
	user, err := a.cfg.Anonymous()
	if err != nil {
		return nil, false, err
	}
	a.user = user
	return nil, true, nil
}
