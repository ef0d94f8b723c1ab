package carbons

import (
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// Namespaces of what people exchange, and of what keeps a message from being copied.
const (
	nsHints      = "urn:xmpp:hints"
	nsReceipts   = "urn:xmpp:receipts"
	nsChatStates = "http://jabber.org/protocol/chatstates"
	nsMarkers    = "urn:xmpp:chat-markers:0"
	nsInvitation = "jabber:x:conference"
	nsRooms      = "http://jabber.org/protocol/muc#user"
)

// eligible tells whether a message may be copied: XEP-0280 §6.1.
func eligible(st *stanza.Stanza) bool {
	if st.Type == stanza.Error {
		return errorEligible(st)
	}
	// XEP-0280 §9, XEP-0334 §4.3
	if st.Has(NS, "private") || st.Has(nsHints, "no-copy") || st.Type == stanza.Groupchat {
		return false
	}
	switch st.Type {
	case stanza.Chat:
		return true
	case stanza.Normal:
		if st.Has(xml.NSClient, "body") {
			return true
		}
	}
	return conversation(st) || st.HasSpace(nsInvitation) || invites(st)
}

// conversation tells payloads that belong to instant messaging.
func conversation(st *stanza.Stanza) bool {
	return st.HasSpace(nsReceipts) || st.HasSpace(nsChatStates) || st.HasSpace(nsMarkers)
}

// invites tells mediated invitations from the other things that rooms say in this namespace.
func invites(st *stanza.Stanza) bool {
	if !st.HasSpace(nsRooms) {
		return false
	}
	x := st.Child(nsRooms, "x")
	return x.Child(nsRooms, "invite") != nil
}

// incomingEligible is eligible, less what occupants of rooms say to each other in private: the room sends that to each of
// the user's clients that is in it.
func incomingEligible(st *stanza.Stanza) bool {
	if st.From.IsFull() && st.Type != stanza.Error && st.HasSpace(nsRooms) && !invites(st) {
		return false
	}
	return eligible(st)
}

// errorEligible tells whether an error is about a message that was copied. Who reports it may have sent the message back
// with it (RFC 6120 §8.3.1); then that tells. Choice: else it is taken for one. What bounces between a user's own resources
// is not: it may be a copy that did (XEP-0280 §10.3).
func errorEligible(st *stanza.Stanza) bool {
	if st.From.Bare() == st.To.Bare() || st.HasSpace(nsRooms) {
		return false
	}
	for _, c := range st.Children() {
		switch {
		case c.Space == NS:
			return false
		case c.Space == xml.NSClient && c.Local == "body":
			return true
		}
	}
	return conversation(st) || len(st.Children()) <= 1
}
