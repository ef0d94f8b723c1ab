package server_test

import (
	"crypto/tls"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/server"
)

// stage is how far a client behaves.
type stage func(t *testing.T, s *server.Server) *peer

func connected(t *testing.T, s *server.Server) *peer { t.Helper(); return dial(t, s, "c2s") }
func toDirect(t *testing.T, s *server.Server) *peer  { t.Helper(); return dial(t, s, "tls") }
func handshaken(t *testing.T, s *server.Server) *peer {
	t.Helper()
	return over(t, dial(t, s, "tls"))
}
func loggedIn(t *testing.T, s *server.Server) *peer { t.Helper(); return authenticated(t, s, "romeo") }
func online(t *testing.T, s *server.Server) *peer   { t.Helper(); return bound(t, s, "romeo") }

// badInput is what a client sends, and how the server ends the stream.
type badInput struct {
	name string
	from stage
	send []string // written one by one, each when the server has read the one before
	want string   // condition of the stream error; empty: none
	also string   // must be part of the answer
}

const (
	saslNS = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'"
	tlsNS  = "xmlns='urn:ietf:params:xml:ns:xmpp-tls'"
	tooBig = "<stanza-too-big xmlns='urn:xmpp:errors'/>"
	footer = "</stream:stream>"
	body   = " xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
)

func with(old, new string) string { return strings.Replace(open, old, new, 1) }

