package blocking_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/feature/blocking"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpptest"
)

func TestReports(t *testing.T) {
	for _, d := range []store.Dialect{store.SQLite, store.Postgres} {
		t.Run(d.String(), func(t *testing.T) {
			set := []string{"blocking.max_reports=3", xmpptest.On(t, d)}
			testReports(t, xmpptest.Start(t, xmpptest.Options{Set: set}))
		})
	}
}

func testReports(t *testing.T, s *xmpptest.Server) {
	b := s.Features().Provided("blocking").(*blocking.Blocking)
	juliet := jid.MustParse("juliet@a.test")
	block := func(items string) {
		t.Helper()
		xmpptest.Play(t, s, "report", "client! juliet juliet@a.test/chamber\n"+
			"juliet > <iq type='set' id='1'><block xmlns='urn:xmpp:blocking'>"+items+"</block></iq>\njuliet < <iq type='result' id='1'/>\n")
	}
	list := func(before time.Time, limit int) []blocking.Report {
		t.Helper()
		all, err := b.Reports(t.Context(), before, limit)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	block(`<item jid='romeo@b.test'><report xmlns='urn:xmpp:reporting:1' reason='urn:xmpp:reporting:spam'>
		<stanza-id xmlns='urn:xmpp:sid:0' by='romeo@b.test' id='28482'/><stanza-id xmlns='urn:xmpp:sid:0' by='romeo@b.test' id='38383'/>
		<text xml:lang='en'> Never came trouble to my house like this. </text><third-party/></report></item>
		<item jid='iago@b.test'/><item jid='paris@a.test'><report xmlns='urn:xmpp:reporting:1'/></item>`)
	soon := time.Now().Add(time.Hour)
	all := list(soon, 100)
	if len(all) != 1 {
		t.Fatalf("%d reports", len(all))
	}
	want := blocking.Report{From: juliet, About: jid.MustParse("romeo@b.test"), Received: all[0].Received, Reason: "urn:xmpp:reporting:spam",
		Note: "Never came trouble to my house like this.", Others: true,
		Stanzas: []blocking.StanzaID{{By: "romeo@b.test", ID: "28482"}, {By: "romeo@b.test", ID: "38383"}}}
	if !reflect.DeepEqual(all[0], want) {
		t.Errorf("got  %v\nwant %v", all[0], want)
	}
	for n := range 5 { // the oldest give way
		block(fmt.Sprintf(`<item jid='x%d@b.test'><report xmlns='urn:xmpp:reporting:1' reason='%s'><text>%s</text></report></item>`,
			n, strings.Repeat("r", 1000), strings.Repeat("ä", 5000)))
	}
	all = list(soon, 100)
	if len(all) != 3 || all[0].About.String() != "x4@b.test" || all[2].About.String() != "x2@b.test" {
		t.Fatalf("kept are %v", all)
	}
	if len(all[0].Note) != 4096 || len(all[0].Reason) != 256 {
		t.Errorf("kept are %d bytes of text and %d of a reason", len(all[0].Note), len(all[0].Reason))
	}
	if all := list(all[0].Received, 1); len(all) != 1 || all[0].About.String() != "x3@b.test" {
		t.Errorf("the page after the first is %v", all)
	}
	if err := s.Core().DeleteAccount(t.Context(), juliet); err != nil {
		t.Fatal(err)
	}
	if all := list(soon, 100); len(all) != 0 {
		t.Errorf("left of a deleted account: %v", all)
	}
	if blocks, err := b.Blocks(t.Context(), juliet, jid.MustParse("romeo@b.test")); blocks || err != nil {
		t.Errorf("a deleted account blocks: %v, %v", blocks, err)
	}
}
