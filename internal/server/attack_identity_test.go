package server_test

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/sasl"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// couple of users who are online, strangers to each other.
func strangers(t *testing.T, set ...string) (tg *target, romeo, juliet *user) {
	t.Helper()
	tg = attack(t, set...)
	tg.account(t, "romeo@localhost", "juliet@localhost")
	return tg, tg.login(t, "romeo@localhost/orchard").available(), tg.login(t, "juliet@localhost/balcony").available()
}

// befriend lets each see the other's presence.
func befriend(t *testing.T, a, b *user) {
	t.Helper()
	for _, way := range [2][2]*user{{a, b}, {b, a}} {
		way[0].send(fmt.Sprintf("<presence to='%s' type='subscribe'/>", way[1].JID().Bare()))
		way[0].heard()
		way[1].send(fmt.Sprintf("<presence to='%s' type='subscribed'/>", way[0].JID().Bare()))
		way[1].heard()
	}
	a.heard()
	b.heard()
}

func TestAttack01_FromSpoofing(t *testing.T) {
	tg, romeo, juliet := strangers(t)
	for name, from := range map[string]string{
		"none": "", "bare": "romeo@localhost", "full": "romeo@localhost/orchard", "spelling": "Romeo@LOCALHOST", "full spelling": "ＲＯＭＥＯ@localhost./orchard",
	} {
		t.Run("own "+name, func(t *testing.T) {
			attr := ""
			if from != "" {
				attr = "from='" + from + "'"
			}
			romeo.send("<message " + attr + " to='juliet@localhost' type='chat'><body>x</body></message>")
			if got := juliet.next(); !strings.Contains(got, "from='romeo@localhost/orchard'") || strings.Count(got, "from=") != 1 {
				t.Errorf("delivered %s", got)
			}
		})
	}
	for _, from := range []string{"juliet@localhost", "juliet@localhost/balcony", "localhost", "romeo@localhost/garden", "romeo@elsewhere.test", "römeo@localhost", "", "@"} {
		for _, kind := range []string{"message", "presence", "iq"} {
			t.Run(kind+" as "+from, func(t *testing.T) {
				u := tg.login(t, "romeo@localhost/thief")
				u.send(fmt.Sprintf("<%s from='%s' to='juliet@localhost' type='error' id='x'/>", kind, from))
				if got := u.next(); !strings.Contains(got, "invalid-from") {
					t.Errorf("answered %s", got)
				}
			})
		}
	}
	if got := juliet.heard(); len(got) > 0 {
		t.Errorf("delivered %q", got)
	}
	t.Run("subscriptions are of accounts", func(t *testing.T) { // RFC 6121 §3.1.2
		romeo.send("<presence to='juliet@localhost/balcony' type='subscribe'/>")
		romeo.heard()
		if got := strings.Join(juliet.heard(), ""); !strings.Contains(got, "from='romeo@localhost'") {
			t.Errorf("delivered %s", got)
		}
	})
}

// There are no streams of servers: neither a header nor a stanza passes for one.
func TestAttack02_ForeignServer(t *testing.T) {
	tg, romeo, juliet := strangers(t)
	for name, header := range map[string]string{
		"server's header":     with("'jabber:client'", "'jabber:server'"),
		"header of component": with("'jabber:client'", "'jabber:component:accept'"),
	} {
		t.Run(name, func(t *testing.T) {
			p := connected(t, tg.Server)
			p.send(header)
			if got := p.rest(); !strings.Contains(got, "<invalid-namespace ") {
				t.Errorf("answered %s", got)
			}
		})
	}
	romeo.send("<message to='juliet@elsewhere.test' id='1'><body>x</body></message>") // RFC 6120 §10.4
	if got := romeo.next(); !strings.Contains(got, "<remote-server-not-found ") {
		t.Errorf("to another server: %s", got)
	}
	romeo.send("<db:result xmlns:db='jabber:server:dialback' from='elsewhere.test' to='localhost'>key</db:result>")
	if got := romeo.next(); !strings.Contains(got, "unsupported-stanza-type") {
		t.Errorf("dialback of a client: %s", got)
	}
	if got := juliet.heard(); len(got) > 0 {
		t.Errorf("delivered %q", got)
	}
}

