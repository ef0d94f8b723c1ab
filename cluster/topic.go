package cluster

import (
	"fmt"
	"log/slog"

	"github.com/starling-im/starling/cluster/internal/bus"
	"github.com/starling-im/starling/cluster/internal/frame"
	"github.com/starling-im/starling/cluster/internal/topic"
)

// Topic carries messages from one node to all: to those that are there, in the order of each publisher, at most once.
// Who needs to know that something was missed is told: after a lost message, when a member joins, when a partition heals,
// and when a subscriber is too slow. That makes it right for telling caches what is out of date.
type Topic[V any] struct {
	n     *Node
	codec Codec[V]
	state *topic.Topic[Member]
}

// NewTopic makes this node's end of the topic with this name. It panics when the node has the topic already.
func NewTopic[V any](n *Node, name string, codec Codec[V]) *Topic[V] {
	if name == "" || len(name) > frame.MaxName {
		panic(fmt.Sprintf("cluster: topic name %q", name))
	}
	t := n.topics.Add(name)
	if t == nil {
		panic(fmt.Sprintf("cluster: topic %q exists already", name))
	}
	return &Topic[V]{n, codec, t}
}

// Publish sends a message to all nodes, this one included. It waits for nobody.
func (t *Topic[V]) Publish(v V) error {
	body, err := t.codec.Append(nil, v)
	if err != nil {
		return fmt.Errorf("encode message of topic %s: %w", t.state.Name, err)
	}
	view := t.n.view.Load()
	err = t.state.Publish(view.self, body, func(seq uint64) error {
		s := view.session
		if s == nil {
			return nil
		}
		named := frame.Named{From: t.n.id, Inc: view.self.Incarnation, Seq: seq, Name: t.state.Name, Body: body}
		return s.bus.Publish(bus.Control, s.subject("tp", t.n.id), frame.AppendNamed(nil, frame.KindTopic, named))
	})
	if err != nil {
		return fmt.Errorf("publish on topic %s: %w", t.state.Name, err)
	}
	return nil
}

// Subscribe calls fn for each message, one after another, and onGap, if it is not nil, when messages may have been
// missed, before the ones that follow. After cancel has returned no further call starts.
func (t *Topic[V]) Subscribe(fn func(from Member, v V), onGap func()) (cancel func()) {
	l, cancel := t.state.Subscribe(func(from Member, body []byte) {
		v, err := t.codec.Decode(body)
		if err != nil {
			t.n.log.Error("message of a topic cannot be read", slog.String("topic", t.state.Name), slog.String("member", from.Name), slog.Any("err", err))
			return
		}
		fn(from, v)
	}, onGap)
	t.n.work.Go(func() { l.Run(t.n.done) })
	return cancel
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
	t := s.n.topics.Get(msg.Name)
	if t == nil {
		return
	}
	from, ok := s.n.Member(msg.From)
	if !ok {
		from = Member{ID: msg.From, Incarnation: msg.Inc}
	}
	t.Receive(msg.From, msg.Inc, msg.Seq, from, msg.Body)
}
