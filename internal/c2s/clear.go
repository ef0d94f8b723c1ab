package c2s

import (
	"context"
	"time"

	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/stream"
)

// Clear ends sessions in batches, a batch each clearEvery.
const (
	clearEvery = 100 * time.Millisecond
	clearLeast = 50 // sessions in a batch: for fewer it is not worth waiting
)

// Admit lets connections in, as from the start, or refuses new ones.
func (s *Server) Admit(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusing = !on
}

// Clear ends every stream, in batches that are spread over a time so that not all clients come back at once: with
// see-other-host where there are other hosts to go to, in turn, else with system-shutdown. It returns when all are gone
// and their ends told, or the context is over. Who keeps others out calls Admit before.
func (s *Server) Clear(ctx context.Context, over time.Duration, elsewhere []string) error {
	var sessions []*session.Session
	bound := map[*conn]bool{}
	s.core.Sessions.All(func(sess *session.Session) {
		sessions = append(sessions, sess)
		if l, ok := sess.Out.(*line); ok {
			bound[l.connection()] = true
		}
	})
	for _, c := range s.all() {
		if !bound[c] { // whoever is still logging in must not be bound any more
			c.End(stream.Err(stream.SystemShutdown, ""))
		}
	}
	again := time.NewTicker(clearEvery)
	defer again.Stop()
	batch := max(clearLeast, len(sessions)/max(1, int(over/clearEvery)))
	if over == 0 {
		batch = max(1, len(sessions))
	}
	for i, sess := range sessions {
		if i > 0 && i%batch == 0 {
			select {
			case <-again.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		reason := stream.Err(stream.SystemShutdown, "") // RFC 6120 §4.9.3.20
		if len(elsewhere) > 0 {
			reason = stream.SeeOther(elsewhere[i%len(elsewhere)])
		}
		sess.End(reason)
	}
	return s.settled(ctx)
}

// all lists the connections.
func (s *Server) all() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	return all
}

// settled waits until no connection is left, and all that they caused is done.
func (s *Server) settled(ctx context.Context) error {
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		s.mu.Lock()
		left := len(s.conns)
		s.mu.Unlock()
		if running, waiting := s.workers.Load(); left == 0 && running == 0 && waiting == 0 {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
