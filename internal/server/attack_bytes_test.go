package server_test

import (
	"crypto/tls"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

func TestAttack12_Entities(t *testing.T) {
	tg, romeo, juliet := strangers(t)
	for name, inner := range map[string]string{
		"DTD": "<!DOCTYPE lolz [<!ENTITY lol 'lol'>]>", "entity": "&lol;", "processing instruction": "<?xml-stylesheet href='x'?>",
		"declaration": "<?xml version='1.0'?>", "comment": "<!-- x -->", "parameter entity": "<!ENTITY % x SYSTEM 'file:///etc/passwd'>", "notation": "<!NOTATION x>",
	} {
		t.Run(name, func(t *testing.T) {
			u := tg.login(t, "romeo@localhost/thief")
			u.send("<message to='juliet@localhost'><body>" + inner + "</body></message>")
			if got := u.next(); !strings.Contains(got, "restricted-xml") {
				t.Errorf("answered %s", got)
			}
		})
	}
	romeo.send("<message to='juliet@localhost'><body>&lt;&amp;&gt;&apos;&quot;&#x41;&#66;<![CDATA[<!DOCTYPE>]]></body></message>")
	if got := juliet.next(); !strings.Contains(got, "<body>&lt;&amp;") || !strings.Contains(got, "AB&lt;!DOCTYPE") {
		t.Errorf("the predefined ones: %s", got)
	}
}

// What a stranger can make the server hold is little, bounded, and given back.
func TestAttack13_StrangersMemory(t *testing.T) {
	tg := attack(t, "limits.pre_auth_per_address=1000")
	for name, tc := range map[string]struct {
		send []string
		each float64 // bytes that one connection may hold
	}{
		"nothing":                     {nil, 0},
		"one byte":                    {[]string{"<"}, 1 << 10},
		"half a header":               {[]string{open[:len(open)-1]}, 1 << 10},
		"white space":                 {[]string{open, strings.Repeat(" ", 20000)}, 0},
		"a long element":              {[]string{open, "<a>" + strings.Repeat("x", 8000)}, 8 << 10},
		"an element, space and again": {[]string{open, "<a", " b='" + strings.Repeat("x", 6000), strings.Repeat("y", 2000)}, 8 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			const strangers = 100
			before := tg.holdings(t)
			var all []*peer
			for range strangers {
				all = append(all, connected(t, tg.Server))
			}
			for _, s := range tc.send {
				read := tg.metric(t, "starling_connection_received_bytes_total") + float64(strangers*len(s))
				for _, p := range all {
					p.send(s)
				}
				if !eventually(func() bool { return tg.metric(t, "starling_connection_received_bytes_total") >= read }) {
					t.Fatal("the server does not read")
				}
			}
			if held := tg.metric(t, "starling_assembly_bytes"); held > strangers*tc.each {
				t.Errorf("%v bytes held for %d connections", held, strangers)
			}
			for _, p := range all {
				p.Close()
			}
			tg.released(t, before)
		})
	}
}

func TestAttack13_Caps(t *testing.T) {
	for _, tc := range []struct {
		set, limit string
		others     bool // other addresses are let in
	}{
		{"limits.pre_auth_per_address=3", "pre_auth_per_address", true},
		{"limits.connections_per_address=3", "connections_per_address", true},
		{"limits.pre_auth_connections=3", "pre_auth_connections", false},
	} {
		t.Run(tc.limit, func(t *testing.T) {
			tg := attack(t, tc.set)
			tg.account(t, "romeo@localhost")
			before := tg.holdings(t)
			var all []*peer
			for range 3 {
				p := dialFrom(t, tg, "c2s", "127.0.0.2")
				p.send(open)
				p.until("</stream:features>")
				all = append(all, p)
			}
			p := dialFrom(t, tg, "c2s", "127.0.0.2")
			if got := p.rest(); got != "" {
				t.Errorf("one more is answered %s", got)
			}
			if lines := tg.log.about(p.LocalAddr()); len(lines) != 1 || !strings.Contains(lines[0], tc.limit) {
				t.Errorf("logged %q", lines)
			}
			p.Close()
			p = dialFrom(t, tg, "c2s", "127.0.0.3")
			p.Write([]byte(open)) // fails when it is refused
			if got, _ := p.r.ReadByte(); (got == '<') != tc.others {
				t.Errorf("another address is let in: %v", got == '<')
			}
			p.Close()
			for _, p := range all {
				p.Close()
			}
			tg.released(t, before)
			p = dialFrom(t, tg, "c2s", "127.0.0.2")
			p.send(open)
			p.until("</stream:features>")
		})
	}
}

