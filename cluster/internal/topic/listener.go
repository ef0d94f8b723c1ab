package topic

import (
	"slices"
	"sync"
)

// maxQueue is how many messages wait for one listener.
const maxQueue = 1024

// Listener is a subscriber of a topic.
type Listener[M any] struct {
	fn   func(from M, body []byte)
	gap  func()
	wake chan struct{}
	stop chan struct{}
	once sync.Once

	mu     sync.Mutex // guards what follows
	queue  []heard[M]
	missed bool
	busy   bool // with what was taken out of the queue
}

type heard[M any] struct {
	from M
	body []byte
}

// Subscribe adds a listener, whose functions Run calls. gap may be nil. After cancel has returned no further call
// starts.
func (t *Topic[M]) Subscribe(fn func(from M, body []byte), gap func()) (l *Listener[M], cancel func()) {
	l = &Listener[M]{fn: fn, gap: gap, wake: make(chan struct{}, 1), stop: make(chan struct{})}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.subs = append(t.subs, l)
	return l, func() {
		t.mu.Lock()
		t.subs = slices.DeleteFunc(slices.Clone(t.subs), func(o *Listener[M]) bool { return o == l })
		t.mu.Unlock()
		l.once.Do(func() { close(l.stop) })
	}
}

// offer queues a message; nil stands for lost ones.
func (l *Listener[M]) offer(h *heard[M]) {
	l.mu.Lock()
	if h == nil || len(l.queue) >= maxQueue {
		l.missed = true
		l.queue = nil // the subscriber starts anew after the gap
	}
	if h != nil {
		l.queue = append(l.queue, *h)
	}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Run calls the listener's functions until it is cancelled or done is closed.
func (l *Listener[M]) Run(done <-chan struct{}) {
	for {
		select {
		case <-l.wake:
		case <-l.stop:
			return
		case <-done:
			return
		}
		l.mu.Lock()
		queue, missed := l.queue, l.missed
		l.queue, l.missed, l.busy = nil, false, true
		l.mu.Unlock()
		if missed && l.gap != nil {
			l.gap()
		}
		for _, h := range queue {
			select {
			case <-l.stop:
				return
			default:
			}
			l.fn(h.from, h.body)
		}
		l.mu.Lock()
		l.busy = false
		l.mu.Unlock()
	}
}

// waiting counts what is queued, and one for what is being handled.
func (l *Listener[M]) waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.queue)
	if l.missed {
		n++
	}
	if l.busy {
		n++
	}
	return n
}
