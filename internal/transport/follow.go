package transport

import (
	"context"
	"sync"
)

// followers are the served connections, by the contexts that they end with. context.AfterFunc for each of them would
// take 200 bytes of every idle connection, and there are few contexts.
type followers struct {
	mu sync.Mutex // guards of
	of map[<-chan struct{}]*following
}

// following are the connections of one context, known by its Done channel.
type following struct {
	conns map[*Conn]struct{}
	stop  func() bool
}

// join makes the end of ctx abort c.
func (f *followers) join(ctx context.Context, c *Conn) {
	done := ctx.Done()
	if done == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.of[done]
	if all == nil {
		all = &following{conns: make(map[*Conn]struct{})}
		all.stop = context.AfterFunc(ctx, func() { f.end(done, context.Cause(ctx)) })
		if f.of == nil {
			f.of = make(map[<-chan struct{}]*following)
		}
		f.of[done] = all
	}
	all.conns[c] = struct{}{}
}

// leave undoes join.
func (f *followers) leave(ctx context.Context, c *Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.of[ctx.Done()]
	if all == nil {
		return
	}
	delete(all.conns, c)
	if len(all.conns) == 0 {
		delete(f.of, ctx.Done())
		all.stop()
	}
}

// end aborts the connections of a context that has ended. Nobody else touches what is no longer in the map.
func (f *followers) end(done <-chan struct{}, cause error) {
	f.mu.Lock()
	all := f.of[done]
	delete(f.of, done)
	f.mu.Unlock()
	if all == nil {
		return
	}
	for c := range all.conns {
		c.Abort(cause)
	}
}
