package c2s_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpptest"
)

// TestAnswersLeaveTogether: each request for an acknowledgement is answered (XEP-0198 §4), and what answers those of one read
// leaves in one write: one TLS record. Nothing waits for a worker.
func TestAnswersLeaveTogether(t *testing.T) {
	t.Parallel()
	const (
		ask    = "<r xmlns='urn:xmpp:sm:3'/>"
		old    = "<iq type='set' id='s'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>" // is handled at once
		roster = "<iq type='get' id='q'><query xmlns='jabber:iq:roster'/></iq>"
	)
	s := xmpptest.Start(t, xmpptest.Options{})
	for name, c := range map[string]struct {
		sent string
		want []string // what each record holds, in order
	}{
		"one request":            {ask, []string{"<a h='0'"}},
		"two at once":            {ask + ask, []string{"<a h='0'<a h='0'"}},
		"each has its own count": {ask + old + ask + ask, []string{"<a h='0'<iq<a h='1'<a h='1'"}},
		"before a worker's":      {ask + roster + ask, []string{"<a h='0'", "<iq", "<a h='1'"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			who := jid.MustParse(strings.ReplaceAll(strings.ReplaceAll(name, " ", "-"), "'", "") + "@a.test/x")
			conn := s.Dial(t, who)
			if _, err := client.Enable(ctx, conn, true); err != nil {
				t.Fatal(err)
			}
			if unread := conn.Unread(); len(unread) > 0 {
				t.Fatalf("unread: %s", unread)
			}
			if err := conn.Raw(ctx, []byte(c.sent)); err != nil {
				t.Fatal(err)
			}
			end, _ := ctx.Deadline()
			if err := conn.TLS().SetReadDeadline(end); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 16<<10)
			for i, want := range c.want {
				n, err := conn.TLS().Read(buf) // never more than one record
				if err != nil {
					t.Fatal(err)
				}
				if got := outline(string(buf[:n])); got != want {
					t.Fatalf("record %d is %s, want %s", i+1, got, want)
				}
			}
		})
	}
}

// outline leaves acknowledgements, with their counts, and the names of results.
func outline(record string) string {
	var all strings.Builder
	for _, tag := range strings.SplitAfter(record, ">") {
		switch {
		case strings.HasPrefix(tag, "<a xmlns='urn:xmpp:sm:3' h='"):
			_, h, _ := strings.Cut(tag, "h='")
			h, _, _ = strings.Cut(h, "'")
			all.WriteString("<a h='" + h + "'")
		case strings.HasPrefix(tag, "<iq "):
			all.WriteString("<iq")
		}
	}
	return all.String()
}
