package scenario_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/starling-im/starling/cluster"
)

// wantNotes wants some number of log lines of a node that have all these words.
func wantNotes(t *testing.T, n *node, want int, words ...string) {
	t.Helper()
	got := 0
	for line := range strings.Lines(n.Notes()) {
		all := true
		for _, word := range words {
			all = all && strings.Contains(line, word)
		}
		if all {
			got++
		}
	}
	if got != want {
		t.Errorf("%s has %d log lines with %q, want %d", n.name, got, words, want)
	}
}

// TestStrangers: a node with another token, and one of another cluster with the same token, get nowhere: they learn
// why and what to do, stay what they are, and the members are not disturbed, but log it once, with address.
// (What else a stranger may try, and how it is logged, the tests of natsbus show.)
func TestStrangers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b", "wrong", "other")
	ns := w.startAll(letters(2), func(s *settings) { s.Peers = []string{w.address("a"), w.address("b")} }) // it is strangers who dial
	w.joinAll(ns)
	mark := [2]int{ns[0].mark(), ns[1].mark()}
	strangers := []*node{
		w.start("wrong", func(s *settings) { s.Token = cluster.NewToken() }),
		w.start("other", func(s *settings) { s.Cluster = "production" }),
	}
	for _, n := range strangers {
		n.put("secret of "+n.name, "1")
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := n.Ask(ctx, "join", struct{}{}, nil)
		cancel()
		if err == nil || !strings.Contains(err.Error(), "token") {
			t.Errorf("%s: join: %v", n.name, err)
		}
		w.until("it has failed", func() bool { return n.view().Self.State == "failed" })
		if v := n.view(); !v.sees(n.name) || v.Keys != 1 || !strings.Contains(v.Failure, "token") {
			t.Errorf("%s: %+v", n.name, v)
		}
	}
	ns[0].put("k", "v")
	w.whole(ns...)
	for i, n := range ns {
		if got := n.content(); len(got) != 1 || n.moved(mark[i]) {
			t.Errorf("%s is disturbed: %v\n%s", n.name, got, n.tale())
		}
	}
	for _, s := range strangers { // it gives up when the first member has refused it
		address := `msg="cluster connection refused" node=%s address=` + w.net.Host(s.name).Addr.String() + ":"
		w.until("the refusal is logged", func() bool {
			return slices.ContainsFunc(ns, func(n *node) bool { return strings.Contains(n.Notes(), fmt.Sprintf(address, n.name)) })
		})
		for _, n := range ns {
			if c := strings.Count(n.Notes(), fmt.Sprintf(address, n.name)); c > 1 {
				t.Errorf("%s says %d times that it refused %s", n.name, c, s.name)
			}
		}
	}
}
