package topic

import (
	"slices"
	"testing"

	"github.com/starling-im/starling/cluster/internal/frame"
)

// TestFirstContact: the first messages of a publisher arrive, or their loss is told, whatever comes first.
func TestFirstContact(t *testing.T) {
	for _, c := range []struct {
		name string
		come []int // sequence of a message, or minus that of the last one that a beacon names
		got  []uint64
		lost bool
	}{
		{"in order", []int{1, 2, -2, -2}, []uint64{1, 2}, false},
		{"the beacon overtakes", []int{-2, 1, 2, -2}, []uint64{1, 2}, false},
		{"the first ones are lost, and nothing follows", []int{-2, -2}, nil, true},
		{"the first ones are lost, and another follows", []int{3, -3}, []uint64{3}, true},
		{"a long history", []int{-500, 501, -501, -501}, []uint64{501}, true},
		{"twice", []int{1, 1, -1, -1}, []uint64{1}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s Set[uint64]
			topic := s.Add("t")
			l, cancel := topic.Subscribe(func(uint64, []byte) {}, nil)
			defer cancel()
			var got []uint64
			lost := false
			for _, n := range c.come {
				if n < 0 {
					s.Compare(&frame.Beacon{ID: "p", Inc: 1, Topics: []frame.TopicSeq{{Topic: topic.hash, Seq: uint64(-n)}}})
				} else {
					topic.Receive("p", 1, uint64(n), uint64(n), nil)
				}
				for _, h := range l.queue {
					got = append(got, h.from)
				}
				lost = lost || l.missed
				l.queue = nil
			}
			if !slices.Equal(got, c.got) || lost != c.lost {
				t.Errorf("got %v, loss told %v; want %v, %v", got, lost, c.got, c.lost)
			}
		})
	}
}
