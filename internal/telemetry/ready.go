package telemetry

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
)

// Readiness gathers what must be right before the server can do its work. The zero value has no checks and is ready.
// All methods may be called from any goroutine.
type Readiness struct {
	mu     sync.Mutex // guards checks and notes
	checks map[string]func(context.Context) error
	notes  map[string]func() string
}

// Failure is a check that did not pass.
type Failure struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// Check adds or replaces a check that is asked whenever readiness is. It must return when its context ends, and may be
// called several times at once. A nil check removes the name.
func (r *Readiness) Check(name string, check func(context.Context) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.checks == nil {
		r.checks = make(map[string]func(context.Context) error)
	}
	if check == nil {
		delete(r.checks, name)
		return
	}
	r.checks[name] = check
}

// Set records the state of a named part that knows it without being asked: nil if it is ready, else the reason.
func (r *Readiness) Set(name string, err error) {
	r.Check(name, func(context.Context) error { return err })
}

// Note adds what is told of a named part beside the checks, whether or not they pass. It must not wait.
func (r *Readiness) Note(name string, note func() string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.notes == nil {
		r.notes = make(map[string]func() string)
	}
	r.notes[name] = note
}

// Notes returns what is told, by the names of the parts.
func (r *Readiness) Notes() map[string]string {
	r.mu.Lock()
	notes := maps.Clone(r.notes)
	r.mu.Unlock()
	all := make(map[string]string, len(notes))
	for name, note := range notes {
		all[name] = note()
	}
	return all
}

// Failing asks all checks at once and returns those that do not pass, sorted by name. A check that is cut off by the
// end of ctx has failed.
func (r *Readiness) Failing(ctx context.Context) []Failure {
	r.mu.Lock()
	checks := maps.Clone(r.checks)
	r.mu.Unlock()

	var wg sync.WaitGroup
	var mu sync.Mutex // guards failures
	failures := []Failure{}
	for name, check := range checks {
		wg.Go(func() {
			err := check(ctx)
			if err == nil {
				return
			}
			reason := err.Error()
			if errors.Is(err, context.DeadlineExceeded) {
				reason = "no answer in time"
			}
			mu.Lock()
			defer mu.Unlock()
			failures = append(failures, Failure{Name: name, Reason: reason})
		})
	}
	wg.Wait()
	slices.SortFunc(failures, func(a, b Failure) int { return cmp.Compare(a.Name, b.Name) })
	return failures
}
