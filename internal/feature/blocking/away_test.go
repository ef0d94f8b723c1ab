package blocking_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/store/storetest"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
	"github.com/starling-im/starling/internal/xmpptest"
)

// TestListsOutlastTheDatabase: a node that has emptied its caches while the database is away goes by the block lists that
// it had. When the database is back it reads them anew.
func TestListsOutlastTheDatabase(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	w := storetest.NewWire(t, storetest.URL(t, store.Postgres))
	w.Join(t)
	s := xmpptest.Start(t, xmpptest.Options{Set: []string{"database.url=" + w.URL}})
	here := map[string]*client.Conn{}
	for _, name := range []string{"romeo", "juliet", "tybalt"} {
		here[name] = s.Dial(t, jid.MustParse(name+"@a.test/here"))
		if err := here[name].Raw(ctx, []byte("<presence/>")); err != nil {
			t.Fatal(err)
		}
	}
	block := xml.New(xml.NSClient, "iq", "type", "set").With(xml.New("urn:xmpp:blocking", "block").With(
		xml.New("urn:xmpp:blocking", "item", "jid", "tybalt@a.test")))
	if _, err := here["juliet"].IQ(ctx, block); err != nil {
		t.Fatal(err)
	}
	n := 0
	// speaks tells whether juliet gets a message, or its sender an error.
	speaks := func(who string) (heard bool) {
		n++
		id := fmt.Sprint(n)
		if err := here[who].Raw(ctx, []byte("<message type='chat' to='juliet@a.test' id='"+id+"'><body>hi</body></message>"+
			"<iq type='get' id='after"+id+"'><ping xmlns='urn:xmpp:ping'/></iq>")); err != nil {
			t.Fatal(err)
		}
		for {
			e, err := here[who].Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if e.Local == "message" && e.Attr("id") == id {
				return false
			}
			if e.Attr("id") == "after"+id {
				break
			}
		}
		for {
			e, err := here["juliet"].Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if e.Attr("id") == id {
				return true
			}
		}
	}
	for _, when := range []struct {
		name string
		do   func()
	}{
		{"before", func() {}},
		{"away", func() { w.Cut(); s.Core().Caches.ForgetAll() }},
		{"still", s.Core().Caches.ForgetAll},
		{"back", func() { w.Join(t); s.Core().Caches.ForgetAll() }},
	} {
		when.do()
		for who, want := range map[string]bool{"romeo": true, "tybalt": false} {
			if heard := speaks(who); heard != want {
				t.Errorf("%s: %s is heard: %v", when.name, who, heard)
			}
		}
	}
}
