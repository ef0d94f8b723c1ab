package c2s

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"log/slog"
	"strings"

	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/stream"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// bind gives the client its full JID: RFC 6120 §7.
func (c *conn) bind(ctx context.Context, iq *stanza.Stanza) error {
	full, err := c.resource(iq)
	if err != nil {
		c.answerStranger(iq, xml.None, err)
		return nil
	}
	if err := c.bindTo(ctx, full); err != nil {
		c.answerStranger(iq, xml.None, err)
		return nil
	}
	c.answerStranger(iq, xml.New(nsBind, "bind").With(xml.New(nsBind, "jid").WithText(full.String())), nil)
	c.begin()
	return nil
}

// bindTo makes a session for the client, and takes the place of one that has the same full JID. What comes for it waits
// until the caller has told the client, and calls begin.
func (c *conn) bindTo(ctx context.Context, full jid.JID) error {
	l := newLine(c.srv, c, full)
	s := l.sess
	s.Anonymous = c.talks.anonymous
	replaced, err := c.srv.core.Sessions.Add(s, c.srv.acceptSession)
	if err != nil {
		return err
	}
	switch {
	case replaced == nil:
	case replaced.Remote(): // its node ends it when it hears of this one; whom it concerns is told here, in order
		c.srv.sessionLost(replaced)
	default:
		// RFC 6120 §7.7.2.2. Choice: the newcomer wins, since most conflicts are clients
		// that come back before the server has noticed that they were gone.
		replaced.End(stream.Err(stream.Conflict, "replaced by a new connection"))
		c.srv.sessionEnded(replaced)
	}
	if err := c.remains(ctx, s); err != nil {
		c.srv.core.Sessions.Remove(s)
		c.srv.core.Sessions.Gone(s)
		return err
	}
	c.adopt(l)
	c.srv.log.LogAttrs(ctx, slog.LevelDebug, "resource bound", slog.String("user", full.String()), slog.String("addr", c.addr()))
	return nil
}

// remains refuses a session of an account that was deleted or disabled since the client
// has authenticated. It is asked when the session is in the table, where whoever does that from now on finds it.
func (c *conn) remains(ctx context.Context, s *session.Session) error {
	if s.Anonymous {
		return nil
	}
	disabled, err := c.srv.core.Accounts.Disabled(ctx, s.Bare)
	if disabled || errors.Is(err, store.ErrNotFound) {
		return stanza.Err(stanza.NotAuthorized, "the account cannot be used any more").Because(err)
	}
	return err
}

// resource is the full JID that the client asks for, or one that is made up (RFC 6120 §7.6.1).
func (c *conn) resource(iq *stanza.Stanza) (jid.JID, error) {
	ask := iq.Payload()
	var wanted string
	if r := ask.Child(nsBind, "resource"); r != nil {
		wanted = r.Text()
	}
	if wanted == "" {
		return c.talks.user.WithResource(newResource())
	}
	full, err := c.talks.user.WithResource(wanted)
	if err != nil { // RFC 6120 §7.7.2.1
		return jid.JID{}, stanza.Err(stanza.BadRequest, "not a valid resource").Because(err)
	}
	return full, nil
}

// newResource makes an unguessable resource of 80 bits (RFC 6120 §13.11).
func newResource() string {
	b := make([]byte, 10)
	if _, err := rand.Read(b); err != nil {
		panic("c2s: no randomness: " + err.Error())
	}
	return strings.ToLower(base32.StdEncoding.EncodeToString(b))
}
