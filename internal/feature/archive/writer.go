package archive

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

// Bounds of what waits for its commit, and of one commit.
const (
	maxQueue   = 50_000   // rows
	maxBytes   = 48 << 20 // of their texts
	maxBatch   = 4096     // rows in one transaction
	gatherFrom = 64       // after a commit of so many rows, the next one waits
	gather     = 5 * time.Millisecond
	firstPause = 50 * time.Millisecond // after a commit that failed; it doubles
	longPause  = 2 * time.Second
	lastWords  = 10 * time.Second // for what waits when the server stops
	spaceWait  = 5 * time.Second  // how long a sender is held back when the queue is full
)

// task is what a row asks for.
type task uint8

const (
	insert task = iota // keep a message
	mark               // note that a message waits for its owner
	remark             // the same, of one that comes back unread: it moves to the end
)

// row waits for its commit.
type row struct {
	task     task
	owner    string
	id       id
	stamp    int64 // microseconds
	peer     jid.JID
	message  string // the id that the sender gave it
	stanza   string
	retracts string // the sender's id of the message that this one retracts
	unsure   bool   // whether the owner wants it kept is not known yet

	position int64 // given by the commit
	queued   time.Time
	held     *session.Held
	done     chan struct{} // closed after the commit; nil when nobody waits
}

func (r *row) size() int { return len(r.stanza) + 200 }

// writer commits rows in the order in which they came, all that wait in one transaction.
type writer struct {
	db      *store.DB
	log     *slog.Logger
	commit  func(*store.Tx, []*row) error
	settle  func(context.Context, []*row) []*row // finds out about rows that are unsure; the rest is to be committed
	after   func([]*row)                         // when rows are committed
	metrics writerMetrics
	wake    chan struct{} // something is queued

	mu      sync.Mutex // guards all below
	queue   []*row
	since   time.Time // when the oldest row came that is not committed; zero when there is none
	bytes   int       // of all that are not committed
	rows    int
	added   uint64        // rows so far
	done    uint64        // of these, committed or given up
	changed chan struct{} // closed when done grows; nil when nobody waits for that
	away    bool          // the last commit failed, for want of the database
}

type writerMetrics struct {
	stored, failures, lost prometheus.Counter
	batch                  prometheus.Histogram
}

func newWriter(a *Archive) *writer {
	w := &writer{db: a.DB, log: a.Log, commit: a.commit, settle: a.settle, after: a.committed, wake: make(chan struct{}, 1)}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "starling_archive_" + name, Help: help})
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "starling_archive_" + name, Help: help}, value)
	}
	w.metrics = writerMetrics{
		stored:   counter("stored_total", "Rows that were committed: one for each party of a message."),
		failures: counter("commit_failures_total", "Commits that failed and are tried again."),
		lost:     counter("lost_total", "Rows that the database does not take."),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "starling_archive_batch_rows",
			Help: "Rows in one commit.", Buckets: prometheus.ExponentialBuckets(1, 4, 7)}),
	}
	a.Metrics.MustRegister(w.metrics.stored, w.metrics.failures, w.metrics.lost, w.metrics.batch,
		gauge("queue_rows", "Rows that wait for their commit.", func() float64 { n, _ := w.waiting(); return float64(n) }),
		gauge("queue_bytes", "Bytes of the rows that wait for their commit.", func() float64 { _, n := w.waiting(); return float64(n) }),
		gauge("oldest_seconds", "For how long the oldest row has waited for its commit.", func() float64 {
			if at := w.oldest(); !at.IsZero() {
				return time.Since(at).Seconds()
			}
			return 0
		}))
	return w
}

func (w *writer) waiting() (rows, bytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rows, w.bytes
}

func (w *writer) oldest() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.since
}

// full tells whether senders are to be held back.
func (w *writer) full() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.isFull()
}

func (w *writer) isFull() bool { return w.rows >= maxQueue || w.bytes >= maxBytes }

