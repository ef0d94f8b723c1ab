package stanza_test

import (
	"cmp"
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

var seeds = []string{
	"<message to='juliet@a.test' type='chat' id='1'><body>hi</body></message>",
	`<message to="juliet@a.test" id="it's&#x9;a&#10;b	c"><body a="b">&lt;</body>]]&gt;</message>`,
	"<message from='romeo@a.test' to='juliet@a.test'><a:r xmlns:a='urn:xmpp:receipts'/><c xmlns='urn:c'><body xmlns='jabber:client'/></c><d/><e/></message>",
	"<message xmlns:p='urn:p' p:x='1' to='juliet@a.test'><p:x p:y='2'/>text<x xmlns='urn:x'/></message>",
	"<message to='juliet@a.test'><h:x h:y='1'>a &lt; b</h:x><stream:error/></message>",
	"<message to='juliet@a.test'><body><![CDATA[<&>]]></body></message>",
	"<c:message xmlns:c='jabber:client' to='juliet@a.test' c:type='chat'><c:body>x</c:body></c:message>",
	"<iq type='get' id='&amp;' to=''><query xmlns='jabber:iq:roster'/></iq>", "<iq type='set' id='1'/>", "<iq/>",
	"<presence xmlns='jabber:client' xml:lang='d&apos;e' colour='red'><priority>1</priority></presence>",
	"<presence type='' to='ｊuliet@a.test/x y'/>", "<message xmlns='jabber:server' to='a.test'><body>x</body></message>",
	"<message to='@a.test' id='1'/>", "<message></message>", "<message> </message >", "<message\tto = 'a.test'\n/>",
}

// FuzzParse checks that what is sent on is what was scanned and checked: its bytes parse to the tree that came, but
// for what the server stamps, and reading them back changes nothing.
func FuzzParse(f *testing.F) {
	for i, s := range seeds {
		f.Add(s, []string{"", "en", "a&b"}[i%3])
	}
	from := jid.MustParse("romeo@a.test/orchard")
	f.Fuzz(func(t *testing.T, doc, lang string) {
		it := scan(t, doc, &lang)
		if it == nil {
			return
		}
		st, err := stanza.Parse(it, from, lang)
		var refused *stanza.Failure
		if err != nil && !errors.As(err, &refused) {
			t.Fatalf("%q: %v is not a failure", doc, err)
		}
		got, parseErr := xml.Parse([]byte(st.String()), xml.NSClient)
		if parseErr != nil {
			t.Fatalf("%q\nis sent as %q: %v", doc, st, parseErr)
		}
		slices.SortFunc(got.Attrs, byName)
		prepare(&got)
		if want := stamped(it.Element(), st, lang); err == nil && !reflect.DeepEqual(got, want) {
			t.Fatalf("%q\nis sent as %q\nwhich is    %q\nand not     %q", doc, st, got, want)
		}
		checkChildren(t, st, &got)
		if err != nil {
			return
		}
		again, err := stanza.Decode(st.String())
		if err != nil || again.String() != st.String() || again.ID != st.ID || again.Type != st.Type || again.From != st.From ||
			again.To != st.To || again.Lang != st.Lang || !reflect.DeepEqual(children(again), children(st)) {
			t.Fatalf("%q\nis sent as %q\nand decoded %q, %v", doc, st, again, err)
		}
		checkCopies(t, st)
	})
}

// FuzzDecode checks that what comes from a database or another node is refused, or read as it is written.
func FuzzDecode(f *testing.F) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		st, err := stanza.Decode(raw)
		if err != nil {
			return
		}
		again, err := stanza.Decode(st.String())
		if err != nil || again.String() != st.String() {
			t.Fatalf("%q\nis decoded %q\nand again  %q, %v", raw, st, again, err)
		}
		if tree, err := xml.Parse([]byte(st.String()), xml.NSClient); err != nil {
			t.Fatalf("%q\nis decoded %q: %v", raw, st, err)
		} else {
			checkChildren(t, st, &tree)
		}
	})
}

