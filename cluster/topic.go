package cluster

import (
	"fmt"
	"log/slog"
	"sync"

	"github.com/starling-im/starling/cluster/internal/bus"
	"github.com/starling-im/starling/cluster/internal/frame"
)

// Topic carries messages from one node to all: to those that are there, in the order of each publisher, at most once.
// Who needs to know that something was missed is told: after a lost message, when a member joins, when a partition heals,
// and when a subscriber is too slow. That makes it right for telling caches what is out of date.
type Topic[V any] struct {
	n     *Node
	codec Codec[V]
	state *topic
}

// topics are those of a node.
type topics struct {
	mu     sync.Mutex // guards what follows
	byName map[string]*topic
}

// topic is one topic, whatever its type.
type topic struct {
	name string
	hash uint64
	turn sync.Mutex // held while publishing: messages leave in the order of their sequence

	mu      sync.Mutex // guards what follows
	seq     uint64     // of the last message of this node
	sources map[string]*source
	subs    []*listener
}

// source is another publisher.
type source struct {
	inc   uint64
	seq   uint64 // of the last message that came
	named uint64 // what its last beacon said
}

// NewTopic makes this node's end of the topic with this name. It panics when the node has the topic already.
func NewTopic[V any](n *Node, name string, codec Codec[V]) *Topic[V] {
	if name == "" || len(name) > frame.MaxName {
		panic(fmt.Sprintf("cluster: topic name %q", name))
	}
	t := &topic{name: name, hash: rowSum(name, "", 0, nil), sources: map[string]*source{}}
	n.topics.mu.Lock()
	defer n.topics.mu.Unlock()
	if n.topics.byName == nil {
		n.topics.byName = map[string]*topic{}
	}
	if n.topics.byName[name] != nil {
		panic(fmt.Sprintf("cluster: topic %q exists already", name))
	}
	n.topics.byName[name] = t
	return &Topic[V]{n, codec, t}
}

// Publish sends a message to all nodes, this one included. It waits for nobody.
func (t *Topic[V]) Publish(v V) error {
	body, err := t.codec.Append(nil, v)
	if err != nil {
		return fmt.Errorf("encode message of topic %s: %w", t.state.name, err)
	}
	view := t.n.view.Load()
	t.state.turn.Lock()
	defer t.state.turn.Unlock()
	t.state.mu.Lock()
	t.state.seq++
	seq := t.state.seq
	t.state.mu.Unlock()
	if s := view.session; s != nil {
		named := frame.Named{From: t.n.id, Inc: view.self.Incarnation, Seq: seq, Name: t.state.name, Body: body}
		err = s.bus.Publish(bus.Control, s.subject("tp", t.n.id), frame.AppendNamed(nil, frame.KindTopic, named))
	}
	t.state.give(view.self, body)
	if err != nil {
		return fmt.Errorf("publish on topic %s: %w", t.state.name, err)
	}
	return nil
}

// maxListener is how many messages wait for one subscriber of a topic.
const maxListener = 1024

// listener is a subscriber of a topic.
type listener struct {
	fn   func(from Member, body []byte)
	gap  func()
	wake chan struct{}
	stop chan struct{}
	once sync.Once

	mu     sync.Mutex // guards what follows
	queue  []heard
	missed bool
}

type heard struct {
	from Member
	body []byte
}

// Subscribe calls fn for each message, one after another, and onGap, if it is not nil, when messages may have been
// missed, before the ones that follow. After cancel has returned no further call starts.
func (t *Topic[V]) Subscribe(fn func(from Member, v V), onGap func()) (cancel func()) {
	l := &listener{gap: onGap, wake: make(chan struct{}, 1), stop: make(chan struct{})}
	l.fn = func(from Member, body []byte) {
		v, err := t.codec.Decode(body)
		if err != nil {
			t.n.log.Error("message of a topic cannot be read", slog.String("topic", t.state.name), slog.String("member", from.Name), slog.Any("err", err))
			return
		}
		fn(from, v)
	}
	t.state.mu.Lock()
	t.state.subs = append(t.state.subs, l)
	t.state.mu.Unlock()
	t.n.work.Go(func() { l.run(t.n.done) })
	return func() {
		t.state.mu.Lock()
		for i, o := range t.state.subs {
			if o == l {
				t.state.subs = append(t.state.subs[:i:i], t.state.subs[i+1:]...)
				break
			}
		}
		t.state.mu.Unlock()
		l.once.Do(func() { close(l.stop) })
	}
}

