package router_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/starling-im/starling/internal/xmpptest"
)

// outcome is what becomes of a stanza, in the letters of RFC 6121 §8.5.4, and P for presence.
type outcome byte

const (
	kept      outcome = 'O' // until somebody comes who can take it
	bounced   outcome = 'E' // with service-unavailable
	ignored   outcome = 'S' // silently
	delivered outcome = 'D' // to the resource that is named, and no other
	toAll     outcome = 'A' // to all resources of priority 0 or more
	toPresent outcome = 'P' // to all available resources (RFC 6121 §8.5.2.1.2)
	none      outcome = '-' // there is no such case
)

// person is in what state an account is; the first resource is the one that is named.
type person struct {
	name      string
	exists    bool
	resources []resource
}

type resource struct {
	name, priority string // no priority: connected, not available
}

func people() []person {
	return []person{
		{"nobody", false, nil},
		{"offline", true, nil},
		{"connected", true, []resource{{"one", ""}}},
		{"negative", true, []resource{{"one", "-1"}}},
		{"negatives", true, []resource{{"one", "-1"}, {"two", "-128"}}},
		{"single", true, []resource{{"one", "0"}}},
		{"several", true, []resource{{"one", "0"}, {"two", "127"}}},
		{"mixed", true, []resource{{"one", "-1"}, {"two", "0"}, {"three", ""}}},
	}
}

// deliveries says what becomes of each stanza: to the bare JID, to a full JID that is there, to one that is not. The
// sender is a stranger. A "2" stands for the states with somebody to take messages, "1" for those with resources that
// cannot, "0" for an account without resources, "-" for none.
//
// For messages: RFC 6121 §8.5.4. For presence: RFC 6121 §8.5.2.1.2, §8.5.2.2.2, §8.5.3.1, §8.5.3.2.2. For iq:
// RFC 6121 §8.5.2.1.3, §8.5.2.2.3, §8.5.3.1, §8.5.3.2.3. Where several outcomes are allowed, this is the choice of
// this server.
const deliveries = `
                     to the bare JID  full JID: there  not there
                     -  0  1  2       1  2             -  0  1  2
message              E  O  O  A       D  D             E  E  E  E
message-normal       E  O  O  A       D  D             E  E  E  E
message-unknown      E  O  O  A       D  D             E  E  E  E
message-chat         E  O  O  A       D  D             E  O  O  A
message-groupchat    E  E  E  E       D  D             E  E  E  E
message-headline     S  S  S  A       D  D             E  E  E  E
message-error        S  S  S  S       D  D             S  S  S  S
iq-get               E  E  E  E       E  E             E  E  E  E
iq-set               E  E  E  E       E  E             E  E  E  E
iq-result            S  S  S  S       D  D             S  S  S  S
iq-error             S  S  S  S       D  D             S  S  S  S
presence             S  S  P  P       D  D             S  S  S  S
presence-unavailable S  S  P  P       D  D             S  S  S  S
presence-error       S  S  P  P       D  D             S  S  S  S
`

// delivery is one line of the table.
type delivery struct {
	element, typ       string
	bare, match, other [4]outcome // by state
}

func table() (all []delivery) {
	for _, line := range strings.Split(strings.TrimSpace(deliveries), "\n")[2:] {
		f := strings.Fields(line)
		var d delivery
		d.element, d.typ, _ = strings.Cut(f[0], "-")
		for i := range 4 {
			d.bare[i], d.other[i] = outcome(f[1+i][0]), outcome(f[7+i][0])
		}
		d.match = [4]outcome{none, none, outcome(f[5][0]), outcome(f[6][0])}
		all = append(all, d)
	}
	return all
}

// state is the column of a person in the table.
func (p *person) state() int {
	switch {
	case !p.exists:
		return 0
	case len(p.resources) == 0:
		return 1
	}
	for _, r := range p.resources {
		if r.takesMessages() {
			return 3
		}
	}
	return 2
}

func (r *resource) takesMessages() bool { return r.priority != "" && r.priority[0] != '-' }

// TestDelivery sends every kind of stanza to every kind of address in every state of an account (RFC 6121 §8.5).
func TestDelivery(t *testing.T) {
	t.Parallel()
	s := xmpptest.Start(t, xmpptest.Options{})
	for _, p := range people() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			xmpptest.Play(t, s, p.name, p.script())
		})
	}
}

// script tries the whole table on one person.
func (p *person) script() string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	jid := p.name + "@a.test"
	if p.exists {
		say("account %s", jid)
	}
	for _, r := range p.resources {
		say("client! %s %s/%s", r.name, jid, r.name)
		if r.priority != "" {
			say("%s > <presence><priority>%s</priority></presence>", r.name, r.priority)
			say("%s < <presence from='$%s'/>", r.name, r.name)
		}
	}
	for _, r := range p.resources {
		say("skip %s", r.name)
	}
	say("client! sender sender%s@b.test/desk", p.name)
	var waiting []string
	n := 0
	try := func(d *delivery, to string, o outcome) {
		if o == none {
			return
		}
		n++
		id := fmt.Sprintf("%s-%s-%d", d.element, d.typ, n)
		say("sender > %s", d.stanza(to, id))
		for _, r := range p.resources {
			if r.gets(o) {
				say("%s < <%s from='$sender' to='%s' id='%s'/>", r.name, d.element, to, id)
			}
			say("%s < nothing", r.name)
		}
		if o == bounced {
			say("sender < <%s type='error' from='%s' to='$sender' id='%s'><error type='cancel'><service-unavailable/></error></%s>",
				d.element, to, id, d.element)
		}
		if o == kept {
			waiting = append(waiting, id)
		}
		say("sender < nothing")
	}
	for _, d := range table() {
		try(&d, jid, d.bare[p.state()])
		try(&d, jid+"/one", d.match[p.state()])
		try(&d, jid+"/elsewhere", d.other[p.state()])
	}
	if p.exists { // what was kept is there, and nothing else
		say("client! late %s/late", jid)
		say("late > <presence/>")
		for _, id := range waiting {
			say("late < first <message id='%s'/>", id)
		}
		say("late < no <message/>")
	}
	return b.String()
}

func (r *resource) gets(o outcome) bool {
	switch o {
	case delivered:
		return r.name == "one"
	case toAll:
		return r.takesMessages()
	case toPresent:
		return r.priority != ""
	}
	return false
}

// stanza is what is sent.
func (d *delivery) stanza(to, id string) string {
	attrs := fmt.Sprintf(" to='%s' id='%s'", to, id)
	if d.typ != "" {
		attrs += " type='" + d.typ + "'"
	}
	content := "<body>hi</body>"
	switch {
	case d.typ == "error":
		content = "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
	case d.element == "iq":
		content = "<query xmlns='urn:example:unknown'/>"
	case d.element == "presence":
		content = "<status>hi</status>"
	}
	return "<" + d.element + attrs + ">" + content + "</" + d.element + ">"
}
