package xml_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/starling-im/starling/internal/xmpp/xml"
)

func TestNewAndAppend(t *testing.T) {
	body := xml.New(xml.NSClient, "body").WithText("a<b").WithText("&c")
	for _, c := range []struct {
		name   string
		e      xml.Element
		parent string
		want   string
	}{
		{"empty", xml.New(xml.NSClient, "a"), xml.NSClient, "<a/>"},
		{"namespace", xml.New(xml.NSClient, "a"), "", "<a xmlns='jabber:client'/>"},
		{"no namespace", xml.New("", "a"), xml.NSClient, "<a xmlns=''/>"},
		{"attributes", xml.New("", "a", "to", "x", "from", "", "xml:lang", "en"), "", "<a to='x' xml:lang='en'/>"},
		{"children", xml.New(xml.NSClient, "message").With(body, xml.None, xml.New("urn:x", "x").With(xml.New("urn:x", "y"), xml.New("", "z"))), xml.NSClient,
			"<message><body>a&lt;b&amp;c</body><x xmlns='urn:x'><y/><z xmlns=''/></x></message>"},
		{"quotes", xml.New("", "a", "x", `it's`, "y", `"`, "z", `''"`, "w", `'"`), "", `<a x="it's" y='"' z="''&#34;" w='&#39;"'/>`},
		{"white space in attributes", xml.New("", "a", "x", "\t\r\n "), "", "<a x='&#9;&#13;&#10; '/>"},
		{"white space in text", xml.New("", "a").WithText("\t\r\n "), "", "<a>\t&#13;\n </a>"},
		{"end of a section", xml.New("", "a").WithText("]]>").WithText(">]>").WithText("]]").WithText(">"), "", "<a>]]&gt;>]>]]&gt;</a>"},
		{"illegal characters", xml.New("", "a", "x", "\x00\xff").WithText("\x1f\uFFFEé\xed\xa0\x80"), "",
			"<a x='\uFFFD\uFFFD'>\uFFFD\uFFFDé\uFFFD\uFFFD\uFFFD</a>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := string(c.e.Append([]byte("]]"), c.parent)); got != "]]"+c.want {
				t.Errorf("got  %s\nwant %s", got[2:], c.want)
			}
		})
	}
}

