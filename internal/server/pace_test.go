package server

import "testing"

func TestPercentFor(t *testing.T) {
	for name, tc := range map[string]struct {
		live uint64
		want int
	}{
		"nothing lives": {0, 400},
		"small heap":    {12 << 20, 400},
		"middling heap": {64 << 20, 200},
		"large heap":    {1 << 30, 100},
	} {
		if got := percentFor(tc.live); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}
