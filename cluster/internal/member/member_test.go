package member

import (
	"testing"
	"time"

	"github.com/starling-im/starling/cluster/internal/frame"
)

const ready, left = 2, 4 // states

// scene is a membership that hears one peer.
type scene struct {
	*Judge
	t    *testing.T
	now  time.Time
	done []Effect
	sent uint64
	life func() time.Time // when frames last came; nil: never
}

func (s *scene) frames(string) time.Time {
	if s.life == nil {
		return time.Time{}
	}
	return s.life()
}

func newScene(t *testing.T) *scene {
	cfg := Config{
		Beacon: 500 * time.Millisecond, Suspect: 1200 * time.Millisecond, DeadAfter: 2300 * time.Millisecond, HintGrace: 500 * time.Millisecond, Left: left,
	}
	s := &scene{t: t, now: time.Unix(1000, 0)}
	stamp := uint64(100)
	s.Judge = New(&cfg, Node{ID: "self", Name: "self", Incarnation: 1, Start: 1, MinVersion: 1, MaxVersion: 1}, s.now, func() uint64 { stamp++; return stamp })
	return s
}

// beacon lets the peer say what it thinks of this node; status 0 says nothing.
func (s *scene) beacon(inc, selfInc uint64, st frame.Status, epoch, echo uint64) {
	s.sent++
	b := &frame.Beacon{ID: "peer", Name: "peer", Inc: inc, Start: 5, Seq: s.sent, State: ready, MinVer: 1, MaxVer: 1}
	if st != 0 {
		b.Peers = []frame.Peer{{ID: "self", Inc: selfInc, Status: st, Epoch: epoch, Echo: echo}}
	}
	s.Hear(s.now, b)
	s.done = append(s.done, s.Take()...)
}

// pass lets time go by, tick by tick.
func (s *scene) pass(d time.Duration) {
	for end := s.now.Add(d); s.now.Before(end); {
		s.now = s.now.Add(s.Every)
		s.Tick(s.now, s.frames)
		s.done = append(s.done, s.Take()...)
	}
}

// sleep lets time go by without a tick.
func (s *scene) sleep(d time.Duration) {
	s.now = s.now.Add(d)
	s.Tick(s.now, s.frames)
	s.done = append(s.done, s.Take()...)
}

// effects returns what was done since the last call, without the sending of beacons.
func (s *scene) effects() (out string) {
	names := map[Kind]string{
		DoAdmit: "admit", DoDetach: "detach", DoRemove: "remove", DoSuspect: "suspect", DoChange: "change", DoFence: "fence",
		DoPause: "pause", DoRelease: "release", DoResume: "resume", DoTwin: "twin", DoOld: "old",
	}
	for _, e := range s.done {
		if e.Kind == DoBeacon {
			continue
		}
		if out != "" {
			out += " "
		}
		if out += names[e.Kind]; e.Kind == DoRemove {
			out += ":" + string(e.Reason)
		}
	}
	s.done = nil
	return out
}

func (s *scene) want(what string) {
	s.t.Helper()
	if got := s.effects(); got != what {
		s.t.Errorf("did %q, want %q", got, what)
	}
}

// meet makes the peer a member.
func (s *scene) meet() {
	s.t.Helper()
	s.beacon(1, 1, 0, 0, 0)
	s.want("")
	s.beacon(1, 1, frame.Heard, 1, 1)
	s.want("admit")
}

