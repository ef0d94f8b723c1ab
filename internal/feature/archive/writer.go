package archive

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/telemetry"
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
	maxClashes = 5                // after so many conflicts a batch is not what others did at the same time
	maxRefused = 1000             // ids that are remembered of rows that the database has refused
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
	stanza   string
	retracts string // the sender's id of the message that this one retracts
	unsure   bool   // whether the owner wants it kept is not known yet

	number   int64 // of the owner, and
	position int64 // of the row: given by the commit
	queued   time.Time
	held     *session.Held
	told     bool          // those who wait for its commit have been
	shelved  bool          // it is on the shelf
	refused  bool          // by the database: known when done is closed
	done     chan struct{} // closed after the commit; nil when nobody waits
}

func (r *row) size() int { return len(r.stanza) + 200 }

// writer commits rows in the order in which they came, all that wait in one transaction: on SQLite to a journal first.
type writer struct {
	db      *store.DB
	log     *slog.Logger
	commit  func(*store.Tx, []*row) error
	settle  func(context.Context, []*row) []*row // finds out about rows that are unsure; the rest is to be committed
	after   func([]*row)                         // when rows are committed
	metrics writerMetrics
	wake    chan struct{}    // something is queued
	shelf   *shelf           // what is in the journal only; nil on PostgreSQL
	journal bool             // whether rows are entered there
	refused map[id]struct{}  // of messages; loop has it
	told    telemetry.Seldom // of these

	crowded atomic.Bool // there is no room; set with mu held

	mu      sync.Mutex     // guards all below
	ready   bool           // what the journal had is known
	pending map[string]int // rows by owner that have no place in the archive yet
	asks    []*ask
	queue   []*row
	since   time.Time // when the oldest row came that is not committed; zero when there is none
	bytes   int       // of all that are not committed
	rows    int
	added   uint64        // rows so far
	done    uint64        // of these, committed or given up
	room    chan struct{} // closed when there is again, or when the database is away; nil when nobody waits for that
	away    bool          // the last commit failed, for want of the database
}

type writerMetrics struct {
	stored, failures, lost prometheus.Counter
	batch                  prometheus.Histogram
}

func newWriter(a *Archive) *writer {
	w := &writer{db: a.DB, log: a.Log, commit: a.commit, settle: a.settle, after: a.committed, wake: make(chan struct{}, 1),
		refused: map[id]struct{}{}, pending: map[string]int{}}
	if a.DB.Dialect() == store.SQLite {
		w.shelf, w.journal = newShelf(), !a.Shared
	}
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
func (w *writer) full() bool { return w.crowded.Load() }

// judge finds out whether it is full: until a quarter is free, once a bound is reached, so that those who wait go on
// together, and for a while. The caller holds mu.
func (w *writer) judge() {
	full := w.rows >= maxQueue || w.bytes >= maxBytes || w.full() && (w.rows > maxQueue/4*3 || w.bytes > maxBytes/4*3)
	if full != w.full() {
		w.crowded.Store(full)
	}
	if !full {
		w.invite()
	}
}

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
	w.pending[r.owner]++
	w.judge()
	w.mu.Unlock()
	w.awake()
}

func (w *writer) awake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// admit waits for room, if it has to: for a while as long as rows are being committed, not at all when the database is
// away, since then nothing is gained. Where the context has no end, nothing may block: a connection may overshoot the
// bound by one stanza.
func (w *writer) admit(ctx context.Context) bool {
	if _, bounded := ctx.Deadline(); !bounded || !w.full() {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, spaceWait)
	defer cancel()
	for {
		w.mu.Lock()
		full, away := w.full(), w.away
		if w.room == nil {
			w.room = make(chan struct{})
		}
		room := w.room
		w.mu.Unlock()
		if !full || away {
			return !full
		}
		select {
		case <-room:
		case <-ctx.Done():
			return false
		}
	}
}

// invite wakes those who wait for room. The caller holds mu.
func (w *writer) invite() {
	if w.room != nil {
		close(w.room)
		w.room = nil
	}
}

// ask is by somebody who waits until rows have their places.
type ask struct {
	owner  string // whose; empty: everybody's
	target uint64 // the rows that were added before
	done   chan struct{}
}

// flush waits until all that was queued for an owner has its place in the archive, or for everybody if none is named.
func (w *writer) flush(ctx context.Context, owner string) error {
	w.mu.Lock()
	if w.ready && owner != "" && w.pending[owner] == 0 {
		w.mu.Unlock()
		return nil
	}
	q := &ask{owner: owner, target: w.added, done: make(chan struct{})}
	w.asks = append(w.asks, q)
	w.mu.Unlock()
	w.awake()
	select {
	case <-q.done:
		return nil
	case <-ctx.Done():
		return store.ErrUnavailable
	}
}

// answer gives rows their places that somebody asks for.
func (w *writer) answer(ctx context.Context) bool {
	w.mu.Lock()
	var due, later []*ask
	for _, q := range w.asks {
		if q.target <= w.done {
			due = append(due, q)
		} else {
			later = append(later, q)
		}
	}
	w.asks = later
	w.mu.Unlock()
	all := slices.ContainsFunc(due, func(q *ask) bool { return q.owner == "" })
	if w.shelf != nil {
		var rows []*row
		for _, q := range due {
			rows = append(rows, w.shelf.take(q.owner, math.MaxInt)...)
		}
		if !w.write(ctx, rows, false) || all && !w.file(ctx, true) {
			return false
		}
	}
	for _, q := range due {
		close(q.done)
	}
	return true
}