func (l *listener) offer(h *heard) {
	l.mu.Lock()
	if h == nil || len(l.queue) >= maxListener {
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

func (l *listener) run(done <-chan struct{}) {
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
		l.queue, l.missed = nil, false
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
	}
}

// give hands a message to the subscribers here.
func (t *topic) give(from Member, body []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.subs {
		l.offer(&heard{from, body})
	}
}

// receive takes a message of another node. It reports whether it is new.
func (t *topic) receive(from string, inc, seq uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	src := t.sources[from]
	if src == nil || src.inc < inc {
		src = &source{inc: inc}
		t.sources[from] = src
	}
	if src.inc > inc || seq <= src.seq {
		return false
	}
	if seq != src.seq+1 {
		t.lost()
	}
	src.seq = seq
	return true
}

// lost tells the subscribers that something is missing. It is called with mu held.
func (t *topic) lost() {
	for _, l := range t.subs {
		l.offer(nil)
	}
}

// named compares with what a beacon says. A message may be later than the beacon after it: so it counts as lost only if
// it has not come by the next one.
func (t *topic) named(from string, inc, seq uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	src := t.sources[from]
	if src == nil || src.inc < inc { // new here: what it said before was not for this node
		t.sources[from] = &source{inc: inc, seq: seq, named: seq}
		return
	}
	if src.inc > inc {
		return
	}
	if src.seq < src.named {
		src.seq = src.named
		t.lost()
	}
	src.named = seq
}

func (ts *topics) all() []*topic {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	list := make([]*topic, 0, len(ts.byName))
	for _, t := range ts.byName {
		list = append(list, t)
	}
	return list
}

func (ts *topics) get(name string) *topic {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return ts.byName[name]
}

// gap tells all subscribers that they may have missed something.
func (ts *topics) gap() {
	for _, t := range ts.all() {
		t.mu.Lock()
		t.lost()
		t.mu.Unlock()
	}
}

func (ts *topics) compare(b *frame.Beacon) {
	if len(b.Topics) == 0 {
		return
	}
	for _, t := range ts.all() {
		for _, s := range b.Topics {
			if s.Topic == t.hash {
				t.named(b.ID, b.Inc, s.Seq)
			}
		}
	}
}

// sequences returns what the beacon says about the topics.
func (ts *topics) sequences() []frame.TopicSeq {
	var list []frame.TopicSeq
	for _, t := range ts.all() {
		t.mu.Lock()
		if t.seq > 0 {
			list = append(list, frame.TopicSeq{Topic: t.hash, Seq: t.seq})
		}
		t.mu.Unlock()
	}
	return list
}

func (s *session) onTopic(m bus.Message) {
	msg, err := frame.ParseNamed(m.Data, frame.KindTopic)
	if err != nil {
		s.n.malformed.Add(1)
		return
	}
	if msg.From == s.n.id {
		return
	}
	t := s.n.topics.get(msg.Name)
	if t == nil || !t.receive(msg.From, msg.Inc, msg.Seq) {
		return
	}
	from, ok := s.n.Member(msg.From)
	if !ok {
		from = Member{ID: msg.From, Incarnation: msg.Inc}
	}
	t.give(from, msg.Body)
}

func (ts *topics) close() {
	for _, t := range ts.all() {
		t.mu.Lock()
		t.subs = nil
		t.mu.Unlock()
	}
}
