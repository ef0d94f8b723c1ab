package adhoc

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/serial"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/stream"
)

// dialogue is one run of a command (XEP-0050 §3.3). Its stages belong to whoever has
// its turn.
type dialogue struct {
	id     string // unguessable
	cmd    *Command
	asker  jid.JID
	entity jid.JID
	stages []Reply // those before the present one, and it
	used   time.Time
}

func newDialogue(cmd *Command, call *Call) *dialogue {
	return &dialogue{id: stream.NewID(), cmd: cmd, asker: call.Asker, entity: call.Entity}
}

// sessions are the dialogues under way.
type sessions struct {
	cfg   Config
	now   func() time.Time
	turns serial.Keys[string] // by id

	mu   sync.Mutex // guards open and the times in it
	open map[string]*dialogue
}

func newSessions(cfg Config, now func() time.Time, r prometheus.Registerer) *sessions {
	s := &sessions{cfg: cfg, now: now, open: map[string]*dialogue{}}
	r.MustRegister(prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Name: "starling_adhoc_sessions", Help: "Dialogues of commands under way."},
		func() float64 { s.mu.Lock(); defer s.mu.Unlock(); return float64(len(s.open)) }))
	return s
}

// enter adds a dialogue. Those that nobody goes on with make room for it, and the
// user's oldest if there are too many of them.
func (s *sessions) enter(d *dialogue) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.used = s.now()
	var oldest *dialogue
	mine := 0
	for id, o := range s.open {
		switch {
		case s.stale(o):
			delete(s.open, id)
		case o.asker.Bare() == d.asker.Bare():
			mine++
			if oldest == nil || o.used.Before(oldest.used) {
				oldest = o
			}
		}
	}
	if mine >= s.cfg.MaxPerUser {
		delete(s.open, oldest.id)
	}
	if len(s.open) >= s.cfg.MaxSessions {
		return stanza.Err(stanza.ResourceConstraint, "too many commands are under way; try again later")
	}
	s.open[d.id] = d
	return nil
}

func (s *sessions) stale(d *dialogue) bool { return s.now().Sub(d.used) > s.cfg.Timeout }

// within runs fn in the turn of the dialogue that the caller means.
func (s *sessions) within(ctx context.Context, id string, cmd *Command, call *Call, fn func(*dialogue) error) error {
	return s.turns.Run(ctx, id, func() error {
		s.mu.Lock()
		d := s.open[id]
		if d != nil && s.stale(d) {
			delete(s.open, id)
			d = nil
		}
		if d != nil {
			d.used = s.now()
		}
		s.mu.Unlock()
		switch {
		case d == nil:
			return fault(stanza.NotAllowed, "session-expired", "")
		case d.cmd != cmd || d.asker != call.Asker || d.entity != call.Entity: // XEP-0050 §3.3
			return fault(stanza.BadRequest, "bad-sessionid", "")
		}
		return fn(d)
	})
}

func (s *sessions) remove(d *dialogue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, d.id)
}

// leave forgets the dialogues of a client that is gone.
func (s *sessions) leave(asker jid.JID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, d := range s.open {
		if d.asker == asker {
			delete(s.open, id)
		}
	}
}
