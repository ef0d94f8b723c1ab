package search_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpptest"
)

func TestScripts(t *testing.T) { xmpptest.Scripts(t) }

func TestScriptsOnPostgres(t *testing.T) {
	s := xmpptest.Start(t, xmpptest.Options{Set: []string{xmpptest.On(t, store.Postgres), "search.enabled=true", "search.max_results=2"}})
	src, err := os.ReadFile(filepath.Join("testdata", "simple.script"))
	if err != nil {
		t.Fatal(err)
	}
	_, steps, _ := strings.Cut(string(src), "client!") // without the settings
	xmpptest.Play(t, s, "simple.script", "client!"+steps)
}