func TestAttack14_DeepAndWide(t *testing.T) {
	tg := attack(t)
	tg.account(t, "romeo@localhost")
	many := strings.Repeat
	for name, tc := range map[string]struct{ ok, bad string }{
		"depth":                  {many("<a>", 63) + many("</a>", 63), many("<a>", 64)},
		"elements":               {many("<a/>", 4999), many("<a/>", 5000)},
		"attributes":             {"<a" + attributes(64) + "/>", "<a" + attributes(65)},
		"name":                   {"<" + many("n", 1024) + "/>", "<" + many("n", 1025)},
		"name in an end tag":     {"<a></a>", "<a></a" + many(" ", 20000)},
		"namespace":              {"<a xmlns='" + many("n", 1024) + "'/>", "<a xmlns='" + many("n", 1025) + "'"},
		"namespaces":             {"<a" + strings.ReplaceAll(attributes(64), " a", " xmlns:a") + "/>", "<a" + strings.ReplaceAll(attributes(65), " a", " xmlns:a")},
		"namespaces that add up": {"", many("<a"+strings.ReplaceAll(attributes(20), " a", " xmlns:a")+">", 4)},
		"tag":                    {"<a b='" + many("v", 16000) + "'/>", "<a b='" + many("v", 16384)},
		"expanding":              {"", "<x xmlns:p='" + many("n", 1000) + "'>" + many("<p:a/>", 400) + "</x>"}, // 400,000 bytes once written out
		"expanding text":         {"", "<![CDATA[" + many("<", 70000) + "]]>"},
	} {
		t.Run(name, func(t *testing.T) {
			before := tg.holdings(t)
			p := online(t, tg.Server)
			if tc.ok != "" {
				p.send("<message to='romeo@localhost' type='chat' id='fits'>" + tc.ok + "</message><iq type='get' id='pong'><ping xmlns='urn:xmpp:ping'/></iq>")
				p.until("id='pong'/>")
			}
			p.send("<message to='romeo@localhost' type='chat'>" + tc.bad)
			if got := p.rest(); !strings.Contains(got, "<policy-violation ") || !strings.Contains(got, tooBig) {
				t.Errorf("answered %s", got)
			}
			p.Close()
			tg.released(t, before)
		})
	}
}

// What is delivered parses to what was checked: RFC 6120 §11.4 leaves no room for two opinions.
func TestAttack15_Differentials(t *testing.T) {
	_, romeo, juliet := strangers(t, "archive.enabled=false") // its ids would stand out
	for name, inner := range map[string]string{
		"text":                  "<body>a &lt; b &#38; c ]]&gt; d</body>",
		"CDATA":                 "<body><![CDATA[</body></message><message from='evil@localhost'><body>]]></body>",
		"CDATA in pieces":       "<body><![CDATA[]]]]><![CDATA[>]]></body>",
		"quotes":                `<x xmlns="urn:x" a='"' b="'" c="&#39;&quot;&#10;"/>`,
		"greater-than":          "<x xmlns='urn:x' a='>/message>'/>",
		"prefix":                "<p:x xmlns:p='urn:p' p:a='1'><p:y/><z/></p:x>",
		"prefix twice":          "<p:x xmlns:p='urn:p'><p:x xmlns:p='urn:q'/></p:x>",
		"prefix of the header":  "<stream:x stream:a='1'><body/></stream:x>",
		"stream error inside":   "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
		"undeclared default":    "<x xmlns='urn:x'><y xmlns=''><z/></y></x>",
		"client's in another":   "<x xmlns='urn:x'><body xmlns='jabber:client'><b/></body></x>",
		"client's again":        "<body xmlns='jabber:client'>x</body>",
		"server's":              "<body xmlns='jabber:server'><body xmlns='jabber:client'/></body>",
		"namespace in disguise": "<body xmlns='jabber&#58;client'>x</body>",
		"line ends":             "<body>a\r\nb\rc\nd</body><x xmlns='urn:x' a='1\t2'/>",
		"outside ASCII":         "<body>\u2028\ufeff\U0001F600\u202e</body><ключ xmlns='urn:ключ'/>",
		"looks like UTF-7":      "<body>+ADw-script+AD4-</body>",
		"xml attributes":        "<body xml:lang='de' xml:space='preserve'> </body>",
		"no content":            "<body></body><body />",
	} {
		t.Run(name, func(t *testing.T) {
			raw := "<message to='juliet@localhost/balcony' type='chat' id='&#x31;'>" + inner + "</message>"
			want, err := xml.Parse([]byte("<w xmlns:stream='http://etherx.jabber.org/streams'>"+raw+"</w>"), xml.NSClient)
			if err != nil {
				t.Fatal(err)
			}
			romeo.send(raw)
			got := nextElement(t, juliet)
			if got.Attr("from") != "romeo@localhost/orchard" || got.Attr("id") != "1" || !reflect.DeepEqual(got.Nodes, want.First().Nodes) {
				t.Errorf("sent      %s\ndelivered %s", want.First(), got)
			}
		})
	}
	if got := juliet.heard(); len(got) > 0 {
		t.Errorf("delivered on top %q", got)
	}
}

