package jid

import (
	"errors"
	"strings"
	"sync"
	"testing"
)

var (
	longest = strings.Repeat("x", maxPart)
	label63 = strings.Repeat("x", 63) + "."
)

// valid has addresses and their prepared parts.
var valid = []struct{ name, in, local, domain, resource string }{
	// RFC 7622 §3.5, table 1.
	{"example 1", "juliet@example.com", "juliet", "example.com", ""},
	{"example 2", "juliet@example.com/foo", "juliet", "example.com", "foo"},
	{"example 3", "juliet@example.com/foo bar", "juliet", "example.com", "foo bar"},
	{"example 4", "juliet@example.com/foo@bar", "juliet", "example.com", "foo@bar"},
	{"example 5", `foo\20bar@example.com`, `foo\20bar`, "example.com", ""},
	{"example 6", "fussball@example.com", "fussball", "example.com", ""},
	{"example 7", "fu\u00dfball@example.com", "fu\u00dfball", "example.com", ""},
	{"example 8", "\u03c0@example.com", "\u03c0", "example.com", ""},
	{"example 9", "\u03a3@example.com/foo", "\u03c3", "example.com", "foo"},
	{"example 10", "\u03c3@example.com/foo", "\u03c3", "example.com", "foo"},
	{"example 11", "\u03c2@example.com/foo", "\u03c2", "example.com", "foo"},
	{"example 12", "king@example.com/\u265a", "king", "example.com", "\u265a"},
	{"example 13", "example.com", "", "example.com", ""},
	{"example 14", "example.com/foobar", "", "example.com", "foobar"},
	{"example 15", "a.example.com/b@example.net", "", "a.example.com", "b@example.net"},

	{"slashes in resource", "a@b.test/c/d//", "a", "b.test", "c/d//"},
	{"capitals", "JuLiet@EXAMPLE.Com/Balcony", "juliet", "example.com", "Balcony"},
	{"fullwidth localpart", "\uff2aoe@b.test", "joe", "b.test", ""},
	{"decomposed localpart", "e\u0301@b.test", "\u00e9", "b.test", ""},
	{"right to left localpart", "\u05d0\u05d1@b.test", "\u05d0\u05d1", "b.test", ""},
	{"digit before left to right", "1\u00e4@b.test", "1\u00e4", "b.test", ""},
	{"no-break space in resource", "b.test/a\u00a0b", "", "b.test", "a b"},
	{"fullwidth resource stays", "b.test/\uff21", "", "b.test", "\uff21"},
	{"trailing space in resource", "b.test/a ", "", "b.test", "a "},
	{"decomposed resource", "b.test/e\u0301", "", "b.test", "\u00e9"},
	{"final dot", "a@b.test./r", "a", "b.test", "r"},
	{"final dot and capitals", "B.test.", "", "b.test", ""},
	{"unqualified host", "a@localhost", "a", "localhost", ""},
	{"u-label", "b\u00fccher.test", "", "b\u00fccher.test", ""},
	{"u-label decomposed, capital", "BU\u0308CHER.test", "", "b\u00fccher.test", ""},
	{"a-label", "xn--bcher-kva.test", "", "b\u00fccher.test", ""},
	{"a-label, capitals", "XN--BCHER-KVA.test", "", "b\u00fccher.test", ""},
	{"sharp s in domain", "fa\u00df.test", "", "fa\u00df.test", ""},
	{"ideographic dot", "a\u3002test", "", "a.test", ""},
	{"fullwidth domain", "\uff42.test", "", "b.test", ""},
	{"right to left domain", "\u05d0\u05d1.test", "", "\u05d0\u05d1.test", ""},
	{"ipv4", "a@192.0.2.1", "a", "192.0.2.1", ""},
	{"ipv6", "a@[2001:db8::1]/r", "a", "[2001:db8::1]", "r"},
	{"ipv6 other spelling", "[2001:DB8:0:0:0:0:0:1]", "", "[2001:db8::1]", ""},
	{"ipv6 and dot", "[::1].", "", "[::1]", ""},
	{"longest", longest + "@b.test/" + longest, longest, "b.test", longest},
}

func TestParse(t *testing.T) {
	for _, c := range valid {
		t.Run(c.name, func(t *testing.T) {
			j, err := Parse(c.in)
			if err != nil {
				t.Fatal(err)
			}
			if j.Local() != c.local || j.Domain() != c.domain || j.Resource() != c.resource {
				t.Errorf("got %q %q %q", j.Local(), j.Domain(), j.Resource())
			}
			check(t, j)
			if made, err := New(c.local, c.domain, c.resource); err != nil || made != j {
				t.Errorf("New of the parts = %q, %v", made, err)
			}
		})
	}
}

