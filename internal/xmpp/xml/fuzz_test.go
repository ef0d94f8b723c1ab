package xml_test

import (
	"bytes"
	stdxml "encoding/xml"
	"errors"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/starling-im/starling/internal/xmpp/xml"
)

// seeds are what the fuzz targets begin with.
var seeds = []string{
	hdr, hdr + `</stream:stream>`, hdr + chatStanza, hdr + presenceStanza + "\n" + mamStanza, hdr + cyrillicStanza,
	`<?xml version='1.0' encoding="UTF-8" standalone='no'?>` + "\n" + hdr + ` <iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq></stream:stream>`,
	hdr + `<a xmlns:p='urn:p' p:x='&#60;&#x3c;&lt;' y="a	b` + "\r\n" + `c"><p:b><![CDATA[<&]]]>]]></p:b>]]&gt;</a>`,
	hdr + `<stream:error><h:x h:y='1'/></stream:error><c:message xmlns:c='jabber:client'><c:body xmlns=''>x</c:body></c:message>`,
	hdr + `<message><body xmlns='jabber:client'>x</body><x xmlns='urn:x'><body xmlns='jabber:client'/></x></message>`,
	hdr + `<message><p:x xmlns:p='urn:p'><body/></p:x></message><iq><x xmlns='jabber:server'><y/></x></iq>`,
	hdr + `<a x:n='1' y:n='2' xmlns:x='urn:x' xmlns:y='urn&#58;x'/>`,
	hdr + "<имя ключ='\U0001F600'>\uFEFF\uFFFD</имя>", hdr + "<a>\xE2\x82</a>", hdr + "<a>\uFFFE</a>",
	hdr + `<a>]]></a>`, hdr + `<a><!-- --></a>`, hdr + `<?pi?>`, `<!DOCTYPE a>` + hdr, "\xFF\xFE<\x00",
	`<stream xmlns='http://etherx.jabber.org/streams'><message xmlns='jabber:client'/></stream>`, `<stream/>`,
	hdr + `<a xmlns:x=''/>`, hdr + `<a/ >`, hdr + `<a b='1'c='2'/>`, hdr + `<a>&#0;&nbsp;</a>`, hdr + `<a></b>`,
}

// FuzzScan checks that no input upsets the scanner, and that it does not matter in which pieces the input comes.
func FuzzScan(f *testing.F) {
	for i, s := range seeds {
		f.Add([]byte(s), uint8(i), i%2 == 0)
	}
	f.Fuzz(func(t *testing.T, doc []byte, chunk uint8, tight bool) {
		if len(doc) > 4096 {
			return
		}
		lim := xml.Limits{}
		if tight {
			lim = xml.Limits{Bytes: 200, Depth: 3, Elements: 4, Attrs: 2, Name: 20, Decls: 3, Tag: 150}
		}
		whole, wholeErr := trace(string(doc), max(len(doc), 1), &lim)
		pieces, piecesErr := trace(string(doc), int(chunk)+1, &lim)
		if !slices.Equal(whole, pieces) || !reflect.DeepEqual(wholeErr, piecesErr) {
			t.Fatalf("whole: %q %v\nin chunks of %d: %q %v", whole, wholeErr, int(chunk)+1, pieces, piecesErr)
		}
	})
}

// FuzzAgainstStdlib checks that what is accepted here is accepted by encoding/xml, too, and read as the same tree. The
// other direction does not hold: encoding/xml takes duplicate attributes, undeclared prefixes and more.
func FuzzAgainstStdlib(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		var st xml.Stream
		s := xml.AcquireScanner()
		defer s.Release()
		var ours []string
		end := 0
		for {
			ev, n, err := s.Next(&st, nil, doc[end:])
			if err != nil || ev == xml.NeedMore {
				break
			}
			end += n
			if ev != xml.Footer {
				e := s.Item().Element()
				ours = append(ours, blankTabs(e).String())
			}
		}
		theirs, err := standard(doc[:end])
		if err != nil && !legalName(err) {
			t.Fatalf("accepted %q\nbut encoding/xml says %v", doc[:end], err)
		}
		if err == nil && !slices.Equal(ours, theirs) {
			t.Fatalf("read   %q\nas     %q\nbut encoding/xml reads\n       %q", doc[:end], ours, theirs)
		}
	})
}

