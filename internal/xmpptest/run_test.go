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
			sc, err := parse("s", fmt.Sprintf("client! romeo romeo%d@a.test/x\nskip romeo\n%s", n, c.steps))
			if err != nil {
				t.Fatal(err)
			}
			r := newRun(t, s)
			r.patience = 2 * time.Second
			err = r.play(sc)
			if err == nil {
				t.Fatal("it passes")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is missing in:\n%v", w, err)
				}
			}
		})
	}
}
