package roster

import (
	"context"
	"slices"
	"strconv"

	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/stream"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// get answers with the roster, and makes the resource an interested one: RFC 6121 §2.2.
func (r *Roster) get(ctx context.Context, iq *stanza.Stanza) (xml.Element, error) {
	owner := iq.From.Bare()
	if !iq.To.IsZero() && iq.To != owner { // RFC 6121 §2.1.5
		return xml.None, stanza.Err(stanza.Forbidden, "only the owner may see a roster")
	}
	l, err := r.List(ctx, owner)
	if err != nil {
		return xml.None, err
	}
	if f := session.FlowOf(ctx); f != nil && f.Session != nil && f.Session.JID == iq.From {
		f.After(func(ctx context.Context) { r.interest(ctx, f.Session, l) })
	}
	ask := iq.Payload()
	version := strconv.FormatInt(l.Version, 10)
	if known, given := ask.Lookup("ver"); given && known == version {
		return xml.None, nil // RFC 6121 §2.6.3: an empty result, the client's copy is current
	}
	return l.Element(), nil
}

// Element is the roster as clients see it (RFC 6121 §2.1.4).
func (l *List) Element() xml.Element {
	q := xml.New(NS, "query", "ver", strconv.FormatInt(l.Version, 10))
	for i := range l.Items {
		if l.Items[i].Listed {
			q.Nodes = append(q.Nodes, node(l.Items[i].element()))
		}
	}
	return q
}

func node(e xml.Element) xml.Node { return xml.Node{Element: &e} }

// interest makes a session one that is told of changes, now that it has a list, and
// tells it of those since that list.
func (r *Roster) interest(ctx context.Context, s *session.Session, has *List) {
	err := r.turns.Run(ctx, s.Bare, func() error {
		s.Update(func(st *session.State) { st.Interested = true })
		now, err := r.List(ctx, s.Bare)
		if err != nil {
			return err
		}
		for _, contact := range has.changes(now) {
			r.host.Router.Deliver(ctx, s, itemPush(now, s.JID, contact))
		}
		return nil
	})
	if err != nil {
		r.host.Log.Error("changes of a roster not pushed", "account", s.Bare.String(), "err", err)
	}
}

// set adds, changes or removes one contact: RFC 6121 §2.3 to §2.5.
func (r *Roster) set(ctx context.Context, iq *stanza.Stanza) (xml.Element, error) {
	owner := iq.From.Bare()
	if !iq.To.IsZero() && iq.To != owner { // RFC 6121 §2.3.3
		return xml.None, stanza.Err(stanza.Forbidden, "only the owner may change a roster")
	}
	item, remove, err := r.parse(owner, iq.Payload())
	if err != nil {
		return xml.None, err
	}
	if remove {
		return xml.None, r.remove(ctx, owner, item.Contact)
	}
	_, err = r.Apply(ctx, owner, item.Contact, func(i *Item) bool {
		i.Listed, i.Name, i.Groups = true, item.Name, item.Groups
		return true
	}, nil)
	return xml.None, err
}

// parse reads the one item of a roster set, by the rules of RFC 6121 §2.3.3. What a
// client may not decide, such as 'ask', is ignored (RFC 6121 §2.1.2).
func (r *Roster) parse(owner jid.JID, q xml.Element) (item Item, remove bool, err error) {
	var e *xml.Element
	for child := range q.Elements() {
		if child.Space != NS || child.Local != "item" || e != nil {
			return item, false, stanza.Err(stanza.BadRequest, "a roster set has exactly one item")
		}
		e = child
	}
	if e == nil {
		return item, false, stanza.Err(stanza.BadRequest, "a roster set has exactly one item")
	}
	contact, err := jid.Parse(e.Attr("jid"))
	if err != nil {
		return item, false, stanza.Err(stanza.JIDMalformed, "").Because(err)
	}
	item.Contact = contact.Bare() // RFC 6121 §2.1.2.3
	if e.Attr("subscription") == "remove" {
		return item, true, nil
	}
	if item.Contact == owner {
		return item, false, stanza.Err(stanza.NotAllowed, "nobody is a contact of their own")
	}
	item.Name = e.Attr("name")
	if len(item.Name) > r.cfg.MaxName {
		return item, false, stanza.Err(stanza.NotAcceptable, "the name is too long")
	}
	item.Groups, err = r.groups(e)
	return item, false, err
}

func (r *Roster) groups(e *xml.Element) ([]string, error) {
	var all []string
	for child := range e.Elements() {
		if child.Space != NS || child.Local != "group" {
			continue
		}
		g := child.Text()
		switch {
		case g == "":
			return nil, stanza.Err(stanza.NotAcceptable, "a group needs a name")
		case len(g) > r.cfg.MaxName:
			return nil, stanza.Err(stanza.NotAcceptable, "the name of a group is too long")
		case len(all) == r.cfg.MaxGroups:
			return nil, stanza.Err(stanza.NotAcceptable, "too many groups")
		case slices.Contains(all, g):
			return nil, stanza.Err(stanza.BadRequest, "a group is named twice")
		}
		all = append(all, g)
	}
	return all, nil
}

// remove takes a contact off the roster and ends what subscriptions there are: RFC 6121 §2.5.
func (r *Roster) remove(ctx context.Context, owner, contact jid.JID) error {
	var was Item
	_, err := r.Apply(ctx, owner, contact, func(i *Item) bool {
		was = *i
		*i = Item{Contact: contact}
		return was.Listed
	}, nil)
	if err != nil {
		return err
	}
	if !was.Listed { // RFC 6121 §2.5.3
		return stanza.Err(stanza.ItemNotFound, "")
	}
	return r.cancel(ctx, owner, was)
}

// cancel tells a contact that the owner's subscriptions are over: RFC 6121 §2.5.2.
func (r *Roster) cancel(ctx context.Context, owner jid.JID, was Item) error {
	if was.To || was.Ask {
		r.tell(ctx, owner, was.Contact, stanza.Unsubscribe)
	}
	err := r.Removed.Each(ctx, &Removal{owner, was}) // RFC 6121 §3.2.2: unavailable before unsubscribed
	if was.From || was.Request != "" {
		r.tell(ctx, owner, was.Contact, stanza.Unsubscribed)
	}
	return err
}

func (r *Roster) tell(ctx context.Context, from, to jid.JID, typ string) {
	st := stanza.New(stanza.Presence, typ, stream.NewID(), to).WithFrom(from)
	r.host.Router.Route(ctx, st)
}

// push tells the owner about an item that was changed. The caller has the owner's turn.
// When the owner's own request caused it, the request is answered first.
func (r *Roster) push(ctx context.Context, l *List, owner, contact jid.JID) {
	if f := session.FlowOf(ctx); f != nil && f.Session != nil && f.Session.Bare == owner {
		f.After(func(ctx context.Context) { r.pushLater(ctx, l.Version, owner, contact) })
		return
	}
	r.deliver(ctx, l, owner, contact)
}

// pushLater pushes in another turn than that of the change. What others have changed
// meanwhile was pushed before it: then it gets a version of its own, since pushes come
// in the order of their versions (RFC 6121 §2.6.3).
func (r *Roster) pushLater(ctx context.Context, version int64, owner, contact jid.JID) {
	err := r.turns.Run(ctx, owner, func() error {
		l, err := r.List(ctx, owner)
		if err == nil && l.Version != version {
			l, err = r.renew(ctx, owner)
		}
		if err != nil {
			return err
		}
		r.deliver(ctx, l, owner, contact)
		return nil
	})
	if err != nil {
		r.host.Log.Error("roster change not pushed", "account", owner.String(), "err", err)
	}
}

// deliver sends an item to every interested resource of the owner: RFC 6121 §2.1.6.
func (r *Roster) deliver(ctx context.Context, l *List, owner, contact jid.JID) {
	r.host.Router.Tell(ctx, owner, session.Interested, itemPush(l, owner, contact))
}

// itemPush is the push of an item as it stands in a list.
func itemPush(l *List, to, contact jid.JID) *stanza.Stanza {
	item := l.Item(contact)
	q := xml.New(NS, "query", "ver", strconv.FormatInt(l.Version, 10)).With(item.element())
	return stanza.New(stanza.IQ, stanza.Set, stream.NewID(), to, q)
}
