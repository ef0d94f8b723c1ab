package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/server"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stream"
)

// login connects to a server as a client would.
func login(t *testing.T, n *node, who, password string) *client.Conn {
	t.Helper()
	c, err := client.Dial(t.Context(), client.Config{
		Addr: n.info.Addresses["c2s"], TLSConfig: &tls.Config{InsecureSkipVerify: true},
		JID: jid.MustParse(who), Password: password,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Drop)
	return c
}

func TestServe(t *testing.T) {
	dir := t.TempDir()
	n := serve(t, dir)
	out := n.out.text()
	found := regexp.MustCompile(`address +admin@localhost\n +password +(\S{20,})\n`).FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("no password: %s", out)
	}
	password := found[1]
	for _, want := range []string{
		n.info.Addresses["c2s"] + " (STARTTLS)", n.info.Addresses["tls"] + " (direct TLS)", "https://" + n.info.Addresses["https"] + "/",
		"self-signed, for localhost", "starling user add name@localhost", fmt.Sprintf("kill %d", n.cmd.Process.Pid),
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the welcome lacks %q: %s", want, out)
		}
	}
	secured, err := tls.Dial("tcp", n.info.Addresses["tls"], &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"xmpp-client"}})
	if err != nil {
		t.Fatal(err)
	}
	secured.Close()

	c := login(t, n, "admin@localhost", password)
	n.signal(syscall.SIGTERM)
	var ended *client.StreamError
	if _, err := c.Next(t.Context()); !errors.As(err, &ended) || ended.Condition != stream.SystemShutdown {
		t.Errorf("the stream ended with %v", err)
	}
	c.Drop()
	n.awaitEnd()
	if strings.Contains(n.logs.text(), password) {
		t.Error("the password is in the log")
	}
	if _, err := server.ReadRunInfo(filepath.Join(dir, "starling-data")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("run.json: %v", err)
	}

	again := serve(t, dir)
	if out := again.out.text(); strings.Contains(out, "password") {
		t.Errorf("a second administrator: %s", out)
	}
	login(t, again, "admin@localhost", password)
	again.stop()
}

// A second signal does not wait for a client that keeps its connection.
func TestServeStopsAtOnce(t *testing.T) {
	n := serve(t, t.TempDir())
	c, err := net.Dial("tcp", n.info.Addresses["c2s"])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	n.signal(syscall.SIGINT)
	n.logs.await(t, "msg=stopping")
	begun := time.Now()
	n.signal(syscall.SIGINT)
	<-n.ended
	status, ok := n.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if took := time.Since(begun); !ok || status.Signal() != syscall.SIGINT || took > stopTimeout/2 {
		t.Errorf("ended after %v: %v", took, n.cmd.ProcessState)
	}
}

func TestServeFlags(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "starling.toml", "domains = [\"file.test\"]\n[listen]\nhttps = \"\"\n[log]\nlevel = \"error\"\n")
	n := await(t, program(t, dir, "serve", "--data=elsewhere", "--domain=a.test", "--domain=b.test",
		"--listen-c2s=127.0.0.1:0", "--listen-tls=", "--listen-admin=127.0.0.1:0",
		"--allow-plaintext-auth", "--open-registration", "--set=log.level=debug", "--log-format=json"), filepath.Join(dir, "elsewhere"))
	out := n.out.text()
	for _, want := range []string{"a.test, b.test", "admin@a.test", "log in without TLS", "Registration is open", "user add --data elsewhere name@a.test"} {
		if !strings.Contains(out, want) {
			t.Errorf("the welcome lacks %q: %s", want, out)
		}
	}
	if len(n.info.Addresses) != 2 || strings.Contains(out, "direct TLS") {
		t.Errorf("doors are open that should not be: %v", n.info.Addresses)
	}
	n.stop()
	if logs := n.logs.text(); !strings.Contains(logs, `"level":"DEBUG"`) {
		t.Errorf("log.level or log.format were not obeyed: %s", logs)
	}
}

func TestDataInUse(t *testing.T) {
	dir := t.TempDir()
	n := serve(t, dir)
	r := starling(t, dir, append([]string{"serve"}, anyPort()...)...)
	r.want(t, exitFailed, "in use", fmt.Sprint(n.cmd.Process.Pid), "starling-data", "--data")
	n.stop()
}

func TestPortTaken(t *testing.T) {
	address := taken(t)
	_, port, _ := net.SplitHostPort(address)
	dir := t.TempDir()
	r := starling(t, dir, "serve", "--listen-c2s=127.0.0.1:0", "--listen-tls="+address, "--listen-https=", "--listen-admin=")
	r.want(t, exitFailed, "listen.tls: cannot listen on "+address, "another program has port "+port, "--listen-tls", "password")
	if strings.Contains(r.out, "is ready") {
		t.Errorf("claims to be ready: %s", r.out)
	}
	// All was given free again.
	serve(t, dir).stop()
}

func TestDatabaseAway(t *testing.T) {
	r := starling(t, t.TempDir(), "serve", "--database=postgres://romeo:hunter2@"+closed(t)+"/x?sslmode=disable")
	r.want(t, exitFailed, "PostgreSQL", "is the database running")
	if strings.Contains(r.out+r.err, "hunter2") {
		t.Errorf("shows the database's password: %s", r.err)
	}
}

// closed returns an address where nobody listens.
func closed(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestReload(t *testing.T) {
	dir := t.TempDir()
	cert, key := certificate(t, dir, tomorrow(), "a.test", "one.test")
	n := serve(t, dir, "--domain=a.test", `--set=tls.certificates=[{cert="`+cert+`",key="`+key+`"}]`)
	if out := n.out.text(); strings.Contains(out, "! ") {
		t.Errorf("a certificate of an authority is warned of: %s", out)
	}
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	n.signal(syscall.SIGHUP)
	n.logs.await(t, "certificates not read again")
	n.stop()
}

func TestAdviseListen(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want []string
	}{
		{"taken", syscall.EADDRINUSE, []string{"another program has port 80", "--listen-c2s", "listen.c2s"}},
		{"privileged", syscall.EACCES, []string{"port 80", "cap_net_bind_service", "--listen-c2s"}},
		{"foreign address", syscall.EADDRNOTAVAIL, []string{"--listen-c2s=:80"}},
		{"else", errors.New("odd"), []string{"--listen-c2s", "listen.c2s"}},
	} {
		err := fmt.Errorf("start: %w", &server.ListenError{Key: "listen.c2s", Address: "192.0.2.1:80", Err: &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", c.err)}})
		for _, want := range c.want {
			if got := advise(err); !strings.Contains(got, want) {
				t.Errorf("%s: %q lacks %q", c.name, got, want)
			}
		}
	}
}

func TestReachable(t *testing.T) {
	for address, want := range map[string]string{
		"0.0.0.0:5222": "a.test:5222", "[::]:5222": "a.test:5222", ":5222": "a.test:5222",
		"127.0.0.1:5222": "127.0.0.1:5222", "[::1]:5222": "[::1]:5222", "odd": "odd",
	} {
		if got := reachable(address, "a.test"); got != want {
			t.Errorf("%s: got %s, want %s", address, got, want)
		}
	}
}
