// Package presence tells contacts who is available (RFC 6121 §4) and carries the
// requests by which people become contacts (RFC 6121 §3).
package presence

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/starling-im/starling/internal/config"
	"github.com/starling-im/starling/internal/feature/roster"
	"github.com/starling-im/starling/internal/hook"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// Module is the feature's declaration.
var Module = module.Def[Config]{
	Name:     "presence",
	Doc:      "Tells contacts who is available, and carries subscription requests.",
	Specs:    []module.Spec{{RFC: 6121, Note: "subscriptions, presence, probes, directed presence"}},
	Needs:    []string{"roster"},
	Defaults: Config{MaxDirected: 1000, MaxBytes: 16 << 10},
	Start:    start,
}

// Config is the feature's configuration.
type Config struct {
	MaxDirected int         `toml:"max_directed" doc:"Most addresses that a session may send directed presence to at once."`
	MaxBytes    config.Size `toml:"max_bytes" min:"1 KiB" doc:"Longest presence that is broadcast: every contact gets a copy."`
}

type presence struct {
	*module.Host
	cfg    Config
	roster *roster.Roster
}

func start(h *module.Host, cfg Config) error {
	p := &presence{h, cfg, module.Use[*roster.Roster](h, "roster")}
	h.Hooks.OwnPresence.Add(h.Name, hook.Record, p.own)
	h.Hooks.PresenceOut.Add(h.Name, hook.Amend, p.out)
	h.Hooks.PresenceIn.Add(h.Name, hook.Amend, p.in)
	h.Hooks.Gate.Add(h.Name, hook.Check, p.gate)
	h.Hooks.Ended.Add(h.Name, hook.Record, p.ended)
	h.Hooks.Lost.Add(h.Name, hook.Record, p.lost)
	h.Hooks.Appeared.Add(h.Name, hook.Record, p.appeared)
	h.Hooks.Crossed.Add(h.Name, hook.Record, p.crossed)
	p.roster.Removed.Add(h.Name, hook.Record, p.removed)
	return nil
}

// own handles presence without 'to': RFC 6121 §4.2, §4.4, §4.5.
func (p *presence) own(ctx context.Context, e *module.Passage) error {
	if len(e.Stanza.String()) > int(p.cfg.MaxBytes) {
		return stanza.Err(stanza.PolicyViolation, "presence may have "+p.cfg.MaxBytes.String()+" at most")
	}
	switch e.Stanza.Type {
	case stanza.Available:
		return p.available(ctx, e.Session, e.Stanza)
	case stanza.Unavailable:
		return p.unavailable(ctx, e.Session, e.Stanza)
	}
	return stanza.Err(stanza.BadRequest, "this type of presence needs an address")
}

func (p *presence) available(ctx context.Context, s *session.Session, st *stanza.Stanza) error {
	priority, err := priorityOf(st)
	if err != nil {
		return err
	}
	contacts, err := p.roster.List(ctx, s.Bare)
	if err != nil {
		return err
	}
	before := s.State()
	becomesReachable := !before.Reachable() && priority >= 0
	if becomesReachable {
		p.reached(ctx, s)
	}
	s.Update(func(state *session.State) { state.Presence, state.Priority = st, priority })
	p.broadcast(ctx, s, st, contacts)
	if !before.Available() {
		if contacts, err = p.roster.List(ctx, s.Bare); err != nil { // what was stored before s was available was not told to it
			return err
		}
		p.greet(ctx, s, contacts)
	}
	if becomesReachable {
		p.reached(ctx, s)
	}
	return nil
}

// reached lets features hand over what waited for the session. What goes wrong there
// is no reason to refuse its presence.
func (p *presence) reached(ctx context.Context, s *session.Session) {
	if err := p.Hooks.Reachable.Each(ctx, &module.Passage{Session: s}); err != nil {
		p.Log.Error("what waited for a session is not delivered", "user", s.JID.String(), "err", err)
	}
}

