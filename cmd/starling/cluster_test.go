package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/membership"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/store/storetest"
	"github.com/starling-im/starling/internal/xmpp/stream"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// member is a node of a cluster in a process of its own.
type member struct {
	*node
	dir  string // with the data folder and the working directory
	name string
}

// free returns an address of loopback on which nobody listens.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// joining are the flags of a node.
func joining(name, database, token, listen string, more ...string) []string {
	return append([]string{"--node-name=" + name, "--database=" + database, "--join-token=" + token, "--cluster-listen=" + listen,
		"--allow-shared-sqlite", "--set=cluster.advertise_client=" + name + ".test:5222", "--set=auth.iterations=4096",
		"--set=cluster.drain_time=1s"}, more...)
}

// member starts a node.
func startMember(t *testing.T, name string, flags []string) *member {
	t.Helper()
	dir := t.TempDir()
	return &member{serve(t, dir, flags...), dir, name}
}

// status asks the node on the command line.
func (m *member) status() membership.Status {
	m.t.Helper()
	r := starling(m.t, m.dir, "cluster", "status", "--json")
	r.want(m.t, exitOK)
	var s membership.Status
	if err := json.Unmarshal([]byte(r.out), &s); err != nil {
		m.t.Fatalf("%v: %s", err, r.out)
	}
	return s
}

// is waits until the node has a state, and sees so many members, all of them ready.
func (m *member) is(state string, members int) membership.Status {
	m.t.Helper()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for begun := time.Now(); ; <-again.C {
		s := m.status()
		ready := 0
		for _, o := range s.Members {
			if o.State == state || o.State == "ready" {
				ready++
			}
		}
		if s.State == state && len(s.Members) == members && (ready == members || members == 1) {
			return s
		}
		if time.Since(begun) > patience {
			m.t.Fatalf("%s: not %s with %d members: %+v", m.name, state, members, s)
		}
	}
}

// person is a client with what it has heard and nobody has asked for.
type person struct {
	*client.Conn
	t    *testing.T
	kept []xml.Element
}

func (m *member) login(who string) *person {
	m.t.Helper()
	c := login(m.t, m.node, who, "secret")
	p := &person{Conn: c, t: m.t}
	p.send("<presence/>")
	p.hear("presence", "")
	return p
}

func (p *person) send(text string) {
	p.t.Helper()
	if err := p.Raw(p.t.Context(), []byte(text)); err != nil {
		p.t.Fatal(err)
	}
}

// hear waits for an element that has a text in its body, and keeps what is none.
func (p *person) hear(local, body string) xml.Element {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	fits := func(e xml.Element) bool { return e.Local == local && strings.Contains(string(e.Append(nil, "")), body) }
	if i := slices.IndexFunc(p.kept, fits); i >= 0 {
		e := p.kept[i]
		p.kept = slices.Delete(p.kept, i, i+1)
		return e
	}
	for {
		e, err := p.Next(ctx)
		if err != nil {
			p.t.Fatalf("waiting for %s %q: %v", local, body, err)
		}
		if fits(e) {
			return e
		}
		p.kept = append(p.kept, e)
	}
}

// bodies reads what comes until the stream ends, and returns the numbers in its bodies and how it ended.
func (p *person) bodies(into map[string]int) *client.StreamError {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	for {
		e, err := p.Next(ctx)
		var ended *client.StreamError
		if errors.As(err, &ended) {
			return ended
		}
		if err != nil {
			p.t.Fatal(err)
		}
		if b := e.Child("jabber:client", "body"); b != nil {
			into[b.Text()]++
		}
	}
}

