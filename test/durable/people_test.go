package durable_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

const (
	domain   = "a.test"
	password = "secret"
	patience = 30 * time.Second      // for what must happen
	pace     = 25 * time.Millisecond // between two messages of one person
	askEvery = 8                     // messages, after which people want to know what has arrived
	onePage  = 100                   // messages of an archive
)

// person talks to another one, in numbered messages, over streams with stream management.
type person struct {
	t        testing.TB
	name, to string // localparts

	mu    sync.Mutex // guards what follows
	next  int        // number of the next message
	first int        // number of the first one in the present stream
	heard []int      // from the one whom this person talks to, in all streams
	fault string     // the first thing that must not be
	news  chan struct{}

	// Of the present stream:
	stream *client.Managed
	there  bool // the server has said so
	sent   int  // messages
	enough chan struct{}
	busy   sync.WaitGroup
}

// pair makes two people who talk to each other.
func pair(t testing.TB, a, b string) []*person {
	return []*person{newPerson(t, a, b), newPerson(t, b, a)}
}

func newPerson(t testing.TB, name, to string) *person {
	return &person{t: t, name: name, to: to, news: make(chan struct{})}
}

// config is how to log in at an address.
func config(addr, name string) client.Config {
	return client.Config{Addr: addr, TLS: client.None, Mechanism: "PLAIN", JID: jid.MustParse(name + "@" + domain + "/desk"), Password: password}
}

// register makes the account.
func (p *person) register(addr string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	if err := client.Register(ctx, config(addr, p.name)); err != nil {
		p.t.Fatal(err)
	}
}

// login begins a stream, is available and listens.
func (p *person) login(addr string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	c, err := client.Dial(ctx, config(addr, p.name))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(c.Drop)
	m, err := client.Enable(ctx, c, true)
	if err == nil {
		err = m.Stanza(ctx, []byte("<presence/>"))
	}
	if err != nil {
		p.t.Fatalf("%s logs in: %v", p.name, err)
	}
	p.mu.Lock()
	p.stream, p.sent, p.first, p.there, p.enough = m, 0, p.next, false, make(chan struct{})
	p.mu.Unlock()
	p.busy.Go(p.listen)
	p.until("own presence", func() bool { return p.there })
}

// listen takes what comes until the connection ends.
func (p *person) listen() {
	for {
		e, err := p.stream.Next(context.Background())
		var failed *client.StreamError
		p.mu.Lock()
		n, numbered := number(&e, p.to)
		switch {
		case errors.As(err, &failed):
			p.blame("was sent away: " + failed.Error())
		case e.Attr("type") == "error":
			p.blame("got " + e.String())
		case e.Local == "presence":
			p.there = true
		case numbered:
			p.heard = append(p.heard, n)
		}
		close(p.news)
		p.news = make(chan struct{})
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// blame notes what must not be. mu is held.
func (p *person) blame(what string) {
	if p.fault == "" {
		p.fault = what
	}
}

// number is that of a message of somebody.
func number(e *xml.Element, from string) (n int, ok bool) {
	if e.Local != "message" || !strings.HasPrefix(e.Attr("from"), from+"@") {
		return 0, false
	}
	body := e.Child(xml.NSClient, "body")
	if body == nil {
		return 0, false
	}
	n, err := strconv.Atoi(body.Text())
	return n, err == nil
}

// talk says something again and again until stop, or the connection ends.
func (p *person) talk() {
	p.busy.Go(func() {
		again := time.NewTicker(pace)
		defer again.Stop()
		for {
			select {
			case <-again.C:
			case <-p.enough:
				return
			}
			p.mu.Lock()
			n := p.next
			p.next++
			p.mu.Unlock()
			text := fmt.Sprintf("<message type='chat' to='%s@%s' id='%s-%d'><body>%d</body></message>", p.to, domain, p.name, n, n)
			err := p.stream.Stanza(context.Background(), []byte(text))
			p.mu.Lock()
			p.sent++
			p.mu.Unlock()
			if err == nil && n%askEvery == 0 {
				err = p.stream.Ask(context.Background())
			}
			if err != nil {
				return
			}
		}
	})
}

// stop ends talk.
func (p *person) stop() { close(p.enough) }

// said is the number of messages so far, also of earlier streams.
func (p *person) said() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.next
}

// acknowledged are the numbers of the messages of this stream that were acknowledged: from one up to, but not including,
// another.
func (p *person) acknowledged() (from, upTo int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.first, p.first + max(0, p.sent-p.stream.Waiting()) // the presence is acknowledged before all messages
}

// comeBack tries to resume the stream of a server that was killed: nobody knows it any more.
func (p *person) comeBack(addr string) {
	p.t.Helper()
	if p.stream == nil {
		return
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	c, err := client.LogIn(ctx, config(addr, p.name))
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Drop()
	if err := p.stream.Resume(ctx, c); !errors.Is(err, client.ErrNotResumed) {
		p.t.Errorf("%s comes back to a server that was killed: %v", p.name, err)
	}
}

// until waits until something is so of what was heard. It is asked with mu held.
func (p *person) until(what string, yes func() bool) {
	p.t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		p.mu.Lock()
		ok, news, fault, n := yes(), p.news, p.fault, len(p.heard)
		p.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-news:
		case <-late.C:
			p.t.Fatalf("%s, not within %v: %s; heard %d messages; %s", p.name, patience, what, n, fault)
		}
	}
}