// priorityOf reads <priority/>, 0 when there is none (RFC 6121 §4.7.2.3).
func priorityOf(st *stanza.Stanza) (int8, error) {
	if !st.Has(xml.NSClient, "priority") {
		return 0, nil
	}
	e := st.Child(xml.NSClient, "priority")
	n, err := strconv.ParseInt(strings.TrimSpace(e.Text()), 10, 8)
	if err != nil {
		return 0, stanza.Err(stanza.BadRequest, "the priority is a number from -128 to 127")
	}
	return int8(n), nil
}

// broadcast sends presence to all who may see it: RFC 6121 §4.2.2, §4.4.2, §4.5.2.
func (p *presence) broadcast(ctx context.Context, s *session.Session, st *stanza.Stanza, contacts *roster.List) {
	p.toOwn(ctx, s, st)
	for i := range contacts.Items {
		item := &contacts.Items[i]
		if item.From && p.listens(item.Contact) && p.shares(ctx, s.Bare, item.Contact) {
			p.Router.Route(ctx, st.WithTo(item.Contact))
		}
	}
}

// toOwn sends presence to the account's available resources and to the one it is from.
func (p *presence) toOwn(ctx context.Context, s *session.Session, st *stanza.Stanza) {
	st = st.WithTo(s.Bare)
	for _, other := range p.Sessions.Account(s.Bare) {
		if other == s || other.State().Available() {
			p.Router.Deliver(ctx, other, st)
		}
	}
}

// listens tells whether presence for a contact can reach anybody: it is pointless to
// render it for a local account without sessions.
func (p *presence) listens(contact jid.JID) bool {
	return !p.Local(contact) || contact.Local() == "" || len(p.Sessions.Account(contact)) > 0
}

// shares tells whether an account shows itself to a contact who may see it.
func (p *presence) shares(ctx context.Context, owner, contact jid.JID) bool {
	if p.Hooks.Share.Empty() {
		return true
	}
	err := p.Hooks.Share.Run(ctx, &module.ShareEvent{Owner: owner, Contact: contact})
	if err != nil && !errors.Is(err, hook.ErrHandled) {
		p.Log.Error("not found out whether an account hides from a contact", "owner", owner.String(), "contact", contact.String(), "err", err)
	}
	return err == nil
}

// greet sends a newly available resource what it has missed: the presence of the
// account's other resources and of contacts, and requests that wait for an answer.
func (p *presence) greet(ctx context.Context, s *session.Session, contacts *roster.List) {
	for _, other := range p.Sessions.Account(s.Bare) {
		if other != s && other.State().Available() {
			p.show(ctx, other, s, s.JID)
		}
	}
	for i := range contacts.Items {
		item := &contacts.Items[i]
		if item.To && p.shares(ctx, s.Bare, item.Contact) {
			p.ask(ctx, s, item.Contact)
		}
	}
	for i := range contacts.Items {
		if item := &contacts.Items[i]; item.Request != "" && p.shares(ctx, s.Bare, item.Contact) {
			p.remind(ctx, s, item)
		}
	}
}

// ask gets a contact's presence for s: RFC 6121 §4.3.1, without a probe when the
// contact is of this server.
func (p *presence) ask(ctx context.Context, s *session.Session, contact jid.JID) {
	if !p.Local(contact) || contact.Local() == "" {
		p.Router.Route(ctx, stanza.New(stanza.Presence, stanza.Probe, "", contact).WithFrom(s.Bare))
		return
	}
	sessions := p.Sessions.Account(contact)
	if len(sessions) == 0 {
		return
	}
	item, err := p.roster.Lookup(ctx, contact, s.Bare)
	if err != nil {
		p.Log.Error("presence of a contact not found out", "contact", contact.String(), "err", err)
		return
	}
	if !item.From || !p.shares(ctx, contact, s.Bare) {
		return
	}
	for _, other := range sessions {
		p.show(ctx, other, s, s.Bare)
	}
}

