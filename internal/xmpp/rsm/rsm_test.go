package rsm_test

import (
	"testing"

	"github.com/starling-im/starling/internal/xmpp/rsm"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

func TestFind(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     rsm.Request
		fails    bool
	}{
		{"nothing", "", rsm.Request{Max: -1, Index: -1}, false},
		{"empty", "<set xmlns='" + rsm.NS + "'/>", rsm.Request{Max: -1, Index: -1}, false},
		{"of another namespace", "<set xmlns='urn:example'><max>1</max></set>", rsm.Request{Max: -1, Index: -1}, false},
		{"first page", "<set xmlns='" + rsm.NS + "'><max>10</max></set>", rsm.Request{Max: 10, Index: -1}, false},
		{"count", "<set xmlns='" + rsm.NS + "'><max>0</max></set>", rsm.Request{Max: 0, Index: -1}, false},
		{"next page", "<set xmlns='" + rsm.NS + "'><max>10</max><after>p@q</after></set>", rsm.Request{Max: 10, Index: -1, After: "p@q"}, false},
		{"page before", "<set xmlns='" + rsm.NS + "'><before>p@q</before></set>", rsm.Request{Max: -1, Index: -1, Before: "p@q"}, false},
		{"last page", "<set xmlns='" + rsm.NS + "'><before/></set>", rsm.Request{Max: -1, Index: -1, Last: true}, false},
		{"by index", "<set xmlns='" + rsm.NS + "'><index>371</index></set>", rsm.Request{Max: -1, Index: 371}, false},
		{"negative", "<set xmlns='" + rsm.NS + "'><max>-1</max></set>", rsm.Request{}, true},
		{"too many", "<set xmlns='" + rsm.NS + "'><max>9999999999</max></set>", rsm.Request{}, true},
		{"no number", "<set xmlns='" + rsm.NS + "'><max>many</max></set>", rsm.Request{}, true},
		{"no index", "<set xmlns='" + rsm.NS + "'><index>x</index></set>", rsm.Request{}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := xml.Parse([]byte("<query xmlns='urn:example'>"+c.in+"</query>"), "")
			if err != nil {
				t.Fatal(err)
			}
			got, err := rsm.Find(&e)
			if (err != nil) != c.fails || err == nil && got != c.want {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	if got, err := rsm.Find(nil); err != nil || got.Max != -1 {
		t.Errorf("of nothing: %+v, %v", got, err)
	}
}

func TestPage(t *testing.T) {
	for _, c := range []struct {
		name string
		page rsm.Page
		want string
	}{
		{"known", rsm.Page{"a", "b", 10, 800}, "<set xmlns='" + rsm.NS + "'><first index='10'>a</first><last>b</last><count>800</count></set>"},
		{"not known", rsm.Page{"a", "b", -1, -1}, "<set xmlns='" + rsm.NS + "'><first>a</first><last>b</last></set>"},
		{"empty", rsm.Page{"", "", -1, 790}, "<set xmlns='" + rsm.NS + "'><count>790</count></set>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.page.Element().String(); got != c.want {
				t.Errorf("got %s", got)
			}
		})
	}
}

func FuzzFind(f *testing.F) {
	f.Add("<q><set xmlns='" + rsm.NS + "'><max>10</max><after>x</after></set></q>")
	f.Add("<q><set xmlns='" + rsm.NS + "'><index>3</index><before/></set></q>")
	f.Fuzz(func(t *testing.T, s string) {
		e, err := xml.Parse([]byte(s), "")
		if err != nil {
			return
		}
		r, err := rsm.Find(&e)
		if err != nil {
			return
		}
		q := xml.New("urn:example", "query").With(r.Element())
		if again, err := rsm.Find(&q); err != nil || again != r {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
	})
}
