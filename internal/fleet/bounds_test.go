package fleet

import (
	"strconv"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/session"
)

// TestMovesBound: so many clients' former nodes are remembered and no more, until old ones are forgotten.
func TestMovesBound(t *testing.T) {
	var m moves
	for i := range maxMoves + 1 {
		m.add("romeo@a.test/"+strconv.Itoa(i), "one")
	}
	first, last := "romeo@a.test/0", "romeo@a.test/"+strconv.Itoa(maxMoves)
	if !m.has(first, "one") || m.has(first, "two") || m.has(last, "one") || len(m.all) != maxMoves {
		t.Errorf("%d clients are remembered", len(m.all))
	}
	m.sweep(time.Now().Add(movedFor + time.Second))
	if m.add(last, "one"); m.has(first, "one") || !m.has(last, "one") || len(m.all) != 1 {
		t.Errorf("%d clients are remembered after the old ones were forgotten", len(m.all))
	}
}

// TestNewcomersBound: of those that became available later the latest are looked at, and no more than so many.
func TestNewcomersBound(t *testing.T) {
	var n newcomers
	for i := range 2 * maxCross {
		n.all = append(n.all, newcomer{&session.Session{}, uint64(i), time.Now()})
	}
	for _, c := range []struct{ since, want int }{{0, maxCross}, {2*maxCross - 10, 10}, {2 * maxCross, 0}} {
		list := n.later(&seat{since: uint64(c.since)})
		if len(list) != c.want || c.want > 0 && list[0] != n.all[len(n.all)-1].s {
			t.Errorf("after %d: %d newcomers, want %d", c.since, len(list), c.want)
		}
	}
	n.sweep(time.Now().Add(newFor + time.Second))
	if len(n.all) != 0 || n.any() {
		t.Errorf("%d newcomers are left", len(n.all))
	}
}
