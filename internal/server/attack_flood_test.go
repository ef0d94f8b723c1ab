package server_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/starling-im/starling/internal/server"
)

func TestAttack26_Exhaustion(t *testing.T) {
	tg := attack(t, "roster.max_items=3", "roster.max_name=100", "roster.max_groups=2", "roster.max_requests=2")
	tg.account(t, "romeo@localhost")
	u := tg.login(t, "romeo@localhost/orchard")
	set := func(contact, inner string) string {
		u.send("<iq type='set' id='s'><query xmlns='jabber:iq:roster'><item jid='" + contact + "' " + inner + "</query></iq>")
		return u.next()
	}
	const injection = `'); DROP TABLE roster; --"`
	for i := range 3 {
		if got := set(fmt.Sprintf("friend%d@localhost", i), "name='"+strings.ReplaceAll(injection, "'", "&apos;")+"'><group>%s&#39;||x</group></item>"); !strings.Contains(got, "type='result'") {
			t.Errorf("contact %d: %s", i, got)
		}
	}
	for name, tc := range map[string]struct{ contact, inner, want string }{
		"too many":        {"another@localhost", "/>", "resource-constraint"},
		"long name":       {"friend0@localhost", "name='" + strings.Repeat("n", 101) + "'/>", "not-acceptable"},
		"long group":      {"friend0@localhost", "><group>" + strings.Repeat("n", 101) + "</group></item>", "not-acceptable"},
		"too many groups": {"friend0@localhost", "><group>a</group><group>b</group><group>c</group></item>", "not-acceptable"},
		"two items":       {"friend0@localhost", "/><item jid='friend1@localhost'/>", "bad-request"},
	} {
		if got := set(tc.contact, tc.inner); !strings.Contains(got, "<"+tc.want+" ") {
			t.Errorf("%s: %s", name, got)
		}
	}
	u.send("<iq type='get' id='g'><query xmlns='jabber:iq:roster'/></iq>")
	if e := nextElement(t, u); e.First().First().Attr("name") != injection || strings.Count(e.String(), "<item ") != 3 {
		t.Errorf("roster: %s", e)
	}
	for i := range 4 {
		name := fmt.Sprintf("fan%d@localhost", i)
		tg.account(t, name)
		fan := tg.login(t, name+"/x")
		fan.send("<presence to='romeo@localhost' type='subscribe'/>")
		fan.heard()
	}
	u.send("<presence/>")
	if got := strings.Join(u.heard(), ""); strings.Count(got, "type='subscribe'") != 2 {
		t.Errorf("requests: %s", got)
	}
}

func TestAttack28_Leaks(t *testing.T) {
	tg, romeo, juliet := strangers(t)
	tg.account(t, "nurse@localhost") // offline
	names := regexp.MustCompile(`juliet|nurse|nobody|balcony|garden`)
	same := func(t *testing.T, ask func(name string) string, asked ...string) {
		t.Helper()
		var first string
		for i, name := range asked {
			got := names.ReplaceAllString(ask(name), "X")
			if i == 0 {
				first = got
			}
			if got != first || got == "" {
				t.Errorf("%s: %s\n%s: %s", asked[0], first, name, got)
			}
		}
	}
	for _, payload := range []string{
		"<query xmlns='http://jabber.org/protocol/disco#info'/>", "<query xmlns='http://jabber.org/protocol/disco#items'/>",
		"<query xmlns='http://jabber.org/protocol/disco#info' node='x'/>", "<ping xmlns='urn:xmpp:ping'/>", "<query xmlns='jabber:iq:roster'/>",
		"<query xmlns='jabber:iq:register'/>", "<query xmlns='jabber:iq:last'/>", "<query xmlns='jabber:iq:version'/>", "<time xmlns='urn:xmpp:time'/>",
		"<query xmlns='jabber:iq:private'><x xmlns='urn:x'/></query>", "<blocklist xmlns='urn:xmpp:blocking'/>", "<vCard xmlns='vcard-temp'/>", "<x xmlns='urn:unknown'/>",
	} {
		for _, typ := range []string{"get", "set"} {
			ask := func(to string) string {
				romeo.send("<iq type='" + typ + "' id='ask' to='" + to + "'>" + payload + "</iq>")
				return strings.Join(romeo.heard(), "")
			}
			t.Run(typ+" "+payload, func(t *testing.T) {
				same(t, ask, "juliet@localhost", "nurse@localhost", "nobody@localhost")
			})
			t.Run(typ+" of a resource "+payload, func(t *testing.T) { // RFC 6120 §13.10.2
				same(t, ask, "juliet@localhost/balcony", "juliet@localhost/garden", "nobody@localhost/garden")
			})
		}
	}
	for _, presence := range []string{"type='probe'", "type='subscribe'", "type='unsubscribe'", "type='subscribed'", "type='unsubscribed'", "", "type='unavailable'"} {
		t.Run("presence "+presence, func(t *testing.T) { // RFC 6121 §8.5.1
			same(t, func(to string) string {
				romeo.send("<presence id='ask' to='" + to + "' " + presence + "/>")
				return "answers: " + strings.Join(withoutPushes(romeo.heard()), "")
			}, "juliet@localhost", "nurse@localhost", "nobody@localhost")
		})
	}
	juliet.heard()
	t.Run("her presence", func(t *testing.T) {
		juliet.send("<presence><show>away</show></presence>")
		juliet.heard()
		if got := strings.Join(romeo.heard(), ""); strings.Contains(got, "away") {
			t.Errorf("a stranger hears %s", got)
		}
	})
}