// What clients take for their own server's word comes from their bare JID: nobody can send from there.
func TestAttack03_ForgedCopies(t *testing.T) {
	tg, _, juliet := strangers(t)
	thief := tg.login(t, "juliet@localhost/other") // even her own other client
	for _, inner := range []string{
		"<received xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='romeo@localhost'><body>x</body></message></forwarded></received>",
		"<sent xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' to='romeo@localhost'><body>x</body></message></forwarded></sent>",
		"<result xmlns='urn:xmpp:mam:2' id='1'><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='romeo@localhost'><body>x</body></message></forwarded></result>",
		"<event xmlns='http://jabber.org/protocol/pubsub#event'><items node='urn:xmpp:bookmarks:1'/></event>",
	} {
		for _, to := range []string{"to='juliet@localhost'", "to='juliet@localhost/balcony'", ""} {
			thief.send("<message from='juliet@localhost' " + to + " type='chat'>" + inner + "</message>")
			for _, got := range append(thief.heard(), juliet.heard()...) {
				if strings.Contains(got, "<forbidden ") && strings.Contains(got, "to='juliet@localhost/other'") {
					continue // the thief's own, turned back
				}
				if strings.Contains(got, "from='juliet@localhost' ") || !strings.Contains(got, "from='juliet@localhost/other'") {
					t.Errorf("delivered %s", got)
				}
			}
		}
	}
}

func TestAttack04_RosterPush(t *testing.T) {
	_, romeo, juliet := strangers(t)
	const push = "<query xmlns='jabber:iq:roster'><item jid='evil@localhost' subscription='both'/></query>"
	try := func(t *testing.T, to string) {
		t.Helper()
		romeo.send("<iq type='set' id='push' to='" + to + "'>" + push + "</iq>")
		if got := strings.Join(romeo.heard(), ""); strings.Count(got, "id='push'") != 1 || !strings.Contains(got, "type='error'") {
			t.Errorf("to %s: answered %s", to, got)
		}
		if got := strings.Join(juliet.heard(), ""); strings.Contains(got, "evil") {
			t.Errorf("to %s: delivered %s", to, got)
		}
	}
	t.Run("by a stranger", func(t *testing.T) { try(t, "juliet@localhost/balcony"); try(t, "juliet@localhost") })
	befriend(t, romeo, juliet)
	t.Run("by a contact", func(t *testing.T) {
		try(t, "juliet@localhost/balcony")
		try(t, "juliet@localhost")
		romeo.send("<iq type='get' id='other' to='juliet@localhost/balcony'><query xmlns='jabber:iq:version'/></iq>")
		romeo.heard()
		if got := strings.Join(juliet.heard(), ""); !strings.Contains(got, "id='other'") {
			t.Errorf("the gate is closed to everything: %s", got)
		}
	})
	t.Run("of her own", func(t *testing.T) { // RFC 6121 §2.1.6
		juliet.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
		juliet.heard()
		juliet.send("<iq type='set' id='s'><query xmlns='jabber:iq:roster'><item jid='nurse@localhost'/></query></iq>")
		for _, got := range juliet.heard() {
			if strings.Contains(got, "type='set'") && strings.Contains(got, "from=") && !strings.Contains(got, "from='juliet@localhost'") {
				t.Errorf("pushed %s", got)
			}
		}
	})
}

// XEP-0203 §5: when a message came is told by the server, or not at all in its name.
func TestAttack05_ForgedStamps(t *testing.T) {
	_, romeo, juliet := strangers(t)
	const stamp = "<delay xmlns='urn:xmpp:delay' from='%s' stamp='2001-01-01T00:00:00Z'/>"
	send := func(from string) string {
		romeo.send("<message to='juliet@localhost' type='chat'><body>x</body>" + strings.Repeat(fmt.Sprintf(stamp, from), 2) + "<after xmlns='urn:x'/></message>")
		return juliet.next()
	}
	for _, from := range []string{"localhost", "LOCALHOST", "localhost."} {
		if got := send(from); strings.Contains(got, "2001") || !strings.Contains(got, "<after ") || !strings.Contains(got, "<body>x</body>") {
			t.Errorf("as %s: delivered %s", from, got)
		}
	}
	if got := send("room@chat.test"); strings.Count(got, "2001") != 2 {
		t.Errorf("of another server: delivered %s", got)
	}
}

