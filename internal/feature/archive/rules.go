package archive

import (
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

const (
	nsHints    = "urn:xmpp:hints"
	nsReceipts = "urn:xmpp:receipts"
	nsMarkers  = "urn:xmpp:chat-markers:0"
)

// worthKeeping tells messages with something to say from those that tell a state of the moment.
func worthKeeping(st *stanza.Stanza) bool {
	if st.Type == stanza.Error || st.Type == stanza.Groupchat {
		return false // XEP-0313 §6.1.1: what is said in rooms is in the archives of the rooms
	}
	stored := false
	for _, c := range st.Children() {
		switch c.Space {
		case nsHints:
			switch c.Local {
			case "no-store", "no-permanent-store": // XEP-0334 §4.1, §4.2
				return false
			case "store": // XEP-0334 §4.4
				stored = true
			}
		case xml.NSClient:
			stored = stored || c.Local == "body" && st.Type != stanza.Headline // XEP-0313 §6.1.1
		default:
			stored = stored || meaningful(c) && st.Type != stanza.Headline
		}
	}
	return stored
}

// meaningful tells payloads that are part of a conversation without a body.
func meaningful(c stanza.Child) bool {
	switch c.Space {
	case nsReceipts: // XEP-0184 §5.4: that it was received; the request stands beside a body
		return c.Local == "received"
	case nsMarkers: // XEP-0333 §4.2
		return c.Local == "displayed" || c.Local == "received" || c.Local == "acknowledged"
	case NSRetract: // XEP-0424 §5: the retraction must be stored
		return c.Local == "retract"
	case "urn:xmpp:message-correct:0": // XEP-0308 §3
		return c.Local == "replace"
	case "urn:xmpp:reactions:0":
		return c.Local == "reactions"
	case "jabber:x:conference": // XEP-0249 §2
		return c.Local == "x"
	case "urn:xmpp:omemo:2", "eu.siacs.conversations.axolotl": // XEP-0384 §4.4
		return c.Local == "encrypted"
	case "urn:xmpp:eme:0": // XEP-0380 §3
		return c.Local == "encryption"
	case "urn:xmpp:openpgp:0":
		return c.Local == "openpgp"
	case "jabber:x:encrypted":
		return c.Local == "x"
	}
	return false
}