// show sends the presence of an available session to another one, if need be from the node of the first.
func (p *presence) show(ctx context.Context, of, to *session.Session, address jid.JID) {
	if !of.Remote() {
		module.Shown(of, func(st *stanza.Stanza) { p.Router.Deliver(ctx, to, st.WithTo(address)) })
	} else if of.State().Available() {
		p.Router.Deliver(ctx, of, stanza.New(stanza.Presence, stanza.Probe, "", of.JID).WithFrom(to.JID))
	}
}

// crossed shows a session of this node and one of another to each other that became available at the same moment.
func (p *presence) crossed(ctx context.Context, e *module.Passage) error {
	mine, theirs := e.Session, e.Other
	if mine.Bare == theirs.Bare {
		p.show(ctx, mine, theirs, mine.Bare)
		p.show(ctx, theirs, mine, mine.Bare)
		return nil
	}
	item, err := p.roster.Lookup(ctx, mine.Bare, theirs.Bare)
	if err != nil {
		return err
	}
	if item.From && p.shares(ctx, mine.Bare, theirs.Bare) {
		p.show(ctx, mine, theirs, theirs.Bare)
	}
	if item.To && p.shares(ctx, theirs.Bare, mine.Bare) {
		p.show(ctx, theirs, mine, mine.Bare)
	}
	return nil
}

// remind delivers a stored subscription request once more: RFC 6121 §3.1.3 rule 4.
func (p *presence) remind(ctx context.Context, s *session.Session, item *roster.Item) {
	st, err := stanza.Decode(item.Request)
	if err != nil {
		p.Log.Error("stored subscription request is broken", "owner", s.Bare.String(), "contact", item.Contact.String(), "err", err)
		return
	}
	p.Router.Deliver(ctx, s, st)
}

// unavailable ends a presence session: RFC 6121 §4.5.2, §4.6.3 rule 2.
func (p *presence) unavailable(ctx context.Context, s *session.Session, st *stanza.Stanza) error {
	var was session.State
	s.Update(func(state *session.State) {
		was = *state
		state.Presence, state.Priority, state.Directed = nil, 0, nil
	})
	told := func(jid.JID) bool { return false }
	if was.Available() {
		contacts, err := p.roster.List(ctx, s.Bare)
		if err != nil {
			return err
		}
		p.broadcast(ctx, s, st, contacts)
		told = func(to jid.JID) bool { return to.Bare() == s.Bare || contacts.Item(to.Bare()).From }
	}
	for _, to := range was.Directed {
		if !told(to) { // RFC 6121 §4.6.1: subscriptions take precedence
			p.Router.Route(ctx, st.WithTo(to))
		}
	}
	return nil
}

// ended makes the unavailable presence of a session that did not send its own.
func (p *presence) ended(ctx context.Context, e *module.Passage) error {
	if state := e.Session.State(); !state.Available() && len(state.Directed) == 0 {
		return nil
	}
	if e.Session.Superseded() || p.moved(e.Session) != nil { // contacts were told by the node that has the client now
		return p.undirected(ctx, e.Session)
	}
	err := p.unavailable(ctx, e.Session, stanza.New(stanza.Presence, stanza.Unavailable, "", jid.JID{}).WithFrom(e.Session.JID))
	if now := p.moved(e.Session); now != nil { // the end was perhaps told after that
		err = errors.Join(err, p.appeared(ctx, &module.Passage{Session: now}))
	}
	return err
}

// moved is the available session of another node that has the full JID of one which is over here; nil if there is none.
func (p *presence) moved(s *session.Session) *session.Session {
	if now := p.Sessions.Find(s.JID); now != nil && now.Remote() && now.State().Available() {
		return now
	}
	return nil
}

// undirected ends the presence session of a client that is on another node now: only those who were sent directed
// presence are to be told (RFC 6121 §4.6.3).
func (p *presence) undirected(ctx context.Context, s *session.Session) error {
	var was session.State
	s.Update(func(state *session.State) {
		was = *state
		state.Presence, state.Priority, state.Directed = nil, 0, nil
	})
	for _, to := range was.Directed {
		p.Router.Route(ctx, stanza.New(stanza.Presence, stanza.Unavailable, "", to).WithFrom(s.JID))
	}
	return nil
}

