package natsbus

import (
	"sync"
	"time"
)

// maxSaid bounds what a sparseness remembers.
const maxSaid = 1024

// sparseness keeps a log from repeating itself: the same thing is said once in a while.
type sparseness struct {
	every time.Duration
	now   func() time.Time

	mu   sync.Mutex // guards said
	said map[string]*utterance
}

type utterance struct {
	at         time.Time
	suppressed int
}

func newSparseness(every time.Duration) *sparseness {
	return &sparseness{every: every, now: time.Now, said: map[string]*utterance{}}
}

// say returns whether to say something now, and how often that was suppressed since it was said last. When too many
// different things were said, it is silent until the oldest may be forgotten.
func (s *sparseness) say(what string) (suppressed int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	u := s.said[what]
	if u != nil && now.Sub(u.at) < s.every {
		u.suppressed++
		return 0, false
	}
	if u == nil {
		if len(s.said) >= maxSaid && !s.forget(now) {
			return 0, false
		}
		u = &utterance{}
		s.said[what] = u
	}
	suppressed = u.suppressed
	u.at, u.suppressed = now, 0
	return suppressed, true
}

// forget drops what was said long ago, and reports whether there was any of that.
func (s *sparseness) forget(now time.Time) bool {
	n := len(s.said)
	for what, u := range s.said {
		if now.Sub(u.at) >= s.every {
			delete(s.said, what)
		}
	}
	return len(s.said) < n
}