// RFC 6120 §4.9.3: each kind of bad input has its own condition.
func TestBadInput(t *testing.T) {
	tg := attack(t)
	tg.account(t, "romeo@localhost")
	online(t, tg.Server).Close() // what is made once is made
	tg.released(t, map[string]float64{"goroutines": 1e9, "descriptors": 1e9})
	many := strings.Repeat
	for _, list := range [][]badInput{{
		{"nothing", connected, nil, "", ""},
		{"HTTP", connected, []string{"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"}, "not-well-formed", ""},
		{"ClientHello in plaintext", connected, []string{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + many("\xaa", 505)}, "not-well-formed", ""},
		{"SSH", connected, []string{"SSH-2.0-OpenSSH_9.9\r\n"}, "not-well-formed", ""},
		{"zero bytes", connected, []string{many("\x00", 100)}, "unsupported-encoding", ""},
		{"binary", connected, []string{"\xde\xad\xbe\xef\x00\xff"}, "not-well-formed", ""},
		{"UTF-16 with byte order mark", connected, []string{"\xff\xfe<\x00?\x00x\x00"}, "unsupported-encoding", ""},
		{"UTF-16", connected, []string{"<\x00?\x00x\x00m\x00l\x00"}, "unsupported-encoding", ""},
		{"UTF-16 the other way round", connected, []string{"\x00<\x00?\x00x"}, "unsupported-encoding", ""},
		{"byte order mark", connected, []string{"\xef\xbb\xbf" + open}, "not-well-formed", ""},
		{"other encoding", connected, []string{"<?xml version='1.0' encoding='iso-8859-1'?>"}, "unsupported-encoding", ""},
		{"other version of XML", connected, []string{"<?xml version='1.1'?>"}, "not-well-formed", ""},
		{"DTD", connected, []string{"<!DOCTYPE stream:stream SYSTEM 'http://evil.test/x.dtd'>" + open}, "restricted-xml", ""},
		{"entity bomb", connected, []string{"<?xml version='1.0'?><!DOCTYPE lolz [<!ENTITY a 'lol'><!ENTITY b '&a;&a;&a;'>]><lolz>&b;</lolz>"}, "restricted-xml", ""},
		{"processing instruction first", connected, []string{"<?php phpinfo(); ?>"}, "restricted-xml", ""},
		{"comment first", connected, []string{"<!-- hello -->"}, "restricted-xml", ""},
		{"stanza first", connected, []string{"<message xmlns='jabber:client'/>"}, "bad-format", ""},
		{"end first", connected, []string{footer}, "not-well-formed", ""},
		{"wrong host", connected, []string{with("localhost", "elsewhere.test")}, "host-unknown", "from='localhost'"},
		{"account as host", connected, []string{with("localhost", "romeo@localhost")}, "host-unknown", ""},
		{"malformed host", connected, []string{with("localhost", "a..b")}, "host-unknown", ""},
		{"malformed from", connected, []string{with("to=", "from='@' to=")}, "invalid-from", ""},
		{"server's namespace", connected, []string{with("'jabber:client'", "'jabber:server'")}, "invalid-namespace", "xmlns='jabber:client'"},
		{"wrong namespace of streams", connected, []string{with("etherx.jabber.org/streams", "wrong.test")}, "invalid-namespace", ""},
		{"wrong prefix", connected, []string{"<foobar:stream to='localhost' xmlns='jabber:client' xmlns:foobar='http://etherx.jabber.org/streams' version='1.0'>"}, "bad-namespace-prefix", ""},
		{"no version", connected, []string{with("version='1.0' xmlns=", "xmlns=")}, "unsupported-version", ""},
		{"version of words", connected, []string{with("version='1.0' xmlns=", "version='ten' xmlns=")}, "unsupported-version", ""},
		{"header of many attributes", connected, []string{"<stream:stream" + attributes(65) + body}, "policy-violation", tooBig},
		{"header too long", connected, []string{"<stream:stream to='localhost' a='" + many("x", 8192) + "'" + body}, "policy-violation", tooBig},
		{"endless declaration", connected, []string{"<?xml version='1.0'" + many(" ", 8192)}, "policy-violation", tooBig},
		{"header in pieces, then junk", connected, append(strings.SplitAfter(open, " "), "\x01"), "not-well-formed", ""},
	}, {
		{"closed", opened, []string{footer}, "", ""},
		{"two roots", opened, []string{footer + open}, "", ""},
		{"second header", opened, []string{open + footer}, "restricted-xml", ""}, // its XML declaration is none in the middle
		{"second header without declaration", opened, []string{"<stream:stream to='localhost'" + body + footer}, "unsupported-stanza-type", ""},
		{"text", opened, []string{"hello"}, "not-well-formed", ""},
		{"text outside ASCII", opened, []string{"привет"}, "not-well-formed", ""},
		{"control character", opened, []string{"<a>\x01</a>"}, "not-well-formed", ""},
		{"broken tag", opened, []string{"<a b></a>"}, "not-well-formed", ""},
		{"crossed tags", opened, []string{"<a><b></a></b>"}, "not-well-formed", ""},
		{"attribute twice", opened, []string{"<a b='1' b='2'/>"}, "not-well-formed", ""},
		{"unbound prefix", opened, []string{"<x:a/>"}, "not-well-formed", ""},
		{"reserved prefix", opened, []string{"<a xmlns:xml='urn:x'/>"}, "bad-namespace-prefix", ""},
		{"character that XML lacks", opened, []string{"<a>&#0;</a>"}, "not-well-formed", ""},
		{"entity", opened, []string{"<a>&nbsp;</a>"}, "restricted-xml", ""},
		{"comment", opened, []string{"<a><!-- --></a>"}, "restricted-xml", ""},
		{"processing instruction", opened, []string{"<?xml-stylesheet href='x'?>"}, "restricted-xml", ""},
		{"DTD inside", opened, []string{"<!DOCTYPE a>"}, "restricted-xml", ""},
		{"invalid UTF-8", opened, []string{"<a>\xc0\xaf</a>"}, "unsupported-encoding", ""},
		{"surrogate", opened, []string{"<a>\xed\xa0\x80</a>"}, "unsupported-encoding", ""},
		{"noncharacter", opened, []string{"<a>\xef\xbf\xbf</a>"}, "not-well-formed", ""},
		{"invalid UTF-8 across reads", opened, []string{"<a>\xe2", "\x82", "</a>"}, "unsupported-encoding", ""},
		{"invalid character across reads", opened, []string{"<a>\xef\xbf", "\xbf", "</a>"}, "not-well-formed", ""},
		{"message before TLS", opened, []string{"<message to='romeo@localhost'><body>x</body></message>"}, "not-authorized", ""},
		{"iq before TLS", opened, []string{"<iq type='get' id='1'><query xmlns='jabber:iq:register'/></iq>"}, "not-authorized", ""},
		{"unknown element", opened, []string{"<hello xmlns='urn:x'/>"}, "unsupported-stanza-type", ""},
		{"too many bytes", opened, []string{"<a>" + many("x", 8190) + "</a>"}, "policy-violation", tooBig},
		{"too many bytes in pieces", opened, []string{"<a>", many("x", 4000), many("x", 4000), many("x", 4000)}, "policy-violation", tooBig},
		{"too many elements", opened, []string{"<a>" + many("<b/>", 32) + "</a>"}, "policy-violation", tooBig},
		{"long name", opened, []string{"<" + many("a", 1025) + "/>"}, "policy-violation", tooBig},
		{"starttls with junk for a handshake", opened, []string{"<starttls " + tlsNS + "/>", "this is no handshake, this is a text"}, "", "<proceed"},
	}, {
		{"plaintext for direct TLS", toDirect, []string{open}, "", ""},
		{"HTTP for direct TLS", toDirect, []string{"GET / HTTP/1.1\r\n\r\n"}, "", ""},
		{"junk under TLS", handshaken, []string{"\x00\x01\x02"}, "unsupported-encoding", ""},
		{"message before log-in", secured, []string{"<message to='romeo@localhost'><body>x</body></message>"}, "not-authorized", ""},
		{"presence before log-in", secured, []string{"<presence/>"}, "not-authorized", ""},
		{"bind before log-in", secured, []string{"<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>"}, "not-authorized", ""},
		{"registration while it is closed", secured, []string{"<iq type='get' id='1'><query xmlns='jabber:iq:register'/></iq>"}, "not-authorized", ""},
		{"result before log-in", secured, []string{"<iq type='result' id='1'/>"}, "not-authorized", ""},
		{"TLS in TLS", secured, []string{"<starttls " + tlsNS + "/>"}, "", "<failure " + tlsNS + "/>" + footer},
		{"too many bytes under TLS", secured, []string{"<a>" + many("x", 8190) + "</a>"}, "policy-violation", tooBig},
		{"unknown element of SASL", secured, []string{"<challenge " + saslNS + "/>"}, "unsupported-stanza-type", ""},
	}, {
		{"starttls after log-in", loggedIn, []string{"<starttls " + tlsNS + "/>"}, "", "<failure " + tlsNS + "/>" + footer},
		{"log-in after log-in", loggedIn, []string{plain("", "romeo", password)}, "policy-violation", ""},
		{"message before bind", loggedIn, []string{"<message to='romeo@localhost'><body>x</body></message>"}, "not-authorized", ""},
		{"iq before bind", loggedIn, []string{"<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>"}, "not-authorized", ""},
		{"starttls when bound", online, []string{"<starttls " + tlsNS + "/>"}, "unsupported-stanza-type", ""},
		{"log-in when bound", online, []string{plain("", "romeo", password)}, "unsupported-stanza-type", ""},
		{"unknown stanza", online, []string{"<pubsub xmlns='jabber:client'/>"}, "unsupported-stanza-type", ""},
		{"stanza of servers", online, []string{"<message xmlns='jabber:server' to='romeo@localhost'/>"}, "unsupported-stanza-type", ""},
		{"foreign sender", online, []string{"<message from='juliet@localhost' to='romeo@localhost'/>"}, "invalid-from", ""},
		{"malformed sender", online, []string{"<message from='@' to='romeo@localhost'/>"}, "invalid-from", ""},
		{"comment when bound", online, []string{"<message><!-- --></message>"}, "restricted-xml", ""},
		{"stanza too big", online, []string{"<message><body>" + many("x", 262144)}, "policy-violation", tooBig},
		{"too many elements when bound", online, []string{"<message>" + many("<a/>", 5000)}, "policy-violation", tooBig},
		{"too deep", online, []string{"<message>" + many("<a>", 64)}, "policy-violation", tooBig},
		{"too many attributes", online, []string{"<message><a" + attributes(65)}, "policy-violation", tooBig},
		{"too many namespaces", online, []string{"<message" + strings.ReplaceAll(attributes(65), " a", " xmlns:a")}, "policy-violation", tooBig},
		{"name too long", online, []string{"<message><" + many("n", 1025)}, "policy-violation", tooBig},
		{"namespace too long", online, []string{"<message><a xmlns='" + many("n", 1025) + "'"}, "policy-violation", tooBig},
		{"tag too long", online, []string{"<message><a b='" + many("v", 16384)}, "policy-violation", tooBig},
	}} {
		for _, tc := range list {
			t.Run(tc.name, func(t *testing.T) { tc.run(t, tg) })
		}
	}
}