func TestJudge(t *testing.T) {
	for name, play := range map[string]func(s *scene){
		"silence": func(s *scene) {
			s.pass(1300 * time.Millisecond)
			s.want("suspect")
			s.pass(1200 * time.Millisecond)
			s.want("remove:silence")
			if got := s.Mentions(); len(got) != 1 || got[0].Status != frame.Dead || got[0].Epoch != 2 {
				s.t.Errorf("mentions %+v", got)
			}
		},
		"suspected and heard again": func(s *scene) {
			s.pass(1300 * time.Millisecond)
			s.want("suspect")
			s.beacon(1, 1, frame.Alive, 1, 1)
			s.want("suspect")
		},
		"connection lost": func(s *scene) {
			s.Hint(s.now, "peer", false)
			s.pass(600 * time.Millisecond)
			s.want("remove:connection lost")
		},
		"connection lost, but heard": func(s *scene) {
			s.Hint(s.now, "peer", false)
			s.beacon(1, 1, frame.Alive, 1, 1)
			s.pass(600 * time.Millisecond)
			s.want("")
		},
		"connection lost and back": func(s *scene) {
			s.Hint(s.now, "peer", false)
			s.Hint(s.now, "peer", true)
			s.pass(600 * time.Millisecond)
			s.want("")
		},
		"frames, but no beacons": func(s *scene) {
			s.life = func() time.Time { return s.now }
			s.pass(10 * time.Second)
			s.want("")
			s.life = nil
			s.pass(2500 * time.Millisecond)
			s.want("suspect remove:silence")
		},
		"deaf": func(s *scene) { // it goes on sending, but does not name this node any more
			for range 7 {
				s.pass(500 * time.Millisecond)
				s.beacon(1, 1, 0, 0, 0)
			}
			s.want("remove:does not hear this node")
		},
		"forgotten": func(s *scene) { // it names this node in an epoch that is over
			s.beacon(1, 1, frame.Alive, 2, 1)
			s.want("remove:gave the connection up admit")
			for range 7 {
				s.pass(500 * time.Millisecond)
				s.beacon(1, 1, frame.Heard, 1, 1)
			}
			s.want("remove:does not hear this node")
		},
		"restarted": func(s *scene) {
			s.beacon(7, 0, 0, 0, 0)
			s.want("remove:new incarnation")
			s.beacon(1, 1, frame.Alive, 1, 1) // late, from the former life
			s.want("")
			s.beacon(7, 1, frame.Heard, 1, 1)
			s.want("admit")
		},
		"declared dead": func(s *scene) {
			s.beacon(1, 1, frame.Dead, 2, 1)
			s.want("detach fence")
			if s.Self.Incarnation <= 1 {
				s.t.Error("no new incarnation")
			}
			s.beacon(1, 1, frame.Dead, 2, 1) // it speaks of the former one
			s.want("")
			s.beacon(1, s.Self.Incarnation, frame.Heard, 1, 1)
			s.want("admit")
		},
		"declared dead long ago": func(s *scene) { // a beacon that a frame of the new epoch has overtaken
			s.Contact(s.now, "peer", frame.Link{From: 1, To: 1, Epoch: 3})
			s.done = append(s.done, s.Take()...)
			s.want("remove:gave the connection up admit")
			s.beacon(1, 1, frame.Dead, 2, 1)
			s.want("")
		},
		"both gave up": func(s *scene) { // a partition: nobody needs a new incarnation
			s.pass(2500 * time.Millisecond)
			s.want("suspect remove:silence")
			s.beacon(1, 1, frame.Dead, 2, 1)
			s.want("")
			s.beacon(1, 1, frame.Dead, 2, 1) // it has not heard yet
			s.want("")
			s.beacon(1, 1, frame.Heard, 2, 1)
			s.want("admit")
		},
		"only this one gave up": func(s *scene) {
			s.pass(2500 * time.Millisecond)
			s.want("suspect remove:silence")
			s.beacon(1, 1, frame.Alive, 1, 1) // it does not know, and has to learn
			s.want("")
			s.beacon(9, 1, frame.Heard, 1, 1)
			s.want("admit")
		},
		"slept, still known": func(s *scene) {
			s.Seq = 10
			s.sleep(2 * time.Second)
			s.want("pause")
			s.beacon(1, 1, frame.Alive, 1, 10) // sent before it heard of the wake-up
			s.want("")
			s.beacon(1, 1, frame.Alive, 1, 11)
			s.want("release resume")
		},
		"slept, declared dead": func(s *scene) {
			s.Seq = 10
			s.sleep(20 * time.Second)
			s.want("pause")
			s.beacon(1, 1, frame.Alive, 1, 10) // waited in the socket
			s.want("")
			s.beacon(1, 1, frame.Dead, 2, 11)
			s.want("detach fence")
		},
		"slept, gave up, was declared dead": func(s *scene) { // its own verdict counts for nothing
			s.sleep(20 * time.Second)
			s.pass(2500 * time.Millisecond)
			s.want("pause suspect remove:silence resume")
			s.beacon(1, 1, frame.Dead, 2, 1)
			s.want("fence")
		},
		"stuck": func(s *scene) {
			s.Stuck(s.now, "peer")
			s.done = append(s.done, s.Take()...)
			s.want("remove:acknowledges nothing")
		},
		"goodbye": func(s *scene) {
			b := &frame.Beacon{ID: "peer", Name: "peer", Inc: 1, State: left, MinVer: 1, MaxVer: 1}
			s.Hear(s.now, b)
			s.done = append(s.done, s.Take()...)
			s.want("remove:goodbye")
			s.beacon(1, 1, frame.Alive, 1, 1) // late
			s.want("")
		},
		"too new": func(s *scene) {
			s.Hear(s.now, &frame.Beacon{ID: "other", Name: "other", Inc: 1, MinVer: 2, MaxVer: 3})
			s.done = append(s.done, s.Take()...)
			s.want("old")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.meet()
			play(s)
		})
	}
}

// TestNamesake: a node that hears an older one of its name is in doubt until that one goes on, and then gives way, or is
// missed, which means that it was this node's former life.
func TestNamesake(t *testing.T) {
	for _, c := range []struct {
		name   string
		start  uint64 // of this node; the other one's is 5
		goesOn bool
		before bool // in doubt after the first beacon
		after  bool
		did    string
	}{
		{"an older one goes on", 9, true, true, true, "twin"},
		{"an older one is gone", 9, false, true, false, ""},
		{"a younger one goes on", 1, true, false, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t)
			s.Self.Name, s.Self.Start = "peer", c.start
			if s.Doubtful() {
				t.Error("in doubt at first")
			}
			s.beacon(1, 1, 0, 0, 0)
			if got := s.Doubtful(); got != c.before {
				t.Errorf("in doubt: %v, want %v", got, c.before)
			}
			if c.goesOn {
				s.pass(500 * time.Millisecond)
				s.beacon(1, 1, 0, 0, 0)
			} else {
				s.pass(5 * time.Second)
			}
			s.want(c.did)
			if got := s.Doubtful(); got != c.after {
				t.Errorf("in doubt in the end: %v, want %v", got, c.after)
			}
		})
	}
}
