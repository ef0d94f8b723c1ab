package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// addresses returns the first column of `user list`.
func addresses(t *testing.T, dir string, args ...string) []string {
	t.Helper()
	r := starling(t, dir, append([]string{"user", "list"}, args...)...)
	r.want(t, exitOK)
	var names []string
	for line := range strings.Lines(r.out) {
		names = append(names, strings.Fields(line)[0])
	}
	return names
}

// withPassword runs a command that reads a password from standard input.
func withPassword(t *testing.T, dir, input string, args ...string) result {
	t.Helper()
	cmd := program(t, dir, append(args, "--password-stdin")...)
	cmd.Stdin = strings.NewReader(input)
	return finish(t, cmd)
}

// TestUsers does the same with a server that runs and in a folder where none does.
func TestUsers(t *testing.T) {
	work := func(t *testing.T, dir string) {
		withPassword(t, dir, "wherefore\n", "user", "add", "juliet@localhost").want(t, exitOK, "juliet@localhost was added.")
		r := starling(t, dir, "user", "add", "Romeo@localhost", "--generate")
		r.want(t, exitOK, "romeo@localhost was added.")
		if !regexp.MustCompile(`\npassword: \S{20,}\n`).MatchString(r.out) {
			t.Errorf("no password: %s", r.out)
		}
		starling(t, dir, "user", "add", "nurse@localhost", "--password=secret").want(t, exitOK)
		if got := addresses(t, dir); !slices.Equal(got, []string{"admin@localhost", "juliet@localhost", "nurse@localhost", "romeo@localhost"}) {
			t.Errorf("list: %v", got)
		}
		starling(t, dir, "user", "del", "nurse@localhost").want(t, exitOK, "nurse@localhost was deleted.")
		withPassword(t, dir, "art thou", "user", "passwd", "juliet@localhost").want(t, exitOK, "juliet@localhost has a new password.")
		for _, c := range []struct {
			name string
			code int
			want string
			args []string
		}{
			{"again", 1, "juliet@localhost exists already", []string{"user", "add", "juliet@localhost", "--generate"}},
			{"elsewhere", 1, "b.test is not a domain of this server", []string{"user", "add", "juliet@b.test", "--generate"}},
			{"bad password", 1, "cannot be a password", []string{"user", "add", "nurse@localhost", "--password=a\tb"}},
			{"empty password", 2, "empty", []string{"user", "add", "nurse@localhost", "--password="}},
			{"deleted already", 1, "there is no account nurse@localhost", []string{"user", "del", "nurse@localhost"}},
			{"password of nobody", 1, "there is no account nurse@localhost", []string{"user", "passwd", "nurse@localhost", "--generate"}},
			{"nowhere to ask", 2, "--password-stdin", []string{"user", "add", "nurse@localhost"}},
		} {
			t.Run(c.name, func(t *testing.T) { starling(t, dir, c.args...).want(t, c.code, c.want) })
		}
		withPassword(t, dir, "\n", "user", "add", "nurse@localhost").want(t, exitUsage, "empty")
		if got := addresses(t, dir, "--domain", "localhost"); !slices.Equal(got, []string{"admin@localhost", "juliet@localhost", "romeo@localhost"}) {
			t.Errorf("list in the end: %v", got)
		}
		if got := addresses(t, dir, "--domain", "b.test"); len(got) != 0 {
			t.Errorf("list of another domain: %v", got)
		}
	}
	t.Run("running", func(t *testing.T) {
		dir := t.TempDir()
		n := serve(t, dir)
		work(t, dir)
		login(t, n, "juliet@localhost", "art thou").Drop()
		n.stop()
	})
	t.Run("stopped", func(t *testing.T) {
		dir := t.TempDir()
		serve(t, dir).stop()
		work(t, dir)
		n := serve(t, dir)
		login(t, n, "juliet@localhost", "art thou").Drop()
		n.stop()
	})
}

// A server that was killed leaves its files behind; they do not count.
func TestUsersAfterCrash(t *testing.T) {
	dir := t.TempDir()
	n := serve(t, dir)
	n.signal(os.Kill)
	<-n.ended
	if _, err := os.Stat(filepath.Join(dir, "starling-data", "run.json")); err != nil {
		t.Fatal(err)
	}
	if got := addresses(t, dir); !slices.Equal(got, []string{"admin@localhost"}) {
		t.Errorf("list: %v", got)
	}
	serve(t, dir).stop()
}
