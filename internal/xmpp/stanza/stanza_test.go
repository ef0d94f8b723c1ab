package stanza_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

const header = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' xmlns:h='urn:h' version='1.0'>"

// read parses one stanza as it comes on a client's stream.
func read(t *testing.T, in, lang string) (*stanza.Stanza, error) {
	t.Helper()
	sc := xml.AcquireScanner()
	defer sc.Release()
	var st xml.Stream
	if ev, _, err := sc.Next(&st, nil, []byte(header)); err != nil || ev != xml.Header {
		t.Fatalf("header: %v %v", ev, err)
	}
	ev, n, err := sc.Next(&st, nil, []byte(in))
	if err != nil || ev != xml.FirstLevel || n != len(in) {
		t.Fatalf("scan %s: event %v, %d bytes, %v", in, ev, n, err)
	}
	return stanza.Parse(sc.Item(), jid.MustParse("romeo@a.test/orchard"), lang)
}

func TestParse(t *testing.T) {
	for name, tc := range map[string]struct{ in, lang, want string }{
		"stamped": {
			in:   "<message to='juliet@a.test' type='chat' id='1'><body>hi</body></message>",
			want: "<message from='romeo@a.test/orchard' to='juliet@a.test' type='chat' id='1'><body>hi</body></message>",
		},
		"old from dropped": {
			in:   "<message from='romeo@a.test' to='juliet@a.test'><body>hi</body></message>",
			want: "<message from='romeo@a.test/orchard' to='juliet@a.test'><body>hi</body></message>",
		},
		"double quotes": {
			in:   `<message to="juliet@a.test" id="it's"><body a="b"/></message>`,
			want: `<message from='romeo@a.test/orchard' to="juliet@a.test" id="it's"><body a="b"/></message>`,
		},
		"own namespace dropped": {
			in:   "<presence xmlns='jabber:client'/>",
			want: "<presence from='romeo@a.test/orchard'/>",
		},
		"language of the stream": {
			in: "<message to='juliet@a.test'><body>hi</body></message>", lang: "de",
			want: "<message from='romeo@a.test/orchard' to='juliet@a.test' xml:lang='de'><body>hi</body></message>",
		},
		"language of the stanza": {
			in: "<message to='juliet@a.test' xml:lang='fr'><body>hi</body></message>", lang: "de",
			want: "<message from='romeo@a.test/orchard' to='juliet@a.test' xml:lang='fr'><body>hi</body></message>",
		},
		"prefix of the stream header": {
			in:   "<message to='juliet@a.test'><h:x h:y='1'>a &lt; b</h:x></message>",
			want: "<message from='romeo@a.test/orchard' to='juliet@a.test'><x xmlns='urn:h' xmlns:ns0='urn:h' ns0:y='1'>a &lt; b</x></message>",
		},
		"prefix of the stanza": {
			in:   "<message xmlns:p='urn:p' to='juliet@a.test'><p:x/></message>",
			want: "<message from='romeo@a.test/orchard' to='juliet@a.test'><x xmlns='urn:p'/></message>",
		},
		"CDATA": {
			in:   "<message to='juliet@a.test'><body><![CDATA[<&>]]></body></message>",
			want: "<message from='romeo@a.test/orchard' to='juliet@a.test'><body>&lt;&amp;></body></message>",
		},
		"greater-than in an attribute": {
			in:   "<message to='juliet@a.test' id='a>b'><body>hi</body></message>",
			want: "<message from='romeo@a.test/orchard' to='juliet@a.test' id='a>b'><body>hi</body></message>",
		},
		"unknown attribute": {
			in:   "<message to='juliet@a.test' colour='red'/>",
			want: "<message from='romeo@a.test/orchard' to='juliet@a.test' colour='red'/>",
		},
	} {
		t.Run(name, func(t *testing.T) {
			st, err := read(t, tc.in, tc.lang)
			if err != nil {
				t.Fatal(err)
			}
			if st.String() != tc.want {
				t.Errorf("got  %s\nwant %s", st, tc.want)
			}
			again, err := stanza.Decode(st.String())
			if err != nil || again.String() != st.String() || again.From != st.From || again.To != st.To || again.ID != st.ID {
				t.Errorf("decoded: %v, %v", again, err)
			}
			if len(again.Children()) != len(st.Children()) {
				t.Errorf("%d children decoded of %d", len(again.Children()), len(st.Children()))
			}
		})
	}
}

func TestParseValues(t *testing.T) {
	st, err := read(t, "<message to='juliet@a.test/x' type='chat' id='a&amp;b'><body>hi</body><a:r xmlns:a='urn:xmpp:receipts'/><c xmlns='urn:c'/><d/></message>", "")
	if err != nil {
		t.Fatal(err)
	}
	if st.ID != "a&b" || st.To.String() != "juliet@a.test/x" || st.Type != stanza.Chat || st.From.Resource() != "orchard" {
		t.Errorf("%+v", st)
	}
	if !st.Has("urn:xmpp:receipts", "r") || !st.Has(xml.NSClient, "d") || st.Has("urn:c", "d") || len(st.Children()) != 4 {
		t.Errorf("children: %+v", st.Children())
	}
	moved := st.WithTo(jid.MustParse("somebody.else@b.test"))
	if got := moved.Child("urn:c", "c"); got.Space != "urn:c" {
		t.Errorf("child after a change of address: %+v in %s", got, moved)
	}
	if got := moved.With(xml.New("urn:new", "new")).Without(func(c stanza.Child) bool { return c.Space == "urn:c" }); !strings.HasSuffix(got.String(),
		"<body>hi</body><a:r xmlns:a='urn:xmpp:receipts'/><d/><new xmlns='urn:new'/></message>") {
		t.Errorf("changed content: %s", got)
	}
}

func TestRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		want stanza.Condition
	}{
		"malformed address":        {"<message to='@a.test'/>", stanza.JIDMalformed},
		"iq without id":            {"<iq type='get'><x xmlns='urn:x'/></iq>", stanza.BadRequest},
		"iq without payload":       {"<iq type='get' id='1'/>", stanza.BadRequest},
		"iq with two payloads":     {"<iq type='set' id='1'><a xmlns='urn:a'/><b xmlns='urn:b'/></iq>", stanza.BadRequest},
		"iq of unknown type":       {"<iq type='ask' id='1'><x xmlns='urn:x'/></iq>", stanza.BadRequest},
		"iq without type":          {"<iq id='1'><x xmlns='urn:x'/></iq>", stanza.BadRequest},
		"presence of unknown type": {"<presence type='here'/>", stanza.BadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := read(t, tc.in, "")
			var f *stanza.Failure
			if !errors.As(err, &f) || f.Condition != tc.want {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
	if st, err := read(t, "<message type='unheard-of' to='a.test'/>", ""); err != nil || st.Type != stanza.Normal {
		t.Errorf("RFC 6121 §5.2.2: %v %v", st, err)
	}
}
