package deploy_test

import (
	"context"
	"crypto/tls"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
	"github.com/starling-im/starling/internal/xmpptest"
)

// balancer is a running HAProxy with the settings of the example.
type balancer struct {
	t         *testing.T
	socket    string
	addresses map[string]string // where clients connect, by front end
}

// balance runs HAProxy in front of the nodes one, two and three. Of the example only addresses are changed.
func balance(t *testing.T, nodes []*node) *balancer {
	t.Helper()
	path, err := exec.LookPath("haproxy")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("haproxy is not installed: apt-get install haproxy")
	}
	example, err := os.ReadFile("../../deploy/haproxy/haproxy.cfg")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	b := &balancer{t: t, socket: filepath.Join(dir, "admin.sock"), addresses: map[string]string{}}
	text := strings.Replace(string(example), "/run/haproxy/admin.sock", b.socket, 1)
	text = replace(t, text, "maxconn [0-9]+", "maxconn 1000") // as many descriptors as a test may have
	cmd := exec.Command(path, "-db", "-f", filepath.Join(dir, "haproxy.cfg"))
	for i, door := range []struct{ name, port string }{{"c2s", "5222"}, {"tls", "5223"}} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		b.addresses[door.name] = l.Addr().String()
		file, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, file)
		text = replace(t, text, `bind :`+door.port, fmt.Sprintf("bind fd@%d", 3+i))
		for k, n := range nodes {
			there := fmt.Sprintf(`192\.0\.2\.%d:%s`, 11+k, door.port)
			if door.name == "c2s" { // on one machine each node has a port of its own for checks
				_, port, _ := net.SplitHostPort(n.Info.Addresses["admin"])
				text = replace(t, text, there, n.Info.Addresses[door.name]+" port "+port)
			} else {
				text = replace(t, text, there, n.Info.Addresses[door.name])
			}
		}
	}
	if err := os.WriteFile(cmd.Args[3], []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("haproxy wrote:\n%s", out.String())
		}
	})
	for _, n := range nodes {
		b.says(n, "UP")
	}
	return b
}

// replace changes the one place in the example that a pattern fits.
func replace(t *testing.T, text, pattern, by string) string {
	t.Helper()
	r := regexp.MustCompile(pattern + `\b`)
	if n := len(r.FindAllString(text, -1)); n != 1 {
		t.Fatalf("the example has %q %d times", pattern, n)
	}
	return r.ReplaceAllLiteralString(text, by)
}

// status is what HAProxy thinks of a node, for each back end.
func (b *balancer) status(n *node) map[string]string {
	c, err := net.Dial("unix", b.socket)
	if err != nil {
		return nil
	}
	defer c.Close()
	io.WriteString(c, "show stat\n")
	rows, err := csv.NewReader(c).ReadAll()
	if err != nil {
		return nil
	}
	const backend, name, status = 0, 1, 17
	all := map[string]string{}
	for _, row := range rows {
		if row[name] == n.Name {
			all[row[backend]], _, _ = strings.Cut(row[status], " ")
		}
	}
	return all
}

// says waits until HAProxy thinks so of a node.
func (b *balancer) says(n *node, want string) {
	b.t.Helper()
	xmpptest.Until(b.t, "haproxy says that "+n.Name+" is "+want, func() bool {
		s := b.status(n)
		return s["c2s"] == want && s["tls"] == want
	})
}

// person is a client that came through HAProxy.
type person struct {
	*client.Conn
	t *testing.T
}

