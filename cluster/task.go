package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/starling-im/starling/cluster/internal/bus"
	"github.com/starling-im/starling/cluster/internal/frame"
)

// Task is a function with a name that nodes run for each other. A change that older nodes would not understand gets
// a new name.
type Task[Req, Res any] struct {
	n    *Node
	name string
	req  Codec[Req]
	res  Codec[Res]
}

// ErrUnknownTask says that the member has no task of this name.
var ErrUnknownTask = errors.New("the member does not know the task")

// RemoteError is what the task at another member ended with.
type RemoteError struct {
	Member   string // name
	Task     string
	Text     string // of the error, or of the panic
	Panicked bool
}

// Error returns where and what.
func (e *RemoteError) Error() string {
	verb := "failed"
	if e.Panicked {
		verb = "panicked"
	}
	return fmt.Sprintf("task %s %s on %s: %s", e.Task, verb, e.Member, e.Text)
}

// defaultDeadline holds for calls whose context has none.
const defaultDeadline = 30 * time.Second

// tasks are those of a node.
type tasks struct {
	node   *Node
	mu     sync.RWMutex // guards byName
	byName map[string]func(ctx context.Context, from Member, req []byte) frame.Answer
}

// NewTask makes this node's end of the task with this name. run is called for each request, several at a time; its
// context ends when the caller's does, or when the node leaves. A nil run makes a task that this node can call
// but does not know itself. NewTask panics when the node knows the task already.
func NewTask[Req, Res any](n *Node, name string, req Codec[Req], res Codec[Res], run func(ctx context.Context, from Member, req Req) (Res, error)) *Task[Req, Res] {
	if name == "" || len(name) > frame.MaxName {
		panic(fmt.Sprintf("cluster: task name %q", name))
	}
	t := &Task[Req, Res]{n, name, req, res}
	if run == nil {
		return t
	}
	n.tasks.mu.Lock()
	defer n.tasks.mu.Unlock()
	if n.tasks.byName == nil {
		n.tasks.byName = map[string]func(context.Context, Member, []byte) frame.Answer{}
	}
	if n.tasks.byName[name] != nil {
		panic(fmt.Sprintf("cluster: task %q exists already", name))
	}
	n.tasks.byName[name] = func(ctx context.Context, from Member, b []byte) frame.Answer {
		v, err := req.Decode(b)
		if err != nil {
			return frame.Answer{Outcome: frame.Refused, Body: []byte(err.Error())}
		}
		out, err := run(ctx, from, v)
		if err == nil {
			if b, err = res.Append(nil, out); err == nil {
				return frame.Answer{Outcome: frame.Done, Body: b}
			}
		}
		return frame.Answer{Outcome: frame.Failed, Body: []byte(err.Error())}
	}
	return t
}

// Call runs the task on a member, which may be this node. Errors are ErrGone, ErrUnknownTask, ErrTooBig, a *RemoteError
// for what the task returned, and that of the context. A call that ended with the context, or with ErrGone while it ran,
// may have been run.
func (t *Task[Req, Res]) Call(ctx context.Context, to string, req Req) (res Res, err error) {
	start := time.Now()
	defer func() { t.n.metrics.called(t.name, time.Since(start), err) }()
	body, err := t.req.Append(nil, req)
	if err != nil {
		return res, fmt.Errorf("encode request of task %s: %w", t.name, err)
	}
	m, ok := t.n.Member(to)
	if !ok {
		return res, ErrGone
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, defaultDeadline)
		defer cancel()
	}
	a, err := t.n.tasks.request(ctx, m, t.name, body)
	if err != nil {
		return res, err
	}
	switch a.Outcome {
	case frame.Done:
		if res, err = t.res.Decode(a.Body); err != nil {
			err = fmt.Errorf("decode result of task %s of %s: %w", t.name, m.Name, err)
		}
		return res, err
	case frame.Unknown:
		return res, fmt.Errorf("%w: %s on %s", ErrUnknownTask, t.name, m.Name)
	case frame.Failed: // maybe only since the time was over there, too
		if err := ctx.Err(); err != nil {
			return res, err
		}
		if end, ok := ctx.Deadline(); ok && !time.Now().Before(end) { // and the context has not noticed yet
			return res, context.DeadlineExceeded
		}
	}
	return res, &RemoteError{m.Name, t.name, string(a.Body), a.Outcome == frame.Panicked}
}

