package blocking

import (
	"context"

	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/stream"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// list answers with the block list, and has the resource told of changes: XEP-0191 §3.2, §3.3.
func (b *Blocking) list(ctx context.Context, iq *stanza.Stanza) (xml.Element, error) {
	owner, err := ownerOf(ctx, iq)
	if err != nil {
		return xml.None, err
	}
	var l *List
	err = b.turns.Run(ctx, owner, func() (err error) {
		// In the owner's turn, so that no push falls between this list and the wish for pushes.
		if s := b.Sessions.Find(iq.From); s != nil {
			s.Update(func(st *session.State) { st.Blocklist = true })
		}
		l, err = b.lists.Load(ctx, owner, b.read)
		return err
	})
	if err != nil {
		return xml.None, err
	}
	return withItems("blocklist", l.items), nil
}

// ownerOf is whose list a request is about: nobody sees or changes another's.
func ownerOf(ctx context.Context, iq *stanza.Stanza) (jid.JID, error) {
	owner := iq.From.Bare()
	if !iq.To.IsZero() && iq.To != owner {
		return owner, stanza.Err(stanza.Forbidden, "only the owner may see or change a block list")
	}
	if f := session.FlowOf(ctx); f != nil && f.Session != nil && f.Session.Anonymous {
		return owner, stanza.Err(stanza.NotAllowed, "a guest has no block list")
	}
	return owner, nil
}

func withItems(local string, all []jid.JID) xml.Element {
	e := xml.New(NS, local)
	for _, j := range all {
		item := xml.New(NS, "item", "jid", j.String())
		e.Nodes = append(e.Nodes, xml.Node{Element: &item})
	}
	return e
}

// block adds to the list: XEP-0191 §3.3.
func (b *Blocking) block(ctx context.Context, iq *stanza.Stanza) (xml.Element, error) {
	owner, err := ownerOf(ctx, iq)
	if err != nil {
		return xml.None, err
	}
	ask := iq.Payload()
	items, err := itemsOf(ask)
	if err != nil {
		return xml.None, err
	}
	if len(items) == 0 {
		return xml.None, stanza.Err(stanza.BadRequest, "nobody is named")
	}
	for _, j := range items {
		if j.Bare() == owner { // XEP-0191 §5
			return xml.None, stanza.Err(stanza.NotAllowed, "nobody can block themselves")
		}
	}
	err = b.turns.Run(ctx, owner, func() error {
		before, err := b.write(ctx, owner, func(l *List) ([]jid.JID, error) { return b.added(l, items) })
		if err != nil {
			return err
		}
		b.push(ctx, owner, withItems("block", items))
		return b.hide(ctx, owner, before, items)
	})
	if err != nil {
		return xml.None, err
	}
	return xml.None, b.keepReports(ctx, owner, ask)
}

// added is the list with the items that it lacks.
func (b *Blocking) added(l *List, items []jid.JID) ([]jid.JID, error) {
	all := append([]jid.JID(nil), l.items...)
	for _, j := range items {
		if !l.has(j) {
			all = append(all, j)
		}
	}
	if len(all) > b.cfg.MaxItems && len(all) > len(l.items) {
		return nil, stanza.Err(stanza.ResourceConstraint, "the block list is full")
	}
	return all, nil
}

// unblock takes from the list what is named, or all: XEP-0191 §3.4, §3.5.
func (b *Blocking) unblock(ctx context.Context, iq *stanza.Stanza) (xml.Element, error) {
	owner, err := ownerOf(ctx, iq)
	if err != nil {
		return xml.None, err
	}
	ask := iq.Payload()
	items, err := itemsOf(ask)
	if err != nil {
		return xml.None, err
	}
	if len(items) == 0 && ask.First() != nil {
		return xml.None, stanza.Err(stanza.BadRequest, "nobody is named")
	}
	return xml.None, b.turns.Run(ctx, owner, func() error {
		before, err := b.write(ctx, owner, func(l *List) ([]jid.JID, error) { return left(l, items), nil })
		if err != nil {
			return err
		}
		b.push(ctx, owner, withItems("unblock", items)) // XEP-0191 §3.5: for all, without items
		return b.reveal(ctx, owner, before)
	})
}

// left is the list without the items, of which none stands for all. Choice: what is
// not blocked may be unblocked.
func left(l *List, items []jid.JID) []jid.JID {
	if len(items) == 0 {
		return nil
	}
	gone := newList(items)
	var rest []jid.JID
	for _, j := range l.items {
		if !gone.has(j) {
			rest = append(rest, j)
		}
	}
	return rest
}

// itemsOf reads the addresses of a request, each once.
func itemsOf(ask xml.Element) ([]jid.JID, error) {
	var all []jid.JID
	seen := map[jid.JID]bool{}
	for e := range ask.Elements() {
		if e.Space != NS || e.Local != "item" {
			continue
		}
		if e.Attr("jid") == "" {
			return nil, stanza.Err(stanza.BadRequest, "an item without an address")
		}
		j, err := jid.Parse(e.Attr("jid"))
		if err != nil {
			return nil, stanza.Err(stanza.JIDMalformed, "").Because(err)
		}
		if !seen[j] {
			seen[j] = true
			all = append(all, j)
		}
	}
	return all, nil
}

// push tells every resource that has asked for the list of a change: XEP-0191 §3.3.
// The one that made it gets its answer first.
func (b *Blocking) push(ctx context.Context, owner jid.JID, change xml.Element) {
	send := func(ctx context.Context) {
		b.Router.Tell(ctx, owner, session.Blocking, stanza.New(stanza.IQ, stanza.Set, stream.NewID(), owner, change))
	}
	if f := session.FlowOf(ctx); f != nil && f.Session != nil && f.Session.Bare == owner {
		f.After(send)
		return
	}
	send(ctx)
}
