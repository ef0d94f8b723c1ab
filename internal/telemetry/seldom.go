package telemetry

import (
	"sync"
	"time"
)

// seldomEvery is how often a Seldom lets something into the log.
const seldomEvery = 10 * time.Second

// Seldom is for what one cause makes happen to every stanza: the log gets the first, then one every ten seconds. The zero
// value is ready, and safe for concurrent use.
type Seldom struct {
	mu    sync.Mutex // guards what follows
	next  time.Time
	quiet uint64
}

// Tell reports whether something that happens now is to be logged, and of how many that were not it is the next.
func (s *Seldom) Tell(now time.Time) (more uint64, told bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Before(s.next) {
		s.quiet++
		return 0, false
	}
	more, s.quiet, s.next = s.quiet, 0, now.Add(seldomEvery)
	return more, true
}
