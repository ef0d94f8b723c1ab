package xml_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/starling-im/starling/internal/xmpp/xml"
)

// hdr is a usual stream header, which declares a prefix that stanzas ought not to use.
const hdr = `<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' xmlns:h='urn:h' to='a.test' version='1.0'>`

// trace feeds doc to a scanner, chunk bytes at a time, and writes down what comes out: for each item whether it is
// plain, its tree and its parts; at the end what was left over or the condition of the error. The bytes move in memory
// with every chunk, and the scanner is given back whenever it may be.
func trace(doc string, chunk int, lim *xml.Limits) (events []string, err error) {
	var st xml.Stream
	var buf []byte
	s := xml.AcquireScanner()
	defer func() { s.Release() }()
	for len(doc) > 0 {
		k := min(chunk, len(doc))
		old := buf
		buf = append(slices.Clone(old), doc[:k]...)
		doc = doc[k:]
		for i := range old {
			old[i] = '#'
		}
		for {
			ev, n, err := s.Next(&st, lim, buf)
			if err != nil {
				return events, err
			}
			if ev == xml.NeedMore {
				buf = buf[n:]
				break
			}
			events = append(events, describe(ev, s.Item()))
			buf = buf[n:]
		}
		if s.Idle() {
			s.Release()
			s = xml.AcquireScanner()
		}
	}
	if len(buf) > 0 {
		events = append(events, "rest")
	}
	return events, nil
}

func describe(ev xml.Event, it *xml.Item) string {
	if ev == xml.Footer {
		return "footer"
	}
	form := "plain"
	if !it.Plain {
		form = "other"
	}
	if ev == xml.Header {
		form = "header"
	}
	e := it.Element()
	return form + " " + e.String()
}

// condition returns the stream error condition of err, empty if there is no error.
func condition(err error) string {
	var e *xml.SyntaxError
	if errors.As(err, &e) {
		return e.Condition
	}
	return ""
}

// chunks are the chunk sizes to try on a document of n bytes: all of them for short documents.
func chunks(n int) []int {
	if n > 300 {
		return []int{1, 2, 3, 7, 8, 9, 64, n}
	}
	all := make([]int, n)
	for i := range all {
		all[i] = i + 1
	}
	return all
}

