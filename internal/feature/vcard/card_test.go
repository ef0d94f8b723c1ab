package vcard

import (
	"strings"
	"testing"

	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

func card(t *testing.T, content string) *xml.Element {
	t.Helper()
	e, err := xml.Parse([]byte("<vCard>"+content+"</vCard>"), NS)
	if err != nil {
		t.Fatal(err)
	}
	return &e
}

func TestPhotoHash(t *testing.T) {
	const hello = "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"
	for _, c := range []struct{ name, content, want string }{
		{"none", "<FN>x</FN>", ""},
		{"no data", "<PHOTO><TYPE>image/png</TYPE></PHOTO>", ""},
		{"empty", "<PHOTO><BINVAL/></PHOTO>", ""},
		{"only white space", "<PHOTO><BINVAL> \n </BINVAL></PHOTO>", ""},
		{"image", "<PHOTO><BINVAL>aGVsbG8=</BINVAL></PHOTO>", hello},
		{"broken lines", "<PHOTO><BINVAL>\r\n aGVs\n\tbG8= </BINVAL></PHOTO>", hello},
		{"not base64", "<PHOTO><BINVAL>Base64-encoded-avatar-file-here!</BINVAL></PHOTO>", ""},
		{"address", "<PHOTO><EXTVAL>http://x/</EXTVAL></PHOTO>", ""},
		{"first of two", "<PHOTO><BINVAL>aGVsbG8=</BINVAL></PHOTO><PHOTO><BINVAL>aGVs</BINVAL></PHOTO>", hello},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := photoHash(card(t, c.content)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestPerson(t *testing.T) {
	owner := jid.MustParse("stpeter@a.test")
	for _, c := range []struct {
		name, content string
		want          Person
		listed        bool
	}{
		{"all", "<FN>P</FN><N><FAMILY>Saint-Andre</FAMILY><GIVEN> Peter\n X </GIVEN></N><NICKNAME>stpeter</NICKNAME><EMAIL><INTERNET/><USERID>p@x</USERID></EMAIL>",
			Person{owner, "Peter X", "Saint-Andre", "stpeter", "p@x"}, true},
		{"full name only", "<FN>Peter Saint-Andre</FN><N/>", Person{Owner: owner, Given: "Peter Saint-Andre"}, true},
		{"nothing", "<PHOTO/><N><GIVEN/></N>", Person{Owner: owner}, false},
		{"public", "<FN>P</FN><CLASS><PUBLIC/></CLASS>", Person{Owner: owner, Given: "P"}, true},
		{"private", "<FN>P</FN><CLASS><PRIVATE/></CLASS>", Person{}, false},
		{"confidential", "<FN>P</FN><CLASS><CONFIDENTIAL/></CLASS>", Person{}, false},
		{"long", "<NICKNAME>a" + strings.Repeat("é", 200) + "</NICKNAME>", Person{Owner: owner, Nickname: "a" + strings.Repeat("é", 127)}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, listed := person(owner, card(t, c.content))
			if got != c.want || listed != c.listed {
				t.Errorf("got %+v %v, want %+v %v", got, listed, c.want, c.listed)
			}
		})
	}
}

func TestKey(t *testing.T) {
	for _, c := range []struct{ a, b string }{{"JÉRÉMIE", "je\u0301re\u0301mie"}, {"Ａｂ", "ab"}, {"ﬁ", "FI"}, {"", ""}} {
		if got, want := string(key(c.a)), string(key(c.b)); got != want {
			t.Errorf("%q is %q, %q is %q", c.a, got, c.b, want)
		}
	}
}
