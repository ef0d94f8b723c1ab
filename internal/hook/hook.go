// Package hook orders what several parties do at one point of a stanza's way. The
// order is a purpose, never a number: Check may refuse, Amend may change, Record
// keeps, Copy sends further copies. Two handlers of one stage must not depend on
// their order.
package hook

import (
	"context"
	"errors"
	"fmt"
)

// Stage is the purpose for which a handler is there.
type Stage uint8

// The stages, in the order in which they run.
const (
	Check Stage = iota
	Amend
	Record
	Copy
	stages
)

// String names the stage.
func (s Stage) String() string {
	return [...]string{"check", "amend", "record", "copy"}[s]
}

// ErrHandled ends a run without an error: a handler took the event over, or
// dropped it silently.
var ErrHandled = errors.New("handled")

// Func is a handler. ErrHandled or an error end the run.
type Func[E any] func(ctx context.Context, e *E) error

// Point is where handlers of an event E are called. Handlers are added before the
// first run and never after, so that a run takes no lock.
type Point[E any] struct {
	handlers [stages][]handler[E]
	count    int
}

type handler[E any] struct {
	name string
	fn   Func[E]
}

// Add registers a handler under the name of its feature.
func (p *Point[E]) Add(name string, s Stage, fn Func[E]) {
	p.handlers[s] = append(p.handlers[s], handler[E]{name, fn})
	p.count++
}

// Empty tells whether nobody listens.
func (p *Point[E]) Empty() bool { return p.count == 0 }

// Run calls the handlers stage by stage. The first error ends it; what is not
// ErrHandled is returned with the name of the handler.
func (p *Point[E]) Run(ctx context.Context, e *E) error {
	if p.count == 0 {
		return nil
	}
	for s := range p.handlers {
		for i := range p.handlers[s] {
			h := &p.handlers[s][i]
			if err := h.fn(ctx, e); err != nil {
				if errors.Is(err, ErrHandled) {
					return ErrHandled
				}
				return fmt.Errorf("%s: %w", h.name, err)
			}
		}
	}
	return nil
}

// Each calls every handler stage by stage, whatever the others return, and joins
// their errors: for events that cannot be refused, such as the end of a session.
func (p *Point[E]) Each(ctx context.Context, e *E) error {
	var all []error
	for s := range p.handlers {
		for i := range p.handlers[s] {
			h := &p.handlers[s][i]
			if err := h.fn(ctx, e); err != nil && !errors.Is(err, ErrHandled) {
				all = append(all, fmt.Errorf("%s: %w", h.name, err))
			}
		}
	}
	return errors.Join(all...)
}

// Listing names who listens at a point, for the generated documentation.
type Listing struct {
	Stage Stage
	Name  string
}

// Listeners lists the handlers in the order in which they run.
func (p *Point[E]) Listeners() []Listing {
	var all []Listing
	for s := range p.handlers {
		for _, h := range p.handlers[s] {
			all = append(all, Listing{Stage(s), h.name})
		}
	}
	return all
}
