package xmpptest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// header opens a stream to a.test.
const header = "<?xml version='1.0'?><stream:stream to='a.test' version='1.0' xmlns='jabber:client' xmlns:stream='" + xml.NSStream + "'>"

// Site is where the clients of a script connect: all to one Server, or each to another node of a Cluster.
type Site interface {
	// node returns the server for the client that a script makes as its n-th, from 0.
	node(n int) *Server
	// settle waits until the nodes have told each other all they have to, and have acted on it.
	settle(ctx context.Context) error
}

func (s *Server) node(int) *Server             { return s }
func (s *Server) settle(context.Context) error { return nil }

// nodes is how many nodes the clusters have that scripts run on.
const nodes = 3

// Scripts runs each testdata/*.script of the calling package as a parallel subtest: on a server of its own, then, if it
// makes more than one client, on a cluster of its own.
func Scripts(t *testing.T) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", "*.script"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".script"), func(t *testing.T) {
			t.Parallel()
			src, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			sc, err := parse(path, string(src))
			if err != nil {
				t.Fatal(err)
			}
			o := Options{Set: sc.set}
			t.Run("node", func(t *testing.T) { play(t, Start(t, o), sc) })
			if sc.spreads() {
				t.Run("cluster", func(t *testing.T) { play(t, StartCluster(t, o, nodes), sc) })
			}
		})
	}
}

// Play runs the text of a script, without settings, on a site that may have played others. Its clients are gone, and
// all nodes have noticed, when Play returns.
func Play(t testing.TB, s Site, name, text string) {
	t.Helper()
	sc, err := parse(name, text)
	if err == nil && len(sc.set) > 0 {
		err = errors.New("settings come too late: the server runs")
	}
	if err != nil {
		t.Fatal(err)
	}
	play(t, s, sc)
}

// run is a script that is being played.
type run struct {
	t        testing.TB
	site     Site
	patience time.Duration // for each step
	peers    map[string]*peer
	made     int    // peers so far
	sender   string // who has sent last
	vars     variables
}

func play(t testing.TB, at Site, sc *script) {
	t.Helper()
	if err := newRun(t, at).play(sc); err != nil {
		t.Fatal(err)
	}
}

func newRun(t testing.TB, at Site) *run {
	return &run{t: t, site: at, patience: patience, peers: map[string]*peer{}, vars: variables{"open": header}}
}

// play runs the steps. The error says which failed, what it waited for, and what came.
func (r *run) play(sc *script) error {
	defer r.cut()
	for _, st := range sc.steps {
		ctx, cancel := context.WithTimeout(r.t.Context(), r.patience)
		err := r.step(ctx, &st)
		cancel()
		if err != nil {
			return fmt.Errorf("%s:%d: %s\n%w", sc.name, st.line, st, err)
		}
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), r.patience)
	defer cancel()
	for who := range r.peers {
		end := r.drop
		if r.peers[who].managed {
			end = r.close // else its session would wait for it
		}
		if err := end(ctx, who); err != nil {
			return fmt.Errorf("%s: drop %s at the end: %w", sc.name, who, err)
		}
	}
	return nil
}

// cut drops all connections.
func (r *run) cut() {
	for _, p := range r.peers {
		p.Drop()
	}
}

