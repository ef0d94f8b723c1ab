package blocking

import (
	"context"
	"slices"

	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
)

// hide tells those who were just blocked, and who could see the owner until now, that
// the owner is unavailable: XEP-0191 §3.3. before is the list as it was.
func (b *Blocking) hide(ctx context.Context, owner jid.JID, before *List, items []jid.JID) error {
	added := newList(items)
	contacts, err := b.roster.List(ctx, owner)
	if err != nil {
		return err
	}
	var watchers []jid.JID
	for i := range contacts.Items {
		if item := &contacts.Items[i]; item.From {
			watchers = append(watchers, concerned(item.Contact, added, before)...)
		}
	}
	for _, s := range b.Sessions.Account(owner) {
		if s.State().Available() {
			b.tell(ctx, s, watchers)
		}
		b.tell(ctx, s, undirect(s, added))
	}
	return nil
}

// concerned lists what of a contact falls under one list but not under another: the
// contact as a whole, or single resources.
func concerned(contact jid.JID, under, other *List) (all []jid.JID) {
	switch {
	case other.matches(contact):
		return nil
	case under.matches(contact):
		return []jid.JID{contact}
	}
	for _, j := range under.items {
		if j.Bare() == contact && !other.has(j) {
			all = append(all, j)
		}
	}
	return all
}

// undirect forgets to whom of those who are blocked a session has sent directed
// presence (RFC 6121 §4.6.3), and returns them.
func undirect(s *session.Session, added *List) (gone []jid.JID) {
	if !slices.ContainsFunc(s.State().Directed, added.matches) {
		return nil
	}
	s.Update(func(st *session.State) {
		gone = nil
		var kept []jid.JID
		for _, to := range st.Directed {
			if added.matches(to) {
				gone = append(gone, to)
			} else {
				kept = append(kept, to)
			}
		}
		st.Directed = kept
	})
	return gone
}

// tell sends a session's unavailable presence. It goes past the hooks that would keep it back.
func (b *Blocking) tell(ctx context.Context, s *session.Session, watchers []jid.JID) {
	for _, to := range watchers {
		b.Router.Route(ctx, stanza.New(stanza.Presence, stanza.Unavailable, "", to).WithFrom(s.JID))
	}
}

// reveal shows the owner to contacts who are no longer blocked, and may see the owner,
// and asks for the presence of those whom the owner may see: XEP-0191 §3.4. before is the list as it was.
func (b *Blocking) reveal(ctx context.Context, owner jid.JID, before *List) error {
	if before == empty {
		return nil
	}
	now, err := b.lists.Load(ctx, owner, b.read)
	if err != nil {
		return err
	}
	contacts, err := b.roster.List(ctx, owner)
	if err != nil {
		return err
	}
	online := b.Sessions.Account(owner)
	for i := range contacts.Items {
		item := &contacts.Items[i]
		shown := concerned(item.Contact, before, now)
		for _, to := range shown {
			for _, s := range online {
				if item.From && s.State().Available() {
					b.ShowPresence(ctx, s, to)
				}
			}
		}
		if len(shown) > 0 && item.To && len(online) > 0 { // what was dropped meanwhile
			b.Router.Route(ctx, stanza.New(stanza.Presence, stanza.Probe, "", item.Contact).WithFrom(owner))
		}
	}
	return nil
}
