package archive_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpptest"
)

func TestScripts(t *testing.T) { xmpptest.Scripts(t) }

// All of it is the same on PostgreSQL.
func TestPostgres(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.script")
	if err != nil || len(scripts) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, path := range scripts {
		name := strings.TrimSuffix(filepath.Base(path), ".script")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			set := []string{xmpptest.On(t, store.Postgres)}
			var steps strings.Builder
			for line := range strings.Lines(string(text)) {
				if setting, ok := strings.CutPrefix(line, "set "); ok {
					set = append(set, strings.TrimSpace(setting))
				} else {
					steps.WriteString(line)
				}
			}
			xmpptest.Play(t, xmpptest.Start(t, xmpptest.Options{Set: set}), name, steps.String())
		})
	}
}
