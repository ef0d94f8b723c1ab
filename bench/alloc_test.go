//go:build !race

package bench_test

import (
	"testing"

	"github.com/starling-im/starling/internal/client"
)

// allocsPerMessage is what reading, stamping, routing and sending one message of 432 bytes without extensions may
// allocate: the stanza and its bytes.
const allocsPerMessage = 2

func TestAllocRoutedMessage(t *testing.T) {
	for _, c := range []struct {
		name  string
		mode  client.TLSMode
		batch int
	}{
		{"one by one", client.None, 1}, {"in bursts", client.None, 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t, c.mode, c.batch)
			got := testing.AllocsPerRun(500, func() { p.turn(t) }) / float64(c.batch)
			if got > allocsPerMessage {
				t.Errorf("%.2f allocations for each message, at most %d", got, allocsPerMessage)
			}
		})
	}
}
