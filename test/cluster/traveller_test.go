package cluster_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

// doors are where travellers may log in, as a load balancer or the DNS tells clients.
type doors struct {
	mu   sync.Mutex // guards open
	open []client.Config
}

// set says which nodes take clients from now on.
func (d *doors) set(nodes ...*node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = nil
	for _, n := range nodes {
		d.open = append(d.open, n.config("nobody@"+domain))
	}
}

// pick returns the door for an attempt; ok is false while none is open.
func (d *doors) pick(attempt int) (c client.Config, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.open) == 0 {
		return c, false
	}
	return d.open[attempt%len(d.open)], true
}

// traveller is a client that says something to a friend all the time. When its stream ends it logs in through the next
// door, and says again what was not acknowledged there (XEP-0198 §4).
type traveller struct {
	t       testing.TB
	jid, to jid.JID
	doors   *doors
	leave   chan struct{} // ends the stream

	mu     sync.Mutex // guards what follows
	enough bool       // it says nothing new
	said   int        // messages have the numbers below this
	acked  int        // those below this have been acknowledged
	again  int        // how many were said again
	lives  int
	got    []int               // numbers of the friend's messages, as they came
	sees   map[string][]string // types of presences with the times they came, by full JID
	odd    []string            // what should not have come
	diary  []string            // its lives
	news   chan struct{}       // closed and made anew with each change
}

// The pace of travellers.
const (
	betweenMessages = 10 * time.Millisecond
	askEvery        = 5 // messages
	betweenAttempts = 100 * time.Millisecond
)

// travel has pairs of people chat through the doors until the test ends. All see each other's presence.
func travel(w *world, at *doors, pairs ...[2]string) (all []*traveller) {
	w.t.Helper()
	for _, pair := range pairs {
		for k, full := range pair {
			all = append(all, &traveller{
				t: w.t, jid: jid.MustParse(full), to: jid.MustParse(pair[1-k]), doors: at, leave: make(chan struct{}),
				sees: map[string][]string{}, news: make(chan struct{}),
			})
		}
	}
	acquaint(w, all)
	ctx, cancel := context.WithCancel(context.Background())
	var travelling sync.WaitGroup
	for i, v := range all {
		travelling.Go(func() {
			for attempt := i; ctx.Err() == nil; attempt++ {
				v.live(ctx, attempt)
			}
		})
	}
	w.t.Cleanup(func() {
		cancel()
		travelling.Wait()
	})
	for _, v := range all {
		v.until("the first life", func() bool { return v.acked > 0 && len(v.got) > 0 })
	}
	return all
}

// acquaint makes the accounts, and each a contact of all others.
func acquaint(w *world, all []*traveller) {
	w.t.Helper()
	n := w.running()[0]
	var people []*person
	for _, v := range all {
		n.register(v.jid.Local())
		p := n.login(v.jid.Bare().String() + "/before")
		for _, other := range people {
			befriend(p, other)
		}
		people = append(people, p)
	}
	for _, p := range people {
		p.send("<presence type='unavailable'/>")
		p.settled()
		p.Drop()
	}
}

// live is one stream, from the log-in to its end.
func (v *traveller) live(ctx context.Context, attempt int) {
	m, err := v.login(ctx, attempt)
	if err != nil {
		wait := time.NewTimer(betweenAttempts)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-ctx.Done():
		}
		return
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		v.listen(m)
	}()
	next := time.NewTicker(betweenMessages)
	defer next.Stop()
	at := 0 // the next number
	begun := time.Now()
	v.change(func() { v.lives, at = v.lives+1, v.acked })
	for first := at; ; {
		select {
		case <-next.C:
			if v.say(ctx, m, at) {
				at++
			} else if m.Waiting() > 0 {
				_ = m.Ask(ctx) // if it fails the stream is over
			}
		case <-v.leave:
			_ = m.Raw(ctx, []byte("</stream:stream>")) // if it fails the stream is over
		case <-ctx.Done():
			m.Drop()
		case <-over:
			m.Drop()
			v.change(func() {
				v.acked = max(first, at-m.Waiting())
				v.diary = append(v.diary, fmt.Sprintf("%s at %s until %s: said %d up to %d, of which %d were acknowledged, and %d came",
					begun.Format("05.000"), m.NetConn().RemoteAddr(), time.Now().Format("05.000"), first, at, v.acked-first, len(v.got)))
			})
			return
		}
		v.change(func() { v.acked = max(first, at-m.Waiting()) })
	}
}