// lost makes the unavailable presence of a session whose node cannot: RFC 6121 §4.5.2. To whom it had sent directed
// presence is not known.
func (p *presence) lost(ctx context.Context, e *module.Passage) error {
	contacts, err := p.roster.List(ctx, e.Session.Bare)
	if err != nil {
		return err
	}
	if s := p.Sessions.Find(e.Session.JID); s != nil && s.State().Available() {
		return nil // bound again meanwhile, and has told
	}
	st := stanza.New(stanza.Presence, stanza.Unavailable, "", jid.JID{}).WithFrom(e.Session.JID)
	if !e.Here {
		p.broadcast(ctx, e.Session, st, contacts)
		return nil
	}
	p.watchers(ctx, e.Session.Bare, contacts, func(s *session.Session) {
		p.Router.Deliver(ctx, s, st.WithTo(s.Bare))
	})
	return nil
}

// appeared gets the presence of a session of another node for those of this one that may see it (RFC 6121 §4.3).
func (p *presence) appeared(ctx context.Context, e *module.Passage) error {
	contacts, err := p.roster.List(ctx, e.Session.Bare)
	if err != nil {
		return err
	}
	p.watchers(ctx, e.Session.Bare, contacts, func(s *session.Session) { p.show(ctx, e.Session, s, s.Bare) })
	return nil
}

// watchers calls fn for the available sessions of this node that may see an account's presence.
func (p *presence) watchers(ctx context.Context, owner jid.JID, contacts *roster.List, fn func(*session.Session)) {
	each := func(who jid.JID) {
		for _, s := range p.Sessions.Here(who) {
			if s.State().Available() {
				fn(s)
			}
		}
	}
	each(owner)
	for i := range contacts.Items {
		item := &contacts.Items[i]
		if item.From && len(p.Sessions.Here(item.Contact)) > 0 && p.shares(ctx, owner, item.Contact) {
			each(item.Contact)
		}
	}
}

// out handles presence that a client sends to somebody.
func (p *presence) out(ctx context.Context, e *module.Passage) error {
	switch {
	case e.Stanza.IsSubscription():
		return p.outbound(ctx, e.Session, e.Stanza)
	case e.Stanza.Type == stanza.Available:
		return p.direct(ctx, e.Session, e.Stanza)
	case e.Stanza.Type == stanza.Unavailable:
		e.Session.Update(func(state *session.State) {
			state.Directed = slices.DeleteFunc(slices.Clone(state.Directed), func(to jid.JID) bool { return to == e.Stanza.To })
		})
	}
	return nil
}

// direct remembers who was sent directed presence: RFC 6121 §4.6.3.
func (p *presence) direct(ctx context.Context, s *session.Session, st *stanza.Stanza) error {
	state := s.State()
	if slices.Contains(state.Directed, st.To) {
		return nil
	}
	if state.Available() {
		item, err := p.roster.Lookup(ctx, s.Bare, st.To.Bare())
		if err != nil {
			return err
		}
		if item.From {
			return nil // is told of broadcasts
		}
	}
	if len(state.Directed) >= p.cfg.MaxDirected {
		return stanza.Err(stanza.ResourceConstraint, "too many addresses with directed presence")
	}
	s.Update(func(state *session.State) { state.Directed = append(slices.Clone(state.Directed), st.To) })
	return nil
}

// gate lets an iq through to a resource that shares its presence with the sender: RFC 6121 §8.5.3.1.
func (p *presence) gate(ctx context.Context, e *module.Passage) error {
	from := e.Stanza.From
	for _, to := range e.Session.State().Directed {
		if to == from || to == from.Bare() || to.Bare() == from {
			return nil
		}
	}
	item, err := p.roster.Lookup(ctx, e.Session.Bare, from.Bare())
	if err != nil {
		return err
	}
	if item.From {
		return nil
	}
	if f := session.FlowOf(ctx); f != nil && e.Session.State().Directs {
		f.Gated = true // its node knows to whom
		return nil
	}
	return stanza.Err(stanza.ServiceUnavailable, "")
}
