package archive_test

import (
	"slices"
	"testing"

	"github.com/starling-im/starling/internal/feature/archive"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpptest"
)

// TestBrokenRun: messages that the database gives back damaged are left out; all others stay readable, new ones are kept,
// and the owner can still clear what is old.
func TestBrokenRun(t *testing.T) {
	t.Parallel()
	for _, d := range []store.Dialect{store.SQLite, store.Postgres} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			s := xmpptest.Start(t, xmpptest.Options{Set: []string{xmpptest.On(t, d), "log.level=error"}})
			a, owner := s.Features().Provided("archive").(*archive.Archive), jid.MustParse("juliet@a.test")
			var ids []string
			commit := func(from, to int) {
				t.Helper()
				var batch []archive.Entry
				for n := from; n < to; n++ {
					e := entry(owner, n)
					ids = append(ids, a.ID(&e))
					batch = append(batch, e)
				}
				if err := a.Commit(t.Context(), batch); err != nil {
					t.Fatal(err)
				}
			}
			for n := range 3 {
				commit(10*n, 10*n+10)
			}
			err := s.Core().DB.Write(t.Context(), func(tx *store.Tx) error {
				_, err := tx.Exec(`UPDATE archive SET messages = $1 WHERE position = (SELECT position FROM archive ORDER BY position LIMIT 1 OFFSET 1)`,
					[]byte("damaged"))
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			commit(30, 40)
			want := slices.Delete(slices.Clone(ids), 10, 20)
			if got := kept(t, a, owner); !slices.Equal(got, want) {
				t.Errorf("%d messages, want %d", len(got), len(want))
			}
			if err := a.Cut(t.Context(), owner, ids[24]); err != nil {
				t.Fatal(err)
			}
			if got := kept(t, a, owner); !slices.Equal(got, ids[25:]) {
				t.Errorf("%d messages after the first 25 are cut, want %d", len(got), len(ids[25:]))
			}
		})
	}
}