// check asks of a JID what holds for every JID.
func check(t *testing.T, j JID) {
	t.Helper()
	if again, err := Parse(j.String()); err != nil || again != j {
		t.Errorf("parsed again: %q becomes %q, %v", j, again, err)
	}
	if s := join(j.Local(), j.Domain(), j.Resource()); s != j.String() {
		t.Errorf("parts of %q join to %q", j, s)
	}
	bare, host := j.Bare(), j.Host()
	if bare.Local() != j.Local() || bare.Domain() != j.Domain() || !bare.IsBare() || bare.IsFull() {
		t.Errorf("bare address of %q is %q", j, bare)
	}
	if host.String() != j.Domain() || host.Domain() != j.Domain() || !host.IsHost() {
		t.Errorf("host of %q is %q", j, host)
	}
	if j.IsZero() || j.IsFull() != (j.Resource() != "") || j.IsBare() == j.IsFull() ||
		j.IsHost() != (j.Local() == "" && j.Resource() == "") {
		t.Errorf("%q claims to be something else", j)
	}
	if bare != MustParse(bare.String()) || host != MustParse(host.String()) {
		t.Errorf("shortened forms of %q do not compare equal to parsed ones", j)
	}
	if j.IsFull() {
		if with, err := bare.WithResource(j.Resource()); err != nil || with != j {
			t.Errorf("bare address with the resource: %q, %v", with, err)
		}
	}
}

// invalid has strings that are no addresses, and the part at fault.
var invalid = []struct{ name, in, part string }{
	// RFC 7622 §3.5, table 2.
	{"example 16", `"juliet"@example.com`, "localpart"},
	{"example 17", "foo bar@example.com", "localpart"},
	{"example 18", "juliet@example.com/ foo", "resourcepart"},
	{"example 19", "@example.com/", "part"},
	{"example 20", "henry\u2163@example.com", "localpart"},
	{"example 21", "\u265a@example.com", "localpart"},
	{"example 22", "juliet@", "domainpart"},
	{"example 23", "/foobar", "domainpart"},

	{"nothing", "", "domainpart"},
	{"no localpart", "@b.test", "localpart"},
	{"no resource", "b.test/", "resourcepart"},
	{"two at signs", "a@b@c.test", "domainpart"},
	{"excluded amp", "a&b@b.test", "localpart"},
	{"excluded colon", "a:b@b.test", "localpart"},
	{"fullwidth at sign", "a\uff20b@b.test", "localpart"},
	{"fullwidth slash", "a\uff0fb@b.test", "localpart"},
	{"fullwidth slash in domain", "b.test\uff0fc", "domainpart"},
	{"account of symbol in domain", "a\u2100.test", "domainpart"},
	{"long localpart", "x" + longest + "@b.test", "localpart"},
	{"long domain", "x" + longest, "domainpart"},
	{"long resource", "b.test/x" + longest, "resourcepart"},
	{"localpart grows too long", strings.Repeat("\u0130", 400) + "@b.test", "localpart"},
	{"resource shrinks to fit", "b.test/" + strings.Repeat("e\u0301", 400), "resourcepart"},
	{"control in localpart", "a\x00@b.test", "localpart"},
	{"control in resource", "b.test/a\nb", "resourcepart"},
	{"delete in resource", "b.test/\x7f", "resourcepart"},
	{"not utf-8 in localpart", "\xff@b.test", "localpart"},
	{"not utf-8 in domain", "b\xc0.test", "domainpart"},
	{"not utf-8 in resource", "b.test/\xed\xa0\x80", "resourcepart"},
	{"unassigned in localpart", "a\u0378@b.test", "localpart"},
	{"unassigned in domain", "a\u0378.test", "domainpart"},
	{"unassigned in resource", "b.test/\u0378", "resourcepart"},
	{"private use", "b.test/\ue000", "resourcepart"},
	{"non-character", "b.test/\ufffe", "resourcepart"},
	{"bidi rule in localpart", "a\u05d0@b.test", "localpart"},
	{"bidi rule in domain", "a\u05d0.test", "domainpart"},
	{"zero width joiner in localpart", "a\u200db@b.test", "localpart"},
	{"empty label", "a..test", "domainpart"},
	{"leading dot", ".test", "domainpart"},
	{"two final dots", "b.test..", "domainpart"},
	{"dot alone", ".", "domainpart"},
	{"ideographic leading dot", "\u3002b.test", "domainpart"},
	{"underscore", "a_b.test", "domainpart"},
	{"space in domain", "a b.test", "domainpart"},
	{"leading hyphen", "-a.test", "domainpart"},
	{"trailing hyphen", "a-.test", "domainpart"},
	{"reserved label", "ab--cd.test", "domainpart"},
	{"a-label of ascii", "xn--abc-.test", "domainpart"},
	{"a-label of nothing", "xn--.test", "domainpart"},
	{"a-label of a capital", "xn--bcher-KVA\u00fc.test", "domainpart"},
	{"a-label not normal", "xn--u-ccb.test", "domainpart"},
	{"symbol in domain", "\u2764.test", "domainpart"},
	{"a-label of a symbol", "xn--qei.test", "domainpart"},
	{"combining mark first", "\u0301a.test", "domainpart"},
	{"label of 64", "x" + label63 + "test", "domainpart"},
	{"name of 254", strings.Repeat(label63, 3) + strings.Repeat("x", 62), "domainpart"},
	{"u-label too long", strings.Repeat("\u00fc", 60) + ".test", "domainpart"},
	{"ipv4 in brackets", "[192.0.2.1]", "domainpart"},
	{"ipv6 without brackets", "2001:db8::1", "domainpart"},
	{"ipv6 not closed", "[::1", "domainpart"},
	{"ipv6 with zone", "[fe80::1%25eth0]", "domainpart"},
	{"address of the future", "[v1.a]", "domainpart"},
}

