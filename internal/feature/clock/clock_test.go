package clock_test

import (
	"context"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/feature/clock"
	"github.com/starling-im/starling/internal/xmpp/datetime"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
	"github.com/starling-im/starling/internal/xmpptest"
)

func TestScripts(t *testing.T) { xmpptest.Scripts(t) }

// TestTime checks that the answer is the present.
func TestTime(t *testing.T) {
	s := xmpptest.Start(t, xmpptest.Options{})
	c := s.Dial(t, jid.MustParse("romeo@a.test/orchard"))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	before := time.Now().Truncate(time.Second)
	if err := c.Raw(ctx, []byte("<iq type='get' to='a.test' id='1'><time xmlns='urn:xmpp:time'/></iq>")); err != nil {
		t.Fatal(err)
	}
	var answer xml.Element
	for answer.Attr("id") != "1" {
		var err error
		if answer, err = c.Next(ctx); err != nil {
			t.Fatal(err)
		}
	}
	utc := answer.First().Child(clock.NS, "utc").Text()
	at, err := datetime.Parse(utc)
	if err != nil || at.Before(before) || at.After(time.Now()) {
		t.Errorf("got %s, %v, between %v and now", utc, err, before)
	}
}
