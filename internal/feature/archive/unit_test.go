package archive

import (
	"crypto/aes"
	"crypto/cipher"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/form"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/rsm"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

func TestID(t *testing.T) {
	block, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	all := ids{block}
	key := session.Key{Seed: [16]byte{1, 2, 3}, N: 1<<33 + 7, Hash: 9}
	juliet, romeo := jid.MustParse("juliet@a.test"), jid.MustParse("romeo@b.test")
	made := all.of(key, juliet)
	if again := all.of(key, juliet); again != made {
		t.Error("the same stanza has two ids in one archive")
	}
	for name, c := range map[string]struct {
		other                      id
		sameSession, before, after bool
	}{
		"of another owner":       {other: all.of(key, romeo)},
		"of the next one":        {all.of(session.Key{Seed: key.Seed, N: 1<<33 + 8, Hash: 9}, juliet), true, false, true},
		"of one before":          {all.of(session.Key{Seed: key.Seed, N: 6, Hash: 9}, juliet), true, true, false},
		"of another text":        {all.of(session.Key{Seed: key.Seed, N: key.N, Hash: 8}, juliet), true, false, false},
		"of another":             {other: all.of(session.Key{N: 7, Hash: 9}, juliet)},
		"of the server's":        {other: all.of(session.Key{Seed: key.Seed, Hash: 9}, juliet)},
		"of another server's":    {other: ids{otherBlock(t)}.of(key, juliet)},
		"of the server's second": {other: all.of(session.Key{Seed: key.Seed, Hash: 10}, juliet)},
	} {
		if c.other == made {
			t.Errorf("the id is also that %s", name)
		}
		is, was := all.origin(c.other), all.origin(made)
		if (is.session == was.session) != c.sameSession || c.sameSession && (is.n < was.n != c.before || is.n > was.n != c.after) {
			t.Errorf("that %s is %v, beside %v", name, is, was)
		}
	}
	if back, ok := parseID(made.String()); !ok || back != made {
		t.Errorf("%s became %s, %v", made, back, ok)
	}
}

func otherBlock(t *testing.T) cipher.Block {
	block, err := aes.NewCipher([]byte("another secret's"))
	if err != nil {
		t.Fatal(err)
	}
	return block
}

func TestRaise(t *testing.T) {
	for _, c := range []struct {
		name  string
		known int64 // the latest stamp of the owner, these included
		in    []int64
		want  []int64
	}{
		{"in order", 30, []int64{10, 20, 30}, []int64{10, 20, 30}},
		{"a clock that is behind", 30, []int64{10, 30, 20}, []int64{10, 30, 30}},
		{"another node was ahead", 50, []int64{10, 20, 30}, []int64{50, 50, 50}},
		{"a clock was wrong by hours", 30 + 2*latest, []int64{10, 20, 30}, []int64{10, 20, 30}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var rows []*row
			for _, stamp := range c.in {
				rows = append(rows, &row{stamp: stamp})
			}
			raise(rows, c.known)
			for i, r := range rows {
				if r.stamp != c.want[i] {
					t.Errorf("row %d: %d, want %d", i, r.stamp, c.want[i])
				}
			}
		})
	}
}

func TestDecide(t *testing.T) {
	list := func(all ...string) (l []jid.JID) {
		for _, s := range all {
			l = append(l, jid.MustParse(s))
		}
		return l
	}
	p := &prefs{fallback: fallbackRoster, always: list("a@x", "b@x/phone", "d@x"), never: list("c@x", "a@x/secret", "d@x")}
	for _, c := range []struct {
		with           string
		kept, asRoster bool
	}{
		{"a@x", true, false}, {"a@x/any", true, false}, {"a@x/secret", false, false},
		{"b@x/phone", true, false}, {"b@x", false, true}, {"b@x/other", false, true},
		{"c@x/any", false, false}, {"d@x", false, false}, {"e@x", false, true},
	} {
		if kept, asRoster := p.decide(jid.MustParse(c.with)); kept != c.kept || asRoster != c.asRoster {
			t.Errorf("%s: %v, %v", c.with, kept, asRoster)
		}
	}
	if got := parseLines(lines(p.always)); len(got) != len(p.always) || got[1] != p.always[1] {
		t.Errorf("stored as %v", got)
	}
}

