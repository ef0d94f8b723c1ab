package load

import (
	"context"
	"slices"
	"time"
)

// chat measures messages between the two sessions of each pair.
func (g *generator) chat(ctx context.Context) error {
	connect := g.connect
	if g.cfg.Raw {
		connect = g.connectRaw
	}
	if err := connect(ctx); err != nil {
		return err
	}
	batch := g.cfg.Window
	if g.cfg.Rate > 0 {
		batch = 1
	}
	for n, l := range g.links {
		l.peer = g.links[n^1]
		p, err := g.chatPattern(l.number, l.peer.jid)
		if err != nil {
			return err
		}
		l.ready(p, batch)
		from, err := g.chatPattern(l.peer.number, l.jid)
		if err != nil {
			return err
		}
		if err := l.in.expect(from, "message"); err != nil {
			return err
		}
		s := source{number: l.peer.number}
		if !g.cfg.Raw {
			s.jid = l.peer.jid
		}
		l.in.sources = []source{s}
	}
	if g.cfg.Rate > 0 {
		return g.openLoop(ctx)
	}
	return g.closedLoop(ctx)
}

func (g *generator) chatPattern(sender uint32, to string) (pattern, error) {
	p, err := chatPattern(sender, to, g.cfg.Size)
	if err == nil && g.cfg.Words {
		p = p.wordy()
	}
	return p, err
}

// closedLoop keeps a window of messages under way in each pair: who gets messages answers with as many.
func (g *generator) closedLoop(ctx context.Context) error {
	g.progress("%d pairs chat, window %d", len(g.links)/2, g.cfg.Window)
	opening := func(l *link) int {
		if l.number%2 == 0 {
			return g.cfg.Window
		}
		return 0
	}
	reply := func(_ *link, stanzas int) int { return stanzas }
	if g.cfg.Whole {
		return g.whole(ctx, func() *traffic { return g.start(opening, reply) })
	}
	t := g.start(opening, reply)
	defer t.finish()
	return g.interval(ctx)
}

// whole measures a load from its first message until the server is at rest after the last.
func (g *generator) whole(ctx context.Context, start func() *traffic) error {
	m, err := g.begin()
	if err != nil {
		return err
	}
	t := start()
	err = sleep(ctx, g.cfg.Duration)
	t.finish()
	took := time.Since(m.start)
	if err != nil {
		return err
	}
	if err := Rest(ctx, slices.Concat(g.cfg.ServerPIDs, g.cfg.StorePIDs)...); err != nil {
		return err
	}
	if err := m.end(g.report, g.received()); err != nil {
		return err
	}
	g.report.Seconds = took.Seconds()
	g.report.PerSecond = float64(g.report.Operations) / took.Seconds()
	return nil
}

// interval lets the load warm up, and measures it.
func (g *generator) interval(ctx context.Context) error {
	if err := sleep(ctx, g.cfg.Warmup); err != nil {
		return err
	}
	before := g.received()
	m, err := g.begin()
	if err != nil {
		return err
	}
	if err := sleep(ctx, g.cfg.Duration); err != nil {
		return err
	}
	return m.end(g.report, g.received()-before)
}

// openLoop sends at a fixed rate, each session in its turn, whatever comes back. A message's latency counts from the
// moment when it was due, so that a server that stalls the sender does not look better for it.
func (g *generator) openLoop(ctx context.Context) error {
	s := &schedule{links: g.links, every: time.Duration(float64(time.Second) / g.cfg.Rate), start: time.Now().Add(startDelay)}
	s.from = s.start.Add(g.cfg.Warmup)
	s.to = s.from.Add(g.cfg.Duration)
	for _, l := range g.links {
		l.in.seen = s.arrived
	}
	t := g.start(func(*link) int { return 0 }, func(*link, int) int { return 0 })
	sent := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	go func() { sent <- s.run(ctx) }()
	g.progress("%d pairs chat, %.0f messages/s", len(g.links)/2, g.cfg.Rate)
	err := sleep(ctx, startDelay)
	if err == nil {
		err = g.interval(ctx)
	}
	cancel()
	if stopped := <-sent; err == nil {
		err = stopped
	}
	t.finish()
	g.report.Latency, g.report.Lag = s.latency.quantiles(), s.lag.quantiles()
	return err
}

// startDelay gives every goroutine time to be there when the first message is due.
const startDelay = 100 * time.Millisecond

// schedule says when each message of an open loop is due.
type schedule struct {
	links    []*link
	every    time.Duration
	start    time.Time
	from, to time.Time // messages that are due between these count

	latency, lag histogram
}

// due is when a session's message with that number is due.
func (s *schedule) due(sender, number uint32) time.Time {
	k := uint64(number)*uint64(len(s.links)) + uint64(sender)
	return s.start.Add(time.Duration(k) * s.every)
}

func (s *schedule) counts(due time.Time) bool { return !due.Before(s.from) && due.Before(s.to) }

func (s *schedule) arrived(sender, number uint32) {
	if due := s.due(sender, number); s.counts(due) {
		s.latency.add(time.Since(due))
	}
}

// run sends until the context ends.
func (s *schedule) run(ctx context.Context) error {
	p := newPacer()
	defer p.stop()
	for number := uint32(0); ; number++ {
		for _, l := range s.links {
			if ctx.Err() != nil {
				return nil
			}
			due := s.due(l.number, number)
			p.wait(due)
			if s.counts(due) {
				s.lag.add(time.Since(due))
			}
			if err := l.send(1); err != nil {
				return err
			}
		}
	}
}