// withoutPushes leaves out what one's own roster has to say.
func withoutPushes(all []string) (rest []string) {
	for _, s := range all {
		if !strings.Contains(s, "jabber:iq:roster") {
			rest = append(rest, s)
		}
	}
	return rest
}

func TestAttack29_Addresses(t *testing.T) {
	tg, romeo, juliet := strangers(t)
	t.Run("spellings that are equal", func(t *testing.T) {
		for _, name := range []string{"romeo", "Romeo", "ROMEO", "ｒｏｍｅｏ", "ＲＯＭＥＯ"} {
			if got := guess(t, secured(t, tg.Server), name, password); !strings.HasPrefix(got, "<success") {
				t.Errorf("log-in as %s: %s", name, got)
			}
		}
		for _, to := range []string{"juliet@localhost", "JULIET@LOCALHOST", "ｊｕｌｉｅｔ@localhost", "juliet@localhost.", "Juliet@LocalHost/balcony"} {
			romeo.send("<message type='chat' to='" + to + "'><body>x</body></message>")
			if got := juliet.next(); !strings.Contains(got, "<body>x</body>") {
				t.Errorf("to %s: %s", to, got)
			}
		}
	})
	t.Run("resources differ by case", func(t *testing.T) {
		romeo.send("<iq type='get' id='r' to='romeo@localhost/Orchard'><ping xmlns='urn:xmpp:ping'/></iq>")
		if got := romeo.next(); !strings.Contains(got, "<service-unavailable ") {
			t.Errorf("answered %s", got)
		}
	})
	long := strings.Repeat
	for name, tc := range map[string]struct {
		to string
		ok bool
	}{
		"longest local part":       {long("a", 1023) + "@localhost", true},
		"too long local part":      {long("a", 1024) + "@localhost", false},
		"too long once prepared":   {long("ǰ", 511) + "aa@localhost", false}, // decomposes? no: maps to itself, two bytes each, 1,024 in all
		"longest resource":         {"juliet@localhost/" + long("r", 1023), true},
		"too long resource":        {"juliet@localhost/" + long("r", 1024), false},
		"mixed directions":         {"aא@localhost", false},
		"right to left":            {"אב@localhost", true},
		"control character":        {"a\u0085b@localhost", false},
		"zero width":               {"ju\u200bliet@localhost", false},
		"unassigned":               {"a\U000E0FFFb@localhost", false},
		"space":                    {"jul iet@localhost", false},
		"second at sign":           {"a@b@localhost", false},
		"at sign in resource":      {"juliet@localhost/a@b/c", true},
		"fraction slash":           {"juliet@localhost\u2044x", false},
		"small at":                 {"juliet\ufe6blocalhost", false}, // compatible with an at sign, and none
		"empty local part":         {"@localhost", false},
		"empty resource":           {"juliet@localhost/", false},
		"domain with empty label":  {"juliet@local..host", false},
		"forbidden in local parts": {"a&quot;b@localhost", false},
		"ampersand":                {"a&amp;b@localhost", false},
	} {
		t.Run(name, func(t *testing.T) {
			romeo.send("<message id='a' type='normal' to='" + tc.to + "'/>")
			got := strings.Join(romeo.heard(), "")
			if malformed := strings.Contains(got, "<jid-malformed "); malformed == tc.ok {
				t.Errorf("answered %s", got)
			}
		})
	}
}

