package module

import (
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/stanza"
)

// Takers tells which sessions of an account get a message itself, by the table of RFC 6121 §8.5.4: direct is true for
// those. taken tells whether the account takes it at all, to be kept when direct is true for none; what it does not take
// comes back to its sender, or is ignored.
func Takers(st *stanza.Stanza, sessions []*session.Session) (direct func(*session.Session) bool, taken bool) {
	if st.To.IsFull() {
		for _, s := range sessions {
			if s.JID == st.To { // RFC 6121 §8.5.3.1
				return func(s *session.Session) bool { return s.JID == st.To }, true
			}
		}
		if st.Type != stanza.Chat { // RFC 6121 §8.5.3.2.1
			return nobody, false
		}
	}
	if st.Type == stanza.Groupchat || st.Type == stanza.Error { // RFC 6121 §8.5.2.1.1
		return nobody, false
	}
	return func(s *session.Session) bool { return s.State().Reachable() }, true
}

func nobody(*session.Session) bool { return false }
