package serverinfo_test

import (
	"strings"
	"testing"

	"github.com/starling-im/starling/internal/feature/serverinfo"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/xmpptest"
)

func TestScripts(t *testing.T) { xmpptest.Scripts(t) }

// TestNoURI checks that a mistake is told by the key where it was made.
func TestNoURI(t *testing.T) {
	for _, uri := range []string{"abuse@example.org", "", "http://%zz"} {
		err := serverinfo.Module.Start(&module.Host{Core: &module.Core{Hooks: &module.Hooks{}}}, serverinfo.Config{Security: []string{"xmpp:a@b", uri}})
		if err == nil || !strings.Contains(err.Error(), "serverinfo.security") {
			t.Errorf("%q: %v", uri, err)
		}
	}
}
