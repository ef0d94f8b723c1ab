package vcard_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpptest"
)

func TestScripts(t *testing.T) { xmpptest.Scripts(t) }

func TestScriptsOnPostgres(t *testing.T) {
	s := xmpptest.Start(t, xmpptest.Options{Set: []string{xmpptest.On(t, store.Postgres)}})
	for _, name := range []string{"own", "others", "photo"} {
		src, err := os.ReadFile(filepath.Join("testdata", name+".script"))
		if err != nil {
			t.Fatal(err)
		}
		xmpptest.Play(t, s, name, string(src))
	}
}

// TestDeleted checks that nothing stays of the card of a deleted account, neither stored
// nor in memory.
func TestDeleted(t *testing.T) {
	s := xmpptest.Start(t, xmpptest.Options{})
	const publish = `client! juliet juliet@a.test/balcony
juliet > <iq type='set' id='1'><vCard xmlns='vcard-temp'><FN>Juliet</FN><PHOTO><BINVAL>aGVsbG8=</BINVAL></PHOTO></vCard></iq>
juliet < <iq type='result' id='1'/>
juliet > <presence/>
juliet < <presence from='$juliet'><x xmlns='vcard-temp:x:update'><photo>aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d</photo></x></presence>`
	xmpptest.Play(t, s, "before", publish)
	if err := s.Core().DeleteAccount(t.Context(), jid.MustParse("juliet@a.test")); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"vcard", "vcard_directory"} {
		var n int
		err := s.Core().DB.Read(t.Context(), func(tx *store.Tx) error {
			return tx.Row(`SELECT COUNT(*) FROM ` + table).Scan(&n)
		})
		if err != nil || n != 0 {
			t.Errorf("%s has %d rows, %v", table, n, err)
		}
	}
	xmpptest.Play(t, s, "after", `client! juliet juliet@a.test/balcony
juliet > <presence/>
juliet < exactly <presence from='$juliet'/>
juliet > <iq type='get' id='2'><vCard xmlns='vcard-temp'/></iq>
juliet < <iq type='error' id='2'><error><item-not-found/></error></iq>`)
	xmpptest.Play(t, s, "again", publish)
}

// TestAtOnce lets two resources change one vCard at the same time.
func TestAtOnce(t *testing.T) {
	for _, on := range []store.Dialect{store.SQLite, store.Postgres} {
		t.Run(on.String(), func(t *testing.T) {
			s := xmpptest.Start(t, xmpptest.Options{Set: []string{xmpptest.On(t, on)}})
			var script strings.Builder
			script.WriteString("client! one romeo@a.test/one\nclient! two romeo@a.test/two\n")
			const rounds = 20
			for i := range rounds {
				for _, who := range []string{"one", "two"} {
					fmt.Fprintf(&script, "%s > <iq type='set' id='%d'><vCard xmlns='vcard-temp'><FN>%s</FN></vCard></iq>\n", who, i, who)
				}
			}
			for i := range rounds {
				fmt.Fprintf(&script, "one < <iq type='result' id='%d'/>\ntwo < <iq type='result' id='%d'/>\n", i, i)
			}
			xmpptest.Play(t, s, "at once", script.String())
		})
	}
}
