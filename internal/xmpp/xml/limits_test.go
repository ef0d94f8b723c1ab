package xml_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/starling-im/starling/internal/xmpp/xml"
)

// TestLimits reads for each limit a stanza that just keeps it and one that just passes it, in pieces of every size.
func TestLimits(t *testing.T) {
	elements := func(n int) string { return `<a>` + strings.Repeat(`<b/>`, n-1) + `</a>` }
	depth := func(n int) string { return strings.Repeat(`<a>`, n) + strings.Repeat(`</a>`, n) }
	emptyDepth := func(n int) string { return strings.Repeat(`<a>`, n-1) + `<a/>` + strings.Repeat(`</a>`, n-1) }
	bytes := func(n int) string { return `<a>` + strings.Repeat(`x`, n-7) + `</a>` }
	attrs := func(n int) string {
		s := `<a xmlns:x='urn:x'`
		for i := range n {
			s += fmt.Sprintf(" a%d=''", i)
		}
		return s + `/>`
	}
	decls := func(n int) string {
		s, end := "", ""
		for i := range n {
			s += fmt.Sprintf("<a xmlns:x%d='urn:x'>", i)
			end += "</a>"
		}
		return s + end + fmt.Sprintf("<a xmlns:x%d='urn:x'/>", n)
	}
	tag := func(n int) string { return `<a b='` + strings.Repeat(`x`, n-9) + `'/>` }
	blankTag := func(n int) string { return `<a` + strings.Repeat(` `, n-4) + `/>` }
	endTag := func(n int) string { return `<a></a` + strings.Repeat(` `, n-4) + `>` }
	name := func(n int) string { return `<` + strings.Repeat(`n`, n) + `/>` }
	qname := func(n int) string { return `<p:` + strings.Repeat(`n`, n-2) + ` xmlns:p='urn:p'/>` }
	wideName := func(n int) string { return `<` + strings.Repeat("n", n-2) + `é/>` }
	attrName := func(n int) string { return `<a ` + strings.Repeat(`n`, n) + `='x'/>` }
	spaceName := func(n int) string { return `<a xmlns='` + strings.Repeat(`n`, n) + `'/>` }
	cdata := func(n int) string { return `<a><![CDATA[` + strings.Repeat(`&`, n) + `]]></a>` }
	for _, c := range []struct {
		name string
		lim  xml.Limits
		make func(n int) string
		n    int
	}{
		{"bytes", xml.Limits{Bytes: 50}, bytes, 50},
		{"bytes of a tag", xml.Limits{Bytes: 50}, tag, 50},
		{"elements", xml.Limits{Elements: 7}, elements, 7},
		{"elements without a wrapper", xml.Limits{Elements: 1}, elements, 1},
		{"depth", xml.Limits{Depth: 5}, depth, 5},
		{"depth, empty element", xml.Limits{Depth: 5}, emptyDepth, 5},
		{"attributes", xml.Limits{Attrs: 4}, attrs, 4},
		{"declarations", xml.Limits{Decls: 4}, decls, 4},
		{"tag", xml.Limits{Tag: 40}, tag, 40},
		{"tag of white space", xml.Limits{Tag: 40}, blankTag, 40},
		{"end tag", xml.Limits{Tag: 40}, endTag, 40},
		{"name", xml.Limits{Name: 20}, name, 20},
		{"qualified name", xml.Limits{Name: 20}, qname, 20},
		{"name outside ASCII", xml.Limits{Name: 20}, wideName, 20},
		{"attribute's name", xml.Limits{Name: 20}, attrName, 20},
		{"namespace name", xml.Limits{Name: 20}, spaceName, 20},
		// In plain form each & takes 5 bytes, and the markup of the section is not needed.
		{"bytes of CDATA", xml.Limits{Bytes: 7 + 12 + 5*20}, cdata, 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			var st xml.Stream
			st.Open("")
			kept, passed := c.make(c.n), c.make(c.n+1)
			for k := 1; k <= len(passed); k++ {
				if got, err := feed(st, kept, k, &c.lim); got != 1 && c.name != "declarations" || err != nil {
					t.Fatalf("chunks of %d: %s: %d items, %v", k, kept, got, err)
				}
				_, err := feed(st, passed, k, &c.lim)
				var e *xml.SyntaxError
				if !errors.As(err, &e) || e.Condition != xml.PolicyViolation || e.AppCondition != xml.StanzaTooBig {
					t.Fatalf("chunks of %d: %s: %v", k, passed, err)
				}
			}
		})
	}
}

// feed reads doc in chunks on a copy of st and counts the items.
func feed(st xml.Stream, doc string, chunk int, lim *xml.Limits) (items int, err error) {
	s := xml.AcquireScanner()
	defer s.Release()
	begin := 0
	for end := 0; end < len(doc); {
		end = min(end+chunk, len(doc))
		for {
			ev, n, err := s.Next(&st, lim, []byte(doc[begin:end]))
			if err != nil {
				return items, err
			}
			begin += n
			if ev == xml.NeedMore {
				break
			}
			items++
		}
	}
	return items, nil
}

