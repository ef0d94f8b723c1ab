package stream_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stream"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// parse reads a header; ok is false if there is none in doc.
func parse(doc string) (h stream.Header, ok bool, err error) {
	s := xml.AcquireScanner()
	defer s.Release()
	var ns xml.Stream
	ev, _, err := s.Next(&ns, nil, []byte(doc))
	if err != nil || ev != xml.Header {
		return h, false, err
	}
	h, err = stream.ParseHeader(s.Item(), &ns, xml.NSClient)
	return h, true, err
}

func TestParseHeader(t *testing.T) {
	const ns = " xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'"
	for name, tc := range map[string]struct {
		in   string
		want stream.Condition // empty: accepted
	}{
		"usual":                     {"<stream:stream to='a.test' version='1.0'" + ns + ">", ""},
		"from and lang":             {"<stream:stream from='romeo@a.test' to='a.test' xml:lang='de' version='1.0'" + ns + ">", ""},
		"without to":                {"<stream:stream version='1.0'" + ns + ">", ""},
		"higher minor version":      {"<stream:stream to='a.test' version='1.9'" + ns + ">", ""},
		"higher version":            {"<stream:stream to='a.test' version='2.0'" + ns + ">", ""},
		"no prefix":                 {"<stream to='a.test' version='1.0' xmlns='http://etherx.jabber.org/streams'>", ""},
		"unknown attribute":         {"<stream:stream to='a.test' version='1.0' colour='red'" + ns + ">", ""},
		"foreign 'to'":              {"<stream:stream x:to='@' xmlns:x='urn:x' to='a.test' version='1.0'" + ns + ">", ""},
		"other root":                {"<stream:flow to='a.test' version='1.0'" + ns + ">", stream.BadFormat},
		"stanza as root":            {"<message xmlns='jabber:client' version='1.0'/>", stream.BadFormat},
		"wrong stream namespace":    {"<stream:stream to='a.test' version='1.0' xmlns='jabber:client' xmlns:stream='urn:x'>", stream.InvalidNamespace},
		"wrong prefix":              {"<foobar:stream to='a.test' version='1.0' xmlns='jabber:client' xmlns:foobar='http://etherx.jabber.org/streams'>", stream.BadNamespacePrefix},
		"server namespace":          {"<stream:stream to='a.test' version='1.0' xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams'>", stream.InvalidNamespace},
		"no content namespace":      {"<stream:stream to='a.test' version='1.0' xmlns:stream='http://etherx.jabber.org/streams'>", stream.InvalidNamespace},
		"no version":                {"<stream:stream to='a.test'" + ns + ">", stream.UnsupportedVersion},
		"old version":               {"<stream:stream to='a.test' version='0.9'" + ns + ">", stream.UnsupportedVersion},
		"no number":                 {"<stream:stream to='a.test' version='one'" + ns + ">", stream.UnsupportedVersion},
		"negative version":          {"<stream:stream to='a.test' version='-1.0'" + ns + ">", stream.UnsupportedVersion},
		"huge version":              {"<stream:stream to='a.test' version='99999999999999999999.0'" + ns + ">", stream.UnsupportedVersion},
		"malformed to":              {"<stream:stream to='@a.test' version='1.0'" + ns + ">", stream.HostUnknown},
		"malformed from":            {"<stream:stream from='@a.test' to='a.test' version='1.0'" + ns + ">", stream.InvalidFrom},
		"malformed from, before to": {"<stream:stream from='a@b@' version='1.0' to='a.test'" + ns + ">", stream.InvalidFrom},
	} {
		t.Run(name, func(t *testing.T) {
			h, ok, err := parse(tc.in)
			if !ok {
				t.Fatalf("does not scan: %v", err)
			}
			var e *stream.Error
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.want != "" && (!errors.As(err, &e) || e.Condition != tc.want):
				t.Errorf("got %v, want %s", err, tc.want)
			case h.Content != xml.NSClient:
				t.Errorf("content namespace %q", h.Content)
			}
		})
	}
	h, _, err := parse("<stream:stream from='Romeo@a.test/x' to='A.test.' xml:lang='de' version='1.7'" + ns + ">")
	if err != nil || h.From.String() != "romeo@a.test/x" || h.To.String() != "a.test" || h.Lang != "de" || h.Version != (stream.Version{Major: 1, Minor: 7}) {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestHeaderAppend(t *testing.T) {
	for name, tc := range map[string]struct {
		in   stream.Header
		want string
	}{
		"full": {
			stream.Header{From: jid.MustParse("a.test"), To: jid.MustParse("a.test/o'hara"), ID: "i<d", Lang: "en", Version: stream.V1(), Content: xml.NSClient},
			"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' from='a.test' to='a.test/o&#39;hara' id='i&lt;d' xml:lang='en' version='1.0'>",
		},
		"empty": { // RFC 6120 §4.9.1.3
			stream.Header{Content: xml.NSClient},
			"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' from=''>",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := string(tc.in.Append(nil)); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

// Whatever the header names, what is sent back must be one that a client understands.
func FuzzHeader(f *testing.F) {
	for _, s := range []string{
		header,
		"<stream:stream from='romeo@a.test/x&lt;y' to='ａ.test' xml:lang='de&amp;' version='1.10' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
		"<stream xmlns='http://etherx.jabber.org/streams' version='1.0'/>",
		"<foobar:stream to='a.test' version='1.0' xmlns='jabber:client' xmlns:foobar='http://etherx.jabber.org/streams'>",
		"<stream:stream to='@' version='x' xmlns='jabber:server' xmlns:stream='urn:x'>",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, doc string) {
		h, ok, err := parse(doc)
		if !ok {
			return
		}
		var e *stream.Error
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("%q: %v is not a stream error", doc, err)
		}
		h.ID, h.Version = "id", stream.V1()
		if h.From.IsZero() { // ours always names a domain when there is anybody to understand it
			h.From = jid.MustParse("b.test")
		}
		again, ok, err := parse(string(h.Append(nil)))
		if !ok || err != nil {
			t.Fatalf("%q is written %q: %v", doc, h.Append(nil), err)
		}
		if again.From != h.From || again.To != h.To || blank(again.Lang) != blank(h.Lang) {
			t.Fatalf("%+v is read back as %+v", h, again)
		}
	})
}

// blank makes white space one kind, as attributes are read.
func blank(s string) string { return strings.NewReplacer("\t", " ", "\n", " ", "\r", " ").Replace(s) }

func TestNewID(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := stream.NewID()
		if seen[id] || len(id) != 24 {
			t.Fatalf("%q: seen before, or not 144 bits", id)
		}
		seen[id] = true
	}
}
