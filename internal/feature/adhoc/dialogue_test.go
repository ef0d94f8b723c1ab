package adhoc

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/xmpp/form"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// trial is a server with the command of XEP-0050 §2.4.2: two forms, then a note.
type trial struct {
	*Commands
	now time.Time
}

func newTrial(cfg Config) *trial {
	tr := &trial{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	tr.Commands = &Commands{byTarget: map[module.Target][]*Command{}}
	tr.sessions = newSessions(cfg, func() time.Time { return tr.now }, prometheus.NewRegistry())
	ask := func(name string, next Stage, more bool) Reply {
		f := form.New(form.TypeForm, "", form.Text(name, name, "").Must())
		return Reply{Form: &f, Next: next, More: more}
	}
	last := func(_ context.Context, c *Call) (Reply, error) {
		return Reply{Note: "state is " + c.Values.Text("state"), Failed: c.Values.Text("state") == "broken"}, nil
	}
	second := func(_ context.Context, c *Call) (Reply, error) {
		if c.Values.Text("service") != "httpd" {
			return Reply{}, stanza.Err(stanza.ItemNotFound, "")
		}
		return ask("state", last, false), nil
	}
	first := func(context.Context, *Call) (Reply, error) { return ask("service", second, true), nil }
	tr.Add(Command{Target: module.Server, Node: "config", Name: "Configure", Run: first})
	tr.Add(Command{Target: module.Account, Node: "own", Name: "Own", Run: first})
	return tr
}

// do sends a command and returns the answer as text, or the error.
func (tr *trial) do(t *testing.T, from, attrs, value string) string {
	t.Helper()
	content := ""
	if name, v, ok := strings.Cut(value, "="); ok {
		content = fmt.Sprintf("<x xmlns='jabber:x:data' type='submit'><field var='%s'><value>%s</value></field></x>", name, v)
	}
	iq, err := stanza.Decode(fmt.Sprintf("<iq from='%s' to='a.test' type='set' id='1'><command xmlns='%s' node='config' %s>%s</command></iq>", from, NS, attrs, content))
	if err != nil {
		t.Fatal(err)
	}
	e, err := tr.execute(t.Context(), module.Server, iq)
	if err != nil {
		return err.Error()
	}
	return e.String()
}

func id(t *testing.T, answer string) string {
	t.Helper()
	e, err := xml.Parse([]byte(answer), "")
	if err != nil {
		t.Fatalf("%s: %v", answer, err)
	}
	return "sessionid='" + e.Attr("sessionid") + "'"
}

const romeo = "romeo@a.test/orchard"

func TestStages(t *testing.T) {
	tr := newTrial(Module.Defaults)
	answer := tr.do(t, romeo, "", "")
	sid := id(t, answer)
	for _, step := range []struct{ attrs, value, want string }{
		{"action='prev'", "", "bad-request"},
		{"action='complete'", "service=httpd", "bad-request"},
		{"action='next'", "", "bad-request"},
		{"action='next'", "service=none", "item-not-found"},
		{"", "service=httpd", `<actions execute='complete'><prev/><complete/></actions>`},
		{"action='prev'", "", `<actions execute='next'><next/></actions>`},
		{"action='next'", "service=httpd", `var='state'`},
		{"action='next'", "state=on", "bad-request"},
		{"action='complete'", "state=on", `<note type='info'>state is on</note>`},
		{"action='complete'", "state=on", "not-allowed"}, // the session is over
	} {
		if got := tr.do(t, romeo, sid+" "+step.attrs, step.value); !strings.Contains(got, step.want) {
			t.Errorf("%s %s: %s, want %s", step.attrs, step.value, got, step.want)
		}
	}
	if len(tr.sessions.open) != 0 {
		t.Error("the session is still there")
	}
	sid = id(t, tr.do(t, romeo, "", ""))
	tr.do(t, romeo, sid, "service=httpd")
	if got := tr.do(t, romeo, sid, "state=broken"); !strings.Contains(got, "<note type='error'>") || !strings.Contains(got, "status='completed'") {
		t.Errorf("failure is told as %s", got)
	}
}

func TestSessions(t *testing.T) {
	tr := newTrial(Config{Timeout: time.Minute, MaxSessions: 4, MaxPerUser: 2})
	first := id(t, tr.do(t, romeo, "", ""))
	tr.now = tr.now.Add(40 * time.Second)
	second := id(t, tr.do(t, romeo, "", ""))
	if got := tr.do(t, romeo, first, "service=none"); !strings.Contains(got, "item-not-found") { // is used, and lives on
		t.Errorf("first is %s", got)
	}
	tr.now = tr.now.Add(40 * time.Second)
	if got := tr.do(t, romeo, first, "service=none"); !strings.Contains(got, "item-not-found") {
		t.Errorf("first after a time: %s", got)
	}
	third := id(t, tr.do(t, romeo, "", "")) // the second is the oldest
	if got := tr.do(t, romeo, second, "service=httpd"); !strings.Contains(got, "not-allowed") {
		t.Errorf("second is %s", got)
	}
	tr.do(t, "juliet@a.test/x", "", "")
	tr.do(t, "nurse@a.test/x", "", "")
	if got := tr.do(t, "paris@a.test/x", "", ""); !strings.Contains(got, "resource-constraint") {
		t.Errorf("one too many: %s", got)
	}
	tr.sessions.leave(jid.MustParse("nurse@a.test/x"))
	if got := tr.do(t, "paris@a.test/x", "", ""); !strings.Contains(got, "executing") {
		t.Errorf("after one has left: %s", got)
	}
	tr.now = tr.now.Add(2 * time.Minute)
	if got := tr.do(t, romeo, third, "service=httpd"); !strings.Contains(got, "not-allowed") {
		t.Errorf("third after its time: %s", got)
	}
	tr.do(t, romeo, "", "")
	if len(tr.sessions.open) != 1 {
		t.Errorf("%d sessions are left", len(tr.sessions.open))
	}
}

// Commands of an account are its owner's, unless they say otherwise.
func TestAllows(t *testing.T) {
	tr := newTrial(Module.Defaults)
	own := tr.find(module.Account, "own")
	juliet := jid.MustParse("juliet@a.test")
	if own.allows(&Call{Asker: jid.MustParse(romeo), Entity: juliet}) || !own.allows(&Call{Asker: jid.MustParse("juliet@a.test/x"), Entity: juliet}) {
		t.Error("commands of an account are not its owner's")
	}
}
