package private_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpptest"
)

func TestScripts(t *testing.T) { xmpptest.Scripts(t) }

func TestScriptsOnPostgres(t *testing.T) {
	s := xmpptest.Start(t, xmpptest.Options{Set: []string{xmpptest.On(t, store.Postgres)}})
	src, err := os.ReadFile(filepath.Join("testdata", "store.script"))
	if err != nil {
		t.Fatal(err)
	}
	xmpptest.Play(t, s, "store.script", string(src))
}

// TestDeleted checks that nothing stays of a deleted account, and that others are left alone.
func TestDeleted(t *testing.T) {
	s := xmpptest.Start(t, xmpptest.Options{})
	xmpptest.Play(t, s, "before", `client! hamlet hamlet@a.test/denmark
client! ophelia ophelia@a.test/denmark
hamlet > <iq type='set' id='1'><query xmlns='jabber:iq:private'><a xmlns='urn:a'>1</a><b xmlns='urn:b'>1</b></query></iq>
hamlet < <iq type='result' id='1'/>
ophelia > <iq type='set' id='1'><query xmlns='jabber:iq:private'><a xmlns='urn:a'>1</a></query></iq>
ophelia < <iq type='result' id='1'/>`)
	if err := s.Core().DeleteAccount(t.Context(), jid.MustParse("hamlet@a.test")); err != nil {
		t.Fatal(err)
	}
	var owners string
	err := s.Core().DB.Read(t.Context(), func(tx *store.Tx) error {
		return tx.Each(func(scan store.Scan) error {
			var owner string
			err := scan(&owner)
			owners += owner
			return err
		}, `SELECT owner FROM private`)
	})
	if err != nil || owners != "ophelia@a.test" {
		t.Errorf("rows of %q are left, %v", owners, err)
	}
}