func TestParseRefuses(t *testing.T) {
	for _, c := range invalid {
		t.Run(c.name, func(t *testing.T) {
			j, err := Parse(c.in)
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("got %q, %v", j, err)
			}
			if !strings.Contains(err.Error(), c.part) {
				t.Errorf("the error does not name the %s: %v", c.part, err)
			}
			if j != (JID{}) {
				t.Errorf("an address came with the error: %q", j)
			}
		})
	}
}

func TestZero(t *testing.T) {
	var j JID
	if !j.IsZero() || j.IsHost() || j.IsFull() || j.String()+j.Local()+j.Domain()+j.Resource() != "" {
		t.Error("the zero value is something")
	}
	if j.Bare() != j || j.Host() != j {
		t.Error("the zero value shortens to something")
	}
	if _, err := j.WithResource("r"); !errors.Is(err, ErrInvalid) {
		t.Error("the zero value took a resource")
	}
	if _, err := MustParse("b.test").WithResource(""); !errors.Is(err, ErrInvalid) {
		t.Error("an empty resource was taken")
	}
	if _, err := New("a", "", "r"); !errors.Is(err, ErrInvalid) {
		t.Error("an empty domain was taken")
	}
}

func TestMustParsePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	MustParse("@")
}

func TestMapKey(t *testing.T) {
	m := map[JID]int{MustParse("Juliet@Example.com."): 1}
	if m[MustParse("juliet@example.com/balcony").Bare()] != 1 {
		t.Error("equal addresses are different keys")
	}
	// The same string with its parts in other places.
	if MustParse("a.test/b").Bare() == MustParse("b@a.test").Bare() {
		t.Error("different addresses compare equal")
	}
}

func TestParseFromManyGoroutines(t *testing.T) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if j, err := Parse("\u03a3\uff21@B\u00fcCHER.test/a\u00a0b"); err != nil || j.String() != "\u03c3a@b\u00fccher.test/a b" {
					t.Errorf("%q, %v", j, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestAllocations(t *testing.T) {
	full := MustParse("juliet@capulet.example/balcony")
	var sink JID
	for _, c := range []struct {
		name string
		want float64
		run  func()
	}{
		{"parse full", 0, func() { sink, _ = Parse("juliet@capulet.example/balcony") }},
		{"parse bare", 0, func() { sink, _ = Parse("juliet@capulet.example") }},
		{"parse domain", 0, func() { sink, _ = Parse("capulet.example") }},
		{"bare", 0, func() { sink = full.Bare() }},
		{"host", 0, func() { sink = full.Host() }},
		{"parts", 0, func() { _, _, _ = full.Local(), full.Domain(), full.Resource() }},
		{"with resource", 1, func() { sink, _ = full.WithResource("chamber") }},
	} {
		if got := testing.AllocsPerRun(100, c.run); got != c.want {
			t.Errorf("%s: %v allocations, want %v", c.name, got, c.want)
		}
	}
	_ = sink
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"juliet@example.com/foo bar", "\u03a3\uff21@B\u00fcCHER.test./a\u00a0b", "a@[2001:DB8::1]/r",
		"xn--bcher-kva.test", "e\u0301@\u05d0.test/\uff9e\uff76", "\u0130\u212a@test", "\u1e9e@fa\u1e9e.test"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		j, err := Parse(s)
		if err != nil {
			return
		}
		check(t, j)
		for _, part := range []string{j.Local(), j.Domain(), j.Resource()} {
			if len(part) > maxPart {
				t.Errorf("a part of %d bytes", len(part))
			}
		}
		if strings.ContainsAny(j.Local(), excluded) || strings.ContainsAny(j.Domain(), "@/") {
			t.Errorf("a separator inside a part of %q", j)
		}
	})
}

func FuzzPrepare(f *testing.F) {
	for _, s := range []string{"a", "\u0130", "\uff76\uff9e", "\u1100\u1161", "\u00ad.\u3002", "xn--a", "\u2126\u212b", "\u06f0\u0660"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for name, prepare := range map[string]func(string) (string, error){
			"localpart": Localpart, "domainpart": Domainpart, "resourcepart": Resourcepart,
		} {
			once, err := prepare(s)
			if err != nil {
				if once != "" || !errors.Is(err, ErrInvalid) {
					t.Errorf("%s of %q: %q, %v", name, s, once, err)
				}
				continue
			}
			if twice, err := prepare(once); err != nil || twice != once {
				t.Errorf("%s of %q is %q, then %q, %v", name, s, once, twice, err)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for _, c := range []struct{ name, in string }{
		{"full", "juliet@capulet.example/balcony"},
		{"bare", "juliet@capulet.example"},
		{"capitals", "Juliet@Capulet.example/balcony"},
		{"unicode", "\u03c0@b\u00fccher.example/\u265a"},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(c.in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