func attributes(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, " a%d='urn:%d'", i, i)
	}
	return b.String()
}

var streamError = regexp.MustCompile(`<stream:error><([a-z-]+) xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>`)

func (tc *badInput) run(t *testing.T, tg *target) {
	before := tg.holdings(t)
	p := tc.from(t, tg.Server)
	me := p.LocalAddr()
	logged := len(tg.log.about(me))
	for _, s := range tc.send {
		was := tg.metric(t, "starling_connection_received_bytes_total")
		p.send(s)
		if len(tc.send) > 1 && !eventually(func() bool { return tg.metric(t, "starling_connection_received_bytes_total") > was }) {
			t.Error("the server does not read")
		}
	}
	quiet := len(tc.send) == 0
	if quiet {
		p.Close()
	}
	got := p.rest()
	p.Close()
	if tc.want == "" && strings.Contains(got, "<stream:error>") || !strings.Contains(got, tc.also) {
		t.Errorf("answered %q", got)
	}
	if tc.want != "" {
		if m := streamError.FindStringSubmatch(got); m == nil || m[1] != tc.want {
			t.Errorf("answered %q, want %s", got, tc.want)
		}
		if n := strings.Count(got, footer); n != 1 || !strings.HasSuffix(got, footer) {
			t.Errorf("not the end of a stream: %q", got)
		}
		// RFC 6120 §4.9.1.2: an error is told in a stream of our own.
		if n := strings.Count(got, "<stream:stream "); n != strings.Count(got, "<?xml version='1.0'?>") || n > 1 {
			t.Errorf("%d headers: %q", n, got)
		}
	}
	tg.released(t, before)
	want := logged + 1
	if quiet || tc.want == "" && strings.HasPrefix(tc.send[0], footer) {
		want = logged // nothing is wrong
	}
	if lines := tg.log.about(me); len(lines) != want {
		t.Errorf("%d lines of the log, want %d: %q", len(lines), want, lines)
	}
}

