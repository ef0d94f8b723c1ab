// Package topic keeps, for each topic of a node, what has come from each publisher and who listens. It finds out when
// messages are missing, and tells the listeners.
package topic

import (
	"cmp"
	"slices"
	"sync"

	"github.com/starling-im/starling/cluster/internal/frame"
	"github.com/starling-im/starling/cluster/internal/journal"
)

// Set holds the topics of a node. M is what a publisher is to the listeners. The zero value is an empty set.
type Set[M any] struct {
	mu     sync.Mutex // guards what follows
	byName map[string]*Topic[M]
}

// Topic is one topic, whatever the type of its messages.
type Topic[M any] struct {
	Name string
	hash uint64
	turn sync.Mutex // held while publishing: messages leave in the order of their sequence

	mu      sync.Mutex // guards what follows
	seq     uint64     // of the last message of this node
	sources map[string]*source
	subs    []*Listener[M]
}

// source is another publisher.
type source struct {
	inc   uint64
	seq   uint64 // of the last message that came
	named uint64 // what its last beacon said
}

// Add makes a topic; nil if the name is taken.
func (s *Set[M]) Add(name string) *Topic[M] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byName == nil {
		s.byName = map[string]*Topic[M]{}
	}
	if s.byName[name] != nil {
		return nil
	}
	t := &Topic[M]{Name: name, hash: journal.Sum(name, "", 0, nil), sources: map[string]*source{}}
	s.byName[name] = t
	return t
}

// Get returns a topic, nil if there is none of the name.
func (s *Set[M]) Get(name string) *Topic[M] {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byName[name]
}

func (s *Set[M]) all() []*Topic[M] {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*Topic[M], 0, len(s.byName))
	for _, t := range s.byName {
		list = append(list, t)
	}
	return list
}

// Gap tells all listeners that they may have missed something.
func (s *Set[M]) Gap() {
	for _, t := range s.all() {
		t.mu.Lock()
		t.lost()
		t.mu.Unlock()
	}
}

// Compare takes in what a beacon says about the messages of its sender.
func (s *Set[M]) Compare(b *frame.Beacon) {
	if len(b.Topics) == 0 {
		return
	}
	for _, t := range s.all() {
		for _, said := range b.Topics {
			if said.Topic == t.hash {
				t.named(b.ID, b.Inc, said.Seq)
			}
		}
	}
}

// Sequences returns what the next beacon says about the messages of this node.
func (s *Set[M]) Sequences() []frame.TopicSeq {
	var list []frame.TopicSeq
	for _, t := range s.all() {
		t.mu.Lock()
		if t.seq > 0 {
			list = append(list, frame.TopicSeq{Topic: t.hash, Seq: t.seq})
		}
		t.mu.Unlock()
	}
	return list
}

// Close forgets the listeners.
func (s *Set[M]) Close() {
	for _, t := range s.all() {
		t.mu.Lock()
		t.subs = nil
		t.mu.Unlock()
	}
}

// Stats are how far a topic is at a moment.
type Stats struct {
	Name      string
	Published uint64            // messages of this node
	Heard     map[string]uint64 // number of the last message, by the ID of its publisher
	Waiting   int               // messages and gaps that wait for listeners, and one for each listener that is busy
}

// Stats returns how far each topic is.
func (s *Set[M]) Stats() []Stats {
	var list []Stats
	for _, t := range s.all() {
		list = append(list, t.stats())
	}
	slices.SortFunc(list, func(a, b Stats) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

func (t *Topic[M]) stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Stats{Name: t.Name, Published: t.seq, Heard: make(map[string]uint64, len(t.sources))}
	for id, src := range t.sources {
		s.Heard[id] = src.seq
	}
	for _, l := range t.subs {
		s.Waiting += l.waiting()
	}
	return s
}

// Publish numbers a message, sends it to the other nodes, and gives it to the listeners here.
func (t *Topic[M]) Publish(from M, body []byte, send func(seq uint64) error) error {
	t.turn.Lock()
	defer t.turn.Unlock()
	t.mu.Lock()
	t.seq++
	seq := t.seq
	t.mu.Unlock()
	err := send(seq)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.give(from, body)
	return err
}

// give hands a message to the listeners. It is called with mu held.
func (t *Topic[M]) give(from M, body []byte) {
	for _, l := range t.subs {
		l.offer(&heard[M]{from, body})
	}
}

// Receive takes a message of another node, which the listeners get unless it has come before.
func (t *Topic[M]) Receive(id string, inc, seq uint64, from M, body []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	src := t.sources[id]
	if src == nil || src.inc < inc {
		src = &source{inc: inc}
		t.sources[id] = src
	}
	if src.inc > inc || seq <= src.seq {
		return
	}
	if seq != src.seq+1 {
		t.lost()
	}
	src.seq = seq
	t.give(from, body)
}

// lost tells the listeners that something is missing. It is called with mu held.
func (t *Topic[M]) lost() {
	for _, l := range t.subs {
		l.offer(nil)
	}
}

// named compares with what a beacon says. A message may be later than the beacon after it: so it counts as lost only if
// it has not come by the next one.
func (t *Topic[M]) named(from string, inc, seq uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	src := t.sources[from]
	if src == nil || src.inc < inc { // what it has said may be for this node and on its way, or lost: that shows by the next beacon
		t.sources[from] = &source{inc: inc, named: seq}
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