func (v *traveller) login(ctx context.Context, attempt int) (*client.Managed, error) {
	door, ok := v.doors.pick(attempt)
	if !ok {
		return nil, errors.New("no door is open")
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	door.JID = v.jid
	c, err := client.Dial(ctx, door)
	if err != nil {
		return nil, err
	}
	m, err := client.Enable(ctx, c, false)
	for _, hello := range []string{"<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>", "<presence/>"} {
		if err == nil {
			err = m.Stanza(ctx, []byte(hello))
		}
	}
	if err != nil {
		c.Drop()
		return nil, err
	}
	return m, nil
}

// say says the message with a number, if there is to be one.
func (v *traveller) say(ctx context.Context, m *client.Managed, number int) bool {
	new := false
	v.change(func() {
		switch {
		case number < v.said:
			v.again++
		case v.enough:
			return
		default:
			v.said++
		}
		new = true
	})
	if new {
		text := "<message type='chat' to='" + v.to.Bare().String() + "' id='" + strconv.Itoa(number) + "'><body>and on and on</body></message>"
		if m.Stanza(ctx, []byte(text)) == nil && number%askEvery == 0 {
			_ = m.Ask(ctx)
		}
	}
	return new
}

// listen keeps what comes until the stream ends.
func (v *traveller) listen(m *client.Managed) {
	for {
		e, err := m.Next(context.Background())
		var failed *client.StreamError
		switch n, numbered := number(&e); {
		case errors.As(err, &failed) && failed.Condition == "system-shutdown":
			_ = m.Acknowledge(context.Background()) // what the server has told has come need not come again
		case errors.Is(err, client.ErrFooter):
		case errors.As(err, &failed):
			v.change(func() { v.odd = append(v.odd, failed.Error()) })
		case err != nil:
			return
		case numbered && e.Attr("from") == v.to.String():
			v.change(func() { v.got = append(v.got, n) })
		case e.Local == "presence":
			from, what := e.Attr("from"), cmp.Or(e.Attr("type"), "available")
			v.change(func() { v.sees[from] = append(v.sees[from], what+time.Now().Format(" 05.000")) })
		case e.Attr("type") != "result":
			v.change(func() { v.odd = append(v.odd, e.String()) })
		}
	}
}

func (v *traveller) change(fn func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	fn()
	close(v.news)
	v.news = make(chan struct{})
}

// until waits until something is so. It is asked with mu held.
func (v *traveller) until(what string, yes func() bool) {
	v.t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		v.mu.Lock()
		ok, news := yes(), v.news
		v.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-news:
		case <-late.C:
			v.mu.Lock()
			defer v.mu.Unlock()
			v.t.Fatalf("%s, not within %v: %s; said %d, acknowledged %d, heard %v, sees %v\n%s", v.jid, patience, what, v.said, v.acked, spans(v.heard()), v.sees, strings.Join(v.diary, "\n"))
		}
	}
}

// arrive ends the chatting, and checks that nothing was lost: each message that was acknowledged has come, most of them
// once, and each sees all others.
func arrive(all []*traveller) {
	for _, v := range all {
		v.t.Helper()
		v.change(func() { v.enough = true })
	}
	meet(all)
	said, again := map[string]int{}, map[string]int{}
	for _, v := range all {
		v.until("all that was said is acknowledged", func() bool { return v.acked == v.said })
		v.change(func() { said[v.jid.String()], again[v.jid.String()] = v.said, v.again })
	}
	for _, v := range all {
		friend := v.to.String()
		v.until("all that "+friend+" has said", func() bool { return len(v.heard()) >= said[friend] })
		v.mu.Lock()
		all := v.heard()
		inOrder(v.t, fmt.Sprintf("%s of %s", v.jid, friend), all, 0, said[friend])
		twice := len(v.got) - len(all)
		v.t.Logf("%s: %d lives; of %d messages %d were said again, %d came twice", v.jid, v.lives, len(all), again[friend], twice)
		if len(v.odd) > 0 {
			v.t.Errorf("%s was sent %d times what is wrong, first %s", v.jid, len(v.odd), v.odd[0])
		}
		v.mu.Unlock()
	}
}

// comeBack has all log out and in again.
func comeBack(all []*traveller) {
	for _, v := range all {
		v.t.Helper()
		var lives int
		v.change(func() { lives = v.lives })
		v.leave <- struct{}{}
		v.until("another life", func() bool { return v.lives > lives })
	}
}

// meet waits until each sees all others.
func meet(all []*traveller) {
	for _, v := range all {
		v.t.Helper()
		for _, other := range all {
			if full := other.jid.String(); other != v {
				v.until("sees "+full, func() bool {
					told := v.sees[full]
					return len(told) > 0 && strings.HasPrefix(told[len(told)-1], "available")
				})
			}
		}
	}
}

// spans writes sorted numbers as ranges.
func spans(numbers []int) string {
	var b strings.Builder
	for i, n := range numbers {
		switch last := i+1 == len(numbers) || numbers[i+1] != n+1; {
		case i == 0 || numbers[i-1] != n-1:
			fmt.Fprintf(&b, " %d", n)
		case last:
			fmt.Fprintf(&b, "-%d", n)
		}
	}
	return b.String()
}

// heard returns the numbers that have come, each once; mu is held.
func (v *traveller) heard() []int { return slices.Compact(slices.Sorted(slices.Values(v.got))) }