// hears waits until the messages up to a number are heard.
func (p *person) hears(n int) {
	p.t.Helper()
	p.until(fmt.Sprintf("message %d", n), func() bool { return len(p.heard) > 0 && p.heard[len(p.heard)-1] >= n })
}

// innocent checks that nothing was heard that must not be.
func (p *person) innocent() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault != "" {
		p.t.Errorf("%s %s", p.name, p.fault)
	}
	ascending(p.t, p.name+" heard", p.heard)
}

// ascending checks that numbers grow: nothing is out of order, or there twice.
func ascending(t testing.TB, what string, all []int) {
	t.Helper()
	for i := 1; i < len(all); i++ {
		if all[i] <= all[i-1] {
			t.Errorf("%s %d after %d", what, all[i], all[i-1])
			return
		}
	}
}

// archive is what somebody's archive has of each sender.
type archive map[string][]int

// read reads the whole archive of somebody. No id is in it twice.
func read(t testing.TB, addr, name string) archive {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := client.Dial(ctx, config(addr, name))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Drop()
	all, ids := archive{}, map[string]bool{}
	for after, complete := "", false; !complete; {
		ask := c.ID()
		err := c.Raw(ctx, fmt.Appendf(nil, `<iq type='set' id='%s'><query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'>
			<max>%d</max>%s</set></query></iq>`, ask, onePage, after))
		if err != nil {
			t.Fatal(err)
		}
		for {
			e, err := c.Next(ctx)
			if err != nil || e.Attr("type") == "error" {
				t.Fatalf("the archive of %s: %s, %v", name, e, err)
			}
			if e.Local == "iq" && e.Attr("id") == ask {
				complete = e.Child("urn:xmpp:mam:2", "fin").Attr("complete") == "true"
				break
			}
			result := e.Child("urn:xmpp:mam:2", "result")
			if result == nil {
				continue
			}
			id, m := result.Attr("id"), result.Child("urn:xmpp:forward:0", "forwarded").Child(xml.NSClient, "message")
			from, _, _ := strings.Cut(m.Attr("from"), "@")
			n, ok := number(m, from)
			if ids[id] || !ok || m.Attr("id") != from+"-"+strconv.Itoa(n) {
				t.Errorf("the archive of %s has %s under %s; again: %v", name, m, id, ids[id])
			}
			ids[id] = true
			all[from] = append(all[from], n)
			after = "<after>" + id + "</after>"
		}
	}
	for from, numbers := range all {
		ascending(t, fmt.Sprintf("the archive of %s has, of %s,", name, from), numbers)
	}
	return all
}
