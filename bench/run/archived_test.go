package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
	"github.com/starling-im/starling/internal/xmpptest"
)

// TestNewest looks for messages in an archive in which older ones have the same numbers.
func TestNewest(t *testing.T) {
	s := xmpptest.Start(t, xmpptest.Options{Set: []string{"auth.allow_plaintext=true"}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	log := func(name string) *client.Conn {
		who := jid.MustParse(name + "@a.test/bench")
		if err := s.Core().Accounts.Create(ctx, who.Bare(), "secret"); err != nil {
			t.Fatal(err)
		}
		c, err := client.Dial(ctx, client.Config{Addr: s.Addresses()["c2s"][0], TLS: client.None, JID: who, Password: "secret", Mechanism: "PLAIN"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Drop)
		return c
	}
	romeo, juliet := log("romeo"), log("juliet")
	numbers := []int{0, 1, 2, 3, 0, 1, 3} // a run, and a second one that lost a message
	for _, n := range numbers {
		text := fmt.Sprintf("~%08x-%08x~ my love", 7, n)
		m := xml.New(xml.NSClient, "message", "type", "chat", "to", juliet.JID().String()).With(xml.New(xml.NSClient, "body").WithText(text))
		if err := romeo.Send(ctx, m); err != nil {
			t.Fatal(err)
		}
		if err := await(ctx, juliet, func(e *xml.Element) bool { return e.Child(xml.NSClient, "body").Text() == text }); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name         string
		want         map[uint32]uint32
		newest, have int
	}{
		{"all of it there", map[uint32]uint32{7: 4}, 7, 4},
		{"one lost", map[uint32]uint32{7: 4}, 4, 3},
		{"only some wanted", map[uint32]uint32{7: 2}, 7, 2},
		{"of somebody else", map[uint32]uint32{8: 4}, 7, 0},
		{"more than there are", map[uint32]uint32{7: 4}, 600, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, who := range []*client.Conn{romeo, juliet} {
				if found, err := newest(ctx, who, c.want, c.newest); err != nil || found != c.have {
					t.Errorf("%v found %d of %d: %v", who.JID(), found, c.have, err)
				}
			}
		})
	}
}