// RFC 6120 §4.7.2. Choice: a client that names no domain gets the first.
func TestHeaderWithoutTo(t *testing.T) {
	p := connected(t, attack(t).Server)
	p.send(with("to='localhost' ", ""))
	if got := p.until("</stream:features>"); !strings.Contains(got, "from='localhost'") {
		t.Errorf("answered %s", got)
	}
}

func TestBadHandshake(t *testing.T) {
	tg := attack(t)
	for name, tc := range map[string]struct {
		change func(*tls.Config)
		want   string
	}{
		"TLS 1.1":      {func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, "protocol version"},
		"wrong ALPN":   {func(c *tls.Config) { c.NextProtos = []string{"h2", "http/1.1"} }, "no application protocol"},
		"server to it": {func(c *tls.Config) { c.NextProtos = []string{"xmpp-server"} }, "no application protocol"},
		"old ciphers": {func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_RC4_128_SHA}
		}, "handshake failure"},
	} {
		for door, start := range map[string]stage{"direct": toDirect, "STARTTLS": func(t *testing.T, s *server.Server) *peer {
			p := opened(t, s)
			p.send("<starttls " + tlsNS + "/>")
			p.until("/>")
			return p
		}} {
			t.Run(name+" "+door, func(t *testing.T) {
				before := tg.holdings(t)
				p := start(t, tg.Server)
				cfg := insecure()
				tc.change(cfg)
				if err := tls.Client(p.Conn, cfg).Handshake(); err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("handshake: %v, want %s", err, tc.want)
				}
				p.Close()
				tg.released(t, before)
				if lines := tg.log.about(p.LocalAddr()); len(lines) != 1 || !strings.Contains(lines[0], "handshake") {
					t.Errorf("logged %q", lines)
				}
			})
		}
	}
}

// A record that was tampered with ends the connection, and says nothing of the stream.
func TestBrokenRecord(t *testing.T) {
	tg := attack(t)
	before := tg.holdings(t)
	p := dial(t, tg.Server, "tls")
	sec := over(t, p)
	sec.send(open)
	sec.until("</stream:features>")
	p.send("\x17\x03\x03\x00\x20" + strings.Repeat("x", 32))
	if got := sec.rest(); got != "" {
		t.Errorf("answered %q", got)
	}
	p.Close()
	tg.released(t, before)
	if lines := tg.log.about(p.LocalAddr()); len(lines) != 1 || !strings.Contains(lines[0], "bad record MAC") {
		t.Errorf("logged %q", lines)
	}
}

