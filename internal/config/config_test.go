package config

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// rosterConfig and the others stand for the sections of features.
type rosterConfig struct {
	MaxItems  int      `toml:"max_items" min:"1" max:"10000" doc:"Longest roster."`
	Versioned bool     `toml:"versioned" doc:"Whether rosters carry a version."`
	Shared    []string `toml:"shared" doc:"Shared groups."`
	Push      struct {
		After time.Duration `toml:"after" doc:"Delay of pushes."`
		Ratio float64       `toml:"ratio" min:"0" max:"1" doc:"Share of pushes."`
		Level slog.Level    `toml:"level" doc:"Log level."`
		Small uint8         `toml:"small" doc:"A small number."`
	} `toml:"push" doc:"Pushes."`
}

type registrationConfig struct {
	Token Secret `toml:"token" doc:"Token that registration asks for."`
	Names []int  `toml:"names" doc:"Numbers | with a bar."`
}

func (r registrationConfig) Validate() error {
	if r.Token == "weak" {
		return errors.Join(
			Invalid("token", "too weak", "make it longer"),
			Invalid("", "cannot run like this", "turn it off"),
			errors.New("plain complaint"),
		)
	}
	return nil
}

func testSections() []Section {
	roster := rosterConfig{MaxItems: 1000, Versioned: true, Shared: []string{"staff"}}
	roster.Push.Ratio = 0.5
	return []Section{
		{Name: "roster", Doc: "Keeps contact lists.", Enabled: true, Defaults: roster},
		{Name: "registration", Doc: "Lets people make accounts.", Defaults: registrationConfig{}},
		{Name: "ping", Doc: "Answers pings.", Enabled: true},
	}
}

