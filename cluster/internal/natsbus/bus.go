// Package natsbus carries the messages of a cluster over NATS: over a server inside each node, which together form a
// mesh of mutually authenticated TLS connections (Embedded), or over servers that the operator runs (External).
package natsbus

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/starling-im/starling/cluster/internal/bus"
)

const (
	leastPayload = 1 << 20          // bytes; what bus.Bus promises at least
	maxRequests  = 64               // that one bus answers at a time
	maxHints     = 256              // that wait to be read
	maxFaults    = 4                // that wait to be read
	farewell     = 2 * time.Second  // that published messages get to leave when the bus closes
	responders   = "r"              // the queue group: one of several responders gets a request
	sayAgain     = 30 * time.Second // between two log lines that say the same
)

// lane is one lane's connection. Lanes that share an account of the server tell their subjects apart by a suffix.
type lane struct {
	conn   *nats.Conn
	suffix string
}

// natsBus is a bus.Bus on two connections to a server.
type natsBus struct {
	lanes      [bus.Lanes]lane
	maxPayload int
	log        *slog.Logger
	hints      chan bus.Hint
	faults     chan *bus.Failure
	address    string      // where peers reach this node; empty with an operator's servers
	after      func()      // frees what lies below the connections; may be nil
	slow       *sparseness // of log lines about dropped messages
	told       *sparseness // of faults

	ctx  context.Context // ends when the bus is closed
	stop context.CancelFunc
	busy chan struct{} // a token for each running responder
	work sync.WaitGroup

	mu     sync.Mutex // guards closed, and that nothing is added to work once it is set
	closed bool
}

func newBus(log *slog.Logger) *natsBus {
	ctx, stop := context.WithCancel(context.Background())
	return &natsBus{
		log: log, faults: make(chan *bus.Failure, maxFaults), slow: newSparseness(sayAgain), told: newSparseness(sayAgain),
		ctx: ctx, stop: stop, busy: make(chan struct{}, maxRequests),
	}
}

// options are what the connections to embedded and operators' servers have in common. Nothing is kept while a
// connection is down: what is published then is lost, as the bus may lose it, and never arrives late.
func (b *natsBus) options(name string) []nats.Option {
	return []nats.Option{
		nats.Name(name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(100 * time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 100*time.Millisecond),
		nats.ReconnectBufSize(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.SkipSubjectValidation(),
		nats.ErrorHandler(b.trouble),
		nats.ClosedHandler(b.lost),
	}
}

// lost hears that a connection ended for good, which only Close means to do.
func (b *natsBus) lost(conn *nats.Conn) {
	if b.ctx.Err() != nil {
		return
	}
	b.fault(&bus.Failure{
		Reason: "the NATS server refuses this node for good",
		Remedy: "see the log of the NATS server, mend the cause and let this node join again",
		Err:    conn.LastError(),
	})
}

// trouble hears what goes wrong between the calls.
func (b *natsBus) trouble(_ *nats.Conn, sub *nats.Subscription, err error) {
	switch {
	case b.ctx.Err() != nil:
	case errors.Is(err, nats.ErrSlowConsumer) && sub != nil:
		if n, ok := b.slow.say(sub.Subject); ok {
			b.log.Warn("cluster messages dropped: this node is too slow", "subject", sub.Subject, "repeated", n)
		}
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrPermissionViolation):
		b.fault(authFailure(err))
	default:
		if n, ok := b.slow.say(err.Error()); ok {
			b.log.Warn("trouble with the connection to NATS", "err", err, "repeated", n)
		}
	}
}

// fault tells a person's part of the trouble; what has the same remedy is told rarely.
func (b *natsBus) fault(f *bus.Failure) {
	if _, ok := b.told.say(f.Remedy); !ok {
		return
	}
	select {
	case b.faults <- f:
	default:
	}
}

// hint tells of a peer's connection; hints that nobody reads are lost.
func (b *natsBus) hint(h bus.Hint) {
	select {
	case b.hints <- h:
	default:
	}
}

// Publish implements bus.Bus. While a connection is being made anew, messages are lost.
func (b *natsBus) Publish(l bus.Lane, subject string, data []byte) error {
	if len(data) > b.maxPayload {
		return bus.ErrTooBig
	}
	ln := &b.lanes[l]
	if ln.suffix != "" {
		subject += ln.suffix
	}
	err := ln.conn.Publish(subject, data)
	if err == nil || errors.Is(err, nats.ErrReconnectBufExceeded) {
		return nil
	}
	return b.errorOf(err)
}

// errorOf turns an error of the client into one of bus.
func (b *natsBus) errorOf(err error) error {
	switch {
	case b.ctx.Err() != nil, errors.Is(err, nats.ErrConnectionClosed):
		return bus.ErrClosed
	case errors.Is(err, nats.ErrMaxPayload):
		return bus.ErrTooBig
	case errors.Is(err, nats.ErrNoResponders):
		return bus.ErrNoResponders
	}
	return err
}

// Subscribe implements bus.Bus.
func (b *natsBus) Subscribe(l bus.Lane, subject string, fn func(bus.Message)) (func(), error) {
	ln := &b.lanes[l]
	return b.listen(ln, subject, "", func(m *nats.Msg) {
		fn(bus.Message{Subject: strings.TrimSuffix(m.Subject, ln.suffix), Data: m.Data})
	})
}

// listen makes a subscription whose goroutine counts as work.
func (b *natsBus) listen(ln *lane, subject, queue string, fn func(*nats.Msg)) (func(), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, bus.ErrClosed
	}
	ctx, cancel := context.WithCancel(b.ctx)
	sub, err := ln.conn.QueueSubscribe(subject+ln.suffix, queue, func(m *nats.Msg) {
		if ctx.Err() == nil {
			fn(m)
		}
	})
	if err != nil {
		cancel()
		return nil, b.errorOf(err)
	}
	b.work.Add(1)
	done := sync.OnceFunc(b.work.Done)
	sub.SetClosedHandler(func(string) { done() })
	if !sub.IsValid() { // the connection ended in between, and the handler may not have been there yet
		done()
	}
	return func() {
		cancel()
		_ = sub.Unsubscribe() // fails when the bus is closed already
	}, nil
}

