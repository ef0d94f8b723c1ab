package c2s

import (
	"context"
	"errors"
	"log/slog"
	"strconv"

	"github.com/starling-im/starling/internal/account"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/datetime"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/sasl"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// nsFAST is the namespace of tokens (XEP-0484).
const nsFAST = "urn:xmpp:fast:0"

// fastMechanisms are those with which tokens can be used on this connection. The mechanisms need TLS in which no two
// sessions have one secret, which is where there is an exporter (RFC 9266 §2).
func (c *conn) fastMechanisms(bindings []sasl.Binding) []string {
	if !c.srv.core.Accounts.HasTokens() || len(bindings) == 0 || bindings[0].Type != sasl.TLSExporterType {
		return nil
	}
	return sasl.HTMechanisms(bindings)
}

// fastFeature offers tokens (XEP-0484 §3.1). Early data of TLS is not taken.
func fastFeature(mechanisms []string) xml.Element {
	e := xml.New(nsFAST, "fast")
	for _, m := range mechanisms {
		e = e.With(xml.New(nsFAST, "mechanism").WithText(m))
	}
	return e
}

// useToken prepares for a client that comes with a token (XEP-0484 §3.4).
func (c *conn) useToken(w *wants, e *xml.Element, cfg *sasl.ServerConfig) error {
	use := &account.TokenUse{Attempt: c.talks.attempt, ID: w.agent, Invalidate: boolean(e.Attr("invalidate"))}
	if text, ok := e.Lookup("count"); ok {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n <= 0 {
			return &sasl.Failure{Condition: sasl.MalformedRequest, Text: "the count of a token is a positive number"}
		}
		use.Count = n
	}
	if w.agent == "" { // XEP-0484 §4.1
		return &sasl.Failure{Condition: sasl.MalformedRequest, Text: "a client that has a token names itself"}
	}
	w.use, cfg.Tokens = use, use
	return nil
}

// newToken makes the token that the client has asked for, or that takes the place of one that is old (XEP-0484 §3.3, §3.5).
func (c *conn) newToken(ctx context.Context, user jid.JID) (xml.Element, error) {
	t, w := c.talks, c.talks.wants
	mechanism := w.token
	if mechanism == "" && w.use != nil && w.use.Stale() {
		mechanism = w.use.Mechanism()
	}
	if mechanism == "" || w.agent == "" || t.mechanism == sasl.Anonymous {
		return xml.None, nil
	}
	text, expires, err := t.attempt.Issue(ctx, user, w.agent, mechanism)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return xml.None, &sasl.Failure{Condition: sasl.CredentialsExpired, Err: err}
	case err != nil: // the client can do without
		c.srv.log.LogAttrs(ctx, slog.LevelError, "no token for a client", slog.String("user", user.String()), slog.Any("err", err))
		return xml.None, nil
	}
	c.srv.metrics.tokens.Inc()
	return xml.New(nsFAST, "token", "token", text, "expiry", datetime.FormatSeconds(expires)), nil
}