// TestLimitsWhileIncomplete checks that a limit is noticed at the byte that passes it, not at the end of the stanza.
func TestLimitsWhileIncomplete(t *testing.T) {
	for _, c := range []struct {
		name, doc string
		lim       xml.Limits
		most      int // bytes that may be swallowed
	}{
		{"text", `<a>` + strings.Repeat("x", 1000), xml.Limits{Bytes: 100}, 100},
		{"CDATA", `<a><![CDATA[` + strings.Repeat("x", 1000), xml.Limits{Bytes: 100}, 100},
		{"CDATA of escapes", `<a><![CDATA[` + strings.Repeat("<", 1000), xml.Limits{Bytes: 100}, 30},
		{"attribute", `<a b='` + strings.Repeat("x", 1000), xml.Limits{Tag: 100}, 100},
		{"many >", `<a b='` + strings.Repeat(">", 1000), xml.Limits{Tag: 100}, 100},
		{"white space in a tag", `<a ` + strings.Repeat(" ", 1000), xml.Limits{Tag: 100}, 100},
		{"white space before =", `<a b ` + strings.Repeat(" ", 1000), xml.Limits{Tag: 100}, 100},
		{"white space in an end tag", `<a></a ` + strings.Repeat(" ", 1000), xml.Limits{Tag: 100}, 103},
		{"name", `<` + strings.Repeat("n", 1000), xml.Limits{Name: 100}, 102},
		{"attribute's name", `<a ` + strings.Repeat("n", 1000), xml.Limits{Name: 100}, 104},
		{"depth", strings.Repeat("<a>", 1000), xml.Limits{Depth: 10}, 33},
		{"elements", `<a>` + strings.Repeat("<a/>", 1000), xml.Limits{Elements: 10}, 42},
		{"XML declaration", `<?xml ` + strings.Repeat(" ", 1000), xml.Limits{}, 256},
		{"reference", `<a>&#` + strings.Repeat("0", 1000), xml.Limits{}, 15},
		{"entity", `<a>&a` + strings.Repeat("a", 1000), xml.Limits{}, 15},
	} {
		t.Run(c.name, func(t *testing.T) {
			var st xml.Stream
			s := xml.AcquireScanner()
			defer s.Release()
			if !strings.HasPrefix(c.doc, "<?") {
				st.Open("")
			}
			for n := 1; n <= len(c.doc); n++ {
				if _, _, err := s.Next(&st, &c.lim, []byte(c.doc[:n])); err != nil {
					if n != c.most && n != c.most-1 {
						t.Errorf("noticed at byte %d, want %d: %v", n, c.most, err)
					}
					return
				}
			}
			t.Error("not noticed")
		})
	}
}

// TestPlainFormLimit checks that a stanza cannot be made to grow beyond the limit by being re-serialised: with few
// bytes each, elements can use a long namespace that was declared once.
func TestPlainFormLimit(t *testing.T) {
	long := "urn:" + strings.Repeat("x", 900)
	for _, c := range []struct{ name, doc string }{
		{"prefixed elements", `<a xmlns:p='` + long + `'>` + strings.Repeat("<p:b/>", 50) + `</a>`},
		{"prefixed attributes", `<a xmlns:p='` + long + `'>` + strings.Repeat("<b p:c=''/>", 50) + `</a>`},
		{"default namespace restored", `<a xmlns='` + long + `' xmlns:p='urn:p'>` + strings.Repeat("<p:b><c/></p:b>", 50) + `</a>`},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, k := range []int{1, 10, len(c.doc)} {
				var st xml.Stream
				st.Open("")
				var e *xml.SyntaxError
				if _, err := feed(st, c.doc, k, &xml.Limits{Bytes: 10000}); !errors.As(err, &e) || e.AppCondition != xml.StanzaTooBig {
					t.Errorf("chunks of %d: %v", k, err)
				}
				if n, err := feed(st, c.doc, k, &xml.Limits{Bytes: 60000}); n != 1 || err != nil {
					t.Errorf("chunks of %d, higher limit: %d %v", k, n, err)
				}
			}
		})
	}
}

// TestDrip checks that bytes that come one by one are not read again and again: what may be long is made long, and the
// time must not grow as its square.
func TestDrip(t *testing.T) {
	const n = 200_000
	for _, c := range []struct{ name, head, fill string }{
		{"text", "<a>", "x"},
		{"lines", "<a>", "\n"},
		{"text outside ASCII", "<a>", "é"},
		{"CDATA", "<a><![CDATA[", "x"},
		{"CDATA of brackets", "<a><![CDATA[", "]"},
		{"attribute", "<a b='", "x"},
		{"attribute of >", "<a b='", ">"},
		{"white space in a tag", "<a ", " "},
		{"white space before =", "<a b", " "},
		{"white space after =", "<a b=", " "},
		{"end tag", "<a></a", " "},
		{"attributes", "<a", " \t"},
		{"elements", "<a>", "<b/>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			buf := []byte(c.head + strings.Repeat(c.fill, n/len(c.fill)))
			lim := xml.Limits{Bytes: 1 << 20, Tag: 1 << 20, Elements: n}
			var st xml.Stream
			st.Open("")
			s := xml.AcquireScanner()
			defer s.Release()
			// With the square of n, one of these loops would take minutes.
			for i := 1; i <= len(buf); i++ {
				if ev, _, err := s.Next(&st, &lim, buf[:i]); ev != xml.NeedMore || err != nil {
					t.Fatalf("after %d bytes: %d %v", i, ev, err)
				}
			}
		})
	}
}

func TestDefaultLimits(t *testing.T) {
	if l := xml.DefaultLimits(); l.Bytes < 10000 { // RFC 6120 §13.12
		t.Errorf("stanzas may have %d bytes", l.Bytes)
	}
	if l := xml.PreAuthLimits(); l.Bytes != 8192 || l.Elements != 32 {
		t.Errorf("before authentication: %+v", l)
	}
	var st xml.Stream
	st.Open("")
	lim := xml.PreAuthLimits()
	if n, err := feed(st, "<a>"+strings.Repeat("<b/>", 31)+"</a>", 50, &lim); n != 1 || err != nil {
		t.Errorf("32 elements: %d %v", n, err)
	}
	if _, err := feed(st, "<a>"+strings.Repeat("<b/>", 32)+"</a>", 50, &lim); err == nil {
		t.Error("33 elements were read")
	}
}
