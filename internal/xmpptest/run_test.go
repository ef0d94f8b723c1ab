package xmpptest

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestFailures: a script can fail, and says where, on what, and what came instead.
func TestFailures(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{})
	for n, c := range []struct {
		name, steps string
		want        []string
	}{
		{"nothing comes", "romeo < <message id='1'/>", []string{"s:3: romeo < <message id='1'/>", "waited in vain", "unread: nothing"}},
		{"something else comes", "romeo > <message to='$romeo' id='2'/>\nromeo < <message id='1'/>", []string{"s:4", "unread: \n\t<message", "id='2'"}},
		{"something comes", "romeo > <message to='$romeo' id='2'/>\nromeo < nothing", []string{"s:4", "unread: \n\t<message", "id='2'"}},
		{"what must not come comes", "romeo > <message to='$romeo' id='2'/>\nromeo < no <message/>", []string{"s:4", "came: <message"}},
		{"another is first", "romeo > <message to='$romeo' id='1'/><message to='$romeo' id='2'/>\nromeo < first <message id='2'/>", []string{"s:4", "first of unread: \n\t<message", "id='1'"}},
		{"too much in it", "romeo > <message to='$romeo' id='1'><body>hi</body></message>\nromeo < exactly <message id='1'/>", []string{"s:4", "awaited <message id='1'/>", "<body>hi</body>"}},
		{"another's stanza comes late", "client! juliet juliet@a.test/x\njuliet > <message to='$romeo' id='1'/>\nromeo < nothing", []string{"s:5", "id='1'"}},
		{"no value", "romeo > <message to='$nobody'/>", []string{"s:3", "$nobody has no value"}},
		{"not closed", "romeo closed", []string{"s:3", "still open"}},
		{"closed", "romeo > <x/>\nromeo < <message/>", []string{"s:4", "the connection has ended", "unsupported-stanza-type"}},
		{"gone", "drop romeo\nromeo > <presence/>", []string{"s:4", "romeo is not connected"}},
		{"twice", "client! romeo romeo@a.test/y", []string{"s:3", "romeo is connected already"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			fails(t, s, fmt.Sprintf("romeo%d", n), c.steps, c.want...)
		})
	}
}

// TestFailuresFarAway: so it is when what is wrong was done on another node, or has to come from there.
func TestFailuresFarAway(t *testing.T) {
	t.Parallel()
	at := StartCluster(t, Options{}, 3)
	const three = "client! juliet juliet@a.test/x\nclient! nurse nurse@b.test/x\n"
	for _, c := range []struct {
		name, steps string
		want        []string
	}{
		{"it comes late", "juliet > <message to='$romeo' id='1'/>\nromeo < nothing", []string{"s:6", "id='1'"}},
		{"it must not come and comes late", "juliet > <message to='$romeo' id='1'/>\nromeo < no <message/>", []string{"s:6", "came: <message"}},
		{"it is answered late", "juliet > <message to='romeo@a.test/none' id='1'/>\njuliet < nothing", []string{"s:6", "type='error'"}},
		{"by way of a third", "juliet > <message to='nurse@b.test/none' id='1'/>\nskip juliet\njuliet > <message to='$nurse' id='2'/>\nnurse < nothing", []string{"s:8", "id='2'"}},
		{"the end comes late", "juliet > <presence to='$romeo' id='1'/>\nskip romeo\ndrop juliet\nromeo < nothing", []string{"s:8", "type='unavailable'"}},
		{"nothing comes", "juliet > <message to='$nurse' id='1'/>\nromeo < <message id='1'/>", []string{"s:6", "waited in vain"}},
	} {
		t.Run(c.name, func(t *testing.T) { fails(t, at, "romeo", three+c.steps, c.want...) })
	}
}

// fails plays steps that fail, after romeo has come, with the JID name@a.test.
func fails(t *testing.T, at Site, name, steps string, want ...string) {
	t.Helper()
	sc, err := parse("s", "client! romeo "+name+"@a.test/x\nskip romeo\n"+steps)
	if err != nil {
		t.Fatal(err)
	}
	r := newRun(t, at)
	r.patience = 2 * time.Second
	err = r.play(sc)
	if err == nil {
		t.Fatal("it passes")
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q is missing in:\n%v", w, err)
		}
	}
}