// FuzzFilter reads any query without trouble, and never asks for more than a page.
func FuzzFilter(f *testing.F) {
	x := "<x xmlns='" + form.NS + "' type='submit'><field var='FORM_TYPE'><value>" + NS + "</value></field>"
	f.Add("<query xmlns='" + NS + "'><set xmlns='" + rsm.NS + "'><max>10</max><after>AAAAAAAAAAAAAAAAAAAAAA</after></set></query>")
	f.Add("<query xmlns='" + NS + "'>" + x + "<field var='with'><value>a@x</value></field><field var='start'><value>2010-06-07T00:00:00Z</value></field></x></query>")
	f.Add("<query xmlns='" + NS + "'>" + x + "<field var='ids'><value>AAAAAAAAAAAAAAAAAAAAAA</value></field></x><flip-page/></query>")
	a := &Archive{cfg: Config{Page: 50, MaxPage: 250}}
	f.Fuzz(func(t *testing.T, s string) {
		q, err := xml.Parse([]byte(s), "")
		if err != nil {
			return
		}
		got, err := a.filter(jid.MustParse("juliet@a.test"), &q)
		if err == nil && (got.max < 0 || got.max > 250 || len(got.ids) > maxIDs) {
			t.Errorf("%s asks for %d messages, %d ids", s, got.max, len(got.ids))
		}
	})
}

// FuzzKeep puts any message through all that is done to it as text.
func FuzzKeep(f *testing.F) {
	f.Add("<message from='romeo@b.test/o' to='juliet@a.test' id='1'><body>hi</body></message>")
	f.Add("<message to='juliet@a.test' type='chat'><retract xmlns='" + NSRetract + "' id='x'/><stanza-id xmlns='" + NSStanzaID + "' by='juliet@a.test' id='y'/></message>")
	f.Fuzz(func(t *testing.T, raw string) {
		st, err := stanza.Decode(raw)
		if err != nil || st.Kind != stanza.Message {
			return
		}
		worthKeeping(st)
		retracted(st)
		juliet := jid.MustParse("juliet@a.test/balcony")
		k := kept{stamp: 1, raw: st.String()}
		result, err := k.result(juliet.Bare(), juliet, "<q'&>")
		if err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		e := result.Child(NS, "result")
		inner := e.Child(nsForward, "forwarded").Child(xml.NSClient, "message")
		if inner == nil || e.Attr("queryid") != "<q'&>" || inner.Attr("id") != st.ID {
			t.Errorf("%s became %s", raw, result)
		}
		if grave := tombstone(st, st, 1); grave.Has(xml.NSClient, "body") || !grave.Has(NSRetract, "retracted") {
			t.Errorf("%s became %s", raw, grave)
		}
	})
}

// FuzzEntries reads any entry of the journal without trouble, and what was written as it was.
func FuzzEntries(f *testing.F) {
	one := &row{id: id{1}, stamp: 7, owner: "juliet@a.test", peer: jid.MustParse("romeo@b.test/o"), stanza: "<message/>", retracts: "x"}
	two := &row{id: id{2}, stamp: -1, owner: "romeo@b.test", peer: jid.MustParse("juliet@a.test"), stanza: "<message/>"}
	other := &row{id: id{3}, owner: "nurse@a.test", peer: jid.MustParse("b.test"), stanza: "<message id='1'/>"}
	var all []byte
	for i, r := range []*row{one, two, other} {
		all = r.entry(all, []*row{nil, one, two}[i])
	}
	f.Add(string(all))
	f.Add(string(all[:len(all)-1]))
	f.Fuzz(func(t *testing.T, text string) {
		rows, err := entries(text)
		if err != nil {
			return
		}
		var b []byte
		var before *row
		for _, r := range rows {
			b = r.entry(b, before)
			before = r
		}
		again, err := entries(string(b))
		if err != nil || len(again) != len(rows) {
			t.Fatalf("%q became %q: %v", text, b, err)
		}
		for i, r := range rows {
			if *again[i] != *r {
				t.Errorf("%+v became %+v", r, again[i])
			}
		}
	})
}

