package load

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// link is one session under load.
type link struct {
	nc     net.Conn
	jid    string
	number uint32
	peer   *link // of Chat
	in     receiver

	out     []byte // stanzas ready to be sent, one after the other
	pattern pattern

	unread   []byte // what had come when the link was made, of one with stream management
	scratch  []byte // what who sends writes
	reply    []byte // what who reads writes
	ackWaits bool   // its acknowledgements wait for what it sends next

	sent     atomic.Uint64 // stanzas; written only by who sends
	received atomic.Uint64 // stanzas that were as they should be; written only by who reads
}

// ready makes the link send stanzas like p, at most batch at once.
func (l *link) ready(p pattern, batch int) {
	l.pattern = p
	for range batch {
		l.out = append(l.out, p.bytes...)
	}
}

// send sends the next n stanzas.
func (l *link) send(n int) error {
	next, size := l.sent.Load(), len(l.pattern.bytes)
	for n > 0 {
		part := min(n, len(l.out)/size)
		for i := range part {
			l.pattern.number(l.out[i*size:(i+1)*size], uint32(next))
			next++
		}
		// First the count, then the bytes: nobody may see a stanza come that was not sent.
		l.sent.Store(next)
		n -= part
		if _, err := l.nc.Write(l.framed(l.out[:part*size], n == 0)); err != nil {
			return err
		}
	}
	return nil
}

// framed is what is written for stanzas: with stream management an answer that is due goes before them, and a request for an
// acknowledgement after the last.
func (l *link) framed(stanzas []byte, last bool) []byte {
	if l.in.sm == nil {
		return stanzas
	}
	b := l.scratch[:0]
	if l.ackWaits {
		b = l.in.sm.appendAnswer(b)
	}
	b = append(b, stanzas...)
	if last {
		b = append(b, request...)
	}
	l.scratch = b
	return b
}

// Sizes of the buffer that a link reads into, in bytes.
const (
	inBuffer    = 8 << 10
	maxInBuffer = 1 << 20
)

// read looks at what arrives until the connection ends, and calls arrived for every read that brought stanzas.
func (l *link) read(arrived func(stanzas int) error) error {
	buf := make([]byte, max(inBuffer, 2*len(l.unread)))
	have := copy(buf, l.unread)
	for l.unread = nil; ; {
		n, err := l.nc.Read(buf[have:])
		if n == 0 && err != nil {
			return err
		}
		have += n
		used, stanzas := l.in.scan(buf[:have])
		have = copy(buf, buf[used:have])
		if have == len(buf) {
			if have == maxInBuffer {
				return errors.New("a stanza of the server has no end")
			}
			buf = append(buf, make([]byte, len(buf))...)
		}
		if stanzas > 0 {
			l.received.Store(l.received.Load() + uint64(stanzas))
			if err := arrived(stanzas); err != nil {
				return err
			}
		}
		if err := l.answer(); err != nil {
			return err
		}
	}
}

// traffic is the readers of all links.
type traffic struct {
	g        *generator
	stopping atomic.Bool // nothing more is sent
	closing  atomic.Bool // nothing more is read
	running  atomic.Int64
	ended    chan struct{} // closed by the last reader
}

// start lets a goroutine for each link send as many stanzas as opening says, then read, and answer with as many as reply
// says.
func (g *generator) start(opening func(l *link) int, reply func(l *link, stanzas int) int) *traffic {
	t := &traffic{g: g, ended: make(chan struct{})}
	t.running.Store(int64(len(g.links)))
	for _, l := range g.links {
		go func() {
			defer func() {
				if t.running.Add(-1) == 0 {
					close(t.ended)
				}
			}()
			err := l.send(opening(l))
			if err == nil {
				err = l.read(func(stanzas int) error {
					if n := reply(l, stanzas); n > 0 && !t.stopping.Load() {
						return l.send(n)
					}
					return nil
				})
			}
			if !t.closing.Load() || !errors.Is(err, os.ErrDeadlineExceeded) {
				g.broken(l, err)
			}
		}()
	}
	return t
}

// broken counts a session that ended by itself.
func (g *generator) broken(l *link, err error) {
	g.faults.note(func(f *Faults) { f.Broken++ }, fmt.Sprintf("session %s: %v", l.jid, err))
}

// received is the number of stanzas that all links have received.
func (g *generator) received() uint64 {
	var n uint64
	for _, l := range g.links {
		n += l.received.Load()
	}
	return n
}

// underWay is the number of stanzas that were sent and not received.
func (g *generator) underWay() (n uint64) {
	for _, l := range g.links {
		for i := range l.in.sources { // not the whole source: the rest of it belongs to the reader
			n += g.links[l.in.sources[i].number].sent.Load()
		}
	}
	received := g.received()
	return n - min(n, received)
}

// drainStep is how often a look is taken at what is still under way.
const drainStep = 10 * time.Millisecond

// finish sends nothing more, waits for what is under way, stops the readers and counts what never came.
func (t *traffic) finish() {
	t.stopping.Store(true)
	for end := time.Now().Add(t.g.cfg.Drain); t.g.underWay() > 0 && t.running.Load() > 0 && time.Now().Before(end); {
		time.Sleep(drainStep)
	}
	if t.g.cfg.managed() {
		t.acknowledged()
	}
	t.closing.Store(true)
	for _, l := range t.g.links {
		l.nc.SetReadDeadline(time.Unix(1, 0))
	}
	<-t.ended
	t.g.report.Sent = t.g.report.Sent[:0]
	for _, l := range t.g.links {
		t.g.report.Sent = append(t.g.report.Sent, uint32(l.sent.Load()))
		for i := range l.in.sources {
			s := &l.in.sources[i]
			if n := l.in.lost(s, uint32(t.g.links[s.number].sent.Load())); n > 0 {
				t.g.faults.note(func(f *Faults) { f.Lost += n }, fmt.Sprintf("%d stanzas from %s to %s never came", n, s.jid, l.jid))
			}
		}
	}
}
