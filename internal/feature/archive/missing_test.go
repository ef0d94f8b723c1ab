package archive_test

import (
	"testing"
	"time"

	"github.com/starling-im/starling/internal/feature/offline"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
	"github.com/starling-im/starling/internal/xmpptest"
)

// TestMarkWithoutMessage: a message that waits for its owner and is not in the archive is waited for a while, since the
// node that it passed may yet commit it; what has been gone for long is forgotten.
func TestMarkWithoutMessage(t *testing.T) {
	for _, c := range []struct {
		name  string
		since time.Duration
		kept  int
	}{{"just now", 0, 1}, {"long ago", time.Hour, 0}} {
		t.Run(c.name, func(t *testing.T) {
			s := xmpptest.Start(t, xmpptest.Options{})
			owner := jid.MustParse("juliet@a.test")
			s.Account(t, owner)
			err := s.Core().DB.Write(t.Context(), func(tx *store.Tx) error {
				return offline.Mark(tx, owner.String(), make([]byte, 16), store.Micros(time.Now().Add(-c.since)))
			})
			if err != nil {
				t.Fatal(err)
			}
			juliet := s.Dial(t, jid.MustParse("juliet@a.test/balcony"))
			if err := juliet.Raw(t.Context(), []byte("<presence/>")); err != nil {
				t.Fatal(err)
			}
			if _, err := juliet.IQ(t.Context(), xml.New(xml.NSClient, "iq", "type", "get").With(xml.New("urn:xmpp:ping", "ping"))); err != nil {
				t.Fatal(err)
			}
			var marks int
			err = s.Core().DB.Read(t.Context(), func(tx *store.Tx) error {
				return tx.Row(`SELECT COUNT(*) FROM offline WHERE owner = $1 AND claim IS NULL`, owner.String()).Scan(&marks)
			})
			if err != nil || marks != c.kept {
				t.Errorf("%d marks, %v; want %d", marks, err, c.kept)
			}
		})
	}
}