// login logs in and is available.
func (b *balancer) login(door, full string) *person {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	mode := client.StartTLS
	if door == "tls" {
		mode = client.Direct
	}
	c, err := client.Dial(ctx, client.Config{
		Addr: b.addresses[door], TLS: mode, TLSConfig: &tls.Config{InsecureSkipVerify: true}, JID: jid.MustParse(full), Password: password,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(c.Drop)
	p := &person{c, b.t}
	p.send("<presence/>")
	p.await("own presence", func(e xml.Element) bool { return e.Local == "presence" && e.Attr("from") == full })
	return p
}

func (p *person) send(text string) {
	p.t.Helper()
	if err := p.Raw(p.t.Context(), []byte(text)); err != nil {
		p.t.Fatal(err)
	}
}

// await waits for a stanza, or a stream error.
func (p *person) await(what string, is func(xml.Element) bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	for {
		e, err := p.Next(ctx)
		if failed, ok := errors.AsType[*client.StreamError](err); ok {
			e, err = failed.Element, nil
		}
		if err != nil {
			p.t.Fatalf("waiting for %s: %v", what, err)
		}
		if is(e) {
			return
		}
	}
}

// chats sends a message and waits until it is there.
func (p *person) chats(to *person, text string) {
	p.t.Helper()
	p.send("<message type='chat' to='" + to.JID().String() + "'><body>" + text + "</body></message>")
	to.await(text, func(e xml.Element) bool {
		body := e.Child(xml.NSClient, "body")
		return e.Local == "message" && body != nil && body.Text() == text
	})
}

// TestHAProxy: people come through HAProxy to all nodes and chat; a node that drains gets nobody any more, until it is
// back; a node that dies is not noticed by who comes next.
func TestHAProxy(t *testing.T) {
	nodes := startNodes(t, "one", "two", "three")
	users := []string{"romeo", "juliet", "paris"}
	for _, u := range users {
		starling(t, nil, "user", "add", u+"@example.org", "--data", nodes[0].Data, "--password", password)
	}
	b := balance(t, nodes)

	romeo, juliet, paris := b.login("tls", "romeo@example.org/a"), b.login("tls", "juliet@example.org/a"), b.login("tls", "paris@example.org/a")
	for _, n := range nodes {
		if s := n.sessions(); s != 1 {
			t.Errorf("%s has %d sessions, one is right", n.Name, s)
		}
	}
	romeo.chats(juliet, "one")
	juliet.chats(paris, "two")
	b.login("c2s", "paris@example.org/b").chats(romeo, "three")

	// The node of juliet drains. She is told to go, comes back, and is on another one.
	drained := nodes[0]
	for _, n := range nodes {
		if strings.Contains(n.Log(), juliet.NetConn().LocalAddr().String()) {
			drained = n
		}
	}
	starling(t, nil, "cluster", "drain", "--data", drained.Data)
	juliet.await("the end of the stream", func(e xml.Element) bool {
		return e.Local == "error" && e.First() != nil && e.First().Local == "system-shutdown"
	})
	if !strings.Contains(drained.Log(), juliet.NetConn().LocalAddr().String()) {
		t.Error("the log does not name the client, but the balancer")
	}
	if status, body := drained.get("/readyz"); status != 503 || !strings.Contains(body, "drained") {
		t.Errorf("/readyz: %d %s", status, body)
	}
	b.says(drained, "DOWN")
	var later []*person
	for i := range 4 {
		later = append(later, b.login("tls", fmt.Sprintf("juliet@example.org/later%d", i)))
	}
	if s := drained.sessions(); s != 0 {
		t.Errorf("the drained node has %d sessions", s)
	}
	later[3].chats(later[0], "four")

	// It is back, and gets those that come next.
	starling(t, nil, "cluster", "join", "--data", drained.Data)
	b.says(drained, "UP")
	back := b.login("tls", "romeo@example.org/back")
	if s := drained.sessions(); s != 1 {
		t.Errorf("the node that is back has %d sessions", s)
	}
	back.chats(later[1], "five")

	// One dies: who comes while HAProxy does not know that yet is served by another one.
	dead := nodes[1]
	if dead == drained {
		dead = nodes[2]
	}
	dead.Kill()
	for i := range 3 {
		b.login("tls", fmt.Sprintf("paris@example.org/new%d", i)).chats(back, fmt.Sprint("six", i))
	}
	b.says(dead, "DOWN")
	if _, metrics := drained.get("/metrics"); !regexp.MustCompile(`starling_proxied_total\{outcome="client"\} [1-9]`).MatchString(metrics) {
		t.Error("no connection with a PROXY header is counted")
	}
}