func TestGoodStreams(t *testing.T) {
	header := `header <stream xmlns='http://etherx.jabber.org/streams' to='a.test' version='1.0'/>`
	for _, c := range []struct {
		name, doc string
		want      []string
	}{
		{"nothing", "", nil},
		{"keepalives only", " \r\n\t", nil},
		{"header", hdr, []string{header}},
		{"XML declaration", `<?xml version='1.0'?>` + hdr, []string{header}},
		{"XML declaration, all of it", `<?xml version = "1.0" encoding='utf-8' standalone="no" ?>` + "\n" + hdr, []string{header}},
		{"white space before the header", "\n" + hdr, []string{header}},
		{"footer", hdr + `</stream:stream>`, []string{header, "footer"}},
		{"footer with white space", hdr + "\n</stream:stream \t\r\n>\n \n", []string{header, "footer"}},
		{"empty stream", `<stream xmlns='http://etherx.jabber.org/streams'/> `, []string{`header <stream xmlns='http://etherx.jabber.org/streams'/>`, "footer"}},
		{"prefix-free stream", `<stream xmlns='http://etherx.jabber.org/streams'><message xmlns='jabber:client'><body>x</body></message><error/></stream>`,
			[]string{`header <stream xmlns='http://etherx.jabber.org/streams'/>`, `plain <message xmlns='jabber:client'><body>x</body></message>`,
				`plain <error xmlns='http://etherx.jabber.org/streams'/>`, "footer"}},
		{"empty elements", hdr + `<a/><b />` + "<c\n/>", []string{header, `plain <a xmlns='jabber:client'/>`, `plain <b xmlns='jabber:client'/>`, `plain <c xmlns='jabber:client'/>`}},
		{"empty element with two tags", hdr + `<a></a >`, []string{header, `plain <a xmlns='jabber:client'/>`}},
		{"white space between stanzas", hdr + " \n<a/>\t\r<b/> ", []string{header, `plain <a xmlns='jabber:client'/>`, `plain <b xmlns='jabber:client'/>`}},
		{"nesting", hdr + `<a><b><c/></b><b/>x</a>`, []string{header, `plain <a xmlns='jabber:client'><b><c/></b><b/>x</a>`}},
		{"incomplete", hdr + `<a><b/>`, []string{header, "rest"}},

		{"both quotes", hdr + `<a x='"' y="'" z = 'a'/>`, []string{header, `plain <a xmlns='jabber:client' x='"' y="'" z='a'/>`}},
		{"> in an attribute", hdr + `<a x='>/>]]>'/>`, []string{header, `plain <a xmlns='jabber:client' x='>/>]]>'/>`}},
		{"attribute normalisation", hdr + "<a x='1\t2\n3\r4\r\n5&#9;6&#xa;7&#13;'/>", []string{header, `plain <a xmlns='jabber:client' x='1 2 3 4 5&#9;6&#10;7&#13;'/>`}},
		{"line ends in text", hdr + "<a>1\r\n2\r3\n4&#13;&#10;\t</a>", []string{header, "plain <a xmlns='jabber:client'>1\n2\n3\n4&#13;\n\t</a>"}},
		{"predefined entities", hdr + `<a x='&lt;&gt;&amp;&apos;&quot;'>&lt;&gt;&amp;&apos;&quot;</a>`, []string{header, `plain <a xmlns='jabber:client' x='&lt;>&amp;&#39;"'>&lt;>&amp;'"</a>`}},
		{"character references", hdr + `<a>&#65;&#x42;&#x1F600;&#xFFFD;&#000000067;</a>`, []string{header, "plain <a xmlns='jabber:client'>AB\U0001F600\uFFFDC</a>"}},
		{"brackets", hdr + `<a>]] > ]]&gt; ]&#93;> ></a>`, []string{header, `plain <a xmlns='jabber:client'>]] > ]]&gt; ]]&gt; ></a>`}},
		{"xml:lang", hdr + `<a xml:lang='de' xml:space='preserve'/>`, []string{header, `plain <a xmlns='jabber:client' xml:lang='de' xml:space='preserve'/>`}},
		{"UTF-8", hdr + "<a x='é€\U0010FFFF'>Юля\uFEFF\uE000 \u0085</a>", []string{header, "plain <a xmlns='jabber:client' x='é€\U0010FFFF'>Юля\uFEFF\uE000 \u0085</a>"}},
		{"names outside ASCII", hdr + "<имя\u0301 ключ·='1'/><a\U0001F600/>", []string{header, "plain <имя\u0301 xmlns='jabber:client' ключ·='1'/>", "plain <a\U0001F600 xmlns='jabber:client'/>"}},

		{"CDATA", hdr + `<a>1<![CDATA[<b>&amp;]]]>2<![CDATA[]]]]><![CDATA[>]]></a>`, []string{header, `other <a xmlns='jabber:client'>1&lt;b>&amp;amp;]2]]&gt;</a>`}},
		{"CDATA with a line end", hdr + "<a><![CDATA[1\r\n2]]></a>", []string{header, "other <a xmlns='jabber:client'>1\n2</a>"}},
		{"empty CDATA", hdr + `<a><![CDATA[]]></a>`, []string{header, `other <a xmlns='jabber:client'/>`}},

		{"own namespaces", hdr + `<a><b xmlns='urn:b'><c/><d xmlns=''/></b><e/></a>`, []string{header, `plain <a xmlns='jabber:client'><b xmlns='urn:b'><c/><d xmlns=''/></b><e/></a>`}},
		{"prefix declared inside", hdr + `<a><x:b xmlns:x='urn:x'><x:c/></x:b></a>`, []string{header, `plain <a xmlns='jabber:client'><b xmlns='urn:x'><c/></b></a>`}},
		{"prefix declared by the item", hdr + `<a xmlns:x='urn:x'><x:b/></a>`, []string{header, `plain <a xmlns='jabber:client'><b xmlns='urn:x'/></a>`}},
		{"declaration after use", hdr + `<a><x:b x:c='1' xmlns:x='urn:x'/></a>`, []string{header, `plain <a xmlns='jabber:client'><b xmlns='urn:x' xmlns:ns0='urn:x' ns0:c='1'/></a>`}},
		{"header prefix hidden", hdr + `<a><h:b xmlns:h='urn:own'/></a>`, []string{header, `plain <a xmlns='jabber:client'><b xmlns='urn:own'/></a>`}},
		{"header prefix on an element", hdr + `<a><h:b/></a>`, []string{header, `other <a xmlns='jabber:client'><b xmlns='urn:h'/></a>`}},
		{"header prefix on an attribute", hdr + `<a h:b='1'/>`, []string{header, `other <a xmlns='jabber:client' xmlns:ns0='urn:h' ns0:b='1'/>`}},
		{"header prefix on the item", hdr + `<stream:error><x xmlns='urn:x'/></stream:error>`, []string{header, `other <error xmlns='http://etherx.jabber.org/streams'><x xmlns='urn:x'/></error>`}},
		{"own prefix on the item", hdr + `<x:a xmlns:x='urn:x'/>`, []string{header, `other <a xmlns='urn:x'/>`}},
		{"content namespace with a prefix", hdr + `<c:message xmlns:c='jabber:client'><c:body/><body/></c:message>`, []string{header, `other <message xmlns='jabber:client'><body/><body/></message>`}},
		{"content namespace with a prefix inside", hdr + `<message xmlns:c='jabber:server'><c:body/></message>`, []string{header, `other <message xmlns='jabber:client'><body xmlns='jabber:server'/></message>`}},
		{"content namespace declared again", hdr + `<message><body xmlns='jabber:client'/></message>`, []string{header, `other <message xmlns='jabber:client'><body/></message>`}},
		{"content namespace of a wrapped stanza", hdr + `<message xmlns='jabber:client'><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'/></forwarded></message>`,
			[]string{header, `plain <message xmlns='jabber:client'><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'/></forwarded></message>`}},
		{"content namespace inside a prefixed element", hdr + `<message><x:a xmlns:x='urn:x'><body/></x:a></message>`, []string{header, `other <message xmlns='jabber:client'><a xmlns='urn:x'><body xmlns='jabber:client'/></a></message>`}},
		{"reference in a namespace", hdr + `<a><b xmlns='urn&#58;b'/></a>`, []string{header, `other <a xmlns='jabber:client'><b xmlns='urn:b'/></a>`}},
		{"xml declared", hdr + `<a xmlns:xml='http://www.w3.org/XML/1998/namespace' xml:lang='en'/>`, []string{header, `plain <a xmlns='jabber:client' xml:lang='en'/>`}},
		{"same local part in two namespaces", hdr + `<a b='0' x:b='1' y:b='2' xmlns:x='urn:x' xmlns:y='urn:y'/>`, []string{header, `plain <a xmlns='jabber:client' b='0' xmlns:ns0='urn:x' ns0:b='1' xmlns:ns1='urn:y' ns1:b='2'/>`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, k := range chunks(len(c.doc)) {
				got, err := trace(c.doc, k, nil)
				if err != nil || !slices.Equal(got, c.want) {
					t.Fatalf("chunks of %d:\n got %q\nwant %q\nerror %v", k, got, c.want, err)
				}
			}
		})
	}
}

