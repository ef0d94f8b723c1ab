package blocking

import (
	"strings"
	"testing"

	"github.com/starling-im/starling/internal/xmpp/jid"
)

func TestBlocks(t *testing.T) {
	owner := jid.MustParse("juliet@a.test")
	for _, c := range []struct {
		items, contact string
		want           bool
	}{
		{"", "romeo@b.test", false},
		{"romeo@b.test", "romeo@b.test", true},
		{"romeo@b.test", "romeo@b.test/orchard", true},
		{"romeo@b.test", "rome@b.test", false},
		{"romeo@b.test", "b.test", false},
		{"romeo@b.test/orchard", "romeo@b.test/orchard", true},
		{"romeo@b.test/orchard", "romeo@b.test", false},
		{"romeo@b.test/orchard", "romeo@b.test/street", false},
		{"b.test", "b.test", true},
		{"b.test", "b.test/x", true},
		{"b.test", "romeo@b.test/orchard", true},
		{"b.test", "romeo@sub.b.test", false},
		{"b.test/x", "b.test/x", true},
		{"b.test/x", "b.test", false},
		{"b.test/x", "romeo@b.test/x", false},
		{"x@b.test y@b.test romeo@b.test", "romeo@b.test/orchard", true},
		{"a.test", "nurse@a.test", true},
		{"a.test", "a.test", false},
		{"a.test", "juliet@a.test/chamber", false},
		{"juliet@a.test", "juliet@a.test/chamber", false},
	} {
		var items []jid.JID
		for _, s := range strings.Fields(c.items) {
			items = append(items, jid.MustParse(s))
		}
		if got := newList(items).blocks(owner, jid.MustParse(c.contact)); got != c.want {
			t.Errorf("{%s} blocks %s: %v", c.items, c.contact, got)
		}
	}
}
