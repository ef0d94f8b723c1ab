package c2s

import (
	"time"

	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/datetime"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// nsDelay is the namespace of delayed delivery (XEP-0203 §2).
const nsDelay = "urn:xmpp:delay"

// entry is a stanza for the client.
type entry struct {
	text string
	fork *session.Fork // nil when it went one way only
	at   int64         // microseconds since 1970, when it came
}

// settle tells what has become of the stanza. It reports whether it has to be sent on: the client did not get it, and
// no other one either.
func (e *entry) settle(received bool) (failed bool) {
	if e.fork == nil {
		return !received
	}
	return e.fork.Close(received)
}

// delayed is the text with a note of when the stanza came (XEP-0198 §4, XEP-0203 §2), if it is one that says something at
// another time: a message, or the presence of somebody who is available.
func (e *entry) delayed(from string) string {
	st, err := stanza.Decode(e.text)
	if err != nil || st.Has(nsDelay, "delay") || st.Kind == stanza.IQ || st.Kind == stanza.Presence && st.Type != stanza.Available {
		return e.text
	}
	return st.With(delay(from, e.at)).String()
}

func delay(from string, at int64) xml.Element {
	return xml.New(nsDelay, "delay", "from", from, "stamp", datetime.Format(time.UnixMicro(at)))
}

// queue is a ring of entries. A nil queue is an empty one, into which nothing can be put.
type queue struct {
	ring    []entry // its length is a power of two, or 0
	head    int     // of the oldest
	count   int
	written int // the oldest ones that are on the wire
	bytes   int // of the texts
}

// A queue that is empty gives back a ring of more than idleRing entries.
const (
	firstRing = 8
	idleRing  = 32
)

func (q *queue) len() int {
	if q == nil {
		return 0
	}
	return q.count
}

// sent is how many of the oldest entries are on the wire.
func (q *queue) sent() int {
	if q == nil {
		return 0
	}
	return q.written
}

// at is the i-th oldest entry.
func (q *queue) at(i int) *entry { return &q.ring[(q.head+i)&(len(q.ring)-1)] }

func (q *queue) push(e entry) {
	if q.count == len(q.ring) {
		ring := make([]entry, max(firstRing, 2*len(q.ring)))
		for i := range q.count {
			ring[i] = *q.at(i)
		}
		q.ring, q.head = ring, 0
	}
	q.count++
	*q.at(q.count - 1) = e
	q.bytes += len(e.text)
}

// drop takes out the n oldest entries, which the client has received or not.
func (q *queue) drop(n int, received bool) {
	if q == nil {
		return
	}
	for range n {
		e := q.at(0)
		e.settle(received)
		q.bytes -= len(e.text)
		*e = entry{}
		q.head = (q.head + 1) & (len(q.ring) - 1)
		q.count--
	}
	q.written = max(0, q.written-n)
	if q.count == 0 && len(q.ring) > idleRing {
		q.ring, q.head = nil, 0
	}
}

// take empties the queue, which may be nil, and leaves it to the caller to settle what was in it.
func (q *queue) take() []entry {
	if q == nil {
		return nil
	}
	all := make([]entry, q.count)
	for i := range all {
		all[i] = *q.at(i)
	}
	*q = queue{}
	return all
}
