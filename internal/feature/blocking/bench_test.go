package blocking

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/cache"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
)

// BenchmarkNobodyBlocked is what blocking costs each message between two who have
// blocked nobody: it must not allocate.
func BenchmarkNobodyBlocked(b *testing.B) {
	from, to := jid.MustParse("romeo@b.test/orchard"), jid.MustParse("juliet@a.test")
	bl := &Blocking{lists: cache.New[*List](nil, "blocking", "Block lists", cacheSize, prometheus.NewRegistry())}
	bl.lists.Put(from.Bare(), empty)
	bl.lists.Put(to, empty)
	e := &module.Passage{Session: session.New(from, nil), Stanza: stanza.New(stanza.Message, stanza.Chat, "1", to).WithFrom(from)}
	b.ReportAllocs()
	for b.Loop() {
		if bl.atHand(from.Bare(), to) == module.Wait || bl.outbound(b.Context(), e) != nil || bl.inbound(b.Context(), e) != nil {
			b.Fatal("not let through")
		}
	}
}