// isAway tells whether the last commit failed for want of the database.
func (w *writer) isAway() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.away
}

// loop commits until the context ends, and then what still waits, if the database takes it soon.
func (w *writer) loop(ctx context.Context) {
	if !w.restore(ctx) || !w.file(ctx, true) {
		return
	}
	for {
		ending := ctx.Err() != nil
		batch := w.take()
		if !ending && len(batch) == 0 && w.idle(ctx) {
			continue
		}
		direct, rest := w.divide(batch)
		if !w.write(ctx, direct, false) || !w.write(ctx, rest, true) || !w.answer(ctx) || !w.file(ctx, ending) {
			if rows, _ := w.waiting(); rows > 0 {
				w.log.Error("messages are not kept, since the server stops without its database", "rows", rows)
			}
			return
		}
		switch {
		case ending && len(batch) == 0:
			return
		case len(batch) >= gatherFrom && len(batch) < maxBatch && !ending && !w.filing():
			pause(ctx, gather) // a larger commit costs less for each of its rows
		}
	}
}

// idle waits until there is something to do; false: there is.
func (w *writer) idle(ctx context.Context) bool {
	w.mu.Lock()
	asked := len(w.asks) > 0
	w.mu.Unlock()
	var due <-chan time.Time
	if w.shelf != nil {
		if at := w.shelf.due(); !at.IsZero() {
			t := time.NewTimer(time.Until(at))
			defer t.Stop()
			due = t.C
		}
	}
	if asked {
		return false
	}
	select {
	case <-w.wake:
		return true
	case <-due:
		return false
	case <-ctx.Done():
		return true
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

// write commits a batch, to the journal or to where it belongs, however long the database is away; false: the server
// stops before.
func (w *writer) write(ctx context.Context, batch []*row, journal bool) bool {
	if batch = w.sift(batch); len(batch) == 0 {
		return true
	}
	wait, clashes := firstPause, 0
	for {
		err := w.once(batch, journal)
		if errors.Is(err, store.ErrConflict) {
			clashes++
		}
		switch {
		case err == nil:
			return true
		case errors.Is(err, store.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), clashes > 0 && clashes <= maxClashes:
		default:
			return w.apart(ctx, batch, journal, err)
		}
		w.metrics.failures.Inc()
		w.mu.Lock()
		again := w.away
		w.away = true
		w.invite()
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
func (w *writer) once(batch []*row, journal bool) error {
	// What has begun is finished when the server stops.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	wanted := w.settle(ctx, batch)
	if len(wanted) > 0 {
		number := int64(0)
		err := w.db.WriteLocking(ctx, func(tx *store.Tx) (err error) {
			if journal {
				number, err = w.shelf.enter(tx, wanted)
				return err
			}
			return w.commit(tx, wanted)
		})
		if err != nil {
			return err
		}
		if journal {
			w.shelf.number = number
			w.shelf.put(wanted)
		}
		w.metrics.batch.Observe(float64(len(wanted)))
	}
	if !journal {
		w.metrics.stored.Add(float64(len(wanted)))
		w.after(wanted)
	}
	w.finish(batch, true)
	return nil
}

// apart commits the halves of a batch that the database has refused, so that what it does not take is nobody else's
// trouble, and what it takes needs few commits all the same.
func (w *writer) apart(ctx context.Context, batch []*row, journal bool, err error) bool {
	if half := len(batch) / 2; half > 0 {
		return w.write(ctx, batch[:half], journal) && w.write(ctx, batch[half:], journal)
	}
	if more, told := w.told.Tell(time.Now()); told {
		w.log.Error("a message cannot be kept", "owner", batch[0].owner, "id", batch[0].id.String(), "more", more, "err", err)
	}
	if batch[0].told {
		w.shelf.leave(ctx, w, batch[0])
	}
	w.refuse(batch[0])
	return true
}

// refuse gives a row up.
func (w *writer) refuse(r *row) {
	w.metrics.lost.Inc()
	if len(w.refused) >= maxRefused {
		clear(w.refused)
	}
	w.refused[r.id] = struct{}{}
	w.finish([]*row{r}, false)
}

// sift takes out the marks of messages that the database has refused: whoever waits for them keeps the message elsewhere.
func (w *writer) sift(batch []*row) []*row {
	if len(w.refused) == 0 {
		return batch
	}
	return slices.DeleteFunc(slices.Clone(batch), func(r *row) bool {
		_, gone := w.refused[r.id]
		if gone = gone && r.task != insert; gone {
			w.refuse(r)
		}
		return gone
	})
}

// finish tells those who wait. What was refused is never acknowledged to its sender.
func (w *writer) finish(batch []*row, committed bool) {
	w.mu.Lock()
	w.away = false
	for _, r := range batch {
		if !r.shelved {
			if w.pending[r.owner]--; w.pending[r.owner] == 0 {
				delete(w.pending, r.owner)
			}
		}
		if !r.told {
			w.rows--
			w.done++
			w.bytes -= r.size()
		}
	}
	switch {
	case w.rows == 0:
		w.since = time.Time{}
	case w.rows == len(w.queue):
		w.since = w.queue[0].queued
	}
	w.judge()
	w.mu.Unlock()
	for _, r := range batch {
		switch {
		case r.told:
			continue
		case committed:
			r.held.Settle()
		default:
			r.refused = true
			r.held.Lose()
		}
		r.told, r.held = true, nil
		if r.done != nil {
			close(r.done)
		}
	}
}