// TestCluster: two processes are one server, also when one of them leaves and joins at run time.
func TestCluster(t *testing.T) {
	for _, d := range []store.Dialect{store.SQLite, store.Postgres} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			database, token := storetest.URL(t, d), filepath.Join(t.TempDir(), "join-token")
			starling(t, t.TempDir(), "cluster", "token", "--out", token).want(t, exitOK, "new join token")
			if info, err := os.Stat(token); err != nil || info.Mode().Perm() != 0o600 {
				t.Fatalf("%v, %v", info, err)
			}
			at := free(t)
			a := startMember(t, "a", joining("a", database, token, at))
			b := startMember(t, "b", joining("b", database, token, "127.0.0.1:0", "--cluster-peers="+at))
			for _, who := range []string{"romeo", "juliet"} {
				starling(t, a.dir, "user", "add", who+"@localhost", "--password=secret").want(t, exitOK)
			}
			a.is("ready", 2)
			b.is("ready", 2)
			if out := b.out.text(); !regexp.MustCompile(`cluster +main, node b is ready`).MatchString(out) {
				t.Errorf("the welcome: %s", out)
			}
			romeo, juliet := a.login("romeo@localhost/orchard"), b.login("juliet@localhost/balcony")
			romeo.send("<message type='chat' to='juliet@localhost/balcony'><body>one</body></message>")
			juliet.hear("message", "one")
			if s := a.status(); s.Sessions.Here != 1 || s.Sessions.Everywhere != 2 || s.Members[1].Sessions != 1 {
				t.Errorf("sessions: %+v, %+v", s.Sessions, s.Members)
			}
			for _, c := range []struct{ command, want string }{
				{"status", `state +ready`}, {"members", `b +ready +127\.0\.0\.1:\d+ +1 .*`}, {"tables", `sessions +2 +2 +1 +0 +[0-9a-f]{16}`},
				{"links", `b +stanzas +\d+`}, {"events", `node b is there`},
			} {
				r := starling(t, a.dir, "cluster", c.command)
				if r.want(t, exitOK); !regexp.MustCompile(c.want).MatchString(r.out) {
					t.Errorf("%s: no %s in %s", c.command, c.want, r.out)
				}
				r = starling(t, a.dir, "cluster", c.command, "--json")
				if r.want(t, exitOK); !json.Valid([]byte(r.out)) {
					t.Errorf("%s: %s", c.command, r.out)
				}
			}

			starling(t, b.dir, "cluster", "leave").want(t, exitOK, "standalone", "operator, for this node")
			ended := juliet.bodies(map[string]int{})
			if ended.Condition != stream.SeeOtherHost || !strings.Contains(string(ended.Element.Append(nil, "")), "a.test:5222") {
				t.Errorf("juliet's stream ended with %s", ended.Element.Append(nil, ""))
			}
			a.is("ready", 1)
			romeo.send("<message type='chat' to='juliet@localhost'><body>two</body></message>")
			starling(t, b.dir, "cluster", "join").want(t, exitOK, "ready")
			b.login("juliet@localhost/balcony").hear("message", "two")
			b.stop()
			a.is("ready", 1)
			a.stop()
		})
	}
}

// TestClusterDrain: nothing of what is sent while a node drains is lost.
func TestClusterDrain(t *testing.T) {
	t.Parallel()
	database, token, at := storetest.URL(t, store.SQLite), write(t, t.TempDir(), "token", starling(t, t.TempDir(), "cluster", "token").out), free(t)
	a := startMember(t, "a", joining("a", database, token, at))
	b := startMember(t, "b", joining("b", database, token, "127.0.0.1:0", "--cluster-peers="+at))
	for _, who := range []string{"romeo", "juliet"} {
		starling(t, a.dir, "user", "add", who+"@localhost", "--password=secret").want(t, exitOK)
	}
	a.is("ready", 2)
	b.is("ready", 2)
	romeo, juliet := a.login("romeo@localhost/orchard"), b.login("juliet@localhost/balcony")
	const messages = 300
	halfway, sent := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(sent)
		for i := range messages {
			text := fmt.Sprintf("<message type='chat' to='juliet@localhost/balcony' id='%d'><body>%d</body></message>", i, i)
			if err := romeo.Raw(t.Context(), []byte(text)); err != nil {
				t.Error(err)
			}
			if i == messages/3 {
				close(halfway)
			}
		}
	}()
	<-halfway
	drained := make(chan result)
	go func() { drained <- starling(t, b.dir, "cluster", "drain") }()
	got := map[string]int{}
	if ended := juliet.bodies(got); ended.Condition != stream.SeeOtherHost {
		t.Errorf("juliet's stream ended with %v", ended)
	}
	r := <-drained
	r.want(t, exitOK, "drained", "takes no new ones")
	<-sent
	if c, err := net.Dial("tcp", b.info.Addresses["c2s"]); err == nil {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a drained node takes clients")
		}
		c.Close()
	}
	// She goes where she was told to; a message at the end shows that she has heard all.
	juliet = a.login("juliet@localhost/balcony")
	romeo.send("<message type='chat' to='juliet@localhost/balcony'><body>last</body></message>")
	for got["last"] == 0 {
		e := juliet.hear("message", "")
		if b := e.Child("jabber:client", "body"); b != nil {
			got[b.Text()]++
		}
	}
	for i := range messages {
		if n := got[fmt.Sprint(i)]; n != 1 {
			t.Errorf("message %d came %d times", i, n)
		}
	}
	if t.Failed() {
		t.Logf("a: %s\n\nb: %s", a.logs.text(), b.logs.text())
	}
	starling(t, b.dir, "cluster", "join").want(t, exitOK, "ready")
	b.login("juliet@localhost/chamber")
	a.stop()
	b.stop()
}

