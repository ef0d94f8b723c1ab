package store_test

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/store/storetest"
)

// Writers that commit one row each, side by side. PostgreSQL is only worth measuring with fsync:
//
//	go run ./internal/store/storetest/pgserver -fsync -- go test -run=^$ -bench=. ./internal/store
func BenchmarkWrite(b *testing.B) {
	for _, d := range []store.Dialect{store.SQLite, store.Postgres} {
		for _, parallel := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("%v/writers=%d", d, parallel*runtime.GOMAXPROCS(0)), func(b *testing.B) {
				db := storetest.Open(b, d)
				table(b, db)
				settings, err := db.Durability(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				b.Log(settings)
				var id atomic.Int64
				b.SetParallelism(parallel)
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if err := db.Write(b.Context(), insert(int(id.Add(1)))); err != nil {
							b.Error(err)
						}
					}
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
			})
		}
	}
}

func BenchmarkRead(b *testing.B) {
	for _, d := range []store.Dialect{store.SQLite, store.Postgres} {
		b.Run(d.String(), func(b *testing.B) {
			db := storetest.Open(b, d)
			table(b, db)
			if err := db.Write(b.Context(), insert(1)); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				var name string
				err := db.Read(b.Context(), func(tx *store.Tx) error {
					return tx.Row(`SELECT name FROM items WHERE id = $1`, 1).Scan(&name)
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