// add queues a row. It never blocks; whoever may ask admit before.
func (w *writer) add(r *row) {
	r.queued = time.Now()
	w.mu.Lock()
	if w.rows == 0 {
		w.since = r.queued
	}
	w.queue = append(w.queue, r)
	w.rows++
	w.bytes += r.size()
	w.added++
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// admit waits for room, if it has to: for a while as long as rows are being committed, not at all when the database is
// away, since then nothing is gained. Where the context has no end, nothing may block: a connection may overshoot the
// bound by one stanza.
func (w *writer) admit(ctx context.Context) bool {
	if _, bounded := ctx.Deadline(); !bounded {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, spaceWait)
	defer cancel()
	for {
		w.mu.Lock()
		full, away, changed := w.isFull(), w.away, w.change()
		w.mu.Unlock()
		if !full || away {
			return !full
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// change is closed when done grows. The caller holds mu.
func (w *writer) change() <-chan struct{} {
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return w.changed
}

// flush waits until all that was queued is committed.
func (w *writer) flush(ctx context.Context) error {
	w.mu.Lock()
	target := w.added
	w.mu.Unlock()
	for {
		w.mu.Lock()
		reached, changed := w.done >= target, w.change()
		w.mu.Unlock()
		if reached {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return store.ErrUnavailable
		}
	}
}

// isAway tells whether the last commit failed for want of the database.
func (w *writer) isAway() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.away
}

// loop commits until the context ends, and then what still waits, if the database takes it soon.
func (w *writer) loop(ctx context.Context) {
	for {
		batch := w.take()
		if len(batch) == 0 {
			select {
			case <-w.wake:
				continue
			case <-ctx.Done():
			}
			if batch = w.take(); len(batch) == 0 {
				return
			}
		}
		if !w.write(ctx, batch) {
			rows, _ := w.waiting()
			w.log.Error("messages are not kept, since the server stops without its database", "rows", rows)
			return
		}
		if len(batch) >= gatherFrom && len(batch) < maxBatch && ctx.Err() == nil {
			pause(ctx, gather) // a larger commit costs less for each of its rows
		}
	}
}

// take is the next batch.
func (w *writer) take() []*row {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(len(w.queue), maxBatch)
	batch := w.queue[:n:n]
	if w.queue = w.queue[n:]; len(w.queue) == 0 {
		w.queue = nil
	}
	return batch
}

// write commits a batch, however long the database is away; false: the server stops before.
func (w *writer) write(ctx context.Context, batch []*row) bool {
	wait := firstPause
	for {
		err := w.once(batch)
		switch {
		case err == nil:
			return true
		case !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrConflict) && !errors.Is(err, context.DeadlineExceeded):
			w.apart(batch, err)
			return true
		}
		w.metrics.failures.Inc()
		w.mu.Lock()
		again := w.away
		w.away = true
		w.mu.Unlock()
		if !again {
			w.log.Warn("messages wait for the database", "err", err)
		}
		if ctx.Err() != nil && time.Since(batch[0].queued) > lastWords {
			return false
		}
		if ctx.Err() == nil {
			pause(ctx, wait)
		} else {
			pause(context.Background(), wait)
		}
		wait = min(2*wait, longPause)
	}
}

// pause waits, at most until the context ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// once tries to commit a batch.
func (w *writer) once(batch []*row) error {
	// What has begun is finished when the server stops.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	wanted := w.settle(ctx, batch)
	if len(wanted) > 0 {
		if err := w.db.WriteLocking(ctx, func(tx *store.Tx) error { return w.commit(tx, wanted) }); err != nil {
			return err
		}
		w.metrics.batch.Observe(float64(len(wanted)))
		w.metrics.stored.Add(float64(len(wanted)))
	}
	w.after(wanted)
	w.finish(batch, true)
	return nil
}

// apart commits each row of a batch by itself, so that what the database does not take is nobody else's trouble.
func (w *writer) apart(batch []*row, err error) {
	if len(batch) == 1 {
		w.metrics.lost.Inc()
		w.log.Error("a message cannot be kept", "owner", batch[0].owner, "id", batch[0].id.String(), "err", err)
		w.finish(batch, false)
		return
	}
	for i := range batch {
		w.write(context.Background(), batch[i:i+1])
	}
}

// finish tells those who wait. The sender of what was lost never learns that it was received.
func (w *writer) finish(batch []*row, committed bool) {
	w.mu.Lock()
	w.away = false
	w.rows -= len(batch)
	w.done += uint64(len(batch))
	for _, r := range batch {
		w.bytes -= r.size()
	}
	w.since = time.Time{}
	if len(w.queue) > 0 {
		w.since = w.queue[0].queued
	}
	changed := w.changed
	w.changed = nil
	w.mu.Unlock()
	if changed != nil {
		close(changed)
	}
	for _, r := range batch {
		if committed {
			r.held.Settle()
		}
		if r.done != nil {
			close(r.done)
		}
	}
}
