package store

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of one commit: the writes it gathers, and for how long it goes on gathering while the first of them waits.
const (
	maxBatch   = 256
	maxGather  = 10 * time.Millisecond
	queueWrite = 1024 // default length of the queue
)

// writer owns SQLite's only writing connection. A goroutine takes writes from a queue, runs them one after another in one
// transaction for as long as more are waiting, and commits: one fsync for all of them. What arrives during the fsync is the
// next transaction.
//
// Every write but a transaction's first has a savepoint, so that its failure undoes only itself. The first needs none: if it
// fails, the transaction is rolled back and the next write begins another.
type writer struct {
	conn    *conn
	metrics *metrics
	queue   chan *job
	closing chan struct{} // closed: no more writes are accepted
	stopped chan struct{} // closed: the goroutine has ended
	once    sync.Once

	// Owned by the goroutine:
	open  bool   // a transaction is open
	batch []*job // ran well in it
	now   *job   // runs now
	ended bool
}

// job is one Write.
type job struct {
	fn    func(*Tx) error
	taken atomic.Bool // by the writer, or by a caller that no longer waits
	done  chan error
}

func (j *job) take() bool { return j.taken.CompareAndSwap(false, true) }

// finish gives the caller its result; a second one is dropped.
func (j *job) finish(err error) {
	select {
	case j.done <- err:
	default:
	}
}

func startWriter(c *conn, queue int, m *metrics) *writer {
	if queue <= 0 {
		queue = queueWrite
	}
	w := &writer{
		conn:    c,
		metrics: m,
		queue:   make(chan *job, queue),
		closing: make(chan struct{}),
		stopped: make(chan struct{}),
	}
	m.queue(func() int { return len(w.queue) })
	go w.loop()
	return w
}

// stop lets the writer finish what is queued and waits for it. It returns false when another call has done so.
func (w *writer) stop() (first bool) {
	w.once.Do(func() {
		first = true
		close(w.closing)
	})
	<-w.stopped
	return first
}

// write queues fn and waits for its commit.
func (w *writer) write(ctx context.Context, fn func(*Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-w.closing:
		return errClosed
	default:
	}
	j := &job{fn: fn, done: make(chan error, 1)}
	select {
	case w.queue <- j:
	case <-w.closing:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
		if j.take() {
			return ctx.Err()
		}
	case <-w.stopped:
		if j.take() { // It was queued too late to be seen.
			return errClosed
		}
	}
	return <-j.done // It has begun: its result is certain to come.
}

func (w *writer) loop() {
	defer func() {
		if w.ended {
			close(w.stopped)
			return
		}
		// A function ended the goroutine (runtime.Goexit, as t.FailNow does). Those who wait must not hang for it.
		w.rollback()
		w.batch = append(w.batch, w.now)
		w.answer(errors.New("a function given to Write ended the writer's goroutine"))
		go w.loop()
	}()
	for {
		select {
		case j := <-w.queue:
			w.group(j)
		case <-w.closing:
			for len(w.queue) > 0 {
				w.group(<-w.queue)
			}
			w.ended = true
			return
		}
	}
}

// group runs j and whatever waits behind it, and commits.
func (w *writer) group(j *job) {
	begun := time.Now()
	for j != nil {
		if j.take() && !w.step(j) {
			w.redo()
			return
		}
		j = nil
		if len(w.batch) < maxBatch && time.Since(begun) < maxGather {
			select {
			case j = <-w.queue:
			default:
			}
		}
	}
	if !w.open {
		return
	}
	if err := w.do("COMMIT"); err != nil {
		w.redo()
		return
	}
	w.open = false
	w.metrics.batch.Observe(float64(len(w.batch)))
	w.answer(nil)
}

// step runs j in the open transaction, which it opens first if there is none. It returns false when the transaction is lost
// and with it the work of the batch.
func (w *writer) step(j *job) bool {
	if !w.open {
		if err := w.do("BEGIN IMMEDIATE"); err != nil {
			j.finish(err)
			return true
		}
		w.open = true
	}
	alone := len(w.batch) == 0
	if !alone {
		if err := w.do("SAVEPOINT write"); err != nil {
			w.batch = append(w.batch, j)
			return false
		}
	}
	err := w.run(j)
	switch {
	case err == nil:
		w.batch = append(w.batch, j)
		return alone || w.do("RELEASE write") == nil
	case alone:
		w.rollback()
		j.finish(err)
		return true
	}
	j.finish(err)
	// SQLite itself rolls back the whole transaction on some errors (disk full, input/output); then there is no savepoint.
	return w.do("ROLLBACK TO write") == nil && w.do("RELEASE write") == nil
}

// redo gives each write of a batch whose transaction was lost, or did not commit, a transaction of its own. So a deferred
// constraint that one violates is no other's failure, and when the disk is full each is told so.
func (w *writer) redo() {
	w.rollback()
	for _, j := range w.batch {
		err := w.do("BEGIN IMMEDIATE")
		if err == nil {
			if err = w.run(j); err == nil {
				err = w.do("COMMIT")
			}
			if err != nil {
				w.rollback()
			} else {
				w.metrics.batch.Observe(1)
			}
		}
		j.finish(err)
	}
	w.batch = w.batch[:0]
}

// run calls the write's function. Its statements do not end with the caller's context: an interrupted statement would roll
// back the whole transaction.
func (w *writer) run(j *job) error {
	w.now = j
	tx := &Tx{ctx: context.Background(), conn: w.conn}
	err := tx.run(j.fn)
	w.now = nil
	return err
}

// answer tells everyone in the batch how it went.
func (w *writer) answer(err error) {
	for _, j := range w.batch {
		j.finish(err)
	}
	w.batch = w.batch[:0]
}

// rollback ends the transaction, if SQLite has not ended it already.
func (w *writer) rollback() {
	w.open = false
	_ = w.do("ROLLBACK") // "no transaction is active" is as good
}

func (w *writer) do(query string) error { return w.conn.do(context.Background(), query) }