// TestClusterFails: a node that cannot join says why and what to do, and goes on alone.
func TestClusterFails(t *testing.T) {
	t.Parallel()
	database, at := storetest.URL(t, store.SQLite), free(t)
	token := func() string { return write(t, t.TempDir(), "token", starling(t, t.TempDir(), "cluster", "token").out) }
	right := token()
	a := startMember(t, "a", joining("a", database, right, at))
	cases := []struct {
		name  string
		flags []string
		want  []string
	}{
		{"wrong token", joining("b", database, token(), "127.0.0.1:0", "--cluster-peers="+at), []string{"another join token", "the same token file"}},
		{"another database", joining("b", storetest.URL(t, store.SQLite), right, "127.0.0.1:0", "--cluster-peers="+at),
			[]string{"node a works on another database", "the same database.url"}},
		{"a name twice", joining("a", database, right, "127.0.0.1:0", "--cluster-peers="+at), []string{"has the name a", "a name of its own"}},
		{"a port that is taken", joining("b", database, right, at), []string{"in use"}},
		{"no such token", joining("b", database, "none", "127.0.0.1:0"), []string{"cannot be read", "none readable"}},
		{"no shared database", []string{"--join-token=" + right, "--cluster-listen=127.0.0.1:0"}, []string{"SQLite", "PostgreSQL", "--allow-shared-sqlite"}},
	}
	t.Run("joins", func(t *testing.T) { // and returns when all parallel ones have ended
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				b := startMember(t, "b", c.flags)
				s := b.is("failed", 1)
				b.out.await(t, "Stop the server:")
				r := starling(t, b.dir, "cluster", "join")
				for _, want := range c.want {
					if !strings.Contains(s.Failure.Reason+s.Failure.Remedy, want) {
						t.Errorf("status: no %q in %+v", want, s.Failure)
					}
					for where, text := range map[string]string{"welcome": b.out.text(), "log": b.logs.text(), "join": r.out} {
						if !strings.Contains(text, want) {
							t.Errorf("%s: no %q in %s", where, want, text)
						}
					}
				}
				r.want(t, exitFailed, "failed", "remedy")
				b.stop()
			})
		}
	})
	a.is("ready", 1)
}

// TestClusterCommands: what they say where there is no cluster, or no server.
func TestClusterCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, command := range []string{"status", "members", "tables", "links", "events", "join", "leave", "drain"} {
		starling(t, dir, "cluster", command).want(t, exitFailed, "no server runs on the data folder ./starling-data", "starling serve", "--data")
	}
	n := serve(t, dir)
	r := starling(t, dir, "cluster", "status")
	r.want(t, exitOK, "standalone", "not configured")
	starling(t, dir, "cluster", "members").want(t, exitOK, "this node")
	starling(t, dir, "cluster", "links").want(t, exitOK, "sees no other one")
	for _, args := range [][]string{{"join"}, {"leave"}, {"join", "--all"}} {
		starling(t, dir, append([]string{"cluster"}, args...)...).want(t, exitFailed, "no cluster is configured on this node", "starling cluster token")
	}
	if strings.Contains(n.logs.text(), "cluster") {
		t.Errorf("the log of a server without a cluster: %s", n.logs.text())
	}
	starling(t, dir, "cluster", "token", "--out", "token").want(t, exitOK, "token has a new join token")
	starling(t, dir, "cluster", "token", "--out", "token").want(t, exitUsage, "token exists already")
	n.stop()

	bad := write(t, dir, "bad", "abc\n")
	for _, c := range []struct {
		name string
		code int
		want []string
		args []string
	}{
		{"no cluster", 0, []string{"cluster: is not configured"}, nil},
		{"good", 0, []string{"cluster.token_file: is a join token", "an SQLite file that nodes share", "cluster.listen: 127.0.0.1:0 is free", "other nodes must name this one"},
			[]string{"--join-token=token", "--cluster-listen=127.0.0.1:0", "--allow-shared-sqlite"}},
		{"no shared database", 1, []string{"the nodes of a cluster cannot share", "PostgreSQL"}, []string{"--join-token=token", "--cluster-listen=127.0.0.1:0"}},
		{"bad token", 1, []string{"line 1 of the token file is not a join token"}, []string{"--join-token=" + bad, "--cluster-listen=127.0.0.1:0", "--allow-shared-sqlite"}},
		{"no token", 1, []string{"no such file", "starling cluster token --out none"}, []string{"--join-token=none", "--cluster-listen=127.0.0.1:0", "--allow-shared-sqlite"}},
		{"unknown peer", 1, []string{"cluster.peers: ", "node.invalid"}, []string{"--join-token=token", "--cluster-listen=127.0.0.1:0", "--allow-shared-sqlite", "--cluster-peers=127.0.0.1:1,node.invalid:2"}},
		{"peers without a token", 2, []string{"cluster.peers: does nothing without a join token"}, []string{"--cluster-peers=127.0.0.1:1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			starling(t, dir, append(append([]string{"check"}, anyPort()...), c.args...)...).want(t, c.code, c.want...)
		})
	}
}