func TestAttack30_AdminSurfaces(t *testing.T) {
	tg := attack(t)
	info, err := server.ReadRunInfo(tg.data)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("files", func(t *testing.T) {
		for _, path := range []string{info.AdminSocket, filepath.Join(tg.data, "starling.db"), filepath.Join(tg.data, "run.json"), filepath.Join(tg.data, "tls", "self-signed.key")} {
			st, err := os.Stat(path)
			if err != nil || st.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s: %v, %v", path, st.Mode(), err)
			}
		}
	})
	ask := func(door, request string) string {
		p := dial(t, tg.Server, door)
		if door == "https" {
			p = over(t, p)
		}
		p.send(request + "Connection: close\r\n\r\n")
		return strings.SplitN(p.rest(), "\r\n", 2)[0]
	}
	for _, door := range []string{"admin", "https"} {
		for _, path := range []string{"/v1/users", "/v1/domains", "/../v1/users", "/%2e%2e/v1/users", "/starling.db", "/setup/setup-s/%u002e%u002e/log.jsp"} {
			for _, method := range []string{"GET", "POST", "DELETE"} {
				if got := ask(door, method+" "+path+" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"); !regexp.MustCompile(`^HTTP/1.1 (301|307|400|404|405) `).MatchString(got) {
					t.Errorf("%s: %s %s: %s", door, method, path, got)
				}
			}
		}
	}
	for _, path := range []string{"/metrics", "/debug/pprof/heap", "/healthz"} {
		if got := ask("https", "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n"); !strings.Contains(got, " 404 ") {
			t.Errorf("https: %s: %s", path, got)
		}
		if got := ask("admin", "GET "+path+" HTTP/1.1\r\nHost: evil.test\r\n"); !strings.Contains(got, " 421 ") {
			t.Errorf("admin, by a foreign name: %s: %s", path, got)
		}
	}
}

func TestAttack31_Floods(t *testing.T) {
	t.Run("offline", func(t *testing.T) {
		tg := attack(t, "offline.max_messages=5")
		tg.account(t, "romeo@localhost", "juliet@localhost")
		romeo := tg.login(t, "romeo@localhost/orchard")
		for i := range 8 {
			romeo.send(fmt.Sprintf("<message to='juliet@localhost' type='chat' id='m%d'><body>x</body></message>", i))
		}
		got := romeo.heard()
		if len(got) != 3 || !strings.Contains(got[0], "id='m5'") || !strings.Contains(got[0], "<service-unavailable ") {
			t.Errorf("the sender hears %q", got)
		}
		juliet := tg.login(t, "juliet@localhost/balcony")
		juliet.send("<presence/>")
		if got := strings.Join(juliet.heard(), ""); strings.Count(got, "<body>") != 5 {
			t.Errorf("kept: %s", got)
		}
	})
	t.Run("sessions", func(t *testing.T) {
		tg := attack(t, "limits.sessions_per_account=2")
		tg.account(t, "romeo@localhost")
		tg.login(t, "romeo@localhost/a")
		tg.login(t, "romeo@localhost/b")
		p := loggedIn(t, tg.Server)
		p.send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
		if got := p.until("</iq>"); !strings.Contains(got, "<resource-constraint ") { // RFC 6120 §7.6.2.1
			t.Errorf("one more: %s", got)
		}
		tg.login(t, "romeo@localhost/b") // takes the place of its own
	})
	t.Run("a client that does not read", func(t *testing.T) {
		tg := attack(t, "limits.send_queue_bytes=256KiB", "domains=localhost,b.test")
		tg.account(t, "romeo@localhost", "juliet@localhost")
		romeo := tg.login(t, "romeo@localhost/orchard")
		before := tg.holdings(t)
		p := bound(t, tg.Server, "juliet")
		p.send("<presence/>")
		p.until("/>")
		long := "<message to='juliet@localhost' type='chat'><body>" + strings.Repeat("x", 200_000) + "</body></message>"
		if !eventually(func() bool {
			romeo.send(long)
			return tg.Core().Sessions.Len() == 1
		}) {
			t.Fatal("it keeps its session")
		}
		romeo.heard()
		if lines := tg.log.about(p.LocalAddr()); len(lines) != 1 || !strings.Contains(lines[0], "resource-constraint") {
			t.Errorf("logged %q", lines)
		}
		p.Close()
		tg.released(t, before)
	})
	t.Run("rate", func(t *testing.T) { // XEP-0205 §4.7
		for name, stanza := range map[string]string{
			"messages": "<message to='juliet@localhost' type='chat'><body>" + strings.Repeat("x", 900) + "</body></message>",
			"iqs":      "<iq type='get' id='x'><ping xmlns='urn:xmpp:ping'/>" + strings.Repeat(" ", 900) + "</iq>",
		} {
			tg := attack(t, "limits.rate_bytes=50000", "limits.rate_burst=50000")
			tg.account(t, "romeo@localhost")
			u := tg.login(t, "romeo@localhost/orchard")
			u.send(strings.Repeat(stanza, 100))
			u.heard()
			if n := tg.metric(t, "starling_c2s_throttled_total"); n == 0 {
				t.Errorf("%s: never slowed down", name)
			}
		}
	})
}