func TestAttack06_ForgedEvents(t *testing.T) {
	tg, _, juliet := strangers(t)
	for _, from := range []string{"juliet@localhost", "localhost", "pubsub.localhost"} {
		u := tg.login(t, "romeo@localhost/thief")
		u.send("<message from='" + from + "' to='juliet@localhost' type='headline'><event xmlns='http://jabber.org/protocol/pubsub#event'/></message>")
		if got := u.next(); !strings.Contains(got, "invalid-from") {
			t.Errorf("as %s: answered %s", from, got)
		}
	}
	if got := juliet.heard(); len(got) > 0 {
		t.Errorf("delivered %q", got)
	}
}

func TestAttack07_IdentityConfusion(t *testing.T) {
	tg := attack(t, "domains=localhost,b.test")
	tg.account(t, "romeo@localhost", "juliet@localhost", "romeo@b.test")
	bind := "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>"
	expect := func(t *testing.T, p *peer, want string) {
		t.Helper()
		if got := p.rest(); !strings.Contains(got, "<"+want+" ") || strings.Contains(got, "<jid>") {
			t.Errorf("answered %s, want %s", got, want)
		}
	}
	t.Run("refused, then bind", func(t *testing.T) {
		p := secured(t, tg.Server)
		p.send(plain("juliet@localhost", "romeo", password))
		p.until("</failure>")
		p.send(bind)
		expect(t, p, "not-authorized")
	})
	t.Run("other domain after log-in", func(t *testing.T) { // CVE-2018-10847
		p := secured(t, tg.Server)
		p.send(plain("", "romeo", password))
		p.until("/>")
		p.send(with("localhost", "b.test") + bind)
		expect(t, p, "host-unknown")
	})
	t.Run("other domain after TLS", func(t *testing.T) {
		p := opened(t, tg.Server)
		p.send("<starttls " + tlsNS + "/>")
		p.until("/>")
		p = over(t, p)
		p.send(with("localhost", "b.test"))
		expect(t, p, "host-unknown")
	})
	t.Run("header of somebody else after log-in", func(t *testing.T) { // RFC 6120 §4.9.3.9
		p := secured(t, tg.Server)
		p.send(plain("", "romeo", password))
		p.until("/>")
		p.send(with("to=", "from='juliet@localhost' to=") + bind)
		expect(t, p, "invalid-from")
	})
	t.Run("header of somebody else before log-in", func(t *testing.T) { // RFC 6120 §6.4.6
		p := handshaken(t, tg.Server)
		p.send(with("to=", "from='juliet@localhost' to="))
		p.until("</stream:features>")
		p.send(plain("", "romeo", password))
		expect(t, p, "invalid-from")
	})
	t.Run("domain decides", func(t *testing.T) {
		cfg := tg.config("romeo@b.test/x")
		if u := dialUser(t, cfg); u.JID().String() != "romeo@b.test/x" {
			t.Errorf("is %s", u.JID())
		}
	})
	t.Run("disabled", func(t *testing.T) { // RFC 6120 §6.5.2
		if err := tg.Core().Accounts.SetDisabled(t.Context(), jid.MustParse("juliet@localhost"), true); err != nil {
			t.Fatal(err)
		}
		p := secured(t, tg.Server)
		for try, want := range map[string]string{plain("", "juliet", password): "account-disabled", plain("", "juliet", "x"): "not-authorized"} {
			p.send(try)
			if got := p.until("</failure>"); !strings.Contains(got, "<"+want+"/>") {
				t.Errorf("answered %s, want %s", got, want)
			}
		}
	})
	tg.account(t, "tybalt@localhost")
	for user, change := range map[string]func(jid.JID) error{
		"romeo":  func(who jid.JID) error { return tg.Core().DeleteAccount(t.Context(), who) },
		"tybalt": func(who jid.JID) error { return tg.Core().Accounts.SetDisabled(t.Context(), who, true) },
	} {
		t.Run("deleted or disabled before bind: "+user, func(t *testing.T) {
			p := authenticated(t, tg.Server, user)
			who := jid.MustParse(user + "@localhost")
			if err := change(who); err != nil {
				t.Fatal(err)
			}
			p.send(bind)
			if got := p.until("</iq>"); !strings.Contains(got, "type='error'") || len(tg.Core().Sessions.Account(who)) > 0 {
				t.Errorf("answered %s, and there are %d sessions", got, len(tg.Core().Sessions.Account(who)))
			}
		})
	}
}

