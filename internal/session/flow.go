package session

import (
	"context"
	"errors"

	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/stream"
)

// Flow is what one party's stanzas lead to between two flushes: the sessions that
// were appended to, each once. A connection owns one for all its stanzas, so that
// a burst of messages costs each receiver one write.
type Flow struct {
	Session *Session // on whose behalf; nil for the server itself
	N       uint64   // which of the session's stanzas is in hand, the first being 1; 0 outside of any
	Held    *Held    // that stanza, until all answer for it who must; nil when nobody asks for that
	Sends   uint8    // how often what is in hand was on its way to other nodes already
	Fork    *Fork    // of which what is sent now is a part; nil outside of any
	Gated   bool     // what is sent now is only for sessions that have sent its sender directed presence
	Past    *Session // takes nothing of this flow: what it was given last is being sent on

	relay Relay // that has to flush
	dirty []*Session
	after []func(context.Context)
}

// Send appends a stanza to a session. It never blocks: a session that cannot keep
// up is ended. It reports whether the session took the stanza.
func (f *Flow) Send(to *Session, st *stanza.Stanza) bool {
	if r := to.relay.Load(); r != nil {
		if taken, direct := (*r).Relay(f, to, st); !direct {
			f.relay = *r
			return taken
		}
	}
	return f.Pass(to, st.String())
}

// Pass appends the text of a whole stanza to a session of this node, and reports as Send does.
func (f *Flow) Pass(to *Session, st string) bool {
	if to == f.Past || to.ended.Load() && !lasts(to.Out) {
		return false
	}
	var first bool
	var err error
	if k, ok := to.Out.(Keeper); ok && f.Fork != nil {
		first, err = k.Keep(st, f.Fork)
	} else { // most stanzas go one way only
		first, err = to.Out.Append(st)
		if f.Fork != nil && err == nil {
			f.Fork.More()
			f.Fork.Close(true)
		}
	}
	if err != nil {
		to.End(stream.Err(stream.ResourceConstraint, "too much unread data").Because(err))
		return errors.Is(err, ErrOverflow)
	}
	if first {
		f.dirty = append(f.dirty, to)
	}
	return true
}

// After runs fn when the reply to the present request has been sent, for stanzas
// that must follow it.
func (f *Flow) After(fn func(context.Context)) { f.after = append(f.after, fn) }

// Settle runs what After collected.
func (f *Flow) Settle(ctx context.Context) {
	for len(f.after) > 0 {
		fn := f.after[0]
		f.after = f.after[1:]
		fn(ctx)
	}
	f.after = nil
}

// Depart sends what was taken for sessions of other nodes, before something that must not overtake it.
func (f *Flow) Depart() {
	if f.relay != nil {
		f.relay.Flush(f)
		f.relay = nil
	}
}

// Flush writes to every session that was appended to.
func (f *Flow) Flush() {
	f.Depart()
	for i, s := range f.dirty {
		s.Out.Flush()
		f.dirty[i] = nil
	}
	f.dirty = f.dirty[:0]
	if cap(f.dirty) > idleDirty {
		f.dirty = nil
	}
}

// idleDirty is how long a dirty list may be and still be kept by an idle session.
const idleDirty = 4

type flowKey struct{}

// flowContext carries a Flow; a type of its own makes the look-up one comparison.
type flowContext struct {
	context.Context
	flow *Flow
}

func (c *flowContext) Value(key any) any {
	if _, ok := key.(flowKey); ok {
		return c.flow
	}
	return c.Context.Value(key)
}

// WithFlow makes f the flow of all that is done under the context.
func WithFlow(ctx context.Context, f *Flow) context.Context {
	return &flowContext{ctx, f}
}

// FlowOf is the context's flow, nil when there is none.
func FlowOf(ctx context.Context) *Flow {
	if c, ok := ctx.(*flowContext); ok {
		return c.flow
	}
	f, _ := ctx.Value(flowKey{}).(*Flow)
	return f
}

// Within runs fn under a context that has a flow: the context's own, which its
// owner flushes, or else a new one, flushed before Within returns.
func Within(ctx context.Context, fn func(ctx context.Context, f *Flow)) {
	if f := FlowOf(ctx); f != nil {
		fn(ctx, f)
		return
	}
	var f Flow
	fn(WithFlow(ctx, &f), &f)
	f.Settle(ctx)
	f.Flush()
}
