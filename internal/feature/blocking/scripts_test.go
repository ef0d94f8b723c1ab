package blocking_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpptest"
)

func TestScripts(t *testing.T) { xmpptest.Scripts(t) }

// What is stored is the same on PostgreSQL.
func TestPostgres(t *testing.T) {
	for _, name := range []string{"list", "trap-40-block", "quiet", "matching"} {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("testdata", name+".script"))
			if err != nil {
				t.Fatal(err)
			}
			set := []string{xmpptest.On(t, store.Postgres)}
			xmpptest.Play(t, xmpptest.Start(t, xmpptest.Options{Set: set}), name, string(text))
		})
	}
}
