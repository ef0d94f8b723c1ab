package xmpptest

import (
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, src, want, problem string
	}{
		{"everything", `# a comment
set registration.open=true
single  it is about nurses

account  nurse@a.test
client romeo	romeo@a.test/orchard
client paris paris@a.test/hall
client! juliet a.test
raw x tls
friends romeo paris
romeo > <message
  to='x'>
  <body/></message>
juliet < <message><body>hi</body></message>
juliet <   first <presence/>
juliet < exactly <presence/>
juliet < no <presence/>
juliet < nothing
x > $open\x00\n
x < <stream:stream id='$id'>
x < </stream:stream>
x starttls
x closed
skip juliet
close romeo
drop paris
`, `set registration.open=true
single it is about nurses
account nurse@a.test
client romeo romeo@a.test/orchard
client paris paris@a.test/hall
client! juliet a.test
raw x tls
friends romeo paris
romeo > <message to='x'><body/></message>
juliet < <message><body>hi</body></message>
juliet < first <presence/>
juliet < exactly <presence/>
juliet < no <presence/>
juliet < nothing
x > $open\x00\n
x < <stream:stream id='$id'>
x < </stream:stream>
x starttls
x closed
skip juliet
close romeo
drop paris
`, ""},
		{"unknown word", "raw x\n\nsing x", "", `s:3: "sing" is neither a word of scripts nor a client`},
		{"unknown client", "romeo > <a/>", "", `s:1: "romeo" is neither`},
		{"late setting", "raw x\nset a=b", "", "s:2: settings come before all else"},
		{"late single", "raw x\nsingle why", "", "s:2: single comes once, before all else, and says why"},
		{"single twice", "single why\nsingle why", "", "s:2: single comes once"},
		{"single without reason", "single", "", "s:1: single comes once, before all else, and says why"},
		{"stray continuation", " x", "", "s:1: nothing goes on here"},
		{"reserved name", "raw close", "", `"close" cannot be the name`},
		{"no resource", "client romeo romeo@a.test", "", "not an address to log in to"},
		{"no address", "client! romeo @", "", "not an address to log in to"},
		{"account of nobody", "account a.test", "", "not the address of an account"},
		{"friends of raw", "raw x\nclient y y@a.test/y\nfriends x y", "", "friends are two"},
		{"alone", "client y y@a.test/y\nfriends y y", "", "friends are two"},
		{"raw door", "raw x udp", "", "nothing, or tls"},
		{"no operation", "raw x\nx", "", "x does what?"},
		{"nothing sent", "raw x\nx >", "", "cannot send"},
		{"bad escape", `raw x` + "\n" + `x > \q`, "", "bad escape"},
		{"half an escape", `raw x` + "\n" + `x > \`, "", "bad escape"},
		{"broken pattern", "raw x\nx < <a>", "", "cannot expect"},
		{"two patterns", "raw x\nx < <a/><b/>", "", "not one element"},
		{"text", "raw x\nx < hello", "", "not one element"},
		{"nothing from raw", "raw x\nx < nothing", "", "only clients can know"},
		{"no from raw", "raw x\nx < no <a/>", "", "only clients can know"},
		{"skip raw", "raw x\nskip x", "", "only clients can know"},
		{"starttls of a client", "client y y@a.test/y\ny starttls", "", "negotiate TLS by themselves"},
		{"nothing and more", "client y y@a.test/y\ny < nothing <a/>", "", "nothing is nothing"},
		{"closed and more", "raw x\nx closed now", "", `what is "now"?`},
	} {
		t.Run(c.name, func(t *testing.T) {
			sc, err := parse("s", c.src)
			switch {
			case c.problem != "" && (err == nil || !strings.Contains(err.Error(), c.problem)):
				t.Errorf("got %v, awaited %s", err, c.problem)
			case c.problem == "" && err != nil:
				t.Error(err)
			case c.problem == "" && sc.String() != c.want:
				t.Errorf("got\n%s\nawaited\n%s", sc, c.want)
			}
		})
	}
}

func TestLines(t *testing.T) {
	sc, err := parse("s", "# one\nraw x\n\nx > <a>\n  <b/>\n  </a>\nx closed\n")
	if err != nil {
		t.Fatal(err)
	}
	var lines []int
	for _, st := range sc.steps {
		lines = append(lines, st.line)
	}
	if want := []int{2, 4, 7}; !slices.Equal(lines, want) {
		t.Errorf("steps stand on lines %v, awaited %v", lines, want)
	}
}

func TestSpreads(t *testing.T) {
	for _, c := range []struct {
		name, src string
		want      bool
	}{
		{"two clients", "client! x x@a.test\nraw y", true},
		{"the same twice", "client! x x@a.test\ndrop x\nclient! x x@a.test", true},
		{"one client", "account y@a.test\nclient! x x@a.test", false},
		{"two that say no", "single they do not meet\nraw x\nraw y", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			sc, err := parse("s", c.src)
			if err != nil {
				t.Fatal(err)
			}
			if got := sc.spreads(); got != c.want {
				t.Errorf("spreads: %v", got)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("set a=b\nsingle why\naccount a@b\nclient a a@b/c\nclient b b@b/c\nclient! c b\nraw d tls\nfriends a b\na > x\\x00\n  <b/>\na < first <b/>\na < nothing\nd starttls\nd closed\nskip a\nclose a\ndrop b")
	f.Add("raw x\nx < <stream:stream id='$id'>\nx < </stream:stream>\nx < exactly <a xmlns='b'>$c</a>")
	f.Fuzz(func(t *testing.T, src string) {
		sc, err := parse("s", src)
		if err != nil {
			return
		}
		again, err := parse("s", sc.String())
		if err != nil {
			t.Fatalf("%v\nin\n%s", err, sc)
		}
		if again.String() != sc.String() {
			t.Errorf("wrote\n%s\nthen\n%s", sc, again)
		}
	})
}
