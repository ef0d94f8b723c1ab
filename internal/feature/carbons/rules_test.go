package carbons

import (
	"testing"

	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// FuzzWrap makes a copy of any message, which holds the message and nothing else.
func FuzzWrap(f *testing.F) {
	f.Add("<message from='romeo@b.test/o' to='juliet@a.test' type='chat' id='1'><body>hi</body></message>")
	f.Add("<message type='error'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>")
	f.Fuzz(func(t *testing.T, raw string) {
		st, err := stanza.Decode(raw)
		if err != nil || st.Kind != stanza.Message {
			return
		}
		eligible(st)
		incomingEligible(st)
		owner := jid.MustParse("romeo@b.test")
		made := wrap("sent", owner, st)
		e := made.Child(NS, "sent")
		inner := e.Child(nsForward, "forwarded").Child(xml.NSClient, "message")
		if made.From != owner || made.Type != st.Type || len(made.Children()) != 1 || inner == nil || inner.Attr("id") != st.ID {
			t.Errorf("%s became %s", raw, made)
		}
	})
}