// CallSenior runs the task on the senior.
func (t *Task[Req, Res]) CallSenior(ctx context.Context, req Req) (Res, error) {
	return t.Call(ctx, t.n.Senior().ID, req)
}

// Result is what one member answered.
type Result[Res any] struct {
	Member Member
	Value  Res
	Err    error
}

// CallAll runs the task on all members, this node included, at the same time. It returns when each has answered, or is
// gone, or the context has ended.
func (t *Task[Req, Res]) CallAll(ctx context.Context, req Req) []Result[Res] {
	members := t.n.Members()
	results := make([]Result[Res], len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() {
			v, err := t.Call(ctx, m.ID, req)
			results[i] = Result[Res]{m, v, err}
		})
	}
	wg.Wait()
	return results
}

// request brings a request to a member and the answer back.
func (ts *tasks) request(ctx context.Context, to Member, name string, body []byte) (frame.Answer, error) {
	view := ts.node.view.Load()
	deadline, _ := ctx.Deadline()
	msg := frame.AppendNamed(nil, frame.KindCall, frame.Named{
		From: ts.node.id, Inc: view.self.Incarnation, Seq: uint64(max(time.Until(deadline).Milliseconds()+1, 1)), Name: name, Body: body,
	})
	if to.ID == ts.node.id {
		return frame.ParseAnswer(ts.answer(ctx, msg))
	}
	s, p := view.session, view.peers[to.ID]
	if s == nil || p == nil {
		return frame.Answer{}, ErrGone
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(p.ctx, func() { cancel(ErrGone) })()
	out, err := s.bus.Request(ctx, s.subject("t", to.ID), msg)
	switch {
	case errors.Is(context.Cause(ctx), ErrGone), errors.Is(err, bus.ErrNoResponders), errors.Is(err, bus.ErrClosed):
		return frame.Answer{}, ErrGone
	case errors.Is(err, bus.ErrTooBig):
		return frame.Answer{}, ErrTooBig
	case err != nil:
		return frame.Answer{}, err
	}
	return frame.ParseAnswer(out)
}

// answer runs a request that came.
func (ts *tasks) answer(ctx context.Context, data []byte) (out []byte) {
	msg, err := frame.ParseNamed(data, frame.KindCall)
	if err != nil {
		ts.node.malformed.Add(1)
		return frame.AppendAnswer(nil, frame.Answer{Outcome: frame.Refused, Body: []byte(err.Error())})
	}
	ts.mu.RLock()
	run := ts.byName[msg.Name]
	ts.mu.RUnlock()
	if run == nil {
		return frame.AppendAnswer(nil, frame.Answer{Outcome: frame.Unknown})
	}
	from, ok := ts.node.Member(msg.From)
	if !ok {
		from = Member{ID: msg.From, Incarnation: msg.Inc}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(min(msg.Seq, 1<<40))*time.Millisecond)
	defer cancel()
	start := time.Now()
	defer func() {
		if v := recover(); v != nil {
			ts.node.log.Error("task panicked", slog.String("task", msg.Name), slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
			out = frame.AppendAnswer(nil, frame.Answer{Outcome: frame.Panicked, Body: fmt.Append(nil, v)})
		}
		ts.node.metrics.ran(msg.Name, time.Since(start))
	}()
	a := run(ctx, from, msg.Body)
	if out = frame.AppendAnswer(nil, a); len(out) > maxAnswer {
		out = frame.AppendAnswer(nil, frame.Answer{Outcome: frame.Failed, Body: []byte(ErrTooBig.Error())})
	}
	return out
}

// maxAnswer is the longest answer, which any engine carries.
const maxAnswer = 1 << 20
