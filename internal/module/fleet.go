package module

import (
	"context"

	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
)

// Return is a stanza that was on its way to a session on another node and did not get there. Of all that a stanza leads
// to it is this one way that failed: nothing else is to be done again. The flow of its context has the sender's session,
// if it is of this node.
type Return struct {
	Stanza *stanza.Stanza
	To     jid.JID     // full JID of the session
	UID    session.UID // of the session, which must not be tried again; zero when it was not found at all
	Final  bool        // no other session is to be tried
}

// ShowPresence sends the presence of an available session to somebody who may see it: if the session is of another node,
// from there.
func (c *Core) ShowPresence(ctx context.Context, s *session.Session, to jid.JID) {
	if s.Remote() {
		c.Router.Deliver(ctx, s, stanza.New(stanza.Presence, stanza.Probe, "", s.JID).WithFrom(to))
		return
	}
	Shown(s, func(st *stanza.Stanza) { c.Router.Route(ctx, st.WithTo(to)) })
}

// Shown calls show with the presence of a session of this node, if it is available, and once more when that has changed
// meanwhile: who is told of the change may be so before what show sends comes there.
func Shown(s *session.Session, show func(*stanza.Stanza)) {
	was := s.State().Presence
	if was == nil {
		return
	}
	for {
		show(was)
		is := s.State().Presence
		if is == was {
			return
		}
		if is == nil {
			show(stanza.New(stanza.Presence, stanza.Unavailable, "", jid.JID{}).WithFrom(s.JID))
			return
		}
		was = is
	}
}
