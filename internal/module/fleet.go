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
	if st := s.State().Presence; st != nil {
		c.Router.Route(ctx, st.WithTo(to))
	}
}