// An archive's messages come back from the runs in which they are kept, whatever their length and number.
func TestRuns(t *testing.T) {
	message := func(n int, text string) kept {
		return kept{position: int64(n), stamp: int64(1000 - 3*n), id: id{byte(n), byte(n >> 8)}, peer: "romeo@b.test/o",
			raw: "<message id='" + strconv.Itoa(n) + "'><body>" + text + "</body></message>"}
	}
	for _, c := range []struct {
		name  string
		first int
		texts []string
		want  []int // messages of each run
	}{
		{"one", 7, []string{"x"}, []int{1}},
		{"a span", 64, slices.Repeat([]string{"x"}, 64), []int{64}},
		{"over the end of a span", 60, slices.Repeat([]string{"x"}, 10), []int{4, 6}},
		{"long ones", 128, slices.Repeat([]string{strings.Repeat("x", 30<<10)}, 5), []int{2, 2, 1}},
		{"longer than a run", 128, []string{"x", strings.Repeat("x", 100<<10), "x"}, []int{1, 1, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var all, back []kept
			var e encoder
			for i, text := range c.texts {
				all = append(all, message(c.first+i, text))
			}
			var sizes []int
			for _, r := range divide(1, all) {
				sizes = append(sizes, len(r.run))
				run, err := decode(r.run[0].position, r.run[0].stamp, e.encode(r.run))
				if err != nil {
					t.Fatal(err)
				}
				back = append(back, run...)
			}
			if !slices.Equal(sizes, c.want) {
				t.Errorf("runs of %v messages, want %v", sizes, c.want)
			}
			if !slices.Equal(back, all) {
				t.Errorf("%d messages became %d, or others", len(all), len(back))
			}
		})
	}
	holes := []kept{message(64, "x"), message(70, "y"), message(127, "z")}
	if run, err := decode(64, holes[0].stamp, new(encoder).encode(holes)); err != nil || !slices.Equal(run, holes) {
		t.Errorf("with holes: %v, %v", run, err)
	}
}

func TestWith(t *testing.T) {
	for _, c := range []struct {
		peer, with string
		want       bool
	}{
		{"romeo@b.test/o", "romeo@b.test", true},
		{"romeo@b.test", "romeo@b.test", true},
		{"romeo@b.test/o", "romeo@b.test/o", true},
		{"romeo@b.test/o2", "romeo@b.test/o", false},
		{"romeo@b.test/o/p", "romeo@b.test/o", false},
		{"romeo@b.test", "romeo@b.test/o", false},
		{"romeo@b.test.example/o", "romeo@b.test", false},
		{"b.test/o", "b.test", true},
	} {
		k := kept{peer: c.peer}
		if got := k.with(jid.MustParse(c.with)); got != c.want {
			t.Errorf("%s with %s: %v", c.peer, c.with, got)
		}
	}
}

// FuzzRun reads any run without trouble, and what was written as it was.
func FuzzRun(f *testing.F) {
	run := []kept{
		{position: 64, stamp: 7, id: id{1}, peer: "romeo@b.test/o", raw: "<message/>"},
		{position: 66, stamp: 5, id: id{2}, peer: "b.test", raw: "<message>" + strings.Repeat("<x/>", packFrom) + "</message>"},
	}
	f.Add(int64(64), new(encoder).encode(run[:1]))
	f.Add(int64(64), new(encoder).encode(run))
	f.Add(int64(64), []byte{packed, 255, 255, 255, 255, 15})
	f.Fuzz(func(t *testing.T, position int64, b []byte) {
		run, err := decode(position, 0, b)
		if err != nil {
			return
		}
		again, err := decode(position, run[0].stamp, new(encoder).encode(run))
		if err != nil || !slices.Equal(again, run) {
			t.Errorf("%v became %v: %v", run, again, err)
		}
	})
}