func (r *run) step(ctx context.Context, st *step) error {
	p := r.peers[st.who]
	// What a client has caused is seen by all who come after it, as on one node, where a request was answered after its
	// effect. A client that goes on, or answers, is not held up: the order of what it sees must be right by itself.
	switch st.verb {
	case send, logIn, bindOnly, authOnly, connect:
		if r.sender != st.who {
			if err := r.site.settle(ctx); err != nil {
				return err
			}
		}
		r.sender = st.who
	}
	switch st.verb {
	case makeAccount:
		r.site.node(0).Account(r.t, jid.MustParse(st.arg))
		return nil
	case logIn, bindOnly, authOnly, connect:
		return r.join(ctx, st)
	}
	if p == nil {
		return fmt.Errorf("%s is not connected", st.who)
	}
	switch st.verb {
	case befriend:
		return r.befriend(ctx, st.who, st.arg)
	case skip:
		if err := r.settle(ctx, p); err != nil {
			return err
		}
		p.unread = nil
	case closeStream:
		return r.close(ctx, st.who)
	case drop:
		return r.drop(ctx, st.who)
	case cut:
		delete(r.peers, st.who)
		p.Drop()
	case send:
		text, err := unescape(r.vars.fill(st.arg))
		if err != nil {
			return err
		}
		if missing := variable.FindString(text); missing != "" {
			return fmt.Errorf("%s has no value", missing)
		}
		p.managed = p.managed || strings.Contains(text, "<enable ") || strings.Contains(text, "<resume ")
		p.stranger = p.stranger && !strings.Contains(text, "<resume ")
		return p.Raw(ctx, []byte(text))
	case expect:
		return r.expect(ctx, p, st)
	case startTLS:
		return p.wire.(*raw).startTLS(ctx)
	case closed:
		delete(r.peers, st.who)
		defer p.Drop()
		return p.atEnd(ctx)
	}
	return nil
}

// join makes a client.
func (r *run) join(ctx context.Context, st *step) error {
	if r.peers[st.who] != nil {
		return fmt.Errorf("%s is connected already", st.who)
	}
	node := r.site.node(r.made)
	r.made++
	if st.verb == connect {
		door := "c2s"
		if st.arg != "" {
			door = "tls"
		}
		c, err := dialRaw(ctx, node.Addresses()[door][0], door == "tls")
		if err != nil {
			return err
		}
		r.peers[st.who] = &peer{wire: c}
		return nil
	}
	if st.verb == authOnly {
		full := jid.MustParse(st.arg)
		c, err := node.login(ctx, r.t, full)
		if err != nil {
			return err
		}
		r.peers[st.who] = &peer{wire: c, jid: full, stranger: true}
		r.vars[st.who] = st.arg
		return nil
	}
	c := node.Dial(r.t, jid.MustParse(st.arg))
	p := &peer{wire: c, jid: c.JID(), ended: node.Ended(c.JID())}
	r.peers[st.who] = p
	r.vars[st.who] = p.jid.String()
	if st.verb == bindOnly {
		return nil
	}
	if err := p.Raw(ctx, []byte("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq><presence/>")); err != nil {
		return err
	}
	for _, first := range []string{
		"<iq type='result' id='roster'/>", "<presence type='$none' from='" + string(xml.AppendAttr(nil, p.jid.String())) + "'/>",
	} {
		if err := r.await(ctx, p, first, false); err != nil {
			return err
		}
	}
	return nil
}

// await waits for what matches a pattern.
func (r *run) await(ctx context.Context, p *peer, text string, strict bool) error {
	pattern, err := compile(r.vars.fill(text))
	if err != nil {
		return err
	}
	_, err = p.await(ctx, func(it item) bool { return r.vars.match(pattern, it, strict) })
	if err != nil {
		return fmt.Errorf("awaited %s\n%w; unread: %s", r.vars.fill(text), err, p.list())
	}
	return nil
}

func (r *run) expect(ctx context.Context, p *peer, st *step) error {
	switch st.how {
	case nothing:
		if err := r.settle(ctx, p); err != nil {
			return err
		}
		if len(p.unread) > 0 {
			return fmt.Errorf("unread: %s", p.list())
		}
		return nil
	case never:
		pattern, err := compile(r.vars.fill(st.arg))
		if err == nil {
			err = r.settle(ctx, p)
		}
		for _, it := range p.unread {
			if err == nil && r.vars.match(pattern, it, false) {
				err = fmt.Errorf("came: %s", it)
			}
		}
		return err
	case first:
		for len(p.unread) == 0 {
			if err := p.read(ctx); err != nil {
				return err
			}
		}
		pattern, err := compile(r.vars.fill(st.arg))
		if err == nil && !r.vars.match(pattern, p.unread[0], false) {
			err = fmt.Errorf("awaited %s\nfirst of unread: %s", r.vars.fill(st.arg), p.list())
		}
		p.unread = p.unread[1:]
		return err
	}
	return r.await(ctx, p, st.arg, st.how == exactly)
}