func TestBadStreams(t *testing.T) {
	for _, c := range []struct{ name, doc, want string }{
		{"mismatched end tag", hdr + `<a><b></a></b>`, xml.NotWellFormed},
		{"end tag that goes on", hdr + `<a></ab>`, xml.NotWellFormed},
		{"end tag with an attribute", hdr + `<a></a x='1'>`, xml.NotWellFormed},
		{"end tag without space after <", hdr + `<a>< /a>`, xml.NotWellFormed},
		{"end tag in another prefix", hdr + `<x:a xmlns:x='urn:x' xmlns:y='urn:x'></y:a>`, xml.NotWellFormed},
		{"end tag too many", hdr + `<a/></a>`, xml.NotWellFormed},
		{"footer before the header", `</stream:stream>`, xml.NotWellFormed},
		{"footer inside an element", hdr + `<a></stream:stream>`, xml.NotWellFormed},
		{"element after the footer", hdr + `</stream:stream><a/>`, xml.NotWellFormed},
		{"second header after an empty one", `<stream xmlns='http://etherx.jabber.org/streams'/><a/>`, xml.NotWellFormed},

		{"text before the header", `x` + hdr, xml.NotWellFormed},
		{"text between stanzas", hdr + `<a/>x<b/>`, xml.NotWellFormed},
		{"reference between stanzas", hdr + `&#32;`, xml.NotWellFormed},
		{"CDATA between stanzas", hdr + `<![CDATA[ ]]>`, xml.NotWellFormed},
		{"NUL between stanzas", hdr + "<a/>\x00", xml.NotWellFormed},
		{"text after the footer", hdr + `</stream:stream>x`, xml.NotWellFormed},

		{"duplicate attribute", hdr + `<a x='1' x='2'/>`, xml.NotWellFormed},
		{"duplicate expanded name", hdr + `<a x:n='1' y:n='2' xmlns:x='urn:x' xmlns:y='urn:x'/>`, xml.NotWellFormed},
		{"duplicate expanded name by reference", hdr + `<a x:n='1' y:n='2' xmlns:x='urn:x' xmlns:y='urn&#58;x'/>`, xml.NotWellFormed},
		{"duplicate declaration", hdr + `<a xmlns:x='urn:x' xmlns:x='urn:x'/>`, xml.NotWellFormed},
		{"duplicate default declaration", hdr + `<a xmlns='urn:x' xmlns='urn:y'/>`, xml.NotWellFormed},
		{"unquoted attribute", hdr + `<a x=1/>`, xml.NotWellFormed},
		{"attribute without value", hdr + `<a x/>`, xml.NotWellFormed},
		{"attribute with two equals signs", hdr + `<a x=='1'/>`, xml.NotWellFormed},
		{"attributes without space", hdr + `<a x='1'y='2'/>`, xml.NotWellFormed},
		{"slash without >", hdr + `<a/ >`, xml.NotWellFormed},
		{"slash inside a tag", hdr + `<a / x='1'>`, xml.NotWellFormed},
		{"< in an attribute", hdr + `<a x='<'/>`, xml.NotWellFormed},
		{"< in a tag", hdr + `<a <b/>`, xml.NotWellFormed},
		{"control character in an attribute", hdr + "<a x='\x01'/>", xml.NotWellFormed},
		{"control character in text", hdr + "<a>0123456789\x0b</a>", xml.NotWellFormed},
		{"control character in CDATA", hdr + "<a><![CDATA[\x00]]></a>", xml.NotWellFormed},
		{"U+FFFE", hdr + "<a>x\uFFFE</a>", xml.NotWellFormed},
		{"U+FFFF in an attribute", hdr + "<a x='\uFFFF'/>", xml.NotWellFormed},
		{"U+FFFF in CDATA", hdr + "<a><![CDATA[\uFFFF]]></a>", xml.NotWellFormed},
		{"]]> in text", hdr + `<a>]]></a>`, xml.NotWellFormed},
		{"]]]> in text", hdr + `<a>x]]]></a>`, xml.NotWellFormed},

		{"empty name", hdr + `<>`, xml.NotWellFormed},
		{"name begins with a digit", hdr + `<1a/>`, xml.NotWellFormed},
		{"name begins with a hyphen", hdr + `<-a/>`, xml.NotWellFormed},
		{"name begins with a combining mark", hdr + "<\u0301a/>", xml.NotWellFormed},
		{"name with a multiplication sign", hdr + "<a×/>", xml.NotWellFormed},
		{"name with a Greek question mark", hdr + "<a\u037E/>", xml.NotWellFormed},
		{"name with a private character", hdr + "<a\uE000/>", xml.NotWellFormed},
		{"bad attribute name", hdr + `<a 1='1'/>`, xml.NotWellFormed},
		{"empty prefix", hdr + `<:a/>`, xml.NotWellFormed},
		{"empty local part", hdr + `<h:/>`, xml.NotWellFormed},
		{"two colons", hdr + `<h:a:b/>`, xml.NotWellFormed},
		{"local part begins with a digit", hdr + `<h:1/>`, xml.NotWellFormed},

		{"bare &", hdr + `<a>& </a>`, xml.NotWellFormed},
		{"& before a tag", hdr + `<a>&</a>`, xml.NotWellFormed},
		{"empty reference", hdr + `<a>&;</a>`, xml.NotWellFormed},
		{"reference without ;", hdr + `<a>&lt </a>`, xml.NotWellFormed},
		{"undefined entity", hdr + `<a>&nbsp;</a>`, xml.RestrictedXML},
		{"undefined entity in an attribute", hdr + `<a x='&nbsp;'/>`, xml.RestrictedXML},
		{"long entity", hdr + `<a>&averyveryverylongname;</a>`, xml.RestrictedXML},
		{"reference in capitals", hdr + `<a>&LT;</a>`, xml.RestrictedXML},
		{"reference to NUL", hdr + `<a>&#0;</a>`, xml.NotWellFormed},
		{"reference to a control character", hdr + `<a>&#x1F;</a>`, xml.NotWellFormed},
		{"reference to a surrogate", hdr + `<a>&#xD800;</a>`, xml.NotWellFormed},
		{"reference to U+FFFF", hdr + `<a>&#65535;</a>`, xml.NotWellFormed},
		{"reference beyond Unicode", hdr + `<a>&#x110000;</a>`, xml.NotWellFormed},
		{"reference that overflows", hdr + `<a>&#4294967361;</a>`, xml.NotWellFormed},
		{"reference too long", hdr + `<a>&#0000000000065;</a>`, xml.NotWellFormed},
		{"reference with X", hdr + `<a>&#X41;</a>`, xml.NotWellFormed},
		{"reference without digits", hdr + `<a>&#;</a>`, xml.NotWellFormed},
		{"hexadecimal reference without digits", hdr + `<a>&#x;</a>`, xml.NotWellFormed},
		{"decimal reference with letters", hdr + `<a>&#6a;</a>`, xml.NotWellFormed},

		{"comment", hdr + `<a><!-- x --></a>`, xml.RestrictedXML},
		{"comment between stanzas", hdr + `<!-- x -->`, xml.RestrictedXML},
		{"comment before the header", `<!-- x -->` + hdr, xml.RestrictedXML},
		{"processing instruction", hdr + `<a><?x y?></a>`, xml.RestrictedXML},
		{"processing instruction between stanzas", hdr + `<?x y?>`, xml.RestrictedXML},
		{"processing instruction before the header", `<?xml-stylesheet href='x'?>` + hdr, xml.RestrictedXML},
		{"DTD", `<!DOCTYPE a [<!ENTITY x 'y'>]>` + hdr, xml.RestrictedXML},
		{"DTD after the declaration", `<?xml version='1.0'?><!DOCTYPE a>` + hdr, xml.RestrictedXML},
		{"DTD in a stanza", hdr + `<a><!DOCTYPE a></a>`, xml.RestrictedXML},
		{"bad CDATA", hdr + `<a><![CDAT[]]></a>`, xml.NotWellFormed},

		{"declaration after white space", ` <?xml version='1.0'?>` + hdr, xml.NotWellFormed},
		{"declaration twice", `<?xml version='1.0'?><?xml version='1.0'?>` + hdr, xml.NotWellFormed},
		{"declaration after the header", hdr + `<?xml version='1.0'?>`, xml.RestrictedXML},
		{"declaration without version", `<?xml encoding='UTF-8'?>`, xml.NotWellFormed},
		{"declaration with nothing", `<?xml?>`, xml.NotWellFormed},
		{"declaration out of order", `<?xml version='1.0' standalone='no' encoding='UTF-8'?>`, xml.NotWellFormed},
		{"declaration with no space", `<?xml version='1.0'encoding='UTF-8'?>`, xml.NotWellFormed},
		{"declaration with bad standalone", `<?xml version='1.0' standalone='maybe'?>`, xml.NotWellFormed},
		{"declaration without quotes", `<?xml version=1.0?>`, xml.NotWellFormed},
		{"XML 1.1", `<?xml version='1.1'?>`, xml.NotWellFormed},
		{"declaration in capitals", `<?XML version='1.0'?>`, xml.RestrictedXML},
		{"other encoding", `<?xml version='1.0' encoding='ISO-8859-1'?>` + hdr, xml.UnsupportedEncoding},
		{"UTF-16 declared", `<?xml version='1.0' encoding='UTF-16'?>` + hdr, xml.UnsupportedEncoding},

		// RFC 6120 §11.6: a byte order mark is text.
		{"byte order mark", "\uFEFF" + hdr, xml.NotWellFormed},
		{"byte order mark between stanzas", hdr + "\uFEFF<a/>", xml.NotWellFormed},
		{"UTF-16 big-endian with mark", "\xFE\xFF\x00<", xml.UnsupportedEncoding},
		{"UTF-16 little-endian with mark", "\xFF\xFE<\x00", xml.UnsupportedEncoding},
		{"UTF-16 big-endian", "\x00<\x00s", xml.UnsupportedEncoding},
		{"UTF-16 little-endian", "<\x00s\x00", xml.UnsupportedEncoding},
		{"continuation byte between stanzas", hdr + "\x80", xml.UnsupportedEncoding},
		{"continuation byte", hdr + "<a>\x80</a>", xml.UnsupportedEncoding},
		{"overlong", hdr + "<a>\xC0\xAF</a>", xml.UnsupportedEncoding},
		{"overlong of three", hdr + "<a>\xE0\x80\xAF</a>", xml.UnsupportedEncoding},
		{"surrogate", hdr + "<a>\xED\xA0\x80</a>", xml.UnsupportedEncoding},
		{"beyond Unicode", hdr + "<a>\xF4\x90\x80\x80</a>", xml.UnsupportedEncoding},
		{"cut short by a tag", hdr + "<a>\xE2\x82</a>", xml.UnsupportedEncoding},
		{"cut short by a quote", hdr + "<a x='\xE2\x82'/>", xml.UnsupportedEncoding},
		{"cut short by a reference", hdr + "<a>\xE2&lt;</a>", xml.UnsupportedEncoding},
		{"cut short in CDATA", hdr + "<a><![CDATA[\xE2\x82]]></a>", xml.UnsupportedEncoding},
		{"before a control character", hdr + "<a>\xFF\x01</a>", xml.UnsupportedEncoding},
		{"after a control character", hdr + "<a>\x01\xFF</a>", xml.NotWellFormed},
		{"before U+FFFF", hdr + "<a>\xFF\uFFFF</a>", xml.UnsupportedEncoding},
		{"after U+FFFF", hdr + "<a>\uFFFF\xFF</a>", xml.NotWellFormed},
		{"in a name", hdr + "<a\xFF/>", xml.UnsupportedEncoding},

		{"prefix not declared", hdr + `<x:a/>`, xml.NotWellFormed},
		{"attribute's prefix not declared", hdr + `<a x:b='1'/>`, xml.NotWellFormed},
		{"prefix of a sibling", hdr + `<a><b xmlns:x='urn:x'/><x:c/></a>`, xml.NotWellFormed},
		{"prefix of the stanza before", hdr + `<a xmlns:x='urn:x'/><x:c/>`, xml.NotWellFormed},
		{"header's own prefix not declared", `<stream:stream xmlns='jabber:client'>`, xml.NotWellFormed},
		{"prefix without namespace", hdr + `<a xmlns:x=''/>`, xml.BadNamespacePrefix},
		{"xml bound to another namespace", hdr + `<a xmlns:xml='urn:x'/>`, xml.BadNamespacePrefix},
		{"other prefix for xml", hdr + `<a xmlns:x='http://www.w3.org/XML/1998/namespace'/>`, xml.BadNamespacePrefix},
		{"xml as default", hdr + `<a xmlns='http://www.w3.org/XML/1998/namespace'/>`, xml.BadNamespacePrefix},
		{"xmlns declared", hdr + `<a xmlns:xmlns='urn:x'/>`, xml.BadNamespacePrefix},
		{"other prefix for xmlns", hdr + `<a xmlns:x='http://www.w3.org/2000/xmlns/'/>`, xml.BadNamespacePrefix},
		{"xmlns as default", hdr + `<a xmlns='http://www.w3.org/2000/xmlns/'/>`, xml.BadNamespacePrefix},
		{"xmlns on an element", hdr + `<xmlns:a/>`, xml.BadNamespacePrefix},
		{"xml on an element", hdr + `<xml:a/>`, xml.BadNamespacePrefix},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, k := range chunks(len(c.doc)) {
				got, err := trace(c.doc, k, nil)
				if condition(err) != c.want {
					t.Fatalf("chunks of %d: %v %q, want %s", k, err, got, c.want)
				}
			}
		})
	}
}

