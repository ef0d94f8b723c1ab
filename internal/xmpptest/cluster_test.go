package xmpptest

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

// TestSpread: each client that a script makes is on another node, and comes to the first one again after the last.
func TestSpread(t *testing.T) {
	t.Parallel()
	c := StartCluster(t, Options{}, 3)
	r := newRun(t, c)
	sc, err := parse("s", "client! a a@a.test/x\nclient! b b@a.test/x\ndrop b\nclient! c c@a.test/x\nclient! d d@a.test/x")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, st := range sc.steps {
		if err := r.step(ctx, &st); err != nil {
			t.Fatal(err)
		}
	}
	defer r.cut()
	for full, node := range map[string]int{"a@a.test/x": 0, "b@a.test/x": -1, "c@a.test/x": 2, "d@a.test/x": 0} {
		for i, s := range c.Nodes {
			if n := len(s.Core().Sessions.Here(jid.MustParse(full).Bare())); (n == 1) != (i == node) {
				t.Errorf("node %d has %d sessions of %s", i, n, full)
			}
		}
	}
}

// TestSettle: while anything is on its way between nodes, or not dealt with, they have not settled.
func TestSettle(t *testing.T) {
	t.Parallel()
	c := StartCluster(t, Options{}, 3)
	a, b := c.Nodes[0].Node(), c.Nodes[1].Node()
	var hold chan struct{}
	channel := a.Channel("test", nil, nil)
	b.Channel("test", func(cluster.Member, []byte) { <-hold }, nil)
	topic := cluster.NewTopic(a, "test", cluster.Text())
	table := cluster.NewTable(a, "test", cluster.Text())
	for _, s := range c.Nodes[1:] {
		cluster.NewTopic(s.Node(), "test", cluster.Text()).Subscribe(func(cluster.Member, string) { <-hold }, nil)
		cluster.NewTable(s.Node(), "test", cluster.Text())
	}
	for _, test := range []struct {
		name string
		do   func() error
		why  string
	}{
		{"a record is not applied", func() error { return channel.Send(t.Context(), b.Self().ID, []byte("x")) }, "waits for acknowledgements of node1"},
		{"a message is not handled", func() error { return topic.Publish("x") }, "messages on test"},
		{"a row waits behind a record", func() error {
			return errors.Join(channel.Send(t.Context(), b.Self().ID, []byte("x")), table.Put("k", "v"))
		}, "waits for acknowledgements of node1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c.Settle(t)
			hold = make(chan struct{})
			if err := test.do(); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if err := c.settle(ctx); err == nil || !strings.Contains(err.Error(), test.why) {
				t.Errorf("got %v, awaited %q", err, test.why)
			}
			close(hold)
			c.Settle(t)
		})
	}
}

// TestSettleEnd: while the end of a session is being dealt with, its node and the others have not settled.
func TestSettleEnd(t *testing.T) {
	t.Parallel()
	c := StartCluster(t, Options{}, 3)
	conn := c.Nodes[1].Dial(t, jid.MustParse("juliet@a.test/x"))
	c.Settle(t)
	c.Nodes[1].mu.Lock() // for which the last of those who deal with the end waits
	conn.Drop()
	for c.Nodes[1].Core().Sessions.Len() > 0 {
		runtime.Gosched()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := c.settle(ctx); err == nil || !strings.Contains(err.Error(), "node1 has 0 sessions and shows 1") {
		t.Errorf("got %v", err)
	}
	c.Nodes[1].mu.Unlock()
	c.Settle(t)
	for i, s := range c.Nodes {
		if n := s.Core().Sessions.LenEverywhere(); n != 0 {
			t.Errorf("node %d still knows %d sessions", i, n)
		}
	}
}
