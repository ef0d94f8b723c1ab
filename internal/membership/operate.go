package membership

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/internal/config"
	"github.com/starling-im/starling/internal/settings"
)

// Errors of operators' requests.
var (
	ErrNotConfigured = errors.New("no cluster is configured") // the configuration names no join token and no NATS
	ErrStopping      = errors.New("the server is stopping")
)

// Join decides that this node, or all of them, belong to the cluster, and makes this node a member, whatever failed
// before. It returns when that is done or has failed, which Status tells, or when the context ends; then it goes on. The
// decision is kept. Who was drained takes clients again.
func (m *Membership) Join(ctx context.Context, all bool) error {
	return m.decide(ctx, all, "on", func() { m.try, m.drain, m.drained, m.failure = true, false, false, nil })
}

// Leave decides that this node, or all of them, stand alone. If it is this node only, its clients are sent to the others
// before; if all, everybody stays where they are. It returns when that is done, or when the context ends; then it goes
// on. The decision is kept.
func (m *Membership) Leave(ctx context.Context, all bool) error {
	return m.decide(ctx, all, "off", func() { m.failure = nil })
}

// decide keeps a decision, has it carried out here, and tells the others.
func (m *Membership) decide(ctx context.Context, all bool, value string, change func()) error {
	if !m.o.Config.Configured() {
		return ErrNotConfigured
	}
	whom := m.Name()
	if all {
		whom = settings.AllNodes
	}
	if err := m.o.Settings.Decide(ctx, whom, enabled, value); err != nil {
		return err
	}
	m.o.Log.Info("an operator decided about the cluster", slog.String("setting", enabled), slog.String("value", value), slog.Bool("all_nodes", all))
	if err := m.decided.Publish(enabled); err != nil {
		m.o.Log.Warn("the other nodes will learn of the decision later", slog.Any("err", err))
	}
	return m.request(ctx, change)
}

// Drain ends all sessions of this node, sending them to the others, takes it out of the cluster, and keeps clients
// away until Join or a restart. It returns when that is done, or when the context ends; then it goes on.
func (m *Membership) Drain(ctx context.Context) error {
	return m.request(ctx, func() { m.drain = true })
}

// request has the loop look at a change, and waits until it has dealt with it.
func (m *Membership) request(ctx context.Context, change func()) error {
	var mine uint64
	m.update(func() {
		change()
		m.asked++
		mine = m.asked
	})
	m.nudge()
	return m.await(ctx, func() bool { return m.answered >= mine })
}

// await waits until something holds. That is called with mu held.
func (m *Membership) await(ctx context.Context, holds func() bool) error {
	for {
		m.mu.Lock()
		done, changed := holds(), m.changed
		m.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-m.ended:
			return ErrStopping
		}
	}
}

// empty ends all sessions and takes the node out of the cluster for good.
func (m *Membership) empty(ctx context.Context) error {
	if err := m.depart(ctx, true); err != nil {
		return err
	}
	m.update(func() { m.drained = true })
	m.o.Log.Info("this node is drained: it takes no clients until it joins again or is started anew")
	return nil
}

// depart leaves the cluster: with the sessions, or after it has sent them away.
func (m *Membership) depart(ctx context.Context, clear bool) error {
	m.update(func() {
		m.step, m.joined = Leaving, false
		if clear {
			m.step = Draining
		}
	})
	m.doors()
	if clear {
		elsewhere := m.elsewhere()
		m.o.Log.Info("this node ends its sessions", slog.Duration("over", m.o.Config.DrainTime), slog.Any("elsewhere", elsewhere))
		bound, cancel := context.WithTimeout(ctx, m.o.Config.DrainTime+flushTime)
		err := m.o.Clear(bound, Farewell{Over: m.o.Config.DrainTime, Elsewhere: elsewhere})
		cancel()
		if err != nil {
			m.o.Log.Warn("not all sessions ended in order", slog.Any("err", err))
		}
	}
	if m.node.State() == cluster.Standalone || m.node.State() == cluster.Failed {
		return nil
	}
	m.update(func() { m.step = Leaving })
	return m.goodbye(ctx)
}

// goodbye leaves once what is on its way has arrived, or after a time.
func (m *Membership) goodbye(ctx context.Context) error {
	step := func(do func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, flushTime)
		defer cancel()
		return do(ctx)
	}
	if err := step(m.o.Flush); err != nil {
		m.o.Log.Warn("not everything for other nodes had arrived before this one left", slog.Any("err", err))
	}
	if err := step(m.node.Leave); err != nil {
		return fmt.Errorf("leave the cluster: %w", err)
	}
	m.o.Log.Info("this node has left its cluster")
	return nil
}

// Stop ends the membership of a server that stops: clients are sent elsewhere, what is on its way arrives, the others
// hear a goodbye. What is not done when the context ends is cut off.
func (m *Membership) Stop(ctx context.Context) error {
	if m.halt == nil {
		return nil
	}
	m.halt()
	<-m.ended
	member := m.node.State() == cluster.Joining || m.node.State() == cluster.Ready
	m.update(func() { m.step, m.drain = Draining, true })
	m.doors()
	f, clearing := Farewell{}, ctx
	if member && len(m.node.Members()) > 1 {
		f = Farewell{Over: m.o.Config.DrainTime, Elsewhere: m.elsewhere()}
	}
	if until, ok := ctx.Deadline(); ok { // most of the time is for clients that do not go at once, some for the goodbye
		left := time.Until(until)
		f.Over = min(f.Over, left/4)
		var cancel context.CancelFunc
		clearing, cancel = context.WithTimeout(ctx, left-left/8)
		defer cancel()
	}
	err := m.o.Clear(clearing, f)
	if member {
		err = errors.Join(err, m.goodbye(ctx))
	}
	return err
}

// elsewhere lists where clients of this node may go instead.
func (m *Membership) elsewhere() []string {
	var all []string
	for _, other := range m.node.Members() {
		if other.ID == m.node.Self().ID || other.State != cluster.Ready || other.Suspected {
			continue
		}
		if a, _, ok := m.nodes.Get(other.ID); ok && a.Client != "" {
			all = append(all, a.Client)
		}
	}
	return all
}

// Ready says why load balancers should send no clients here; nil if they should.
func (m *Membership) Ready(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	refuses := m.o.Config.WhenFailed == config.Refuse
	switch {
	case m.drained:
		return errors.New("drained: `starling cluster join` takes clients again")
	case m.drain || m.step == Draining:
		return errors.New("draining")
	case m.failure != nil && refuses:
		return fmt.Errorf("failed: %w", m.failure)
	case m.want.on && !m.joined && refuses:
		return errors.New("joining")
	}
	return nil
}
