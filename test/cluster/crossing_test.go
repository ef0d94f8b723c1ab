package cluster_test

import (
	"sync"
	"testing"

	"github.com/starling-im/starling/internal/xmpp/xml"
)

// TestComeAtTheSameMoment: contacts who become available at the same moment on two nodes see each other, though neither
// node knows the other's session when it tells of its own (RFC 6121 §4.2).
func TestComeAtTheSameMoment(t *testing.T) {
	const rounds = 40 // of which 1 or 2 failed before nodes looked for this
	w := newWorld(t, "one", "two")
	romeo, juliet := w.join("one", "romeo@a.test/x"), w.join("two", "juliet@a.test/x")
	befriend(romeo, juliet)
	for range rounds {
		romeo.Drop()
		juliet.Drop()
		romeo.ends()
		juliet.ends()
		w.until("nobody is there", func() bool {
			for _, n := range w.running() {
				if s, err := n.Status(); err != nil || s.Sessions.Everywhere > 0 {
					return false
				}
			}
			return true
		})
		var both sync.WaitGroup
		both.Go(func() { romeo = w.nodes["one"].login("romeo@a.test/x") })
		both.Go(func() { juliet = w.nodes["two"].login("juliet@a.test/x") })
		both.Wait()
		romeo.await("presence of juliet", available(juliet.jid))
		juliet.await("presence of romeo", available(romeo.jid))
	}
}

// TestAskedAtTheSameMoment: a request that one node stores while the one who is asked becomes available on another is
// shown (RFC 6121 §3.1.3), and so is what changes in a roster while it is fetched (RFC 6121 §2.1.6).
func TestAskedAtTheSameMoment(t *testing.T) {
	const rounds = 40
	w := newWorld(t, "one", "two")
	romeo, juliet := w.join("one", "romeo@a.test/x"), w.join("two", "juliet@a.test/x")
	for range rounds {
		juliet.Drop()
		juliet.ends()
		var both sync.WaitGroup
		both.Go(func() { juliet = w.nodes["two"].login("juliet@a.test/x") })
		both.Go(func() { romeo.send("<presence type='subscribe' to='juliet@a.test'/>") })
		both.Wait()
		juliet.await("request of romeo", func(e xml.Element) bool {
			return e.Local == "presence" && e.Attr("type") == "subscribe" && e.Attr("from") == "romeo@a.test"
		})
		romeo.begin()
		juliet.send("<presence type='unsubscribed' to='romeo@a.test'/>")
		romeo.await("refusal", func(e xml.Element) bool { return e.Local == "presence" && e.Attr("type") == "unsubscribed" })
		romeo.settled()
	}
}
