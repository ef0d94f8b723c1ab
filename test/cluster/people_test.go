package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// person is a client that keeps all that comes.
type person struct {
	*client.Conn
	t   testing.TB
	jid jid.JID

	mu    sync.Mutex // guards what follows
	got   []xml.Element
	known int              // how many of got belong to what is over
	said  map[string][]int // numbers of the messages that came in place of got, by sender
	over  error            // the connection has ended
	heard chan struct{}    // closed and made anew with each change
}

// login binds a resource on a node and is available.
func (n *node) login(full string) *person {
	n.w.t.Helper()
	ctx, cancel := context.WithTimeout(n.w.t.Context(), patience)
	defer cancel()
	p, err := n.bind(ctx, full)
	if err != nil {
		n.w.t.Fatal(err)
	}
	p.send("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq><presence/>")
	p.await("own presence", func(e xml.Element) bool {
		return e.Local == "presence" && e.Attr("from") == full && e.Attr("type") == ""
	})
	return p
}

// bind binds a resource on a node.
func (n *node) bind(ctx context.Context, full string) (*person, error) {
	c, err := client.Dial(ctx, n.config(full))
	if err != nil {
		return nil, err
	}
	p := &person{Conn: c, t: n.w.t, jid: c.JID(), said: map[string][]int{}, heard: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.listen()
	}()
	n.w.t.Cleanup(func() {
		c.Drop()
		<-done
	})
	return p, nil
}

func (p *person) listen() {
	for {
		e, err := p.Next(context.Background())
		var failed *client.StreamError
		if errors.As(err, &failed) {
			e, err = failed.Element, nil
		}
		p.mu.Lock()
		if n, numbered := number(&e); err != nil {
			p.over = err
		} else if numbered {
			from := e.Attr("from")
			p.said[from] = append(p.said[from], n)
		} else {
			p.got = append(p.got, e)
		}
		close(p.heard)
		p.heard = make(chan struct{})
		p.mu.Unlock()
		if err != nil && !errors.Is(err, client.ErrFooter) {
			return
		}
	}
}

// number returns the number of a message that say has sent.
func number(e *xml.Element) (n int, ok bool) {
	if e.Local != "message" || e.Attr("type") == "error" {
		return 0, false
	}
	n, err := strconv.Atoi(e.Attr("id"))
	return n, err == nil
}

// until waits until something is so of what has come. It is asked with mu held.
func (p *person) until(what string, yes func() bool) {
	p.t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		p.mu.Lock()
		ok, heard, got, over := yes(), p.heard, p.got, p.over
		p.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-heard:
		case <-late.C:
			p.t.Fatalf("%s, not within %v: %s; %d stanzas came, %v; the last: %.2000s", p.jid, patience, what, len(got), over, fmt.Sprint(got[max(0, len(got)-5):]))
		}
	}
}

// join registers somebody and logs them in on a node.
func (w *world) join(name, full string) *person {
	w.t.Helper()
	w.nodes[name].register(jid.MustParse(full).Local())
	return w.nodes[name].login(full)
}

// sees checks that the last that has come of somebody's presence says that they are there.
func (p *person) sees(who jid.JID) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	var told []string
	for _, e := range p.got {
		if e.Local == "presence" && e.Attr("from") == who.String() {
			told = append(told, e.Attr("type"))
		}
	}
	if len(told) == 0 || told[len(told)-1] != "" {
		p.t.Errorf("%s does not see %s, who is there; of what types presence came: %q", p.jid, who, told)
	}
}

// begin lets await and count look only at what comes from now on.
func (p *person) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known = len(p.got)
}

// await waits for a stanza.
func (p *person) await(what string, is func(xml.Element) bool) {
	p.t.Helper()
	p.until(what, func() bool { return slices.ContainsFunc(p.got[p.known:], is) })
}

// ends waits until the server has ended the connection.
func (p *person) ends() {
	p.t.Helper()
	p.until("the connection ends", func() bool { return p.over != nil && !errors.Is(p.over, client.ErrFooter) })
}

// count counts what has come.
func (p *person) count(is func(xml.Element) bool) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.got[p.known:] {
		if is(e) {
			n++
		}
	}
	return n
}

// undisturbed checks that the server has not ended the stream.
func (p *person) undisturbed() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.got {
		if e.Local == "error" && e.Space == xml.NSStream {
			p.t.Errorf("%s was sent away: %s", p.jid, e)
		}
	}
	if p.over != nil {
		p.t.Errorf("the connection of %s has ended: %v", p.jid, p.over)
	}
}

func (p *person) send(text string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	if err := p.Raw(ctx, []byte(text)); err != nil {
		p.t.Fatalf("%s sends: %v", p.jid, err)
	}
}

