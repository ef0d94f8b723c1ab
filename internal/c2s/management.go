package c2s

import (
	"strconv"
	"time"

	"github.com/starling-im/starling/internal/xmpp/stream"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// nsSM is the namespace of stream management (XEP-0198).
const nsSM = "urn:xmpp:sm:3"

// Management are the settings of stream management (XEP-0198).
type Management struct {
	On         bool
	Max        time.Duration // for which a lost client may come back; 0: it cannot
	Stanzas    int           // that may wait for an acknowledgement, and
	Bytes      int           // their size
	AckTimeout time.Duration // for the answer to a request, after which the connection counts as lost; 0 for any

	// For how long a stanza of the client may wait to be kept until no more is read of that client, and until its stream is
	// closed without the acknowledgement.
	SettlePause, SettleTimeout time.Duration

	Detached int    // sessions of one account that wait for their clients
	Location string // where clients should come back to, as host:port; empty for nowhere special
	Hint     string // of this node, in the ids of its sessions
}

// Requests for acknowledgements. Choice: at most one is open, and it leaves with the stanza that makes it due: after
// askEvery stanzas or askBytes bytes since the last one, or the first stanza after askPause. What is left is asked for
// askRest after the last request. So a client under load answers once for many stanzas, and one that gets
// a message now and then answers at once, while its radio is on.
const (
	askEvery = 16
	askBytes = 16 << 10
	askPause = 2 * time.Second
	askRest  = time.Second
)

// management is what a session has for stream management, kept to 80 bytes: there is one for every idle client. What is
// needed only while stanzas are under way is apart, and goes when the client rests: the queue of its line, and handling. The
// mutex of the line guards it.
type management struct {
	in      inbound       // has a mutex of its own
	max     time.Duration // for which its client may come back; 0 when the session cannot be resumed (XEP-0198 §5)
	since   int64         // when the client was asked last, or its connection was lost, in microseconds since 1970
	acked   uint32        // stanzas that the client has acknowledged, as it counts them
	unasked uint32        // stanzas written since the last request, and
	size    uint32        // their bytes
	index   uint32        // in keeper.all, from 1; 0 when it is not there yet. The keeper's mutex guards it
	asked   bool          // a request is open
}

// wrote counts a stanza that goes to the client.
func (m *management) wrote(size int) {
	m.unasked++
	m.size += uint32(size)
}

// due tells whether the client is to be asked how many stanzas it has got.
func (m *management) due(now int64) bool {
	if m.asked || m.unasked == 0 {
		return false
	}
	return m.unasked >= askEvery || m.size >= askBytes || now-m.since >= askPause.Microseconds()
}

func (m *management) requested(now int64) {
	m.asked, m.since = true, now
	m.unasked, m.size = 0, 0
}

// acknowledged takes the client's count of stanzas (XEP-0198 §4), of which sent are on the wire that it has not acknowledged,
// and returns how many more it has got than was known.
// Counts wrap at 2^32. Choice: one that is lower than an earlier one says nothing new.
func (m *management) acknowledged(h uint32, sent int) (n int, err error) {
	more := h - m.acked
	switch {
	case int32(more) < 0:
		return 0, nil
	case int64(more) > int64(sent):
		return 0, tooHigh(h, m.acked+uint32(sent))
	}
	m.acked += more
	return int(more), nil
}

// tooHigh is the error for a client that acknowledges what it was not sent (XEP-0198 §6).
func tooHigh(h, sent uint32) error {
	e := stream.Err(stream.UndefinedCondition, "You acknowledged "+decimal(h)+" stanzas, but I only sent you "+decimal(sent)+" so far.")
	e.App = xml.New(nsSM, "handled-count-too-high", "h", decimal(h), "send-count", decimal(sent))
	return e
}

func decimal(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// acknowledge takes the client's count of what it has got over a connection.
func (l *line) acknowledge(c *conn, h uint32) error {
	l.mu.Lock()
	if l.conn != c {
		l.mu.Unlock()
		return nil
	}
	n, err := l.sm.acknowledged(h, l.queue.sent())
	if err != nil {
		l.mu.Unlock()
		return err
	}
	l.queue.drop(n, true)
	l.sm.asked = false
	first := l.write(time.Now().UnixMicro())
	l.mu.Unlock()
	if first {
		c.sock.Flush()
	}
	return nil
}