// standard reads a stream with encoding/xml: the header's tag and the elements in it.
func standard(doc []byte) (items []string, err error) {
	d := stdxml.NewDecoder(bytes.NewReader(doc))
	var open []*xml.Element
	for {
		tok, err := d.Token()
		var syntax *stdxml.SyntaxError
		switch {
		case err == io.EOF, errors.As(err, &syntax) && syntax.Msg == "unexpected EOF": // a stream is seldom complete
			return items, nil
		case err != nil:
			return items, err
		}
		switch tok := tok.(type) {
		case stdxml.StartElement:
			e := &xml.Element{Space: tok.Name.Space, Local: tok.Name.Local}
			for _, a := range tok.Attr {
				if a.Name.Space != "xmlns" && (a.Name.Space != "" || a.Name.Local != "xmlns") {
					e.Attrs = append(e.Attrs, xml.Attribute{Space: a.Name.Space, Local: a.Name.Local, Value: a.Value})
				}
			}
			if open = append(open, e); len(open) == 1 {
				items = append(items, blankTabs(*e).String())
			}
		case stdxml.EndElement:
			e := open[len(open)-1]
			if open = open[:len(open)-1]; len(open) == 1 {
				items = append(items, blankTabs(*e).String())
			} else if len(open) > 1 {
				parent := open[len(open)-1]
				parent.Nodes = append(parent.Nodes, xml.Node{Element: e})
			}
		case stdxml.CharData:
			if len(open) > 1 && len(tok) > 0 {
				e := open[len(open)-1]
				e.Nodes = append(e.Nodes, xml.Node{Text: string(tok)})
			}
		}
	}
}

// blanks makes the white space of attributes spaces, which encoding/xml does not do.
var blanks = strings.NewReplacer("\t", " ", "\n", " ", "\r", " ")

// blankTabs makes the white space of all attributes in e spaces, those that declared namespaces included.
func blankTabs(e xml.Element) xml.Element {
	e.Space = blanks.Replace(e.Space)
	e.Attrs = slices.Clone(e.Attrs)
	for i := range e.Attrs {
		e.Attrs[i].Space, e.Attrs[i].Value = blanks.Replace(e.Attrs[i].Space), blanks.Replace(e.Attrs[i].Value)
	}
	e.Nodes = slices.Clone(e.Nodes)
	for i := range e.Nodes {
		if c := e.Nodes[i].Element; c != nil {
			c := blankTabs(*c)
			e.Nodes[i].Element = &c
		}
	}
	return e
}

// fifth is production [5] Name of XML 1.0, fifth edition. encoding/xml follows the fourth, which allows fewer.
var fifth = func() *regexp.Regexp {
	const start = `_A-Za-z\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{2FF}\x{370}-\x{37D}\x{37F}-\x{1FFF}\x{200C}\x{200D}\x{2070}-\x{218F}` +
		`\x{2C00}-\x{2FEF}\x{3001}-\x{D7FF}\x{F900}-\x{FDCF}\x{FDF0}-\x{FFFD}\x{10000}-\x{EFFFF}`
	const part = `[` + start + `][-.0-9\x{B7}\x{300}-\x{36F}\x{203F}\x{2040}` + start + `]*`
	return regexp.MustCompile(`invalid XML name: (` + part + `:)?` + part + `$`)
}()

func legalName(err error) bool { return fifth.MatchString(err.Error()) }

