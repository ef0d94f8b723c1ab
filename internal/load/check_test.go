package load

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
)

// fixture is a receiver of messages from session 1 to session 2, and a maker of such messages as a server forwards them.
func fixture(t *testing.T) (r *receiver, message func(number uint32) string) {
	t.Helper()
	return fixtureOf(t, func(p pattern) pattern { return p })
}

func fixtureOf(t *testing.T, kind func(pattern) pattern) (r *receiver, message func(number uint32) string) {
	t.Helper()
	p, err := chatPattern(1, "b@x/r", 432)
	if err != nil {
		t.Fatal(err)
	}
	if p = kind(p); len(p.bytes) != 432 {
		t.Fatalf("the message has %d bytes", len(p.bytes))
	}
	r = &receiver{own: 2, self: "b@x/r", faults: &faults{}, sources: []source{{number: 1, jid: "a@x/r"}}}
	if err := r.expect(p, "message"); err != nil {
		t.Fatal(err)
	}
	return r, func(number uint32) string {
		b := slices.Clone(p.bytes)
		p.number(b, number)
		return strings.Replace(string(b), "<message ", "<message from='a@x/r' ", 1)
	}
}

func TestCheck(t *testing.T) {
	_, message := fixture(t)
	bounced := func(n uint32) string {
		return strings.ReplaceAll(message(n), "~00000001-", "~00000002-")
	}
	cases := []checkCase{
		{"nothing", nil, 0, 0, Faults{}},
		{"in order", []string{message(0), message(1), message(2)}, 3, 3, Faults{}},
		{"other stanzas between", []string{"<presence from='a@x/r'/>", message(0), "<iq type='get'/>", message(1)}, 2, 2, Faults{}},
		{"lost at the end", []string{message(0)}, 1, 3, Faults{Lost: 2}},
		{"lost in the middle", []string{message(0), message(2)}, 2, 3, Faults{Lost: 1}},
		{"twice", []string{message(0), message(0), message(1)}, 2, 2, Faults{Duplicated: 1}},
		{"late", []string{message(1), message(0), message(2)}, 3, 3, Faults{Reordered: 1}},
		{"late and twice", []string{message(1), message(0), message(0)}, 2, 2, Faults{Reordered: 1, Duplicated: 1}},
		{"changed text", []string{message(0), strings.Replace(message(1), "Romeo", "Julia", 1)}, 1, 1, Faults{Changed: 1}},
		{"changed text at first", []string{strings.Replace(message(0), "Romeo", "Julia", 1)}, 0, 0, Faults{Changed: 1}},
		{"child missing", []string{strings.Replace(message(0), "<request xmlns='urn:xmpp:receipts'/>", "", 1)}, 0, 0, Faults{Changed: 1}},
		{"child added", []string{message(0), strings.Replace(message(1), "</message>", "<delay xmlns='urn:xmpp:delay'/></message>", 1), message(2)}, 3, 3, Faults{}},
		{"written otherwise", []string{message(0), strings.ReplaceAll(message(1), "'", `"`), message(2)}, 3, 3, Faults{}},
		{"other sender", []string{strings.Replace(message(0), "a@x/r", "c@x/r", 1)}, 0, 0, Faults{Changed: 1}},
		{"other addressee", []string{strings.Replace(message(0), "to='b@x/r'", "to='b@x/s'", 1)}, 0, 0, Faults{Changed: 1}},
		{"other type", []string{strings.Replace(message(0), "'chat'", "'error'", 1)}, 0, 0, Faults{Changed: 1}},
		{"came back", []string{bounced(0)}, 0, 0, Faults{Bounced: 1}},
	}
	check(t, cases, func(p pattern) pattern { return p })
}

// TestCheckWords is TestCheck with messages each of which says something else.
func TestCheckWords(t *testing.T) {
	_, message := fixtureOf(t, pattern.wordy)
	mixed := func(n, other uint32) string {
		return strings.Replace(message(n), string(Words(1, n, 20)), string(Words(1, other, 20)), 1)
	}
	check(t, []checkCase{
		{"in order", []string{message(0), message(1), message(2)}, 3, 3, Faults{}},
		{"lost in the middle", []string{message(0), message(2)}, 2, 3, Faults{Lost: 1}},
		{"twice", []string{message(0), message(0), message(1)}, 2, 2, Faults{Duplicated: 1}},
		{"words of another", []string{message(0), mixed(1, 2), message(2)}, 2, 3, Faults{Changed: 1, Lost: 1}},
		{"words of another at first", []string{mixed(0, 2)}, 0, 0, Faults{Changed: 1}},
		{"child missing", []string{message(0), strings.Replace(message(1), "<request xmlns='urn:xmpp:receipts'/>", "", 1)}, 1, 1, Faults{Changed: 1}},
		{"written otherwise", []string{message(0), strings.ReplaceAll(message(1), "'", `"`), message(2)}, 3, 3, Faults{}},
	}, pattern.wordy)
}

