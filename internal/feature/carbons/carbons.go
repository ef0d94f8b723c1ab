// Package carbons shows each of a user's clients what the others send and receive (XEP-0280).
package carbons

import (
	"context"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/hook"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// Namespaces of copies, and of the promise which messages are copied.
const (
	NS        = "urn:xmpp:carbons:2"
	NSRules   = "urn:xmpp:carbons:rules:0"
	nsForward = "urn:xmpp:forward:0"
	nsID      = "urn:xmpp:sid:0"
)

// Module is the feature's declaration.
var Module = module.Def[struct{}]{
	Name: "carbons",
	Doc:  "Shows each of a user's clients what the others send and receive.",
	Specs: []module.Spec{
		{XEP: 280, Version: "1.0.1"},
		{XEP: 297, Version: "1.0"},
	},
	Disco: module.Disco{module.Server: {NS, NSRules}, module.Account: {NS, NSRules}},
	Start: start,
}

type carbons struct {
	*module.Host
	copies, forged prometheus.Counter
}

func start(h *module.Host, _ struct{}) error {
	c := &carbons{
		Host:   h,
		copies: prometheus.NewCounter(prometheus.CounterOpts{Name: "starling_carbons_copies_total", Help: "Copies of messages for other clients of the same user."}),
		forged: prometheus.NewCounter(prometheus.CounterOpts{Name: "starling_carbons_forged_total", Help: "Messages that pretended to be copies."}),
	}
	h.Metrics.MustRegister(c.copies, c.forged)
	for _, on := range []bool{true, false} {
		name := map[bool]string{true: "enable", false: "disable"}[on]
		h.IQ(module.Account, stanza.Set, NS, name, func(_ context.Context, iq *stanza.Stanza) (xml.Element, error) {
			return xml.None, c.turn(iq, on)
		})
	}
	h.Hooks.Features.Add(h.Name, hook.Amend, func(_ context.Context, e *module.FeatureEvent) error {
		if !e.Authenticated { // XEP-0386 §3.1
			e.Inline = append(e.Inline, NS)
		}
		return nil
	})
	h.Hooks.Bind.Add(h.Name, hook.Amend, bound)
	h.Hooks.FromClient.Add(h.Name, hook.Check, c.refuse)
	h.Hooks.FromClient.Add(h.Name, hook.Copy, c.sent)
	h.Hooks.ToAccount.Add(h.Name, hook.Amend, c.strip)
	h.Hooks.ToAccount.Add(h.Name, hook.Copy, c.received)
	h.Hooks.Bounced.Add(h.Name, hook.Copy, c.bounced)
	return nil
}

// turn has a client get copies, or no more: XEP-0280 §4, §5. Asking again changes nothing (XEP-0280 §10.1).
func (c *carbons) turn(iq *stanza.Stanza, on bool) error {
	s := c.Sessions.Find(iq.From)
	if s == nil || !iq.To.IsZero() && iq.To != s.Bare { // XEP-0280 §4.1, §5.1
		return stanza.Err(stanza.NotAllowed, "copies are for one's own account")
	}
	if s.State().Carbons != on {
		s.Update(func(state *session.State) { state.Carbons = on })
	}
	return nil
}

// bound has a client get copies from the first moment, if it asks for that while it is bound (XEP-0386 §3.2).
func bound(_ context.Context, e *module.BindEvent) error {
	if e.Request.Child(NS, "enable") != nil {
		e.Session.Update(func(state *session.State) { state.Carbons = true })
	}
	return nil
}

// pretends tells whether a message looks like a copy. The server makes copies below this.
func pretends(st *stanza.Stanza) bool {
	return st.Kind == stanza.Message && (st.Has(NS, "received") || st.Has(NS, "sent"))
}

// refuse returns what a client pretends is a copy: only its server makes any.
func (c *carbons) refuse(_ context.Context, e *module.Passage) error {
	if !pretends(e.Stanza) || e.Stanza.Type == stanza.Error {
		return nil
	}
	c.forged.Inc()
	return stanza.Err(stanza.Forbidden, "copies come from the server only")
}

// strip takes off what would make a client believe that a message is a copy: XEP-0280 §7, example 11.
func (c *carbons) strip(_ context.Context, e *module.Passage) error {
	if pretends(e.Stanza) {
		c.forged.Inc()
		e.Stanza = e.Stanza.Without(func(c stanza.Child) bool {
			return c.Space == NS && (c.Local == "received" || c.Local == "sent")
		})
	}
	return nil
}

// sent copies what a client sends to the user's others: XEP-0280 §8.
func (c *carbons) sent(ctx context.Context, e *module.Passage) error {
	st := e.Stanza
	if st.Kind != stanza.Message || st.To.IsZero() || st.To.Bare() == e.Session.Bare {
		return nil // what one sends to oneself is received by the others
	}
	sessions := c.Sessions.Account(e.Session.Bare)
	if len(sessions) < 2 || !eligible(st) {
		return nil
	}
	var made *stanza.Stanza
	for _, s := range sessions {
		if s.JID == e.Session.JID || !s.State().Carbons {
			continue
		}
		if made == nil {
			if e.Kept != "" { // XEP-0313 §3.5
				st = st.With(xml.New(nsID, "stanza-id", "id", e.Kept, "by", e.Session.Bare.String()))
			}
			made = wrap("sent", e.Session.Bare, st)
		}
		c.send(ctx, s, made)
	}
	return nil
}

// received copies what an account gets to those of its clients that do not get it: XEP-0280 §7.
func (c *carbons) received(ctx context.Context, e *module.Passage) error {
	st := e.Stanza
	if st.Kind != stanza.Message {
		return nil
	}
	sessions := c.Sessions.Account(st.To.Bare())
	if !anyWants(sessions, st.From) {
		return nil
	}
	direct, taken := module.Takers(st, sessions)
	if !taken || !incomingEligible(st) {
		return nil
	}
	c.toOthers(ctx, sessions, st, direct)
	return nil
}

// bounced copies the error that a client gets from the server for a message of which the others have a copy.
func (c *carbons) bounced(ctx context.Context, e *module.BounceEvent) error {
	st := e.Stanza
	if st.Kind != stanza.Message || pretends(st) || !eligible(st) || st.To.Bare() == e.Session.Bare {
		return nil
	}
	sessions := c.Sessions.Account(e.Session.Bare)
	if anyWants(sessions, e.Session.JID) {
		c.toOthers(ctx, sessions, e.Reply, func(s *session.Session) bool { return s.JID == e.Session.JID })
	}
	return nil
}

// anyWants tells whether a session other than the sender's gets copies.
func anyWants(sessions []*session.Session, sender jid.JID) bool {
	for _, s := range sessions {
		if s.State().Carbons && s.JID != sender {
			return true
		}
	}
	return false
}

// toOthers sends copies to all sessions that want them, but those that have the message itself, and its sender.
func (c *carbons) toOthers(ctx context.Context, sessions []*session.Session, st *stanza.Stanza, direct func(*session.Session) bool) {
	var made *stanza.Stanza
	for _, s := range sessions {
		if !s.State().Carbons || s.JID == st.From || direct(s) {
			continue
		}
		if made == nil {
			made = wrap("received", st.To.Bare(), st)
		}
		c.send(ctx, s, made)
	}
}

func (c *carbons) send(ctx context.Context, s *session.Session, made *stanza.Stanza) {
	c.copies.Inc()
	c.Router.Deliver(ctx, s, made.WithTo(s.JID))
}

// wrap makes a copy, which is of the user's own bare JID: XEP-0280 §7, §8, XEP-0297 §3. It is put together as text, since
// the message was checked when it came.
func wrap(direction string, owner jid.JID, st *stanza.Stanza) *stanza.Stanza {
	var b strings.Builder
	raw := st.String()
	b.Grow(len(raw) + 256)
	head := stanza.New(stanza.Message, st.Type, "", jid.JID{}).WithFrom(owner).String() // <message …/>
	b.WriteString(strings.TrimSuffix(head, "/>"))
	b.WriteString("><" + direction + " xmlns='" + NS + "'><forwarded xmlns='" + nsForward + "'><message xmlns='" + xml.NSClient + "'")
	b.WriteString(strings.TrimPrefix(raw, "<message"))
	b.WriteString("</forwarded></" + direction + "></message>")
	made, err := stanza.Decode(b.String())
	if err != nil {
		panic("carbons: a copy does not parse: " + err.Error())
	}
	return made
}