// TestErrorIsFinal checks that nothing is read after an error.
func TestErrorIsFinal(t *testing.T) {
	var st xml.Stream
	s := xml.AcquireScanner()
	defer s.Release()
	if _, _, err := s.Next(&st, nil, []byte("x")); err == nil {
		t.Fatal("no error")
	}
	if _, _, err := s.Next(&st, nil, []byte(hdr)); condition(err) != xml.NotWellFormed {
		t.Fatalf("after an error: %v", err)
	}
}

func TestReset(t *testing.T) {
	var st xml.Stream
	s := xml.AcquireScanner()
	defer s.Release()
	for range 2 { // as before and after SASL
		ev, n, err := s.Next(&st, nil, []byte(`<?xml version='1.0'?>`+hdr))
		if ev != xml.Header || err != nil || n != len(hdr)+21 {
			t.Fatalf("event %d, %d bytes, %v", ev, n, err)
		}
		if st.Space() != xml.NSClient || !st.Declares("urn:h") || !st.Declares(xml.NSStream) || st.Declares("urn:x") {
			t.Fatalf("stream after the header: %q %v", st.Space(), st)
		}
		st.Reset()
		if st.Space() != "" || st.Declares(xml.NSStream) {
			t.Fatal("reset keeps what the header declared")
		}
	}
}

