package estate_test

import (
	"slices"
	"testing"
	"time"

	"github.com/starling-im/starling/cluster/internal/estate"
	"github.com/starling-im/starling/cluster/internal/frame"
)

// scene is a node with its book.
type scene struct {
	*estate.Book
	now     time.Time
	members []string
	life    estate.Life
	rows    bool
}

func (s *scene) Life(string, uint64) estate.Life { return s.life }
func (s *scene) Rows(string, uint64) bool        { return s.rows }
func (s *scene) Members() []string               { return s.members }

var x = estate.Key{ID: "x", Inc: 1}

func newScene(members ...string) *scene {
	s := &scene{now: time.Unix(1000, 0), members: members, rows: true}
	s.Book = estate.New(s)
	return s
}

// says takes in a beacon of a member: how it sees x, and how far its copy is.
func (s *scene) says(id string, st frame.Status, copies ...estate.Rank) {
	b := &frame.Beacon{ID: id, Peers: []frame.Peer{{ID: x.ID, Inc: x.Inc, Status: st}}}
	for _, c := range copies {
		b.Dead = append(b.Dead, frame.Copy{ID: x.ID, Inc: x.Inc, Seq: c.Seq, Torn: c.Torn})
	}
	s.Hear(s.now, b)
}

// after lets time pass and checks what follows.
func (s *scene) after(t *testing.T, d time.Duration, asks string, settled bool) {
	t.Helper()
	s.now = s.now.Add(d)
	got, _ := s.Tick(s.now)
	from := ""
	for _, a := range got {
		from += a.From
	}
	if from != asks || s.Settled(x) != settled {
		t.Errorf("asked %q, settled %v; want %q, %v", from, s.Settled(x), asks, settled)
	}
}

func TestRank(t *testing.T) {
	order := []estate.Rank{{9, 0}, {9, 5}, {9, 6}, {8, 0}, {0, 0}, {0, 7}}
	for i, a := range order {
		for j, b := range order {
			if a.Better(b) != (i < j) {
				t.Errorf("%v better than %v: %v", a, b, a.Better(b))
			}
		}
	}
}

func TestBook(t *testing.T) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, s *scene)
	}{
		{"nobody else is there", func(t *testing.T, s *scene) {
			s.members = nil
			s.Died(s.now, x, estate.Rank{Seq: 5})
			s.after(t, 0, "", true)
		}},
		{"all agree and have the same", func(t *testing.T, s *scene) {
			s.Died(s.now, x, estate.Rank{Seq: 5})
			s.says("a", frame.Dead, estate.Rank{Seq: 5})
			s.after(t, 0, "", false)
			s.says("b", frame.Dead, estate.Rank{Seq: 4})
			s.after(t, 0, "", true)
		}},
		{"one still sees it", func(t *testing.T, s *scene) {
			s.Died(s.now, x, estate.Rank{Seq: 5})
			s.says("a", frame.Dead)
			s.says("b", frame.Alive)
			s.after(t, time.Minute, "", false)
			s.members = []string{"a"}
			s.Gone("b")
			s.after(t, 0, "", true)
		}},
		{"one has more", func(t *testing.T, s *scene) {
			s.Died(s.now, x, estate.Rank{Seq: 5})
			s.says("a", frame.Dead, estate.Rank{Seq: 7})
			s.says("b", frame.Dead, estate.Rank{Seq: 6})
			s.after(t, 0, "a", false)
			s.after(t, time.Second, "", false) // it has been asked
			s.after(t, time.Second, "a", false)
			s.Got(x, estate.Rank{Seq: 7})
			s.after(t, 0, "", true)
			if r, ok := s.Rank(x); !ok || r.Seq != 7 {
				t.Errorf("rank %v, %v", r, ok)
			}
		}},
		{"one has more and does not answer", func(t *testing.T, s *scene) {
			s.Died(s.now, x, estate.Rank{Seq: 5})
			s.says("a", frame.Dead, estate.Rank{Seq: 7})
			s.says("b", frame.Dead)
			for range 5 {
				s.after(t, 2*time.Second, "a", false)
			}
			s.after(t, time.Second, "", false)
			s.after(t, time.Second, "", true)
			s.says("b", frame.Dead, estate.Rank{Seq: 8})
			s.after(t, time.Second, "b", false)
		}},
		{"several have more", func(t *testing.T, s *scene) {
			s.Died(s.now, x, estate.Rank{Seq: 5})
			s.says("a", frame.Dead, estate.Rank{Seq: 7})
			s.says("b", frame.Dead, estate.Rank{Seq: 7})
			s.after(t, 0, "a", false)
			s.after(t, 2*time.Second, "b", false)
		}},
		{"who has more goes", func(t *testing.T, s *scene) {
			s.Died(s.now, x, estate.Rank{Seq: 5})
			s.says("a", frame.Dead, estate.Rank{Seq: 7})
			s.says("b", frame.Dead, estate.Rank{Seq: 5})
			s.after(t, 0, "a", false)
			s.members = []string{"b"}
			s.Gone("a")
			s.after(t, 0, "", true)
		}},
		{"copies that are not whole", func(t *testing.T, s *scene) {
			s.Died(s.now, x, estate.Rank{Seq: 5, Torn: 3})
			s.says("a", frame.Dead, estate.Rank{Seq: 5, Torn: 2})
			s.says("b", frame.Dead, estate.Rank{Seq: 5, Torn: 4})
			s.after(t, 0, "a", false)
			s.Got(x, estate.Rank{Seq: 5, Torn: 2})
			s.after(t, 0, "", true)
		}},
		{"by hearsay", func(t *testing.T, s *scene) {
			s.says("a", frame.Dead, estate.Rank{Seq: 7})
			s.says("b", frame.Heard)
			if len(s.List()) != 0 {
				t.Error("tells of a copy that it does not have")
			}
			s.after(t, 0, "a", false)
			s.Got(x, estate.Rank{Seq: 7})
			if l := s.List(); len(l) != 1 || l[0].Seq != 7 {
				t.Errorf("tells %v", l)
			}
		}},
		{"it is heard here", func(t *testing.T, s *scene) {
			s.life = estate.Heard
			s.says("a", frame.Dead, estate.Rank{Seq: 7})
			s.says("b", frame.Dead)
			s.after(t, 0, "", false)
			s.Died(s.now, x, estate.Rank{Seq: 5})
			s.after(t, 0, "", false)
			s.life = estate.Dead
			s.after(t, 0, "a", false)
		}},
		{"it is over", func(t *testing.T, s *scene) {
			s.Died(s.now, x, estate.Rank{Seq: 5})
			s.life = estate.Over
			s.after(t, 0, "", false)
			if s.Len() != 0 {
				t.Error("still in the book")
			}
		}},
		{"long ago", func(t *testing.T, s *scene) {
			s.members = nil
			s.Died(s.now, x, estate.Rank{Seq: 5})
			s.after(t, time.Hour, "", true)
			s.rows = false
			s.after(t, 0, "", false)
		}},
		{"no more certain", func(t *testing.T, s *scene) {
			s.members = nil
			s.Died(s.now, x, estate.Rank{Seq: 5})
			s.after(t, 0, "", true)
			s.Unsettle()
			if s.Settled(x) {
				t.Error("still settled")
			}
			if _, settled := s.Tick(s.now); !slices.Equal(settled, []estate.Key{x}) {
				t.Errorf("settled %v", settled)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, newScene("a", "b")) })
	}
}