type checkCase struct {
	name     string
	in       []string
	received int
	sent     uint32
	want     Faults
}

func check(t *testing.T, cases []checkCase, kind func(pattern) pattern) {
	t.Helper()
	for _, c := range cases {
		for _, step := range []int{1 << 20, 432, 100, 7, 1} {
			t.Run(fmt.Sprintf("%s/%d bytes a read", c.name, step), func(t *testing.T) {
				r, _ := fixtureOf(t, kind)
				received := feed(r, strings.Join(c.in, ""), step)
				got := r.faults.tally()
				got.Samples, got.Lost = nil, r.lost(&r.sources[0], c.sent)
				if received != c.received || fmt.Sprint(got) != fmt.Sprint(c.want) {
					t.Errorf("received %d, %+v; want %d, %+v", received, got, c.received, c.want)
				}
			})
		}
	}
}

// feed gives a receiver text in pieces, as a link does.
func feed(r *receiver, text string, step int) (stanzas int) {
	var buf []byte
	for len(text) > 0 {
		n := min(step, len(text))
		buf = append(buf, text[:n]...)
		text = text[n:]
		used, got := r.scan(buf)
		buf = append(buf[:0], buf[used:]...)
		stanzas += got
	}
	return stanzas
}

func TestCheckEchoes(t *testing.T) {
	r, message := fixture(t)
	r.own, r.echoes, r.self = 1, true, ""
	r.sources = []source{{number: 3, jid: "c@x/r"}}
	other := strings.NewReplacer("~00000001-", "~00000003-", "a@x/r", "c@x/r").Replace(message(0))
	if n := feed(r, message(0)+other+message(1), 50); n != 1 {
		t.Errorf("%d stanzas of others, want 1", n)
	}
	if f := r.faults.tally(); f.Total() > 0 {
		t.Errorf("faults: %+v", f)
	}
}

// TestCheckForgets shows that a session that receives other things than messages does not collect them.
func TestCheckForgets(t *testing.T) {
	r, _ := fixture(t)
	b := []byte(strings.Repeat("<presence from='a@x/r'><status>at the ball</status></presence>", 100))
	if used, n := r.scan(b); n != 0 || len(b)-used >= len("<message") {
		t.Errorf("%d of %d bytes kept", len(b)-used, len(b))
	}
}

// TestWords: texts differ, can stand in XML as they are, and compress as chat does, not like one text time and again.
func TestWords(t *testing.T) {
	seen := map[string]bool{}
	var all []byte
	for sender := range uint32(2) {
		for number := range uint32(32) {
			w := Words(sender, number, 300)
			if len(w) != 300 || bytes.ContainsAny(w, "<>&~'\"") || seen[string(w)] {
				t.Fatalf("%q", w)
			}
			seen[string(w)] = true
			all = append(all, w...)
		}
	}
	n := len(s2.Encode(nil, all))
	t.Logf("%d bytes become %d", len(all), n)
	if n < len(all)/2 || n > len(all)*9/10 {
		t.Errorf("%d bytes become %d", len(all), n)
	}
}

func TestPattern(t *testing.T) {
	if _, err := chatPattern(1, "b@x/r", 100); err == nil {
		t.Error("a message of 100 bytes was made")
	}
	for _, n := range []uint32{0, 1, 0xdeadbeef, 0xffffffff} {
		b := []byte(emptyMark)
		putHex(b[1:], n)
		putHex(b[numberAt:], ^n)
		if sender, number, ok := readMark(b); !ok || sender != n || number != ^n {
			t.Errorf("mark %s read as %x, %x, %v", b, sender, number, ok)
		}
	}
	for _, bad := range []string{"~0000000g-00000000~", "~00000000x00000000~", "~00000000-00000000-"} {
		if _, _, ok := readMark([]byte(bad)); ok {
			t.Errorf("%s was read as a mark", bad)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	p, err := chatPattern(1, "b@x/r", 432)
	if err != nil {
		b.Fatal(err)
	}
	r := &receiver{own: 2, faults: &faults{}, sources: []source{{number: 1}}}
	if err := r.expect(p, "message"); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(432)
	b.ReportAllocs()
	for n := uint32(0); b.Loop(); n++ {
		p.number(p.bytes, n)
		if _, got := r.scan(p.bytes); got != 1 {
			b.Fatal("not received")
		}
	}
}