// TestAttributePrefixes checks that a prefix is declared once for all that stands inside.
func TestAttributePrefixes(t *testing.T) {
	const doc = `<a xmlns:p='urn:p' xmlns:q='urn:q' p:x='1' p:y='2'><b q:x='3'><c p:x='4' q:y='5'/></b><b q:x='6'/></a>`
	e, err := xml.Parse([]byte(doc), "")
	if err != nil {
		t.Fatal(err)
	}
	const want = `<a xmlns:ns0='urn:p' ns0:x='1' ns0:y='2'><b xmlns:ns1='urn:q' ns1:x='3'><c ns0:x='4' ns1:y='5'/></b><b xmlns:ns1='urn:q' ns1:x='6'/></a>`
	if got := e.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestLookups(t *testing.T) {
	e, err := xml.Parse([]byte(` <iq type='get' xml:lang='en' x:type='no' xmlns:x='urn:x'>1<a/>2<b xmlns='urn:b' n='1'/><b xmlns='urn:b' n='2'/>3<![CDATA[4]]></iq> `), xml.NSClient)
	if err != nil {
		t.Fatal(err)
	}
	if e.Attr("type") != "get" || e.Attr("xml:lang") != "en" || e.Attr("lang") != "" {
		t.Errorf("attributes %v", e.Attrs)
	}
	if v, ok := e.Lookup("id"); v != "" || ok {
		t.Error("an attribute that is not there was found")
	}
	if got := e.Child("urn:b", "b").Attr("n"); got != "1" {
		t.Errorf("first b has %q", got)
	}
	if e.Child(xml.NSClient, "b") != nil || e.Child("urn:b", "c").Child("", "x").First().Text() != "" || e.Child("", "c").Attr("n") != "" {
		t.Error("a child that is not there was found")
	}
	if got := e.First().Local; got != "a" {
		t.Errorf("first child is %s", got)
	}
	if got := e.Text(); got != "1234" {
		t.Errorf("text is %q", got)
	}
	var names []string
	for c := range e.Elements() {
		names = append(names, c.Space+" "+c.Local)
	}
	if want := []string{"jabber:client a", "urn:b b", "urn:b b"}; !slices.Equal(names, want) {
		t.Errorf("children are %q", names)
	}
	if len(e.Nodes) != 6 {
		t.Errorf("pieces of text were not joined: %d nodes", len(e.Nodes))
	}
}

// TestImmutable checks that changing a copy leaves the original, and other copies, as they were.
func TestImmutable(t *testing.T) {
	e, err := xml.Parse([]byte(`<a x='1' y='2'><b/>text</a>`), "")
	if err != nil {
		t.Fatal(err)
	}
	before := e.String()
	one, two := e.With(xml.New("", "one")), e.With(xml.New("", "two"))
	text, more := e.WithText("1"), e.WithText("2")
	set, cut, add, other := e.WithAttr("x", "3"), e.WithAttr("x", ""), e.WithAttr("z", "4"), e.WithAttr("xml:lang", "en")
	for _, c := range []struct{ got, want string }{
		{e.String(), before},
		{one.String(), `<a x='1' y='2'><b/>text<one/></a>`},
		{two.String(), `<a x='1' y='2'><b/>text<two/></a>`},
		{text.String(), `<a x='1' y='2'><b/>text1</a>`},
		{more.String(), `<a x='1' y='2'><b/>text2</a>`},
		{set.String(), `<a x='3' y='2'><b/>text</a>`},
		{cut.String(), `<a y='2'><b/>text</a>`},
		{add.String(), `<a x='1' y='2' z='4'><b/>text</a>`},
		{other.String(), `<a x='1' y='2' xml:lang='en'><b/>text</a>`},
		{e.WithAttr("q", "").String(), before},
		{e.WithText("").String(), before},
	} {
		if c.got != c.want {
			t.Errorf("got  %s\nwant %s", c.got, c.want)
		}
	}
	list := []xml.Element{xml.New("", "b")}
	with := e.With(list...)
	list[0] = xml.New("", "changed")
	if with.Nodes[2].Element.Local != "b" {
		t.Error("With shares the caller's slice")
	}
}

func TestNone(t *testing.T) {
	if !xml.None.IsNone() || xml.New("", "a").IsNone() {
		t.Error("IsNone is wrong")
	}
	if got := xml.New("", "a").With(xml.None).String(); got != "<a/>" {
		t.Errorf("None was written: %s", got)
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ name, doc, space, want, condition string }{
		{"element", `<a/>`, "", `<a/>`, ""},
		{"namespace around", `<a><b xmlns=''/></a>`, "urn:x", `<a xmlns='urn:x'><b xmlns=''/></a>`, ""},
		{"white space around", " <a/>\n", "", `<a/>`, ""},
		{"nothing", ``, "", "", xml.NotWellFormed},
		{"incomplete", `<a>`, "", "", xml.NotWellFormed},
		{"two elements", `<a/><b/>`, "", "", xml.NotWellFormed},
		{"text after", `<a/>x`, "", "", xml.NotWellFormed},
		{"XML declaration", `<?xml version='1.0'?><a/>`, "", "", xml.RestrictedXML},
		{"end tag", `</a>`, "", "", xml.NotWellFormed},
		{"comment", `<a><!----></a>`, "", "", xml.RestrictedXML},
		{"too deep", strings.Repeat("<a>", 65) + strings.Repeat("</a>", 65), "", "", xml.PolicyViolation},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := xml.Parse([]byte(c.doc), c.space)
			if condition(err) != c.condition || err == nil && e.String() != c.want || err != nil && !e.IsNone() {
				t.Errorf("got %s %v", e, err)
			}
		})
	}
}

func TestAppendAttr(t *testing.T) {
	if got := string(xml.AppendAttr([]byte("'"), `a'b"<c>&`)); got != `'a&#39;b"&lt;c>&amp;` {
		t.Errorf("got %s", got)
	}
}