// settled asks the server something, which it answers after all that was sent before.
func (p *person) settled() {
	p.t.Helper()
	id := p.ID()
	p.send("<iq type='get' id='" + id + "' to='" + domain + "'><ping xmlns='urn:xmpp:ping'/></iq>")
	p.await("answer to "+id, func(e xml.Element) bool { return e.Local == "iq" && e.Attr("id") == id })
}

// say sends chat messages with the numbers from up to, but not including, to.
func (p *person) say(to string, from, upTo int) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*patience)
	defer cancel()
	for i := from; i < upTo; i++ {
		err := p.Raw(ctx, []byte("<message type='chat' to='"+to+"' id='"+strconv.Itoa(i)+"'><body>and on and on and on</body></message>"))
		if err != nil {
			p.t.Errorf("%s says %d: %v", p.jid, i, err)
			return
		}
	}
}

// talk says something 40 times a second until it is told to stop. That returns how many messages the server has
// handled.
func (p *person) talk(to string) (stop func() int) {
	enough, done, n := make(chan struct{}), make(chan struct{}), 0
	go func() {
		defer close(done)
		pace := time.NewTicker(25 * time.Millisecond)
		defer pace.Stop()
		for {
			select {
			case <-pace.C:
				p.say(to, n, n+1)
				n++
			case <-enough:
				return
			case <-p.t.Context().Done():
				return
			}
		}
	}()
	p.t.Cleanup(func() { <-done })
	return func() int {
		p.t.Helper()
		close(enough)
		<-done
		p.settled()
		return n
	}
}

// numbers returns the numbers of the messages of somebody, in the order they came.
func (p *person) numbers(from jid.JID) []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.said[from.String()])
}

// hears waits for so many messages of somebody.
func (p *person) hears(from jid.JID, n int) {
	p.t.Helper()
	p.until(fmt.Sprintf("%d messages of %s", n, from), func() bool { return len(p.said[from.String()]) >= n })
}

// inOrder checks that numbers are those from up to, but not including, upTo, each once and in order.
func inOrder(t testing.TB, who string, numbers []int, from, upTo int) {
	t.Helper()
	want := from
	for i, n := range numbers {
		if n != want {
			t.Errorf("%s: message %d came in place of %d, as number %d of %d; that one came as number %d", who, n, want, i, len(numbers), slices.Index(numbers, want))
			return
		}
		want++
	}
	if want != upTo {
		t.Errorf("%s: the messages from %d up to %d did not come", who, want, upTo)
	}
}

// eachOnce checks that numbers are those below upTo, each once, in any order.
func eachOnce(t testing.TB, who string, numbers []int, upTo int) {
	t.Helper()
	inOrder(t, who, slices.Sorted(slices.Values(numbers)), 0, upTo)
}

// whole checks that of numbers below upTo none is missing, and few are there twice: what was under way when a link ended
// may be.
func whole(t testing.TB, who string, numbers []int, upTo int) {
	t.Helper()
	const few = 5
	all := slices.Compact(slices.Sorted(slices.Values(numbers)))
	inOrder(t, who, all, 0, upTo)
	if twice := len(numbers) - len(all); twice > few {
		t.Errorf("%s: %d of %d messages came twice", who, twice, len(all))
	}
}

// befriend makes people who are there see each other's presence.
func befriend(a, b *person) {
	a.t.Helper()
	presence := func(typ string, of jid.JID) func(xml.Element) bool {
		return func(e xml.Element) bool {
			return e.Local == "presence" && e.Attr("type") == typ && jid.MustParse(e.Attr("from")).Bare() == of.Bare()
		}
	}
	for _, way := range [][2]*person{{a, b}, {b, a}} {
		from, to := way[0], way[1]
		from.send("<presence type='subscribe' to='" + to.jid.Bare().String() + "'/>")
		to.await("subscribe", presence("subscribe", from.jid))
		to.send("<presence type='subscribed' to='" + from.jid.Bare().String() + "'/>")
		from.await("subscribed", presence("subscribed", to.jid))
		from.await("presence", presence("", to.jid))
	}
}

// available tells a presence that says that somebody is there.
func available(who jid.JID) func(xml.Element) bool {
	return func(e xml.Element) bool {
		return e.Local == "presence" && e.Attr("type") == "" && e.Attr("from") == who.String()
	}
}

// unavailable tells a presence that says that somebody is gone.
func unavailable(who jid.JID) func(xml.Element) bool {
	return func(e xml.Element) bool {
		return e.Local == "presence" && e.Attr("type") == "unavailable" && e.Attr("from") == who.String()
	}
}
