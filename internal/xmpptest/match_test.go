package xmpptest

import (
	"maps"
	"testing"

	"github.com/starling-im/starling/internal/xmpp/xml"
)

func TestMatch(t *testing.T) {
	const got = `<message xmlns='jabber:client' from='r@a/b' id='1' xml:lang='en'> <body>hi</body><x xmlns='urn:x' n='1'/><x xmlns='urn:x' n='2'><y>z</y></x><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>`
	e, err := xml.Parse([]byte(got), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, pattern   string
		matches, strict bool // whether it matches, and exactly
	}{
		{"name", "<message/>", true, false},
		{"another name", "<presence/>", false, false},
		{"attribute", "<message id='1'/>", true, false},
		{"another value", "<message id='2'/>", false, false},
		{"missing attribute", "<message to='x'/>", false, false},
		{"no such attribute", "<message to='$none'/>", true, false},
		{"an attribute too many", "<message id='$none'/>", false, false},
		{"any value", "<message id='$any'/>", true, false},
		{"any value of none", "<message to='$any'/>", false, false},
		{"language", "<message xml:lang='en'/>", true, false},
		{"another language", "<message xml:lang='de'/>", false, false},
		{"own namespace", "<message xmlns='jabber:client'/>", true, false},
		{"another namespace", "<message xmlns='jabber:server'/>", false, false},
		{"child without namespace", "<message><gone/></message>", false, false},
		{"grandchild without namespace", "<message><error><gone/></error></message>", true, false},
		{"namespace below a written one", "<message xmlns='jabber:client'><error><gone/></error></message>", false, false},
		{"text", "<message><body>hi</body></message>", true, false},
		{"another text", "<message><body>ho</body></message>", false, false},
		{"white space", "<message>\n <body> hi </body>\n</message>", true, false},
		{"any order", "<message><error/><body/></message>", true, false},
		{"each child once", "<message><body/><body/></message>", false, false},
		{"the right one of several", "<message><x n='2'/><x n='1'/></message>", true, false},
		{"a greedy choice would fail", "<message><x/><x n='1'/></message>", true, false},
		{"the same value twice", "<message><x n='$n'/><x n='$n'/></message>", false, false},
		{"exactly", "<message><body>hi</body><x/><x><y>z</y></x><error><gone/></error></message>", true, true},
		{"not all children", "<message><body>hi</body></message>", true, false},
		{"not all text", "<message><body/><x/><x><y/></x><error><gone/></error></message>", true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := compile(c.pattern)
			if err != nil {
				t.Fatal(err)
			}
			if m := (variables{}).match(p, item{Element: e}, false); m != c.matches {
				t.Errorf("matches: %v", m)
			}
			if m := (variables{}).match(p, item{Element: e}, true); m != c.strict {
				t.Errorf("matches exactly: %v", m)
			}
			if (variables{}).match(p, item{footer: true}, false) {
				t.Error("matches the end of a stream")
			}
		})
	}
}

func TestVariables(t *testing.T) {
	v := variables{"known": "a'b"}
	if got, want := v.fill("<x a='$known' b='$new' c='$' d='$1'>$known.</x>"), "<x a='a&#39;b' b='$new' c='$' d='$1'>a&#39;b.</x>"; got != want {
		t.Errorf("got %s, awaited %s", got, want)
	}
	got, err := xml.Parse([]byte("<x a='1'><y>2</y></x>"), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, pattern string
		want          variables
	}{
		{"kept", "<x a='$a'><y>$y</y></x>", variables{"known": "a'b", "a": "1", "y": "2"}},
		{"not kept when the rest does not match", "<x a='$a'><y>3</y></x>", variables{"known": "a'b"}},
		{"any is not kept", "<x a='$any'/>", variables{"known": "a'b"}},
		{"part of a value is no variable", "<x a='$a.'/>", variables{"known": "a'b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := compile(c.pattern)
			if err != nil {
				t.Fatal(err)
			}
			v := maps.Clone(v)
			v.match(p, item{Element: got}, false)
			if !maps.Equal(v, c.want) {
				t.Errorf("got %v, awaited %v", v, c.want)
			}
		})
	}
}

func TestHeaderAndFooter(t *testing.T) {
	h, err := compile("<stream:stream id='$id'>")
	if err != nil {
		t.Fatal(err)
	}
	got := item{Element: xml.New(xml.NSStream, "stream", "id", "x")}
	v := variables{}
	if !v.match(h, got, false) || v["id"] != "x" {
		t.Errorf("the header does not match: %v", v)
	}
	f, err := compile(footer)
	if err != nil {
		t.Fatal(err)
	}
	if !v.match(f, item{footer: true}, false) || v.match(f, got, false) {
		t.Error("the footer matches wrongly")
	}
}
