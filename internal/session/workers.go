package session

import "sync"

// Workers runs what may block (storage, password hashes) off the goroutines of
// connections, at most a fixed number at once. A connection has at most one task
// here and does not read meanwhile, so the queue is bounded by the connections.
type Workers struct {
	max int

	mu      sync.Mutex // guards running and queue
	running int
	queue   []func()
	idle    sync.WaitGroup
}

// NewWorkers makes a pool of at most max goroutines, which exist only while busy.
func NewWorkers(max int) *Workers { return &Workers{max: max} }

// Do runs fn soon. fn sees to its own panics.
func (w *Workers) Do(fn func()) {
	w.idle.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running == w.max {
		w.queue = append(w.queue, fn)
		return
	}
	w.running++
	go w.run(fn)
}

func (w *Workers) run(fn func()) {
	for fn != nil {
		fn()
		w.idle.Done()
		fn = w.next()
	}
}

func (w *Workers) next() func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		w.running--
		w.queue = nil
		return nil
	}
	fn := w.queue[0]
	w.queue[0] = nil
	w.queue = w.queue[1:]
	return fn
}

// Load is how many tasks run and how many wait.
func (w *Workers) Load() (running, waiting int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running, len(w.queue)
}

// Wait returns when every task is done.
func (w *Workers) Wait() { w.idle.Wait() }
