package c2s

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/xmpp/jid"
)

// waiting makes a line of a session whose connection is lost.
func waiting(stanzas int) *line {
	srv := &Server{keeper: newKeeper(prometheus.NewRegistry(), ""), opts: Options{
		Management: Management{On: true, Stanzas: stanzas, Bytes: 1 << 20}, Indication: Indication{On: true, Stanzas: 256},
	}}
	l := newLine(srv, nil, jid.MustParse("romeo@a.test/orchard"))
	l.sm, l.phase = &management{max: time.Minute}, detached
	l.hush(false)
	return l
}

func (l *line) texts() (all []string) {
	l.speak()
	for i := range l.queue.len() {
		all = append(all, l.queue.at(i).text)
	}
	return all
}

// TestHeldPresence checks that what is held for a lost client is bounded by those who sent it, and comes in order.
func TestHeldPresence(t *testing.T) {
	l := waiting(1000)
	for i := range 10_000 {
		if _, err := l.Append(fmt.Sprintf("<presence from='friend%d@a.test/x' to='romeo@a.test'><status>%d</status></presence>", i%100, i)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(l.quiet.held); n > 256 {
		t.Errorf("%d stanzas held of 100 senders", n)
	}
	got := l.texts()
	if len(got) != 100 {
		t.Fatalf("%d stanzas left", len(got))
	}
	for i, text := range got {
		if want := fmt.Sprintf("<status>%d</status>", 9900+i); !strings.Contains(text, want) {
			t.Errorf("stanza %d is %s", i, text)
		}
	}
}

func TestUrgency(t *testing.T) {
	const chat = "<message from='juliet@a.test/x' to='romeo@a.test' type='chat'>"
	l := waiting(10)
	for text, want := range map[string]urgency{
		"<iq type='result' id='1'/>":                                                                                urgent,
		"<presence from='juliet@a.test/x'/>":                                                                        latest,
		"<presence from='juliet@a.test/x' type='unavailable'/>":                                                     latest,
		"<presence from='juliet@a.test' type='subscribe'/>":                                                         urgent,
		"<presence from='juliet@a.test/x' type='error'/>":                                                           urgent,
		"<presence from='romeo@a.test/orchard'/>":                                                                   urgent,
		chat + "<body>x</body><composing xmlns='" + nsChatStates + "'/></message>":                                  urgent,
		chat + "<composing xmlns='" + nsChatStates + "'/></message>":                                                idle,
		chat + "<thread>1</thread><gone xmlns='" + nsChatStates + "'/><no-store xmlns='urn:xmpp:hints'/></message>": idle,
		chat + "<received xmlns='urn:xmpp:receipts' id='1'/></message>":                                             urgent,
		chat + "</message>": urgent,
		"<message from='juliet@a.test' type='headline'><event xmlns='" + nsEvent + "'/></message>": patient,
	} {
		if got, _ := l.urgency(text); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
}

// TestOverflow checks that a stanza is either in the queue or refused, and that the queue is bounded.
func TestOverflow(t *testing.T) {
	l := waiting(10)
	var err error
	taken := 0
	for err == nil && taken < 100 {
		_, err = l.Append("<message from='juliet@a.test/x' to='romeo@a.test'><body>x</body></message>")
		taken++
	}
	if taken != 11 || l.queue.len() != 11 {
		t.Errorf("%d taken, %d in the queue, then %v", taken, l.queue.len(), err)
	}
}

// TestOverflowLive checks what may wait for a client that is there: more than for one that is not, as long as it answers
// requests in time, and that within a bound.
func TestOverflowLive(t *testing.T) {
	const stanzas = 10
	start := time.Now().UnixMicro()
	for name, c := range map[string]struct {
		asked bool
		after time.Duration // between the request and the stanza
		n     int           // stanzas before that one
		over  bool
	}{
		"not asked":             {false, time.Hour, 5 * stanzas, false},
		"within the bound":      {true, time.Hour, stanzas - 1, false},
		"has time to answer":    {true, grace, 5 * stanzas, false},
		"has not answered":      {true, grace + time.Millisecond, 5 * stanzas, true},
		"too many all the same": {true, 0, liveFactor * stanzas, true},
	} {
		t.Run(name, func(t *testing.T) {
			l := waiting(stanzas)
			l.quiet, l.phase = nil, opening
			l.sm.asked, l.sm.since = c.asked, start
			put := func(at int64) error {
				_, err := l.put(entry{text: "<message/>", at: at})
				return err
			}
			for i := range c.n {
				if err := put(start); err != nil {
					t.Fatalf("stanza %d: %v", i, err)
				}
			}
			if err := put(start + c.after.Microseconds()); (err != nil) != c.over {
				t.Errorf("after %v: %v", c.after, err)
			}
		})
	}
}

// TestQueue checks the ring against a slice.
func TestQueue(t *testing.T) {
	q, next, first := &queue{}, 0, 0
	for round := range 200 {
		for range round % 37 {
			q.push(entry{text: fmt.Sprint(next)})
			next++
		}
		q.written = q.len() / 2
		drop := min(q.len(), round%23)
		q.drop(drop, true)
		first += drop
		bytes := 0
		for i := range q.len() {
			if q.at(i).text != fmt.Sprint(first+i) {
				t.Fatalf("round %d: entry %d is %s", round, i, q.at(i).text)
			}
			bytes += len(q.at(i).text)
		}
		if q.len() != next-first || q.bytes != bytes || q.written < 0 || q.written > q.len() {
			t.Fatalf("round %d: %d entries, %d bytes, %d written", round, q.len(), q.bytes, q.written)
		}
	}
}