// RFC 6120 §6.5: the conditions of SASL, after which the stream goes on.
func TestBadAuthentication(t *testing.T) {
	tg := attack(t, "auth.failures=1000")
	tg.account(t, "romeo@localhost")
	online(t, tg.Server).Close()
	tg.released(t, map[string]float64{"goroutines": 1e9, "descriptors": 1e9})
	const scram = "SCRAM-SHA-256"
	for _, tc := range []struct {
		name string
		from stage
		send []string // answered one by one
		want string
	}{
		{"before TLS", opened, []string{plain("", "romeo", password)}, "encryption-required"},
		{"before TLS, unknown mechanism", opened, []string{auth("X", "")}, "encryption-required"},
		{"unknown mechanism", secured, []string{auth("CRAM-MD5", "")}, "invalid-mechanism"},
		{"no mechanism", secured, []string{"<auth " + saslNS + "/>"}, "invalid-mechanism"},
		{"mechanism in lower case", secured, []string{auth("plain", "")}, "invalid-mechanism"},
		{"EXTERNAL without certificate", secured, []string{auth("EXTERNAL", "")}, "invalid-mechanism"},
		{"ANONYMOUS not allowed", secured, []string{auth("ANONYMOUS", "")}, "invalid-mechanism"},
		{"not base64", secured, []string{"<auth " + saslNS + " mechanism='PLAIN'>not base64!</auth>"}, "incorrect-encoding"},
		{"white space in base64", secured, []string{"<auth " + saslNS + " mechanism='PLAIN'>AHJv bWVv</auth>"}, "incorrect-encoding"},
		{"padding bits", secured, []string{"<auth " + saslNS + " mechanism='PLAIN'>AHJvbWVvAHgx=</auth>"}, "incorrect-encoding"},
		{"equals sign", secured, []string{"<auth " + saslNS + " mechanism='PLAIN'>=</auth>"}, "malformed-request"},
		{"two equals signs", secured, []string{"<auth " + saslNS + " mechanism='PLAIN'>==</auth>"}, "incorrect-encoding"},
		{"empty, then an empty response", secured, []string{"<auth " + saslNS + " mechanism='PLAIN'/>", "<response " + saslNS + "/>"}, "malformed-request"},
		{"empty, then an equals sign", secured, []string{"<auth " + saslNS + " mechanism='PLAIN'/>", "<response " + saslNS + ">=</response>"}, "malformed-request"},
		{"one part", secured, []string{auth("PLAIN", "romeo")}, "malformed-request"},
		{"four parts", secured, []string{auth("PLAIN", "\x00romeo\x00x\x00y")}, "malformed-request"},
		{"not UTF-8", secured, []string{auth("PLAIN", "\x00romeo\x00\xff")}, "malformed-request"},
		{"wrong password", secured, []string{plain("", "romeo", "x")}, "not-authorized"},
		{"no such user", secured, []string{plain("", "nobody", "x")}, "not-authorized"},
		{"no such name", secured, []string{plain("", "a@b", "x")}, "not-authorized"},
		{"other identity", secured, []string{plain("juliet@localhost", "romeo", password)}, "invalid-authzid"},
		{"identity of another domain", secured, []string{plain("romeo@elsewhere.test", "romeo", password)}, "invalid-authzid"},
		{"identity with resource", secured, []string{plain("romeo@localhost/x", "romeo", password)}, "invalid-authzid"},
		{"identity is the server", secured, []string{plain("localhost", "romeo", password)}, "invalid-authzid"},
		{"response without an exchange", secured, []string{"<response " + saslNS + "/>"}, "malformed-request"},
		{"abort", secured, []string{"<abort " + saslNS + "/>"}, "aborted"},
		{"abort in the middle", secured, []string{auth(scram, "n,,n=romeo,r=abc"), "<abort " + saslNS + "/>"}, "aborted"},
		{"response after an abort", secured, []string{auth(scram, "n,,n=romeo,r=abc"), "<abort " + saslNS + "/>", "<response " + saslNS + "/>"}, "malformed-request"},
		{"SCRAM without nonce", secured, []string{auth(scram, "n,,n=romeo")}, "malformed-request"},
		{"SCRAM with mandatory extension", secured, []string{auth(scram, "n,,m=x,n=romeo,r=abc")}, "not-authorized"},
		{"SCRAM with other nonce", secured, []string{auth(scram, "n,,n=romeo,r=abc"), response("c=biws,r=other,p=AAAA")}, "not-authorized"},
		{"SCRAM flag y", secured, []string{auth(scram, "y,,n=romeo,r=abc")}, "not-authorized"},
		{"SCRAM binding without PLUS", secured, []string{auth(scram, "p=tls-exporter,,n=romeo,r=abc")}, "not-authorized"},
		{"SCRAM PLUS without binding", secured, []string{auth(scram+"-PLUS", "n,,n=romeo,r=abc")}, "not-authorized"},
		{"SCRAM PLUS with unknown binding", secured, []string{auth(scram+"-PLUS", "p=tls-unique,,n=romeo,r=abc")}, "not-authorized"},
		{"too long", secured, []string{"<auth " + saslNS + " mechanism='PLAIN'>" + strings.Repeat("A", 4000) + "</auth>"}, "malformed-request"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := tg.holdings(t)
			p := tc.from(t, tg.Server)
			got, failures := "", 0
			for _, s := range tc.send {
				p.send(s)
				if got = p.until(">"); strings.HasPrefix(got, "<failure") {
					got += p.until("</failure>")
					failures++
				} else if !strings.HasSuffix(got, "/>") {
					got += p.until("</challenge>")
				}
			}
			if !strings.HasPrefix(got, "<failure "+saslNS+"><"+tc.want+"/>") {
				t.Errorf("answered %s, want %s", got, tc.want)
			}
			p.send(footer)
			if got := p.rest(); got != footer {
				t.Errorf("then %q", got)
			}
			p.Close()
			tg.released(t, before)
			if lines := tg.log.about(p.LocalAddr()); len(lines) != failures {
				t.Errorf("logged %q", lines)
			}
		})
	}
}

