package c2s

import (
	"context"
	"errors"
	"log/slog"

	"github.com/starling-im/starling/internal/account"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/sasl"
	"github.com/starling-im/starling/internal/xmpp/stream"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// maxFailures is how often a client may fail to authenticate on one stream (RFC 6120 §6.4.5).
const maxFailures = 3

// sasl handles <auth/>, <response/> and <abort/>: RFC 6120 §6.4.
func (c *conn) sasl(e *xml.Element) error {
	t := c.talks
	if t.authenticated() {
		return stream.Err(stream.PolicyViolation, "authenticated already")
	}
	if !c.mayAuthenticate() {
		return c.refuse(&sasl.Failure{Condition: sasl.EncryptionRequired}) // RFC 6120 §6.5.4
	}
	switch e.Local {
	case "auth":
		t.attempt = c.srv.core.Accounts.Attempt(c.domain.Domain(), c.sock.RemoteAddr().Addr())
		exchange, err := sasl.NewServer(e.Attr("mechanism"), c.saslConfig())
		if err != nil {
			return c.refuse(err)
		}
		t.mechanism, t.exchange = e.Attr("mechanism"), exchange
		return c.stepAuth(e.Text())
	case "response":
		if t.exchange == nil {
			return c.refuse(&sasl.Failure{Condition: sasl.MalformedRequest, Text: "no exchange is under way"})
		}
		// A response without data is empty, unlike an <auth/> without an initial response.
		if e.Text() == "" {
			return c.stepAuth("=")
		}
		return c.stepAuth(e.Text())
	case "abort": // RFC 6120 §6.4.4
		return c.refuse(&sasl.Failure{Condition: sasl.Aborted})
	}
	return stream.Err(stream.UnsupportedStanzaType, "")
}

// stepAuth runs one step of the exchange on a worker, since it may read the
// account's keys or hash a password.
func (c *conn) stepAuth(text string) error {
	in, err := sasl.Decode([]byte(text))
	if err != nil {
		return c.refuse(err)
	}
	c.async(func(ctx context.Context) error {
		out, done, err := c.talks.exchange.Step(ctx, in)
		switch {
		case err != nil:
			return c.refuse(err)
		case !done:
			if len(out) == 0 {
				out = nil // "=" stands for no data in <auth/> and <success/> alone (RFC 6120 §6.4.2, §6.4.6)
			}
			c.sendSASL("challenge", out)
			return nil
		}
		return c.accept(ctx, out)
	})
	return nil
}

// accept ends a successful exchange: RFC 6120 §6.4.6.
func (c *conn) accept(ctx context.Context, out []byte) error {
	t := c.talks
	user, err := jid.New(t.exchange.Username(), c.domain.Domain(), "")
	if err != nil {
		return c.refuse(&sasl.Failure{Condition: sasl.NotAuthorized, Err: err})
	}
	if t.mechanism != sasl.Anonymous {
		if t.from.Local() != "" && t.from != user { // RFC 6120 §6.4.6
			return stream.Err(stream.InvalidFrom, "")
		}
		if err := c.usable(ctx, user); err != nil {
			return c.refuse(err)
		}
	}
	t.attempt.Succeeded()
	t.user, t.anonymous, t.exchange = user, t.mechanism == sasl.Anonymous, nil
	c.reader.Limits = c.srv.opts.Limits
	event := module.LogInEvent{Account: user, Anonymous: t.anonymous, Addr: c.sock.RemoteAddr().Addr(), Mechanism: t.mechanism}
	if err := c.srv.core.Hooks.LogIn.Each(ctx, &event); err != nil {
		c.srv.log.Error("log-in not handled", "user", user.String(), "err", err)
	}
	c.restart()
	c.sendSASL("success", out)
	c.srv.metrics.logins.WithLabelValues(t.mechanism).Inc()
	c.srv.log.LogAttrs(c.ctx, slog.LevelDebug, "authenticated", slog.String("user", user.String()),
		slog.String("addr", c.addr()), slog.String("mechanism", t.mechanism))
	return nil
}

// usable refuses an account that has been disabled, or is none: certificates outlive accounts.
func (c *conn) usable(ctx context.Context, user jid.JID) error {
	switch disabled, err := c.srv.core.Accounts.Disabled(ctx, user); {
	case errors.Is(err, store.ErrNotFound):
		return &sasl.Failure{Condition: sasl.NotAuthorized, Err: err}
	case err != nil:
		return err
	case disabled: // RFC 6120 §6.5.2
		return &sasl.Failure{Condition: sasl.AccountDisabled}
	}
	return nil
}

// refuse ends an exchange with a failure that the client is told: RFC 6120 §6.4.5.
func (c *conn) refuse(err error) error {
	t := c.talks
	t.exchange = nil
	var f *sasl.Failure
	if !errors.As(err, &f) {
		f = &sasl.Failure{Condition: sasl.TemporaryAuthFailure, Err: err}
	}
	level := slog.LevelInfo
	if f.Condition == sasl.TemporaryAuthFailure && f.Text == "" && !errors.Is(err, account.ErrBusy) {
		level = slog.LevelError // our fault, an operator must know
	}
	c.srv.log.LogAttrs(c.ctx, level, "authentication failed", slog.String("addr", c.addr()),
		slog.String("user", t.claimed().String()), slog.String("condition", string(f.Condition)), slog.Any("err", err))
	c.srv.metrics.authFailures.WithLabelValues(string(f.Condition)).Inc()
	if f.Condition == sasl.NotAuthorized && t.attempt != nil {
		t.attempt.Failed()
	}
	e := xml.New(nsSASL, "failure").With(xml.New(nsSASL, string(f.Condition)))
	if f.Text != "" {
		e = e.With(xml.New(nsSASL, "text", "xml:lang", "en").WithText(f.Text))
	}
	c.send(e.Append(nil, xml.NSClient))
	if t.failures++; t.failures >= maxFailures {
		return stream.Err(stream.PolicyViolation, "too many failed attempts to authenticate")
	}
	return nil
}

// sendSASL sends <challenge/> or <success/> with data.
func (c *conn) sendSASL(local string, data []byte) {
	e := xml.New(nsSASL, local)
	if text := sasl.Encode(data); text != "" {
		e = e.WithText(text)
	}
	c.send(e.Append(nil, xml.NSClient))
}