func nextElement(t *testing.T, u *user) xml.Element {
	t.Helper()
	e, err := u.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// RFC 6120 §5.4.3.3: what comes before TLS counts no more after it.
func TestAttack16_Injection(t *testing.T) {
	tg := attack(t, "registration.open=true", "registration.free_loopback=true")
	tg.account(t, "romeo@localhost")
	const register = "<iq type='set' id='evil'><query xmlns='jabber:iq:register'><username>evil</username><password>evil</password></query></iq>"
	for name, injected := range map[string]string{
		"element":         register,
		"stream":          open + register,
		"log-in":          open + plain("", "romeo", password),
		"half an element": open + "<iq type='set",
		"space":           strings.Repeat(" ", 5000),
		"another":         "<starttls " + tlsNS + "/>",
		"end of stream":   footer,
		"junk":            "\x00\xff<<<",
	} {
		t.Run(name, func(t *testing.T) {
			p := opened(t, tg.Server)
			p.send("<starttls " + tlsNS + "/>" + injected)
			if got := p.until(">"); got != "<proceed "+tlsNS+"/>" {
				t.Fatalf("answered %s", got)
			}
			if p.r.Buffered() > 0 {
				t.Error("something comes between <proceed/> and TLS")
			}
			p = over(t, p)
			p.send(open)
			if got := p.until("</stream:features>"); strings.Count(got, "<stream:stream ") != 1 || strings.Contains(got, "evil") || !strings.Contains(got, "<mechanisms ") {
				t.Errorf("under TLS: %s", got)
			}
			p.send("<iq type='get' id='after'><query xmlns='jabber:iq:register'/></iq>")
			if got := p.until("</iq>"); strings.Contains(got, "evil") || !strings.Contains(got, "id='after'") {
				t.Errorf("then: %s", got)
			}
		})
	}
	if made, err := tg.Core().Accounts.Exists(t.Context(), jid.MustParse("evil@localhost")); made || err != nil {
		t.Errorf("an account was made: %v, %v", made, err)
	}
	t.Run("no tickets", func(t *testing.T) {
		cfg := insecure()
		cfg.ClientSessionCache = tls.NewLRUClientSessionCache(10)
		for i := range 3 {
			c := tls.Client(dial(t, tg.Server, "tls").Conn, cfg)
			if err := c.Handshake(); err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(c, open)
			c.Read(make([]byte, 100)) // a ticket would come before
			if c.ConnectionState().DidResume {
				t.Errorf("connection %d resumes another", i)
			}
			c.Close()
		}
	})
}

// One gate stands in front of everything that a password or an account could go through.
func TestAttack17_EncryptionGate(t *testing.T) {
	tg := attack(t, "registration.open=true", "registration.free_loopback=true", "auth.anonymous=localhost")
	tg.account(t, "romeo@localhost")
	p := connected(t, tg.Server)
	p.send(open)
	if got := p.until("</stream:features>"); strings.Contains(got, "mechanism") || strings.Contains(got, "register") || !strings.Contains(got, "<required/>") {
		t.Errorf("offered %s", got)
	}
	for _, m := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "ANONYMOUS", "EXTERNAL"} {
		p := opened(t, tg.Server)
		p.send(auth(m, "\x00romeo\x00"+password))
		if got := p.until("</failure>"); !strings.Contains(got, "<encryption-required/>") { // RFC 6120 §6.5.4
			t.Errorf("%s: %s", m, got)
		}
		p.send("<response " + saslNS + ">AAAA</response>")
		if got := p.until("</failure>"); !strings.Contains(got, "<encryption-required/>") {
			t.Errorf("%s, then a response: %s", m, got)
		}
	}
	for _, payload := range []string{
		"<query xmlns='jabber:iq:register'><username>evil</username><password>evil</password></query>",
		"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>", "<session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>", "<query xmlns='jabber:iq:auth'/>",
	} {
		p := opened(t, tg.Server)
		p.send("<iq type='set' id='1'>" + payload + "</iq>")
		if got := p.rest(); !strings.Contains(got, "<not-authorized ") {
			t.Errorf("%s: %s", payload, got)
		}
	}
	if made, err := tg.Core().Accounts.Exists(t.Context(), jid.MustParse("evil@localhost")); made || err != nil {
		t.Errorf("an account was made: %v, %v", made, err)
	}
}