func mustLoad(t *testing.T, src Sources) *Config {
	t.Helper()
	c, err := Load(src, testSections()...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDefaults(t *testing.T) {
	c := mustLoad(t, Sources{})
	if !reflect.DeepEqual(c.Core, defaults()) {
		t.Errorf("got %+v", c.Core)
	}
	if got := c.Module("roster").(rosterConfig); got.MaxItems != 1000 || !got.Versioned {
		t.Errorf("roster = %+v", got)
	}
	if !c.Enabled("roster") || c.Enabled("registration") || !c.Enabled("ping") {
		t.Error("features are not on or off as their sections say")
	}
	if got := c.DatabaseURL(); got != "sqlite:starling-data/starling.db" {
		t.Errorf("database = %s", got)
	}
}

func TestModuleGetsACopy(t *testing.T) {
	sections := testSections()
	c, err := Load(Sources{}, sections...)
	if err != nil {
		t.Fatal(err)
	}
	c.Module("roster").(rosterConfig).Shared[0] = "changed"
	if got := sections[0].Defaults.(rosterConfig).Shared[0]; got != "staff" {
		t.Errorf("the defaults were changed to %q", got)
	}
}

func TestFile(t *testing.T) {
	c := mustLoad(t, Sources{File: "x.toml", FileBytes: []byte(`
domains = ["Example.ORG", "münchen.example"]
[listen]
c2s = ["127.0.0.1:0", "[::1]:0"]
tls = ""
[tls]
certificates = [{cert = "a.crt", key = "a.key"}]
[auth]
anonymous = ["example.org"]
failure_window = "1h30m"
[limits]
stanza_bytes = 20000
rate_bytes = 0
send_queue_bytes = "2 MiB"
ping_after = 0
[database]
url = "postgres://u:p@db/starling"
[roster]
enabled = false
shared = "a, b"
push.level = "warn"
push.ratio = 1
push.small = 255
[registration]
enabled = true
names = [1, 2]
`)})
	limits := c.Limits
	limits.StanzaBytes, limits.RateBytes = 0, 0
	got := []any{
		c.Domains, c.Listen.C2S, len(c.Listen.TLS), c.TLS.Certificates, c.Auth.FailureWindow, c.Limits.StanzaBytes,
		c.Limits.RateBytes, c.Limits.SendQueueBytes, c.Limits.PingAfter, c.DatabaseURL(), c.Enabled("roster"), c.Enabled("registration"),
	}
	want := []any{
		[]string{"example.org", "münchen.example"}, Addresses{"127.0.0.1:0", "[::1]:0"}, 0, []CertFiles{{"a.crt", "a.key"}}, 90 * time.Minute,
		Size(20000), Size(0), Size(2 << 20), time.Duration(0), "postgres://u:p@db/starling", false, true,
	}
	for i := range want {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("value %d = %v, want %v", i, got[i], want[i])
		}
	}
	roster := c.Module("roster").(rosterConfig)
	if !reflect.DeepEqual(roster.Shared, []string{"a", "b"}) || roster.Push.Level != slog.LevelWarn || roster.Push.Ratio != 1 || roster.Push.Small != 255 {
		t.Errorf("roster = %+v", roster)
	}
}

func TestOrderOfSources(t *testing.T) {
	file := []byte("[limits]\nelements = 200\n[log]\nlevel = \"warn\"\n[listen]\nc2s = \":1\"\n")
	src := Sources{File: "x.toml", FileBytes: file}
	steps := []struct {
		name   string
		change func()
		want   int
		from   string
	}{
		{"default", func() { src.FileBytes = []byte{} }, 5000, "default"},
		{"file", func() { src.FileBytes = file }, 200, "x.toml:2"},
		{"environment", func() { src.Env = []string{"PATH=/bin", "STARLING_LIMITS__ELEMENTS=300"} }, 300, "environment STARLING_LIMITS__ELEMENTS"},
		{"set", func() { src.Set = []string{"limits.elements=400"} }, 400, "--set"},
		{"flag", func() { src.Flags = map[string]string{"limits.elements": "500"} }, 500, "flag"},
	}
	for _, s := range steps {
		s.change()
		c := mustLoad(t, src)
		if c.Limits.Elements != s.want {
			t.Errorf("%s: elements = %d, want %d", s.name, c.Limits.Elements, s.want)
		}
		if got := effective(c, "limits.elements").Source.String(); got != s.from {
			t.Errorf("%s: source = %q, want %q", s.name, got, s.from)
		}
	}
}

func effective(c *Config, key string) Value {
	for _, v := range c.Effective() {
		if v.Key == key {
			return v
		}
	}
	return Value{}
}

func TestEnvironment(t *testing.T) {
	c := mustLoad(t, Sources{Env: []string{
		"STARLING_DOMAINS=a.example, b.example",
		"STARLING_LISTEN__C2S=",
		`STARLING_TLS__CERTIFICATES=[{cert = "c", key = "k"}]`,
		"STARLING_AUTH__FAILURE_WINDOW=1d",
		"STARLING_LIMITS__ASSEMBLY_TOTAL=1GiB",
		"STARLING_REGISTRATION__ENABLED=true",
		"STARLING_REGISTRATION__NAMES=3,4",
		"STARLING_REGISTRATION__TOKEN=1234",
		"STARLING_CONFIG=ignored", "STARLING_TEST_POSTGRES=ignored", "STARLING_PORT=tcp://10.0.0.1:5222", "STARLING_PORT_5222_TCP=x", "STARLING_SERVICE_HOST=10.0.0.1",
	}})
	if got := []any{c.Domains, len(c.Listen.C2S), c.TLS.Certificates, c.Auth.FailureWindow, c.Limits.AssemblyTotal, c.Module("registration")}; !reflect.DeepEqual(got, []any{
		[]string{"a.example", "b.example"}, 0, []CertFiles{{"c", "k"}}, day, Size(1 << 30), registrationConfig{Token: "1234", Names: []int{3, 4}},
	}) {
		t.Errorf("got %v", got)
	}
}

func TestEffectiveHidesSecrets(t *testing.T) {
	c := mustLoad(t, Sources{Set: []string{
		"registration.token=hunter2", "database.url=postgres://u:hunter2@db/s?sslpassword=hunter2&x=1",
	}})
	var all strings.Builder
	for _, v := range c.Effective() {
		all.WriteString(v.Key + " = " + v.Text + "\n")
	}
	if strings.Contains(all.String(), "hunter2") {
		t.Errorf("shows a secret:\n%s", all.String())
	}
	for _, line := range []string{
		"registration.token = \"(hidden)\"\n",
		"database.url = \"postgres://u:xxxxx@db/s?sslpassword=xxxxx&x=1\"\n",
		"listen.c2s = [\":5222\"]\n",
		"limits.stanza_bytes = \"256 KiB\"\n",
		"auth.failure_window = \"5m\"\n",
		"roster.enabled = true\n",
	} {
		if !strings.Contains(all.String(), line) {
			t.Errorf("no line %q in:\n%s", line, all.String())
		}
	}
}

func TestReadsFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "s.toml")
	if err := os.WriteFile(name, []byte(`data = "d"`), 0o600); err != nil {
		t.Fatal(err)
	}
	if c := mustLoad(t, Sources{File: name}); c.Data != "d" {
		t.Errorf("data = %q", c.Data)
	}
	for want, file := range map[string]string{
		"missing.toml: no such file; make one with `starling quickstart`, or name another": "missing.toml",
		name + ": is longer than 1 MiB; name the right file":                               name,
	} {
		if file == name {
			if err := os.WriteFile(name, make([]byte, maxFileBytes+1), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Load(Sources{File: file}); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestMistakesOfTheProgram(t *testing.T) {
	type untagged struct{ A int }
	type odd struct {
		A chan int `toml:"a" doc:"A channel."`
	}
	type enabled struct {
		Enabled bool `toml:"enabled" doc:"Twice."`
	}
	for name, s := range map[string][]Section{
		"no tags":           {{Name: "x", Defaults: untagged{}}},
		"no form in TOML":   {{Name: "x", Defaults: odd{}}},
		"enabled by itself": {{Name: "x", Defaults: enabled{}}},
		"twice":             {{Name: "x"}, {Name: "x"}},
		"core's name":       {{Name: "limits"}},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			Reference(s...)
		})
	}
}
