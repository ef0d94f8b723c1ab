package cluster_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// TestBindSendAnswer: a session is known everywhere before anything that it sends: who is answered the moment they have
// bound a resource gets every answer. The sessions are not available, so that an answer has no other way.
func TestBindSendAnswer(t *testing.T) {
	t.Parallel()
	rounds := int64(map[bool]int{false: 500, true: 10_000}[soaking()])
	names := []string{"one", "two", "three"}
	w := newWorld(t, names...)
	oracles := map[string]jid.JID{}
	for _, name := range names {
		w.nodes[name].register("oracle-"+name, "asker-"+name)
		oracles[name] = w.nodes[name].oracle("oracle-" + name + "@a.test/temple")
	}
	var done atomic.Int64
	var asking sync.WaitGroup
	for i, name := range names {
		for _, other := range []string{names[(i+1)%3], names[(i+2)%3]} {
			asking.Go(func() {
				for n := done.Add(1); n <= rounds && !t.Failed(); n = done.Add(1) {
					if err := w.nodes[name].ask(fmt.Sprintf("asker-%s@a.test/%d", name, n), oracles[other]); err != nil {
						t.Errorf("round %d, from %s to %s: %v", n, name, other, err)
					}
				}
			})
		}
	}
	asking.Wait()
}

// oracle logs somebody in who answers whatever they are asked.
func (n *node) oracle(full string) jid.JID {
	n.w.t.Helper()
	ctx, cancel := context.WithTimeout(n.w.t.Context(), patience)
	defer cancel()
	c, err := client.Dial(ctx, n.config(full))
	if err != nil {
		n.w.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			e, err := c.Next(context.Background())
			if err != nil {
				return
			}
			if e.Local == "message" && e.Attr("type") == "chat" {
				// The answer is of type headline: it is for that session or for nobody.
				_ = c.Send(context.Background(), xml.New(xml.NSClient, "message", "type", "headline", "to", e.Attr("from"), "id", e.Attr("id")))
			}
		}
	}()
	n.w.t.Cleanup(func() {
		c.Drop()
		<-done
	})
	return c.JID()
}

// ask binds a resource, asks at once, and waits for the answer.
func (n *node) ask(full string, whom jid.JID) error {
	ctx, cancel := context.WithTimeout(n.w.t.Context(), 10*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, n.config(full))
	if err != nil {
		return err
	}
	defer c.Drop()
	if err := c.Send(ctx, xml.New(xml.NSClient, "message", "type", "chat", "to", whom.String(), "id", "question")); err != nil {
		return err
	}
	for {
		e, err := c.Next(ctx)
		switch {
		case err != nil:
			return err
		case e.Attr("type") == "error":
			return fmt.Errorf("no answer, but %s", e)
		case e.Local == "message" && e.Attr("id") == "question":
			return nil
		}
	}
}
