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
	t.wants = nil
	if !c.mayAuthenticate() {
		return c.refuse(&sasl.Failure{Condition: sasl.EncryptionRequired}) // RFC 6120 §6.5.4
	}
	switch e.Local {
	case "auth":
		return c.beginAuth(e.Attr("mechanism"), c.saslConfig(), func() ([]byte, error) { return sasl.Decode([]byte(e.Text())) })
	case "response":
		if t.exchange == nil {
			return c.refuse(&sasl.Failure{Condition: sasl.MalformedRequest, Text: "no exchange is under way"})
		}
		text := e.Text()
		if text == "" {
			text = "=" // a response without data is empty, unlike an <auth/> without an initial response
		}
		return c.stepAuth(sasl.Decode([]byte(text)))
	case "abort": // RFC 6120 §6.4.4
		return c.refuse(&sasl.Failure{Condition: sasl.Aborted})
	}
	return stream.Err(stream.UnsupportedStanzaType, "")
}

// beginAuth begins an exchange, with the initial response if the client has sent one.
func (c *conn) beginAuth(mechanism string, cfg *sasl.ServerConfig, initial func() ([]byte, error)) error {
	exchange, err := sasl.NewServer(mechanism, cfg)
	if err != nil {
		return c.refuse(err)
	}
	c.talks.mechanism, c.talks.exchange = mechanism, exchange
	return c.stepAuth(initial())
}

// stepAuth runs one step of the exchange on a worker, since it may read the
// account's keys or hash a password. err is what was wrong with the encoding.
func (c *conn) stepAuth(in []byte, err error) error {
	if err != nil {
		return c.refuse(err)
	}
	c.async(func(ctx context.Context) error {
		out, done, err := c.talks.exchange.Step(ctx, in)
		switch {
		case err != nil:
			return c.refuse(err)
		case !done:
			c.challenge(out)
			return nil
		}
		return c.accept(ctx, out)
	})
	return nil
}

// accept ends a successful exchange: RFC 6120 §6.4.6, XEP-0388 §2.6.1.
func (c *conn) accept(ctx context.Context, out []byte) error {
	t := c.talks
	user, err := jid.New(t.exchange.Username(), c.domain.Domain(), "")
	if err != nil {
		return c.refuse(&sasl.Failure{Condition: sasl.NotAuthorized, Err: err})
	}
	if t.mechanism != sasl.Anonymous {
		switch foreign := t.from.Local() != "" && t.from != user; {
		case foreign && t.wants != nil: // XEP-0388 §2.3
			return c.refuse(&sasl.Failure{Condition: sasl.InvalidAuthzid})
		case foreign: // RFC 6120 §6.4.6
			return stream.Err(stream.InvalidFrom, "")
		}
		if err := c.usable(ctx, user); err != nil {
			return c.refuse(err)
		}
	}
	if t.wants != nil {
		return c.proven(ctx, user, out)
	}
	c.admit(ctx, user)
	c.restart()
	c.sendSASL("success", out)
	return nil
}

// admit ends the time in which the client is a stranger.
func (c *conn) admit(ctx context.Context, user jid.JID) {
	t := c.talks
	t.attempt.Succeeded()
	t.user, t.anonymous, t.exchange = user, t.mechanism == sasl.Anonymous, nil
	c.reader.Limits = c.srv.opts.Limits
	event := module.LogInEvent{Account: user, Anonymous: t.anonymous, Addr: c.sock.RemoteAddr().Addr(), Mechanism: t.mechanism}
	if err := c.srv.core.Hooks.LogIn.Each(ctx, &event); err != nil {
		c.srv.log.Error("log-in not handled", "user", user.String(), "err", err)
	}
	c.srv.metrics.logins.WithLabelValues(t.mechanism).Inc()
	c.srv.log.LogAttrs(c.ctx, slog.LevelDebug, "authenticated", slog.String("user", user.String()),
		slog.String("addr", c.addr()), slog.String("mechanism", t.mechanism))
}

// usable refuses an account that has been disabled, or is none: certificates outlive accounts.
func (c *conn) usable(ctx context.Context, user jid.JID) error {
	disabled, known := c.talks.attempt.Disabled()
	var err error
	if !known {
		disabled, err = c.srv.core.Accounts.Disabled(ctx, user)
	}
	switch {
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
	profile := nsSASL
	if t.wants != nil {
		profile = nsSASL2
	}
	e := xml.New(profile, "failure").With(xml.New(nsSASL, string(f.Condition)))
	if f.Text != "" {
		e = e.With(xml.New(profile, "text", "xml:lang", "en").WithText(f.Text))
	}
	c.send(e.Append(nil, xml.NSClient))
	if t.wants != nil {
		t.wants = &wants{}
	}
	if t.failures++; t.failures >= maxFailures {
		return stream.Err(stream.PolicyViolation, "too many failed attempts to authenticate")
	}
	return nil
}

// challenge sends a challenge, in the profile in use.
func (c *conn) challenge(out []byte) {
	switch {
	case c.talks.wants != nil:
		c.sendElement(xml.New(nsSASL2, "challenge").WithText(encode2(out)))
	case len(out) == 0: // "=" stands for no data in <auth/> and <success/> alone (RFC 6120 §6.4.2, §6.4.6)
		c.sendSASL("challenge", nil)
	default:
		c.sendSASL("challenge", out)
	}
}

// sendSASL sends <challenge/> or <success/> with data.
func (c *conn) sendSASL(local string, data []byte) {
	e := xml.New(nsSASL, local)
	if text := sasl.Encode(data); text != "" {
		e = e.WithText(text)
	}
	c.send(e.Append(nil, xml.NSClient))
}