// Request implements bus.Bus.
func (b *natsBus) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	if len(data) > b.maxPayload {
		return nil, bus.ErrTooBig
	}
	ln := &b.lanes[bus.Control]
	m, err := ln.conn.RequestWithContext(ctx, subject+ln.suffix, data)
	switch {
	case err == nil:
		return m.Data, nil
	case errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrDisconnected):
		return nil, bus.ErrNoResponders // nobody can be reached
	}
	return nil, b.errorOf(err)
}

// Respond implements bus.Bus.
func (b *natsBus) Respond(subject string, fn func(context.Context, []byte) []byte) (func(), error) {
	ctx, cancel := context.WithCancel(b.ctx)
	unsubscribe, err := b.listen(&b.lanes[bus.Control], subject, responders, func(m *nats.Msg) {
		if m.Reply == "" {
			return
		}
		select {
		case b.busy <- struct{}{}:
		case <-ctx.Done():
			return
		}
		b.work.Go(func() {
			defer func() { <-b.busy }()
			b.answer(m, fn(ctx, m.Data))
		})
	})
	if err != nil {
		cancel()
		return nil, err
	}
	return func() {
		cancel()
		unsubscribe()
	}, nil
}

func (b *natsBus) answer(m *nats.Msg, data []byte) {
	if err := m.Respond(data); err != nil && b.ctx.Err() == nil {
		b.log.Warn("answer to another node lost", "subject", m.Subject, "bytes", len(data), "err", err)
	}
}

// Hints tells which peers this server is connected to; nil with an operator's servers.
func (b *natsBus) Hints() <-chan bus.Hint { return b.hints }

// Faults tells that peers refuse the token, or that an operator's server refuses this node.
func (b *natsBus) Faults() <-chan *bus.Failure { return b.faults }

// MaxPayload is what the server accepts.
func (b *natsBus) MaxPayload() int { return b.maxPayload }

// Address is where peers reach this node.
func (b *natsBus) Address() string { return b.address }

// Close implements bus.Bus. What was published leaves within two seconds or is lost.
func (b *natsBus) Close(ctx context.Context) error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	b.mu.Unlock()
	b.stop()
	b.disconnect(ctx)
	b.work.Wait()
	if b.after != nil {
		b.after()
	}
	return nil
}

// disconnect closes the connections after what was published has reached the server.
func (b *natsBus) disconnect(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, farewell)
	defer cancel()
	for i := range b.lanes {
		if conn := b.lanes[i].conn; conn != nil {
			if conn.IsConnected() {
				_ = conn.FlushWithContext(ctx) // what did not leave by now is lost
			}
			conn.Close()
		}
	}
}
