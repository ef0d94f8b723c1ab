package natsbus

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/starling-im/starling/cluster/internal/bus"
)

func TestNewToken(t *testing.T) {
	a, b := NewToken(), NewToken()
	if len(a) != 43 || a == b {
		t.Errorf("tokens %q and %q", a, b)
	}
	if _, err := newKeyring([]byte(a), "c"); err != nil {
		t.Errorf("own token: %v", err)
	}
}

func TestTokenFile(t *testing.T) {
	a, b := NewToken(), NewToken()
	for _, c := range []struct {
		name, text string
		tokens     int
		reason     string
	}{
		{"one", a, 1, ""},
		{"lines of other systems", a + "\r\n" + b + "\r\n", 2, ""},
		{"comments and empty lines", "# old\n\n" + a + "\n  " + b + "  \n# end", 2, ""},
		{"padding", a + "=\n", 1, ""},
		{"nothing", "", 0, "there is no join token"},
		{"only a comment", "# none\n", 0, "there is no join token"},
		{"a password", a + "\nhunter2\n", 0, "line 2 of the token file is not a join token"},
		{"cut short", a[:40], 0, "line 1 of the token file is not a join token"},
		{"too long", a + "AAAA", 0, "line 1 of the token file is not a join token"},
		{"a file of another kind", strings.Repeat("x", 1<<17), 0, "the token file is not a list of join tokens"},
		{"too many", strings.Repeat(a+"\n", maxTokens+1), 0, "the token file holds 17 tokens, more than 16"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tokens, err := parseTokens([]byte(c.text))
			if len(tokens) != c.tokens {
				t.Errorf("%d tokens, want %d", len(tokens), c.tokens)
			}
			checkFailure(t, err, c.reason)
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Error("the message shows what the file holds")
			}
		})
	}
}

// checkFailure checks that an error is a failure whose reason contains the text, and which has a remedy.
func checkFailure(t *testing.T, err error, reason string) {
	t.Helper()
	var f *bus.Failure
	switch {
	case reason == "" && err == nil:
	case !errors.As(err, &f):
		t.Errorf("error is %v, want a failure: %s", err, reason)
	case !strings.Contains(f.Reason, reason) || reason == "":
		t.Errorf("reason is %q, want %q", f.Reason, reason)
	case f.Remedy == "":
		t.Error("no remedy")
	}
}

// TestTrust checks whose certificates are accepted: only those of a common token, for the same cluster.
func TestTrust(t *testing.T) {
	a, b := NewToken(), NewToken()
	for _, c := range []struct {
		name               string
		mine, theirs       string
		myCluster, cluster string
		want               bool
	}{
		{"same token", a, a, "x", "x", true},
		{"other token", a, b, "x", "x", false},
		{"other cluster", a, a, "x", "y", false},
		{"rotation: new one trusted", a + "\n" + b, a, "x", "x", true},
		{"rotation: new one signs", a + "\n" + b, b + "\n" + a, "x", "x", true},
		{"rotation: old one removed", b + "\n" + a, b, "x", "x", true},
		{"rotation: skipped a step", a, b + "\n" + a, "x", "x", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			mine, err := newKeyring([]byte(c.mine), c.myCluster)
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := newKeyring([]byte(c.theirs), c.cluster)
			if err != nil {
				t.Fatal(err)
			}
			if got := handshakes(t, mine, theirs); got != c.want {
				t.Errorf("handshake succeeds: %v", got)
			}
		})
	}
}

func TestLeafToleratesClocks(t *testing.T) {
	k, err := newKeyring([]byte(NewToken()), "x")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	leaf, err := k.leaf(now)
	if err != nil {
		t.Fatal(err)
	}
	if leaf.Leaf.NotBefore.After(now.Add(-23*time.Hour)) || leaf.Leaf.NotAfter.Before(now.AddDate(9, 0, 0)) {
		t.Errorf("valid from %v to %v", leaf.Leaf.NotBefore, leaf.Leaf.NotAfter)
	}
}