var offer = regexp.MustCompile(`<mechanisms .*</mechanisms>|<sasl-channel-binding.*</sasl-channel-binding>`)

func TestAttack08_Downgrade(t *testing.T) {
	tg := attack(t, "auth.failures=1000")
	tg.account(t, "romeo@localhost")
	t.Run("offers do not change", func(t *testing.T) {
		var first string
		for _, header := range []string{open, open, with("to=", "from='romeo@localhost' to="), with("to=", "from='nobody@localhost' to="), with("version='1.0' xmlns=", "version='1.1' xmlns=")} {
			p := handshaken(t, tg.Server)
			p.send(header)
			got := strings.Join(offer.FindAllString(p.until("</stream:features>"), -1), "")
			if first == "" {
				first = got
			}
			if got != first || !strings.Contains(got, "SCRAM-SHA-256-PLUS") || !strings.Contains(got, "tls-exporter") {
				t.Errorf("offered %s, at first %s", got, first)
			}
		}
	})
	for _, h := range []string{"1", "256", "512"} {
		t.Run("flag y with SHA-"+h, func(t *testing.T) { // RFC 5802 §6
			p := secured(t, tg.Server)
			p.send(auth("SCRAM-SHA-"+h, "y,,n=romeo,r=abcdefgh"))
			if got := p.until("</failure>"); !strings.Contains(got, "<not-authorized/>") {
				t.Errorf("answered %s", got)
			}
		})
		for name, data := range map[string]string{"foreign": "the channel of somebody in the middle", "empty": ""} {
			t.Run(name+" channel with SHA-"+h, func(t *testing.T) {
				p := secured(t, tg.Server)
				if got := exchange(t, p, "SCRAM-SHA-"+h+"-PLUS", []byte(data+"?")); !strings.Contains(got, "<not-authorized/>") {
					t.Errorf("answered %s", got)
				}
			})
		}
	}
}

// exchange logs in as romeo, bound to the wrong channel, and returns the last answer.
func exchange(t *testing.T, p *peer, mechanism string, channel []byte) string {
	t.Helper()
	c, err := sasl.NewClient(mechanism, &sasl.ClientConfig{
		Username: "romeo", Password: password, Binding: sasl.Binding{Type: sasl.TLSExporterType, Data: channel},
		Offered: []string{mechanism}, BindingTypes: []string{sasl.TLSExporterType},
	})
	if err != nil {
		t.Fatal(err)
	}
	first, err := c.Step(nil)
	if err != nil {
		t.Fatal(err)
	}
	p.send(auth(mechanism, string(first)))
	challenge, err := xml.Parse([]byte(p.until("</challenge>")), xml.NSClient)
	if err != nil {
		t.Fatal(err)
	}
	in, err := base64.StdEncoding.DecodeString(challenge.Text())
	if err != nil {
		t.Fatal(err)
	}
	if i := strings.Index(string(in), ",h="); i > 0 { // the client would notice: the list it was told is another
		in = in[:i]
	}
	final, err := c.Step(in)
	if err != nil {
		t.Fatal(err)
	}
	p.send(response(string(final)))
	return p.until("</failure>")
}