// scan reads one stanza as it comes on a client's stream, nil if doc is none. The language, too, is what XML can carry.
func scan(t *testing.T, doc string, lang *string) *xml.Item {
	sc := xml.AcquireScanner()
	t.Cleanup(sc.Release)
	var ns xml.Stream
	if _, _, err := sc.Next(&ns, nil, []byte(header)); err != nil {
		t.Fatal(err)
	}
	if e, err := xml.Parse(append(xml.AppendAttr([]byte("<a l='"), *lang), "'/>"...), ""); err != nil {
		*lang = ""
	} else {
		*lang = e.Attr("l")
	}
	ev, n, err := sc.Next(&ns, nil, []byte(doc))
	if err != nil || ev != xml.FirstLevel || n != len(doc) || stanza.KindOf(sc.Item()) == 0 {
		return nil
	}
	return sc.Item()
}

// stamped is e as the server sends it on.
func stamped(e xml.Element, st *stanza.Stanza, lang string) xml.Element {
	rescope(&e, e.Space)
	attrs := []xml.Attribute{{Local: "from", Value: st.From.String()}}
	own := false
	for _, a := range e.Attrs {
		switch {
		case a.Value == "", a.Space == "" && a.Local == "from":
		case a.Space == xml.NSXML && a.Local == "lang":
			own = true
			attrs = append(attrs, a)
		case a.Space == "":
			attrs = append(attrs, a)
		}
	}
	if !own && lang != "" {
		attrs = append(attrs, xml.Attribute{Space: xml.NSXML, Local: "lang", Value: lang})
	}
	slices.SortFunc(attrs, byName)
	e.Attrs = attrs
	prepare(&e)
	return e
}

// prepare brings the address into the one form that is compared: it may be sent on as it was written.
func prepare(e *xml.Element) {
	for i := range e.Attrs {
		if a := &e.Attrs[i]; a.Local == "to" && a.Space == "" {
			if to, err := jid.Parse(a.Value); err == nil {
				a.Value = to.String()
			}
		}
	}
}

func byName(a, b xml.Attribute) int {
	return cmp.Or(cmp.Compare(a.Space, b.Space), cmp.Compare(a.Local, b.Local))
}

// rescope moves e, and what is in its namespace right inside it, to that of clients (RFC 6120 §4.8.3).
func rescope(e *xml.Element, from string) {
	if e.Space != from {
		return
	}
	e.Space = xml.NSClient
	for i := range e.Nodes {
		if c := e.Nodes[i].Element; c != nil {
			rescope(c, from)
		}
	}
}

type child struct{ space, local string }

func children(st *stanza.Stanza) (all []child) {
	for _, c := range st.Children() {
		all = append(all, child{c.Space, c.Local})
	}
	return all
}

// checkChildren compares the places of the children with the tree.
func checkChildren(t *testing.T, st *stanza.Stanza, tree *xml.Element) {
	t.Helper()
	var want []xml.Element
	for e := range tree.Elements() {
		want = append(want, *e)
	}
	if got := st.Elements(); len(got) != len(want) || len(got) > 0 && !reflect.DeepEqual(got, want) {
		t.Fatalf("%q\nhas the children %q", st, got)
	}
	for i, c := range children(st) {
		if c != (child{want[i].Space, want[i].Local}) {
			t.Fatalf("%q: child %d is listed as %v", st, i, c)
		}
	}
}

// checkCopies checks that another head leaves the content what it was.
func checkCopies(t *testing.T, st *stanza.Stanza) {
	to := jid.MustParse("somebody@b.test/'<")
	mark := xml.New("urn:mark", "mark")
	for _, c := range []*stanza.Stanza{st.WithTo(to), st.WithFrom(to), st.WithAddresses(jid.JID{}, jid.JID{}), st.WithID("<'>"), st.With(mark).Without(isMark)} {
		tree, err := xml.Parse([]byte(c.String()), xml.NSClient)
		if err != nil {
			t.Fatalf("%q\nis copied as %q: %v", st, c, err)
		}
		if c.Inner() != st.Inner() {
			t.Fatalf("%q\nis copied as %q", st, c)
		}
		checkChildren(t, c, &tree)
	}
	if got := children(st.With(mark)); !slices.Equal(got, append(children(st), child{"urn:mark", "mark"})) {
		t.Fatalf("%q\nwith a mark has the children %v", st, got)
	}
}

func isMark(c stanza.Child) bool { return c.Space == "urn:mark" }
