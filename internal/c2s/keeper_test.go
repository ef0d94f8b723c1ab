package c2s

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

// resting makes a managed line of a session that is in no table.
func resting(srv *Server, who string) *line {
	l := newLine(srv, nil, jid.MustParse(who))
	l.sm, l.queue, l.phase = &management{max: time.Minute}, nil, open
	l.sm.in.begin(l, 0)
	return l
}

// TestKeeperKnowsAll enters and forgets sessions in any order, and some that were over before they were entered.
func TestKeeperKnowsAll(t *testing.T) {
	srv := &Server{keeper: newKeeper(prometheus.NewRegistry(), "")}
	k := srv.keeper
	known := map[*line]bool{}
	for i := range 1000 {
		l := resting(srv, fmt.Sprintf("romeo@a.test/%d", i))
		if i%10 == 0 {
			k.leave(l, k.retire(l), remains{})
			k.enter(l)
			continue
		}
		k.enter(l)
		known[l] = true
		for old := range known {
			if rand.IntN(2) == 0 {
				break
			}
			k.leave(old, k.retire(old), remains{})
			delete(known, old)
		}
	}
	check := func() {
		t.Helper()
		lines := k.lines()
		for _, l := range lines {
			if !known[l] {
				t.Errorf("%s is not forgotten", l.sess.JID)
			}
		}
		if len(lines) != len(known) || len(k.retired) > 0 {
			t.Errorf("%d of %d are known, %d retired", len(lines), len(known), len(k.retired))
		}
	}
	check()
	for l := range known {
		k.leave(l, k.retire(l), remains{})
		delete(known, l)
	}
	check()
}

// TestSessionsAreFound by their ids, in the table and between that and their end, by nobody but their account.
func TestSessionsAreFound(t *testing.T) {
	srv := &Server{keeper: newKeeper(prometheus.NewRegistry(), "node1")}
	k := srv.keeper
	l, other := resting(srv, "romeo@a.test/orchard"), resting(srv, "romeo@a.test/home")
	other.sm.max = 0 // cannot be resumed
	k.enter(l)
	k.enter(other)
	romeo, juliet := l.sess.Bare, jid.MustParse("juliet@a.test")
	here := []*session.Session{other.sess, l.sess}
	id := k.id(l.sess)
	if random, ok := strings.CutPrefix(id, "node1."); !ok || len(random) != 26 || k.id(other.sess) == id || k.id(l.sess) != id {
		t.Errorf("the id is %s", id)
	}
	find := func(who jid.JID, id string, here []*session.Session, want *line, wantKnown bool) {
		t.Helper()
		if got, r, known := k.find(id, who, here); got != want || want == nil && (known != wantKnown || known && r.h != 7) {
			t.Errorf("found %v, %v", got != nil, known)
		}
	}
	find(romeo, id, here, l, true)
	find(romeo, k.id(other.sess), here, nil, false)
	find(romeo, "node1.AAAA", here, nil, false)
	find(juliet, id, nil, nil, false)
	k.retire(l)
	find(romeo, id, nil, l, true)
	find(juliet, id, nil, nil, false)
	k.leave(l, id, remains{account: romeo, h: 7})
	find(romeo, id, nil, nil, true)
	find(juliet, id, nil, nil, false)
}

// TestRestingIsSmall: a client that does nothing costs stream management no more than its fixed part. What it had under way
// goes, and its count stays.
func TestRestingIsSmall(t *testing.T) {
	if size := reflect.TypeFor[management]().Size(); size > 80 {
		t.Errorf("%d bytes for each idle client", size)
	}
	in, _ := counting(5)
	var last *ticket
	for i := range 10 {
		if last != nil {
			last.Settle()
		}
		_, last = in.receive(message(i))
	}
	now := time.Now().UnixMicro()
	for range 3 {
		in.tick(now)
	}
	if in.handling == nil {
		t.Fatal("rests with a stanza under way")
	}
	last.Settle()
	for range 2 {
		in.tick(now)
	}
	if in.handling != nil {
		t.Error("does not rest")
	}
	if h, again := in.answer(), in.resume(); h != 10 || again != 10 {
		t.Errorf("h=%d, and %d at the resumption", h, again)
	}
	if _, due := in.follow(); due || in.hasLost() || in.pause(func() {}) {
		t.Error("something is due of a client that rests")
	}
	if n, tk := in.receive(message(11)); n != 16 || tk == nil {
		t.Errorf("goes on at %d", n)
	}
}
