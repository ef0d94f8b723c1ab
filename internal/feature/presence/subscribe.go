package presence

import (
	"context"

	"github.com/starling-im/starling/internal/feature/roster"
	"github.com/starling-im/starling/internal/hook"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
)

// maxRequest is how long a subscription request may be and still be kept whole, in bytes.
const maxRequest = 4096

// outbound handles a subscription stanza of a client: RFC 6121 §3.1.2, §3.1.5, §3.2.2, §3.3.2.
func (p *presence) outbound(ctx context.Context, s *session.Session, st *stanza.Stanza) error {
	contact := st.To.Bare()
	st = st.WithAddresses(s.Bare, contact)
	if contact == s.Bare {
		return hook.ErrHandled // everybody sees their own presence anyway (RFC 6121 §4.2.2)
	}
	var before roster.Item
	var route bool
	after, err := p.roster.Apply(ctx, s.Bare, contact, func(i *roster.Item) (changed bool) {
		before = *i
		changed, route = i.Outbound(st.Type)
		return changed
	}, nil)
	if err != nil {
		return err
	}
	if !route {
		return hook.ErrHandled
	}
	if before.From && !after.From { // RFC 6121 §3.2.2: while the contact still may see it
		p.showAll(ctx, s.Bare, contact, false)
	}
	p.Router.Route(ctx, st)
	if !before.From && after.From { // RFC 6121 §3.1.5
		p.showAll(ctx, s.Bare, contact, true)
	}
	return hook.ErrHandled
}

// in handles presence for a local account.
func (p *presence) in(ctx context.Context, e *module.Passage) error {
	switch {
	case e.Stanza.Type == stanza.Probe:
		return p.probe(ctx, e.Stanza)
	case e.Stanza.IsSubscription():
		return p.inbound(ctx, e.Stanza)
	}
	return nil
}

// inbound handles a subscription stanza for a local account: RFC 6121 §3.1.3, §3.1.6, §3.2.3, §3.3.3.
func (p *presence) inbound(ctx context.Context, st *stanza.Stanza) error {
	owner, contact := st.To.Bare(), st.From.Bare()
	if st.To.IsFull() && st.Type != stanza.Subscribe && p.Sessions.Find(st.To) == nil {
		return hook.ErrHandled // RFC 6121 §8.5.3.2.2
	}
	if known, err := p.Accounts.Exists(ctx, owner); err != nil {
		return err
	} else if !known {
		return hook.ErrHandled // RFC 6121 §8.5.1
	}
	st = st.WithAddresses(contact, owner)
	var before roster.Item
	var do roster.Reaction
	after, err := p.roster.Apply(ctx, owner, contact, func(i *roster.Item) (changed bool) {
		before = *i
		changed, do = i.Inbound(st.Type, requestOf(st))
		return changed
	}, func() {
		if do.Deliver {
			p.deliver(ctx, owner, st) // RFC 6121 §3.1.6: before the roster push
		}
	})
	if err != nil {
		return err
	}
	if before.From && !after.From { // RFC 6121 §3.3.3
		p.showAll(ctx, owner, contact, false)
	}
	if do.Reply != "" {
		p.Router.Route(ctx, stanza.New(stanza.Presence, do.Reply, st.ID, contact).WithFrom(owner))
	}
	if do.Reply == stanza.Subscribed {
		p.showAll(ctx, owner, contact, true)
	}
	return hook.ErrHandled
}

// requestOf is what is kept of a request until it is answered: the complete stanza,
// unless it is too long (RFC 6121 §3.1.3, security warning).
func requestOf(st *stanza.Stanza) string {
	if st.Type != stanza.Subscribe {
		return ""
	}
	if len(st.String()) > maxRequest {
		st = stanza.New(stanza.Presence, stanza.Subscribe, "", st.To).WithFrom(st.From)
	}
	return st.String()
}

// deliver hands a subscription stanza to the owner's resources: requests to available
// ones, the rest to those interested in the roster (RFC 6121 §3.1.3, §3.1.6).
func (p *presence) deliver(ctx context.Context, owner jid.JID, st *stanza.Stanza) {
	to := session.Interested
	if st.Type == stanza.Subscribe {
		to = session.Available
	}
	p.Router.Tell(ctx, owner, to, st)
}

// showAll sends a contact the presence of all the owner's available resources, or
// tells it that they are unavailable.
func (p *presence) showAll(ctx context.Context, owner, contact jid.JID, available bool) {
	if !p.listens(contact) {
		return
	}
	for _, s := range p.Sessions.Account(owner) {
		state := s.State()
		if !state.Available() {
			continue
		}
		if available {
			p.ShowPresence(ctx, s, contact)
		} else {
			p.Router.Route(ctx, stanza.New(stanza.Presence, stanza.Unavailable, "", contact).WithFrom(s.JID))
		}
	}
}

// removed hides the owner from a contact that was taken off the roster: RFC 6121 §2.5.2.
func (p *presence) removed(ctx context.Context, e *roster.Removal) error {
	if e.Item.From {
		p.showAll(ctx, e.Owner, e.Item.Contact, false)
	}
	return nil
}

// probe answers who wants to know an account's presence: RFC 6121 §4.3.2, §4.6.6.
func (p *presence) probe(ctx context.Context, st *stanza.Stanza) error {
	owner, asker := st.To.Bare(), st.From
	item := roster.Item{From: asker.Bare() == owner}
	if !item.From {
		var err error
		if item, err = p.roster.Lookup(ctx, owner, asker.Bare()); err != nil {
			return err
		}
	}
	if item.From {
		p.answerProbe(ctx, st)
		return hook.ErrHandled
	}
	if s := p.Sessions.Find(st.To); s != nil {
		if f := session.FlowOf(ctx); f != nil && s.State().Directs { // its node knows to whom, and answers
			f.Gated = true
			p.Router.Deliver(ctx, s, st)
			f.Gated = false
			return hook.ErrHandled
		}
		for _, to := range s.State().Directed {
			if to == asker || to == asker.Bare() {
				p.Router.Route(ctx, stanza.New(stanza.Presence, stanza.Available, "", asker).WithFrom(s.JID))
				return hook.ErrHandled
			}
		}
	}
	p.Router.Route(ctx, stanza.New(stanza.Presence, stanza.Unsubscribed, st.ID, asker).WithFrom(owner))
	return hook.ErrHandled
}

func (p *presence) answerProbe(ctx context.Context, st *stanza.Stanza) {
	answered := false
	for _, s := range p.Sessions.Account(st.To.Bare()) {
		state := s.State()
		if !state.Available() || st.To.IsFull() && s.JID != st.To {
			continue
		}
		answered = true
		if st.To.IsFull() { // only that the resource is there
			p.Router.Route(ctx, stanza.New(stanza.Presence, stanza.Available, "", st.From).WithFrom(s.JID))
		} else {
			p.ShowPresence(ctx, s, st.From)
		}
	}
	if !answered { // RFC 6121 §4.3.2 rule 3, RFC 6121 §4.3.2.1 for the id
		p.Router.Route(ctx, stanza.New(stanza.Presence, stanza.Unavailable, st.ID, st.From).WithFrom(st.To.Bare()))
	}
}