// response goes on with an exchange.
func response(message string) string {
	return strings.Replace(strings.Replace(auth("", message), "<auth "+saslNS+" mechanism=''", "<response "+saslNS, 1), "</auth>", "</response>", 1)
}

// RFC 6120 §6.4.5: the number of retries is bounded.
func TestEndlessAttempts(t *testing.T) {
	tg := attack(t)
	before := tg.holdings(t)
	p := secured(t, tg.Server)
	p.send(strings.Repeat(plain("", "romeo", "guess"), 10))
	got := p.rest()
	if n := strings.Count(got, "<not-authorized/>"); n != 3 {
		t.Errorf("%d failures in %s", n, got)
	}
	if m := streamError.FindStringSubmatch(got); m == nil || m[1] != "policy-violation" || !strings.HasSuffix(got, footer) {
		t.Errorf("ended with %s", got)
	}
	p.Close()
	tg.released(t, before)
	if lines := tg.log.about(p.LocalAddr()); len(lines) != 4 { // each failure, and the end
		t.Errorf("logged %q", lines)
	}
}

// A client has a time to log in, however busily it uses it.
func TestSlowClients(t *testing.T) {
	tg := attack(t, "limits.auth_timeout=1s", "limits.handshake_timeout=2s")
	tg.account(t, "romeo@localhost")
	before := tg.holdings(t)
	t.Run("clients", func(t *testing.T) {
		for _, tc := range []struct {
			name string
			from stage
			drip string
			want string // how the stream ends; empty: not at all, since the client has none
		}{
			{"silent", connected, "", ""},
			{"header byte by byte", connected, open[:len(open)-1], ""},
			{"stream and silence", opened, "", "connection-timeout"},
			{"element byte by byte", opened, "<a>" + strings.Repeat("x", 1000), "connection-timeout"},
			{"white space", opened, strings.Repeat(" ", 1000), "connection-timeout"},
			{"many elements", opened, strings.Repeat("<", 1), "connection-timeout"},
			{"no handshake", toDirect, "", ""},
			{"half a handshake", toDirect, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("x", 100), ""},
			{"under TLS", secured, strings.Repeat(" ", 1000), "connection-timeout"},
			{"authenticated", loggedIn, strings.Repeat(" ", 1000), "connection-timeout"},
		} {
			t.Run(tc.name, func(t *testing.T) {
				t.Parallel()
				p := tc.from(t, tg.Server)
				gone := make(chan string)
				go func() { gone <- p.rest() }()
				tick := time.NewTicker(5 * time.Millisecond)
				defer tick.Stop()
				got := ""
				for i, over := 0, false; !over; i++ {
					select {
					case got = <-gone:
						over = true
					case <-tick.C:
						if i < len(tc.drip) {
							p.Write([]byte{tc.drip[i]}) // fails when it is over
						}
					}
				}
				p.Close()
				if m := streamError.FindStringSubmatch(got); tc.want != "" && (m == nil || m[1] != tc.want) || tc.want == "" && got != "" {
					t.Errorf("ended with %q, want %q", got, tc.want)
				}
				if lines := tg.log.about(p.LocalAddr()); len(lines) != 1 {
					t.Errorf("logged %q", lines)
				}
			})
		}
	})
	tg.released(t, before)
}
