package scenario_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/internal/testnet"
)

// programEnv tells the test binary to be a node.
const programEnv = "SCENARIO_NODE"

func TestMain(m *testing.M) {
	if os.Getenv(programEnv) == "" {
		os.Exit(m.Run())
	}
	if err := newProgram().serve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// program is a node in a process of its own. It does what it is asked, and tells every event.
type program struct {
	server *testnet.Server
	node   *cluster.Node
	rows   *cluster.Table[string]
	tape   *cluster.Channel
	turns  turns
	runs   atomic.Int64  // of the task
	hang   chan struct{} // if not nil, no record is applied before it is closed
	diary  *os.File      // if not nil, the number of each record is written there when it is applied

	mu      sync.Mutex // guards what follows
	made    map[string]*outgoing
	applied map[string][]uint64 // numbers of records, by the sender's name
	flows   map[string]chan chan struct{}
	calls   map[string]*cluster.Task[string, string]
}

// outgoing is what was sent to a member, by name.
type outgoing struct {
	accepted []uint64
	back     []uint64
}

// settings are a node's configuration.
type settings struct {
	Name, Cluster, Token, Listen string
	Peers                        []string
	Multicast                    string
	Offset                       time.Duration // of the clock
	Window                       int
	Diary                        string // path
	Hang                         bool
	Patient                      bool // takes nobody for dead for half a minute
}

// news is an event, as a program tells it.
type news struct {
	At          time.Duration // testnet.Now
	Kind        string
	Name        string // of the member
	Incarnation uint64
	State       string // of the node
	Reason      string
}

// person is a member, as a program tells it.
type person struct {
	Name        string
	Incarnation uint64
	State       string
	Suspected   bool
	Versions    [2]uint8 // oldest and newest
}

// view is what a node sees.
type view struct {
	Self, Senior person
	Members      []person
	Failure      string
	Keys         int
	Rows         int
	Digest       uint64
	Unmade       int // tables that this program has not made
	Unacked      int // bytes
	Unsynced     int // members whose tables are not complete here
	Repairs      uint64
	Malformed    int64
	Runs         int64 // of the task
}

func (v view) sees(names ...string) bool {
	var got []string
	for _, m := range v.Members {
		got = append(got, m.Name)
	}
	slices.Sort(got)
	return slices.Equal(got, slices.Sorted(slices.Values(names)))
}

func newProgram() *program {
	return &program{
		server: testnet.NewServer(os.Stdout), made: map[string]*outgoing{}, applied: map[string][]uint64{}, flows: map[string]chan chan struct{}{},
	}
}

func (p *program) serve() error {
	return p.server.Serve(os.Stdin, map[string]testnet.Handler{
		"start": testnet.Handle(p.start),
		"join": testnet.Handle(func(struct{}) (any, error) {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			return nil, p.node.Join(ctx)
		}),
		"leave": testnet.Handle(func(struct{}) (any, error) {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			return nil, p.node.Leave(ctx)
		}),
		"close": testnet.Handle(func(struct{}) (any, error) { return nil, p.node.Close() }),
		"view":  testnet.Handle(func(struct{}) (any, error) { return p.view(), nil }),
		"put":   testnet.Handle(p.put),
		"delete": testnet.Handle(func(keys []string) (any, error) {
			for _, key := range keys {
				if !p.rows.Delete(key) {
					return nil, fmt.Errorf("no row %s of this node", key)
				}
			}
			return nil, nil
		}),
		"content": testnet.Handle(func(struct{}) (any, error) {
			c := map[string]string{}
			for r := range p.rows.All() {
				c[r.Key] = r.Value
			}
			return c, nil
		}),
		"send":    testnet.Handle(p.send),
		"flow":    testnet.Handle(p.flow),
		"dry":     testnet.Handle(p.dry),
		"sent":    testnet.Handle(p.sent),
		"applied": testnet.Handle(p.got),
		"resume":  testnet.Handle(func(struct{}) (any, error) { close(p.hang); return nil, nil }),
		"call":    testnet.Handle(p.call),
		"burn":    testnet.Handle(burn),
	})
}

func (p *program) start(s settings) (any, error) {
	cfg := cluster.Config{
		Name: s.Name, Cluster: s.Cluster, Token: s.Token, Listen: s.Listen, Peers: s.Peers, Multicast: s.Multicast, Window: s.Window,
		Now: func() time.Time { return time.Now().Add(s.Offset) },
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	if s.Patient {
		cfg.DeadAfter, cfg.HintGrace, cfg.Stuck = patience/2, patience/2, patience/2
	}
	n, err := cluster.Start(context.Background(), cfg)
	if err != nil {
		return nil, err
	}
	if s.Diary != "" {
		if p.diary, err = os.OpenFile(s.Diary, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
			return nil, err
		}
	}
	if s.Hang {
		p.hang = make(chan struct{})
	}
	p.node = n
	events := n.Events(1 << 16)
	go func() {
		for e := range events.C {
			_ = p.server.Tell(news{testnet.Now(), e.Kind.String(), e.Member.Name, e.Member.Incarnation, e.State.String(), string(e.Reason)})
		}
	}()
	p.rows = cluster.NewTable(n, "rows", cluster.Text())
	p.tape = n.Channel("tape", p.apply, p.handBack)
	greet := cluster.NewTask(n, "greet", cluster.Text(), cluster.Text(), func(_ context.Context, from cluster.Member, req string) (string, error) {
		p.runs.Add(1)
		if strings.HasPrefix(req, "fail") {
			return "", errors.New(req)
		}
		return s.Name + " greets " + from.Name + ": " + req, nil
	})
	p.newer()
	p.calls = map[string]*cluster.Task[string, string]{"greet": greet}
	return nil, nil
}

// fill makes a record: a number, and bytes that depend on it.
func fill(number uint64, size int) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 8+size), number)
	for i := range size {
		b = append(b, byte(number+uint64(i)*number>>3))
	}
	return b
}