// Errors and results are answered by nothing: RFC 6120 §8.3.1, §8.2.3.
func TestAttack32_ErrorStorms(t *testing.T) {
	tg, romeo, juliet := strangers(t)
	routed := tg.metric(t, "starling_stanzas_routed_total")
	const inner = "<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
	sent := 0
	for _, to := range []string{"nobody@localhost", "nobody@localhost/x", "juliet@localhost/gone", "localhost", "localhost/x", "elsewhere.test", "romeo@elsewhere.test", "romeo@localhost/gone", ""} {
		attr := ""
		if to != "" {
			attr = "to='" + to + "'"
		}
		for _, s := range []string{
			"<message type='error' id='e' " + attr + ">" + inner + "</message>", "<presence type='error' id='e' " + attr + ">" + inner + "</presence>",
			"<iq type='error' id='e' " + attr + ">" + inner + "</iq>", "<iq type='result' id='e' " + attr + "/>",
		} {
			if to == "" && strings.HasPrefix(s, "<presence") {
				continue // a broadcast of an error is a mistake of the sender, who hears of it
			}
			romeo.send(s)
			sent++
		}
	}
	if got := romeo.heard(); len(got) > 0 {
		t.Errorf("answered %q", got)
	}
	if got := juliet.heard(); len(got) > 0 {
		t.Errorf("delivered %q", got)
	}
	if n := tg.metric(t, "starling_stanzas_routed_total") - routed; n > float64(2*sent+10) {
		t.Errorf("%d stanzas became %v", sent, n)
	}
	t.Run("two that bounce", func(t *testing.T) { // each error goes one way
		for range 10 {
			romeo.send("<message type='error' id='e' to='juliet@localhost/balcony'>" + inner + "</message>")
			juliet.send("<message type='error' id='e' to='romeo@localhost/orchard'>" + inner + "</message>")
		}
		b := len(juliet.heard()) // what she has sent is dealt with
		a := len(romeo.heard())  // and what he has
		b += len(juliet.heard())
		if a != 10 || b != 10 {
			t.Errorf("%d and %d errors came", a, b)
		}
	})
}

// The default language of a stream is written on every stanza (RFC 6120 §8.1.5): a few bytes must not become thousands.
func TestAttack32_Amplification(t *testing.T) {
	tg, _, juliet := strangers(t)
	for lang, want := range map[string]string{"de-CH-1996": "xml:lang='de-CH-1996'", strings.Repeat("x", 5000): ""} {
		p := secured(t, tg.Server)
		p.send(plain("", "romeo", password))
		p.until("/>")
		p.send(with("to=", "xml:lang='"+lang+"' to="))
		p.until("</stream:features>")
		p.send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq><message to='juliet@localhost' type='chat'><body>x</body></message>")
		if got := juliet.next(); len(got) > 300 || !strings.Contains(got, want) {
			t.Errorf("delivered %d bytes: %.300s", len(got), got)
		}
	}
}

// A server can be stopped at any moment of a connection's life.
func TestStopWhileConnecting(t *testing.T) {
	var dialers sync.WaitGroup
	defer dialers.Wait()
	for range 3 {
		t.Run("once", func(t *testing.T) {
			tg := attack(t)
			for _, door := range []string{"c2s", "tls"} {
				address := tg.Addresses()[door][0]
				for range 4 {
					dialers.Go(func() {
						for {
							c, err := net.Dial("tcp", address)
							if err != nil {
								return
							}
							fmt.Fprint(c, open)
							c.Close()
						}
					})
				}
			}
			if !eventually(func() bool { return tg.metric(t, "starling_connection_received_bytes_total") > 50*float64(len(open)) }) {
				t.Error("nobody came")
			}
		})
	}
}
