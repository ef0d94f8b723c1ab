package rows

import (
	"log/slog"
	"testing"
	"time"

	"github.com/starling-im/starling/cluster/internal/clock"
	"github.com/starling-im/starling/cluster/internal/frame"
	"github.com/starling-im/starling/cluster/internal/journal"
)

// TestInheritRows: what another copy brings, and what must stay away.
func TestInheritRows(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for _, c := range []struct {
		name string
		run  func(s *Store, rows *Set[string], o *Owner)
		want string
	}{
		{"an older copy is replaced", func(s *Store, _ *Set[string], o *Owner) { s.Bury(o, true) }, "new"},
		{"a row that is not in the better copy goes", func(s *Store, rows *Set[string], o *Owner) {
			_ = rows.put(o, &frame.Op{Key: "other", Seq: 1, TTL: 1e6}, 1, &tally{})
			s.Bury(o, true)
		}, "new"},
		{"unknown until now", func(s *Store, _ *Set[string], o *Owner) { s.Bury(o, false) }, "new"},
		{"alive", func(*Store, *Set[string], *Owner) {}, "old"},
		{"taken over", func(s *Store, rows *Set[string], o *Owner) {
			s.Bury(o, true)
			_ = rows.put(s.Living("y", 1), &frame.Op{Key: "k", Seq: 1, Stamp: 9, Value: []byte("mine")}, 1, &tally{})
		}, "mine"},
		{"taken over and ended", func(s *Store, rows *Set[string], o *Owner) {
			s.Bury(o, true)
			s.Mourn(true)
			y := s.Living("y", 1)
			_ = rows.put(y, &frame.Op{Key: "k", Seq: 1, Stamp: 9, Value: []byte("mine")}, 1, &tally{})
			_ = rows.remove(y, &frame.Op{Key: "k", Seq: 9}, &tally{})
		}, ""},
		{"taken over by one who left", func(s *Store, rows *Set[string], o *Owner) {
			s.Bury(o, true)
			s.Mourn(true)
			y := s.Living("y", 1)
			_ = rows.put(y, &frame.Op{Key: "k", Seq: 1, Stamp: 9, Value: []byte("mine")}, 1, &tally{})
			s.Bury(y, false)
		}, ""},
		{"taken over and ended by this node", func(s *Store, rows *Set[string], o *Owner) {
			s.Bury(o, true)
			s.Mourn(true)
			rows.Put("k", "mine", []byte("mine"))
			rows.Delete("k")
		}, ""},
		{"taken over and ended before this node heard of it", func(s *Store, rows *Set[string], o *Owner) {
			s.Bury(o, true)
			s.Mourn(true)
			_ = rows.remove(s.Living("y", 1), &frame.Op{Key: "k", Stamp: 9}, &tally{})
			if rows.Get("k") != nil {
				t.Error("the orphan is still there")
			}
		}, ""},
		{"an earlier row of the key ended", func(s *Store, rows *Set[string], o *Owner) {
			s.Mourn(true)
			y := s.Living("y", 1)
			_ = rows.put(y, &frame.Op{Key: "k", Seq: 1, Stamp: 3, Value: []byte("mine")}, 1, &tally{})
			_ = rows.remove(y, &frame.Op{Key: "k", Seq: 9}, &tally{})
			s.Bury(o, true)
		}, "new"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := New("self", journal.New(1, 1), clock.New(time.Now))
			rows, err := NewSet(s, "t", Codec[string](text{}), Options[string]{})
			if err != nil {
				t.Fatal(err)
			}
			o := s.Living("x", 1)
			_ = rows.put(o, &frame.Op{Key: "k", Seq: 1, Stamp: 4, TTL: 1e6, Value: []byte("old")}, 1, &tally{})
			c.run(s, rows, o)
			better := frame.AppendOp(nil, &frame.Op{Table: "t", Key: "k", Seq: 2, Stamp: 5, TTL: 1e6, Value: []byte("new")}, 1)
			s.Inherit("x", 1, time.Now(), []frame.Ops{better}, log)
			v := ""
			if r := rows.Get("k"); r != nil {
				v = r.Value
			}
			if v != c.want {
				t.Errorf("row is %q, want %q", v, c.want)
			}
			if rows.Get("other") != nil {
				t.Error("the other row is still there")
			}
			if rows.Len() == 1 && c.want == "new" {
				s.Expire(time.Now().Add(time.Hour))
				if rows.Len() > 0 || len(s.owners["x"]) > 0 {
					t.Error("it does not expire")
				}
			}
		})
	}
}

type text struct{}

func (text) Append(dst []byte, v string) ([]byte, error) { return append(dst, v...), nil }
func (text) Decode(b []byte) (string, error)             { return string(b), nil }
