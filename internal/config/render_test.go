package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestCommentedIsTheDefaults(t *testing.T) {
	file := Commented("localhost", testSections()...)
	active := regexp.MustCompile(`(?m)^#([a-z])`).ReplaceAll(file, []byte("$1"))
	for name, doc := range map[string][]byte{"as written": file, "with every setting on": active} {
		c, err := Load(Sources{File: name, FileBytes: doc}, testSections()...)
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, doc)
		}
		equalSettings(t, c, mustLoad(t, Sources{}))
	}
	if bytes.Equal(file, active) {
		t.Error("nothing was commented out")
	}
	if !bytes.Equal(file, Commented("localhost", testSections()...)) {
		t.Error("not the same twice")
	}
	if c, err := Load(Sources{FileBytes: Commented(`example.org`)}); err != nil || c.Domains[0] != "example.org" {
		t.Errorf("domains = %v, %v", c, err)
	}
	for line := range strings.Lines(string(file)) {
		if strings.HasPrefix(line, "# ") && len(line) > 101 {
			t.Errorf("long line: %s", line)
		}
	}
}

func equalSettings(t *testing.T, got, want *Config) {
	t.Helper()
	a, b := got.root().leaves(), want.root().leaves()
	for i := range a {
		if x, y := render(a[i].value, true), render(b[i].value, true); x != y {
			t.Errorf("%s = %s, want %s", a[i].key, x, y)
		}
	}
}

func TestReference(t *testing.T) {
	doc := string(Reference(testSections()...))
	for _, line := range []string{
		"| `domains` | list of texts | `[\"localhost\"]` | Domains that this server answers for.",
		"| `limits.stanza_bytes` | size | `\"256 KiB\"` | Longest stanza of a client. From 10000 to 64 MiB. |",
		"| `log.format` | text | `\"text\"` | Lines for people (text) or for machines (json). One of `text`, `json`. |",
		"## [registration]\n\nLets people make accounts.\n\n| key | type | default | meaning |\n|---|---|---|---|\n| `registration.enabled` | true or false | `false` | Whether this feature runs. |\n",
		`Numbers \| with a bar.`,
		"## [roster.push]",
		"| `ping.enabled` | true or false | `true` |",
		"| `tls.certificates` | list of tables |",
	} {
		if !strings.Contains(doc, line) {
			t.Errorf("no %q in:\n%s", line, doc)
		}
	}
	if doc != string(Reference(testSections()...)) {
		t.Error("not the same twice")
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "1": 1, "10 B": 10, "10kB": 10_000, "64 KiB": 65536, "3 mib": 3 << 20, "5 MB": 5e6, "1GiB": 1 << 30, "2 GB": 2e9,
	} {
		got, err := ParseSize(text)
		if err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
		if again, err := ParseSize(got.String()); err != nil || again != got {
			t.Errorf("%d is written %q, which is read as %d, %v", got, got, again, err)
		}
	}
	for _, text := range []string{"", " 5", "-1", "+1", "1.5 KiB", "KiB", "5 X", "5 Ki", "99999999999999999999", "9999999999 GiB"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d", text, got)
		}
	}
	for size, want := range map[Size]string{0: "0", 999: "999 B", 64_000: "64 kB", 262144: "256 KiB", 1 << 30: "1 GiB", 1_024_000: "1000 KiB"} {
		if got := size.String(); got != want {
			t.Errorf("%d is written %q, want %q", int64(size), got, want)
		}
	}
}

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "30s": 30 * time.Second, "5m": 5 * time.Minute, "1h30m": 90 * time.Minute, "7d": 7 * day, "1d12h": 36 * time.Hour, "100ms": 100 * time.Millisecond,
	} {
		got, err := parseDuration(text)
		if err != nil || got != want {
			t.Errorf("parseDuration(%q) = %s, %v", text, got, err)
		}
		if again, err := parseDuration(formatDuration(got)); err != nil || again != got {
			t.Errorf("%s is written %q, which is read as %s, %v", got, formatDuration(got), again, err)
		}
	}
	for _, text := range []string{"", "5", "d", "-1d", "1d-5h", "99999d", "1d 2h", "106751d24h"} {
		if got, err := parseDuration(text); err == nil && got < 0 {
			t.Errorf("parseDuration(%q) = %s", text, got)
		} else if err == nil && text != "106751d24h" {
			t.Errorf("parseDuration(%q) = %s", text, got)
		}
	}
	for d, want := range map[time.Duration]string{0: "0s", time.Hour: "1h", 10 * time.Minute: "10m", day: "1d", 36 * time.Hour: "36h", 90 * time.Second: "1m30s"} {
		if got := formatDuration(d); got != want {
			t.Errorf("formatDuration(%d) = %q, want %q", d, got, want)
		}
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	type holder struct {
		S Secret
		U URL
	}
	h := holder{S: "hunter2", U: "postgres://u:hunter2@db/x"}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t"} {
		fmt.Fprintf(&out, verb+"\n", h)
		fmt.Fprintf(&out, verb+verb+"\n", h.S, h.U)
	}
	if err := json.NewEncoder(&out).Encode(h); err != nil {
		t.Fatal(err)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "s", h.S, "u", h.U, "h", h)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "s", h.S, "u", h.U, "h", h)
	if s := out.String(); strings.Contains(s, "hunter2") || strings.Contains(s, fmt.Sprintf("%x", "hunter2")) {
		t.Errorf("shown:\n%s", s)
	}
	if h.S.Reveal() != "hunter2" || Secret("").String() != "" || URL("postgres://a\x00:hunter2@").String() != hidden {
		t.Error("Reveal or String is wrong")
	}
	for _, u := range []URL{"sqlite:./x y.db", "postgres://db/x?sslmode=require", ""} {
		if u.String() != string(u) {
			t.Errorf("%q is written %q", string(u), u.String())
		}
	}
}

// FuzzLoad checks that no file makes Load panic, and that settings which are written out and read again are the same.
func FuzzLoad(f *testing.F) {
	f.Add(Commented("localhost", testSections()...))
	f.Add([]byte("[[tls.certificates]]\ncert=\"a\"\nkey='b'\n[tls]\n\"a.b\".c = {d = [1, {e = 2}]}"))
	f.Add([]byte("domains = \"a.example,b.example\"\nroster.push.ratio = 1e-3\nregistration = {token = \"\\u0001\\\"\", names = [1]}"))
	f.Add([]byte("a.b = 1\n[a.c]\n[[x]]\n[x.y]\nz=1\n[[x]]\n[x.y]\nz=1979-05-27T07:32:00Z"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		c, err := Load(Sources{File: "f", FileBytes: doc}, testSections()...)
		if err != nil {
			for _, p := range err.(*Error).Problems {
				if p.Text == "" || p.Remedy == "" || p.Line == 0 && p.File == "f" {
					t.Errorf("incomplete problem %+v", p)
				}
			}
			return
		}
		var again bytes.Buffer
		for _, leaf := range c.root().leaves() {
			fmt.Fprintf(&again, "%s = %s\n", leaf.key, render(leaf.value, true))
		}
		c2, err := Load(Sources{File: "f", FileBytes: again.Bytes()}, testSections()...)
		if err != nil {
			t.Fatalf("%v\n%s", err, again.Bytes())
		}
		equalSettings(t, c2, c)
		if c2.Enabled("roster") != c.Enabled("roster") || !reflect.DeepEqual(c2.Module("roster"), c.Module("roster")) {
			t.Errorf("roster = %+v, want %+v", c2.Module("roster"), c.Module("roster"))
		}
	})
}