func TestItem(t *testing.T) {
	var st xml.Stream
	st.Open(xml.NSServer)
	s := xml.AcquireScanner()
	defer s.Release()
	stanza := `<message to='r&amp;j@a.test' y:z="2" from="x'y" xmlns:y='urn:y' xml:lang='de'><body>hi <b/></body><y:x/> <e xmlns='urn:e'/></message>`
	ev, n, err := s.Next(&st, nil, []byte("  "+stanza+"<next"))
	if ev != xml.FirstLevel || n != len(stanza)+2 || err != nil {
		t.Fatalf("event %d, %d bytes, %v", ev, n, err)
	}
	it := s.Item()
	inner := `<body>hi <b/></body><y:x/> <e xmlns='urn:e'/>`
	if string(it.Raw) != stanza || string(it.Inner) != inner || string(it.Local) != "message" || it.Prefix != nil || it.Space != xml.NSServer {
		t.Errorf("item is %q %q %q %q %q", it.Raw, it.Inner, it.Prefix, it.Local, it.Space)
	}
	if got := it.Attr("to").Value(); got != "r&j@a.test" {
		t.Errorf("to is %q", got)
	}
	if got := string(it.Attr("from").AppendValue([]byte("="))); got != "=x'y" {
		t.Errorf("from is %q", got)
	}
	if it.Attr("z") != nil || it.Attr("xmlns") != nil || it.Attr("z").Value() != "" || it.Attr("z").AppendValue(nil) != nil {
		t.Error("an attribute that is not there was found")
	}
	if lang, ok := it.Lang(); lang != "de" || !ok {
		t.Errorf("xml:lang is %q %v", lang, ok)
	}
	var attrs []byte
	for i := range it.Attrs {
		attrs = it.Attrs[i].Append(attrs)
	}
	if want := ` to='r&amp;j@a.test' y:z="2" from="x'y" xml:lang='de'`; string(attrs) != want {
		t.Errorf("attributes are %s", attrs)
	}
	if got := string(it.AppendDecls(nil)); got != ` xmlns:y='urn:y'` {
		t.Errorf("declarations are %s", got)
	}
	var children []string
	for i := range it.Children {
		c := &it.Children[i]
		e := it.ChildElement(c)
		children = append(children, c.Space, string(c.Local), string(it.Raw[c.Start:c.End]), string(e.Append(nil, it.Space)))
	}
	want := []string{xml.NSServer, "body", "<body>hi <b/></body>", "<body>hi <b/></body>",
		"urn:y", "x", "<y:x/>", "<x xmlns='urn:y'/>", "urn:e", "e", "<e xmlns='urn:e'/>", "<e xmlns='urn:e'/>"}
	if !slices.Equal(children, want) {
		t.Errorf("children are %q", children)
	}
	if c := it.Child("urn:e", "e"); c == nil || c.Start != strings.Index(stanza, "<e ") {
		t.Errorf("child is %v", c)
	}
	if it.Child("urn:y", "e") != nil {
		t.Error("a child that is not there was found")
	}
	// The head written anew around Inner is the same tree.
	again := `<message xmlns='jabber:server'` + string(attrs) + string(it.AppendDecls(nil)) + `>` + string(it.Inner) + `</message>`
	e := it.Element()
	if f, err := xml.Parse([]byte(again), ""); err != nil || f.String() != e.String() {
		t.Errorf("written anew: %s\nwas %s, %v", f, e, err)
	}
}

// TestManyNamespaces checks that a scanner that has seen more namespaces than it remembers still tells them apart.
func TestManyNamespaces(t *testing.T) {
	var st xml.Stream
	st.Open(xml.NSClient)
	s := xml.AcquireScanner()
	defer s.Release()
	for i := range 300 {
		space := "urn:example:" + strings.Repeat("x", i)
		ev, _, err := s.Next(&st, nil, []byte("<a><b xmlns='"+space+"'/></a>"))
		if ev != xml.FirstLevel || err != nil {
			t.Fatal(ev, err)
		}
		if s.Item().Child(space, "b") == nil {
			t.Fatalf("%q became %q", space, s.Item().Children[0].Space)
		}
	}
}
