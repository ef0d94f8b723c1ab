package carbons_test

import (
	"testing"

	"github.com/starling-im/starling/internal/xmpptest"
)

func TestScripts(t *testing.T) { xmpptest.Scripts(t) }
