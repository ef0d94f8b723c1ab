package c2s

import (
	"context"
	"encoding/base32"
	"errors"
	"log/slog"
	"strings"

	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/sasl"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/stream"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// nsBind2 is the namespace of binding together with the log-in (XEP-0386).
const nsBind2 = "urn:xmpp:bind:0"

// maxTag bounds the tag of a client in its resource, in bytes.
const maxTag = 128

// bindFeature offers to bind, and what may be asked for with it (XEP-0386 §3.1).
func (c *conn) bindFeature(features []string) xml.Element {
	if c.srv.opts.Indication.On {
		features = append(features, nsCSI)
	}
	if c.srv.opts.Management.On {
		features = append(features, nsSM) // XEP-0198 §9.1
	}
	inline := xml.New(nsBind2, "inline")
	for _, f := range features {
		inline = inline.With(xml.New(nsBind2, "feature", "var", f))
	}
	return xml.New(nsBind2, "bind").With(inline)
}

// bind2 binds a resource, and returns <bound/> (XEP-0386 §3.2). Choice: when the account may not have one more session there
// is no <bound/>, and the client is told why if it tries to bind as RFC 6120 has it. Other errors are ours.
func (c *conn) bind2(ctx context.Context, w *wants) (xml.Element, error) {
	user := c.talks.user
	id, err := c.stable(ctx, user, w.agent)
	if err != nil {
		return xml.None, err
	}
	full, err := tagged(user, w.bind.Child(nsBind2, "tag").Text(), id)
	if err != nil {
		return xml.None, err
	}
	var refused *stanza.Failure
	switch err := c.bindTo(ctx, full); {
	case errors.As(err, &refused) && refused.Condition == stanza.NotAuthorized: // disabled or deleted a moment ago
		return xml.None, &sasl.Failure{Condition: sasl.AccountDisabled, Err: err}
	case refused != nil:
		c.srv.log.LogAttrs(ctx, slog.LevelInfo, "resource not bound", slog.String("user", full.String()), slog.Any("err", err))
		return xml.None, nil
	case err != nil:
		return xml.None, err
	}
	if w.agent != "" {
		c.succeedOthers(full, id)
	}
	event := module.BindEvent{Session: c.sess, Request: w.bind}
	if err := c.srv.core.Hooks.Bind.Each(ctx, &event); err != nil {
		c.srv.log.LogAttrs(ctx, slog.LevelError, "resource bound, but not all that was asked for is there",
			slog.String("user", full.String()), slog.Any("err", err))
	}
	bound := xml.New(nsBind2, "bound").With(event.Add...)
	if enable := w.bind.Child(nsSM, "enable"); enable != nil { // XEP-0198 §9.1
		bound = bound.With(c.enable(enable))
	}
	if c.srv.opts.Indication.On && w.bind.Child(nsCSI, "inactive") != nil {
		c.line.indicate(true)
	}
	return bound, nil
}

// stable is the part of a client's resource that the server makes: for a client that says which one it is always the same,
// and nobody else can guess it (RFC 6120 §13.11); else a new one.
func (c *conn) stable(ctx context.Context, user jid.JID, agent string) (string, error) {
	if agent == "" || c.talks.anonymous {
		return newResource(), nil
	}
	id, err := c.srv.core.Accounts.Client(ctx, user, agent)
	if err != nil {
		return "", err
	}
	return strings.ToLower(base32.StdEncoding.EncodeToString(id[:10])), nil
}

// tagged makes a full JID of a client's tag and an id (XEP-0386 §3.2.1). Choice: a tag that cannot be in a resource, or is
// too long, is left out.
func tagged(user jid.JID, tag, id string) (jid.JID, error) {
	if tag != "" && len(tag) <= maxTag {
		if full, err := user.WithResource(tag + "/" + id); err == nil {
			return full, nil
		}
	}
	return user.WithResource(id)
}

// succeedOthers ends the sessions that the same client has had under other tags; that of the same tag was replaced (XEP-0386
// §3.2).
func (c *conn) succeedOthers(full jid.JID, id string) {
	for _, s := range c.srv.core.Sessions.Account(full.Bare()) {
		if r := s.JID.Resource(); s.JID != full && (r == id || strings.HasSuffix(r, "/"+id)) {
			s.End(stream.Err(stream.Conflict, "the client has logged in again"))
		}
	}
}