// FuzzRoundTrip checks that what is written is what was read: re-serialised, forwarded as bytes, or taken apart.
func FuzzRoundTrip(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		var st xml.Stream
		s := xml.AcquireScanner()
		defer s.Release()
		for {
			ev, n, err := s.Next(&st, nil, doc)
			if err != nil || ev == xml.NeedMore || ev == xml.Footer {
				return
			}
			doc = doc[n:]
			if ev == xml.FirstLevel {
				checkItem(t, s.Item(), st.Space())
			}
		}
	})
}

// checkItem checks all ways to write an item, whose stream has that default namespace.
func checkItem(t *testing.T, it *xml.Item, space string) {
	e := it.Element()
	written := e.Append(nil, "")
	again, err := xml.Parse(written, "")
	if err != nil || !reflect.DeepEqual(e, again) {
		t.Fatalf("%q\nwritten %q\nis read as %q, %v", it.Raw, written, again, err)
	}
	if twice := again.Append(nil, ""); !bytes.Equal(written, twice) {
		t.Fatalf("%q\nthen written %q", written, twice)
	}

	plain := it.AppendPlain(nil)
	var st xml.Stream
	st.Open("urn:elsewhere")
	s := xml.AcquireScanner()
	defer s.Release()
	ev, n, err := s.Next(&st, &xml.Limits{Bytes: 1 << 20, Tag: 1 << 20, Decls: 1000}, plain)
	if ev != xml.FirstLevel || n != len(plain) || err != nil {
		t.Fatalf("%q\nin plain form %q: %v", it.Raw, plain, err)
	}
	if got := s.Item().Element(); !s.Item().Plain || !reflect.DeepEqual(e, got) {
		t.Fatalf("%q\nin plain form %q\nis plain: %v, and %q", it.Raw, plain, s.Item().Plain, got)
	}

	children := slices.Collect(e.Elements())
	for i := range it.Children {
		if c := it.ChildElement(&it.Children[i]); !reflect.DeepEqual(c, *children[i]) {
			t.Fatalf("%q\nchild %d is %q, not %q", it.Raw, i, c, *children[i])
		}
	}
	if !it.Plain {
		return
	}
	if got, err := xml.Parse(it.Raw, space); err != nil || !reflect.DeepEqual(e, got) {
		t.Fatalf("plain %q\nis read as %q, %v", it.Raw, got, err)
	}
	spaces := []string{it.Space}
	if it.Space == xml.NSClient || it.Space == xml.NSServer {
		spaces = []string{xml.NSClient, xml.NSServer}
	}
	for _, content := range spaces {
		forwarded := forward(it, content)
		got, err := xml.Parse(forwarded, "")
		if want := rescope(e, it.Space, content); err != nil || !reflect.DeepEqual(want, got) {
			t.Fatalf("%q\nforwarded %q\nis read as %q, %v", it.Raw, forwarded, got, err)
		}
	}
}

// forward writes a plain item anew around its own inner bytes, as delivery does.
func forward(it *xml.Item, space string) []byte {
	b := append([]byte{'<'}, it.Local...)
	b = append(xml.AppendAttr(append(b, " xmlns='"...), space), '\'')
	b = it.AppendDecls(b)
	for i := range it.Attrs {
		b = it.Attrs[i].Append(b)
	}
	if it.Inner == nil {
		return append(b, "/>"...)
	}
	b = append(append(b, '>'), it.Inner...)
	return append(append(append(b, "</"...), it.Local...), '>')
}

// rescope moves e, if its namespace is from, to the namespace to, and its children with it as long as they inherit it
// (RFC 6120 §4.8.3).
func rescope(e xml.Element, from, to string) xml.Element {
	if e.Space != from {
		return e
	}
	e.Space = to
	e.Nodes = slices.Clone(e.Nodes)
	for i := range e.Nodes {
		if e.Nodes[i].Element != nil {
			c := rescope(*e.Nodes[i].Element, from, to)
			e.Nodes[i].Element = &c
		}
	}
	return e
}
