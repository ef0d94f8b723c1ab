package offline_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/starling-im/starling/internal/feature/offline"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/store/storetest"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

// filled is a database in which so many messages wait for so many accounts, u0@a.test and on.
func filled(t testing.TB, db *store.DB, messages, owners int) {
	t.Helper()
	if err := db.Migrate(t.Context(), store.Migrations{Module: "offline", FS: offline.Schema}); err != nil {
		t.Fatal(err)
	}
	numbers := `SELECT n FROM generate_series(0, %d) AS n`
	if db.Dialect() == store.SQLite {
		numbers = `WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n < %d) SELECT n FROM c`
	}
	bytes := map[store.Dialect]string{store.SQLite: "CAST(n AS BLOB)", store.Postgres: "CAST(CAST(n AS TEXT) AS BYTEA)"}[db.Dialect()]
	err := db.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(fmt.Sprintf(`INSERT INTO offline (owner, position, received, stanza, id)
			SELECT 'u' || CAST(n %% %d AS TEXT) || '@a.test', n, 0, '<message/>', %s FROM (`+numbers+`) AS all_of_them`, owners, bytes, messages-1))
		if err == nil && db.Dialect() == store.Postgres {
			_, err = tx.Exec(`ANALYZE offline`)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// some are accounts of which every second one has messages that wait, if step is 2 and there are enough.
func some(n int) (all []jid.JID) {
	for i := range n {
		if i%2 == 0 {
			all = append(all, jid.MustParse(fmt.Sprintf("u%d@a.test", i)))
		} else {
			all = append(all, jid.MustParse(fmt.Sprintf("nobody%d@a.test", i)))
		}
	}
	return all
}

// TestAnyOf: what is found, and that each account is looked for in the index.
func TestAnyOf(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		filled(t, db, 20_000, 200)
		for _, n := range []int{1, 7, offline.SweepBatch} {
			asked := some(n)
			found, err := offline.On(db).AnyOf(t.Context(), asked)
			want := slices.DeleteFunc(slices.Clone(asked), func(j jid.JID) bool { return strings.HasPrefix(j.Local(), "nobody") })
			sorted := func(a, b jid.JID) int { return strings.Compare(a.String(), b.String()) }
			slices.SortFunc(found, sorted)
			slices.SortFunc(want, sorted)
			if err != nil || !slices.Equal(found, want) {
				t.Errorf("of %d: %v, %v", n, found, err)
			}
		}
		plan := explain(t, db, offline.AnyOfQuery(offline.SweepBatch), offline.Owned(some(offline.SweepBatch)))
		t.Log("\n" + plan)
		for _, whole := range []string{"Seq Scan on offline", "SCAN offline", "Hash", "Merge"} {
			if strings.Contains(plan, whole) {
				t.Errorf("the plan has %q", whole)
			}
		}
	})
}

func explain(t *testing.T, db *store.DB, query string, args []any) string {
	t.Helper()
	var plan []string
	err := db.Read(t.Context(), func(tx *store.Tx) error {
		return tx.Each(func(scan store.Scan) error {
			var line string
			var a, b, c int
			columns := []any{&line}
			if db.Dialect() == store.SQLite {
				columns = []any{&a, &b, &c, &line}
			}
			err := scan(columns...)
			plan = append(plan, line)
			return err
		}, map[store.Dialect]string{store.SQLite: "EXPLAIN QUERY PLAN ", store.Postgres: "EXPLAIN "}[db.Dialect()]+query, args...)
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(plan, "\n")
}

// BenchmarkSweep looks for what waits for 100 accounts of those that are there, while 200,000 messages wait for 2,000.
func BenchmarkSweep(b *testing.B) {
	for _, d := range []store.Dialect{store.SQLite, store.Postgres} {
		b.Run(d.String(), func(b *testing.B) {
			db := storetest.Open(b, d)
			filled(b, db, 200_000, 2000)
			o, asked := offline.On(db), some(offline.SweepBatch)
			for b.Loop() {
				if _, err := o.AnyOf(b.Context(), asked); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
