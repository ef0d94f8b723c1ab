package session_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

func TestKey(t *testing.T) {
	romeo := jid.MustParse("romeo@b.test/orchard")
	message := func(text string, more ...xml.Element) *stanza.Stanza {
		body := xml.New(xml.NSClient, "body").WithText(text)
		return stanza.New(stanza.Message, stanza.Chat, "1", jid.MustParse("juliet@a.test"), append([]xml.Element{body}, more...)...)
	}
	flow := &session.Flow{Session: session.New(romeo, nil), N: 7}
	base := flow.Key(message("hi"))
	delayed := xml.New("urn:xmpp:delay", "delay", "stamp", "2002-09-10T23:08:25Z")
	for _, c := range []struct {
		name string
		flow *session.Flow
		st   *stanza.Stanza
		same bool
	}{
		{"again", flow, message("hi"), true},
		{"sent again later", flow, message("hi", delayed), true},
		{"another text", flow, message("ho"), false},
		{"the next stanza", &session.Flow{Session: flow.Session, N: 8}, message("hi"), false},
		{"another session", &session.Flow{Session: session.New(romeo, nil), N: 7}, message("hi"), false},
		{"the server's", &session.Flow{N: 7}, message("hi"), false},
		{"without a flow", nil, message("hi"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.flow.Key(c.st); (got == base) != c.same {
				t.Errorf("%v and %v", got, base)
			}
		})
	}
}

// Texts that differ little have different hashes.
func TestKeySpreads(t *testing.T) {
	seen := map[uint64]string{}
	flow := &session.Flow{}
	for n := range 2000 {
		for _, id := range []string{fmt.Sprint(n), strings.Repeat("a", n), strings.Repeat("a", n) + "b"} {
			st := stanza.New(stanza.Message, stanza.Chat, id, jid.MustParse("a.test"))
			h := flow.Key(st).Hash
			if other, taken := seen[h]; taken && other != st.String() {
				t.Fatalf("%s and %s have one hash", other, st)
			}
			seen[h] = st.String()
		}
	}
}

func BenchmarkKey(b *testing.B) {
	flow := &session.Flow{Session: session.New(jid.MustParse("romeo@b.test/orchard"), nil)}
	body := xml.New(xml.NSClient, "body").WithText(strings.Repeat("x", 300))
	st := stanza.New(stanza.Message, stanza.Chat, "1", jid.MustParse("juliet@a.test"), body)
	b.ReportAllocs()
	for b.Loop() {
		flow.Key(st)
	}
}
