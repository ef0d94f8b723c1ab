package client

import (
	"testing"

	"github.com/starling-im/starling/internal/xmpp/xml"
)

// TestCounts: only what comes and goes after stream management began is counted, and what was read but not looked at can
// be had.
func TestCounts(t *testing.T) {
	const message, answer = "<message><body>hi</body></message>", "<a xmlns='urn:xmpp:sm:3' h='1'/>"
	c := connect(t, "", func(p *peer) {
		p.until("resume='true'/>")
		p.send(message + "<enabled xmlns='urn:xmpp:sm:3' id='x' resume='true'/>" + message + "<r xmlns='urn:xmpp:sm:3'/>" + message)
		p.expect("<presence/>")
		p.expect("<a xmlns='urn:xmpp:sm:3' h='1'/>")
		p.send(answer + message + "<r ")
	})
	m, err := Enable(within(t), c, true)
	if err != nil || m.ID != "x" {
		t.Fatal(m, err)
	}
	if err := m.Stanza(within(t), []byte("<presence/>")); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if e, err := m.Next(within(t)); err != nil || e.Child(xml.NSClient, "body").Text() != "hi" {
			t.Fatal(e, err)
		}
	}
	if sent, received := m.Counts(); sent != 1 || received != 3 {
		t.Errorf("sent %d, received %d", sent, received)
	}
	if m.Waiting() != 0 {
		t.Errorf("%d stanzas are not acknowledged", m.Waiting())
	}
	for len(m.Unread()) == 0 {
		if err := m.in.fill(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(m.Unread()); got != "<r " {
		t.Errorf("%q was read and not looked at", got)
	}
}