func (p *program) apply(from cluster.Member, record []byte) {
	if p.hang != nil {
		<-p.hang
	}
	number := binary.BigEndian.Uint64(record)
	if !bytes.Equal(record, fill(number, len(record)-8)) {
		number = 0 // not what was sent
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.applied[from.Name] = append(p.applied[from.Name], number)
	if p.diary != nil {
		if _, err := p.diary.Write(record[:8]); err != nil {
			panic(err)
		}
	}
}

func (p *program) handBack(to cluster.Member, records [][]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.out(to.Name)
	for _, r := range records {
		o.back = append(o.back, binary.BigEndian.Uint64(r))
	}
}

// out is called with mu held.
func (p *program) out(name string) *outgoing {
	if p.made[name] == nil {
		p.made[name] = &outgoing{}
	}
	return p.made[name]
}

func (p *program) named(name string) (cluster.Member, bool) {
	for _, m := range p.node.Members() {
		if m.Name == name {
			return m, true
		}
	}
	return cluster.Member{}, false
}

func (p *program) view() view {
	s := p.node.Status()
	v := view{Self: describe(s.Self), Senior: describe(s.Senior), Malformed: s.Malformed, Runs: p.runs.Load()}
	if s.Failure != nil {
		v.Failure = s.Failure.Reason
	}
	for _, m := range s.Members {
		v.Members = append(v.Members, describe(m))
	}
	for _, t := range s.Tables {
		if t.Name == "rows" {
			v.Keys, v.Rows, v.Digest = t.Keys, t.Rows, t.Digest
		}
		if t.Unmade {
			v.Unmade++
		}
	}
	for _, o := range s.Peers {
		v.Unacked += o.Stanza.Unacked
		v.Repairs += o.Repairs
		if !o.Synced {
			v.Unsynced++
		}
	}
	return v
}

func describe(m cluster.Member) person {
	return person{m.Name, m.Incarnation, m.State.String(), m.Suspected, [2]uint8{m.MinVersion, m.MaxVersion}}
}

func (p *program) put(rows map[string]string) (any, error) {
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		if err := p.rows.Put(key, rows[key]); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// parcel asks for records to a member.
type parcel struct {
	To    string
	Count int           // 0: until dry
	Size  int           // bytes of each, besides the number
	Mixed bool          // sizes differ, and Size is the bound
	Every time.Duration // pause between two
}

// turns gives each receiver to one sender at a time, so that the numbers of records rise in the order they are sent.
type turns struct {
	mu    sync.Mutex // guards next
	next  map[string]uint64
	locks sync.Map // by name: a channel of one, full while somebody sends
}

func (t *turns) number(name string) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.next == nil {
		t.next = map[string]uint64{}
	}
	t.next[name]++
	return t.next[name]
}

// send sends records, numbered on from those sent before, and returns how many the link took. A member that is gone
// is waited for.
func (p *program) send(o parcel) (any, error) { return p.stream(o, nil) }

func (p *program) stream(o parcel, stop <-chan struct{}) (int, error) {
	lock, _ := p.turns.locks.LoadOrStore(o.To, make(chan struct{}, 1))
	lock.(chan struct{}) <- struct{}{}
	defer func() { <-lock.(chan struct{}) }()
	again := time.NewTicker(max(o.Every, time.Millisecond))
	defer again.Stop()
	for i := 0; o.Count == 0 || i < o.Count; i++ {
		number := p.turns.number(o.To)
		for !p.sendOne(o, number) {
			select {
			case <-again.C:
			case <-stop:
				return i, nil
			}
		}
		if o.Every > 0 {
			<-again.C
		}
		select {
		case <-stop:
			return i + 1, nil
		default:
		}
	}
	return o.Count, nil
}

// sendOne notes the number before the record can come back.
func (p *program) sendOne(o parcel, number uint64) bool {
	m, ok := p.named(o.To)
	if !ok {
		return false
	}
	p.mu.Lock()
	out := p.out(o.To)
	out.accepted = append(out.accepted, number)
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	size := o.Size
	if o.Mixed {
		size = int(number * 7919 % uint64(o.Size))
	}
	err := p.tape.Send(ctx, m.ID, fill(number, size))
	if err == nil {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	out.accepted = out.accepted[:len(out.accepted)-1] // only one sends
	return false
}

// flow begins to send, until dry.
func (p *program) flow(o parcel) (any, error) {
	stop := make(chan chan struct{}, 1)
	p.mu.Lock()
	p.flows[o.To] = stop
	p.mu.Unlock()
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = p.stream(o, quit)
	}()
	go func() {
		done := <-stop
		close(quit)
		<-ended
		close(done)
	}()
	return nil, nil
}

// dry ends a flow.
func (p *program) dry(to string) (any, error) {
	p.mu.Lock()
	stop := p.flows[to]
	p.mu.Unlock()
	done := make(chan struct{})
	stop <- done
	<-done
	return nil, nil
}

// ledger is what a program says about the records to a member.
type ledger struct{ Accepted, Back []uint64 }

func (p *program) sent(to string) (any, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.out(to)
	return ledger{slices.Clone(o.accepted), slices.Clone(o.back)}, nil
}

func (p *program) got(from string) (any, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.applied[from]), nil
}

// call asks for a task at a member.
type call struct{ Task, To, Request string }

func (p *program) call(c call) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	p.mu.Lock()
	task := p.calls[c.Task]
	if task == nil { // this build calls it, and may not know it
		task = cluster.NewTask[string, string](p.node, c.Task, cluster.Text(), cluster.Text(), nil)
		p.calls[c.Task] = task
	}
	p.mu.Unlock()
	m, ok := p.named(c.To)
	if !ok {
		return nil, cluster.ErrGone
	}
	v, err := task.Call(ctx, m.ID, c.Request)
	if errors.Is(err, cluster.ErrUnknownTask) {
		return nil, errors.New(unknownTask)
	}
	return v, err
}

// unknownTask is what a program says in place of cluster.ErrUnknownTask.
const unknownTask = "unknown task"

// burn keeps processors busy.
func burn(o struct{ Threads int }) (any, error) {
	for range o.Threads {
		go func() {
			for x := uint64(1); ; x = x*6364136223846793005 + 1442695040888963407 {
				if x == 0 { // never: the generator does not visit it for long
					_, _ = os.Stdout.WriteString("")
				}
			}
		}()
	}
	return json.RawMessage("null"), nil
}