// settle waits until the servers have handled all that clients have sent, and p has got what they made it get.
func (r *run) settle(ctx context.Context, p *peer) error {
	for _, other := range r.peers {
		if other != p && !other.jid.IsZero() && !other.footed && !other.stranger {
			if err := r.ping(ctx, other); err != nil {
				return fmt.Errorf("ping of %s: %w", other.jid, err)
			}
		}
	}
	if err := r.site.settle(ctx); err != nil {
		return err
	}
	return r.ping(ctx, p)
}

// ping makes a round trip to the server (XEP-0199 §4.2). Any answer will do.
func (r *run) ping(ctx context.Context, p *peer) error {
	const id = "is-all-handled"
	ping := "<iq type='get' id='" + id + "' to='" + p.jid.Domain() + "'><ping xmlns='urn:xmpp:ping'/></iq>"
	if err := p.Raw(ctx, []byte(ping)); err != nil {
		return err
	}
	_, err := p.await(ctx, func(it item) bool { return it.Local == "iq" && it.Attr("id") == id })
	return err
}

// befriend makes two clients see each other's presence (RFC 6121 §3.1).
func (r *run) befriend(ctx context.Context, a, b string) error {
	var steps []step
	for _, way := range [][2]string{{a, b}, {b, a}} {
		from, to := way[0], way[1]
		bareFrom, bareTo := r.peers[from].jid.Bare().String(), r.peers[to].jid.Bare().String()
		steps = append(steps,
			step{verb: send, who: from, arg: "<presence type='subscribe' to='" + bareTo + "'/>"},
			step{verb: expect, who: to, arg: "<presence type='subscribe' from='" + bareFrom + "'/>"},
			step{verb: send, who: to, arg: "<presence type='subscribed' to='" + bareFrom + "'/>"},
			step{verb: expect, who: from, arg: "<presence type='subscribed' from='" + bareTo + "'/>"},
			step{verb: expect, who: from, arg: "<presence type='$none' from='$" + to + "'/>"})
	}
	for _, st := range append(steps, step{verb: skip, who: a}, step{verb: skip, who: b}) {
		if err := r.step(ctx, &st); err != nil {
			return fmt.Errorf("%s: %w", st, err)
		}
	}
	return nil
}

// close ends a client's stream and waits until the server has handled that.
func (r *run) close(ctx context.Context, who string) error {
	p := r.peers[who]
	delete(r.peers, who)
	if err := p.Raw(ctx, []byte(footer)); err != nil {
		return err
	}
	if _, err := p.await(ctx, func(it item) bool { return it.footer }); err != nil {
		return err
	}
	return r.gone(ctx, p)
}

// drop cuts a client's connection and waits until the server has handled that.
func (r *run) drop(ctx context.Context, who string) error {
	p := r.peers[who]
	delete(r.peers, who)
	return r.gone(ctx, p)
}

// gone cuts a connection, and waits until the end of its session has been handled, and all nodes know it.
func (r *run) gone(ctx context.Context, p *peer) error {
	p.Drop()
	if err := p.wait(ctx); err != nil {
		return err
	}
	return r.site.settle(ctx)
}

// wait waits until the server has handled the end of a client's session.
func (p *peer) wait(ctx context.Context) error {
	if p.ended == nil {
		return nil
	}
	select {
	case <-p.ended:
		return nil
	case <-ctx.Done():
		return errors.New("the server does not notice that the client is gone")
	}
}

// list shows what is unread.
func (p *peer) list() string {
	if len(p.unread) == 0 {
		return "nothing"
	}
	var b strings.Builder
	for _, it := range p.unread {
		fmt.Fprintf(&b, "\n\t%s", it)
	}
	return b.String()
}
