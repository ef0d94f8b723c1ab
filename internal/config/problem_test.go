package config

import (
	"errors"
	"strings"
	"testing"
)

func TestProblems(t *testing.T) {
	tests := []struct {
		name string
		file string
		want string // without the file's name
	}{
		{"misspelt key", "[limits]\nstanza_byte = 1", `2: limits.stanza_byte: unknown key; did you mean "limits.stanza_bytes"?`},
		{"swapped letters", "[auth]\n\n iteratoins = 1", `3: auth.iteratoins: unknown key; did you mean "auth.iterations"?`},
		{"misspelt table", "[limit]\nelements = 200\nnonsense = 1", `1: limit: unknown key; did you mean "limits"?`},
		{"key of another table", "elements = 200", `1: elements: unknown key; did you mean "limits.elements"?`},
		{"key like no other", "[log]\nzzzzzz = 1", `2: log.zzzzzz: unknown key; remove it; known here: format, level`},
		{"dotted key", "log.colour = true", `1: log.colour: unknown key; remove it; known here: format, level`},
		{"quoted key", "\"a b\" = 1\n[log]", `1: a b: unknown key; remove it; known here: domains, data, listen, database, cluster, tls, auth, limits, log, ping, registration, roster`},
		{"feature's key", "[roster.push]\nafte = 1", `2: roster.push.afte: unknown key; did you mean "roster.push.after"?`},
		{"text for a number", "[limits]\nelements = \"many\"", `2: limits.elements: expected a whole number, found text; write for example elements = 5000`},
		{"fraction for a whole number", "[limits]\nelements = 200.5", `2: limits.elements: expected a whole number, found a number with a fraction; write for example elements = 5000`},
		{"number for text", "data = 5", `1: data: expected text, found a whole number; write for example data = "./starling-data"`},
		{"number for true or false", "[auth]\nexternal = 1", `2: auth.external: expected true or false, found a whole number; write for example external = false`},
		{"table for a list", "[domains]\na = 1", `1: domains: expected a list of texts, found a table; write for example domains = ["localhost"]`},
		{"list of wrong things", "domains = [\"a\",\n 5]", `2: domains[1]: expected text, found a whole number; write for example domains = "text"`},
		{"value for a table", "limits = 5", `1: limits: expected a table, found a whole number; write [limits] and its keys below`},
		{"date", "data = 2020-01-01", `1: data: expected text, found a date or time; write for example data = "./starling-data"`},
		{"number for a duration", "[limits]\nauth_timeout = 30", `2: limits.auth_timeout: expected a duration, found a whole number; write for example auth_timeout = "30s"`},
		{"bad duration", "[limits]\nauth_timeout = \"soon\"", `2: limits.auth_timeout: "soon" is not a duration; write a number and a unit: ms, s, m, h or d, as in "30s"`},
		{"negative duration", "[limits]\nauth_timeout = \"-1s\"", `2: limits.auth_timeout: "-1s" is not a duration; write a number and a unit: ms, s, m, h or d, as in "30s"`},
		{"empty duration", "[limits]\nauth_timeout = \"\"", `2: limits.auth_timeout: "" is not a duration; write a number and a unit: ms, s, m, h or d, as in "30s"`},
		{"bad size", "[limits]\nrate_bytes = \"5 parsecs\"", `2: limits.rate_bytes: "5 parsecs" is not a size; write bytes, or a number and a unit, as in "256 KiB"`},
		{"negative size", "[limits]\nrate_bytes = -5", `2: limits.rate_bytes: "-5" is not a size; write bytes, or a number and a unit, as in "256 KiB"`},
		{"size that overflows", "[limits]\nrate_bytes = \"9999999999999 GiB\"", `2: limits.rate_bytes: "9999999999999 GiB" is not a size; write bytes, or a number and a unit, as in "256 KiB"`},
		{"size as a list", "[limits]\nrate_bytes = [1]", `2: limits.rate_bytes: expected a size, found a list; write for example rate_bytes = "10 kB"`},
		{"too small a size", "[limits]\nstanza_bytes = 9999", `2: limits.stanza_bytes: "9999 B" is too little; write at least 10000`},
		{"too great a size", "[limits]\nstanza_bytes = \"65 MiB\"", `2: limits.stanza_bytes: "65 MiB" is too much; write at most 64 MiB`},
		{"too small a number", "[auth]\niterations = 100", `2: auth.iterations: 100 is too little; write at least 4096`},
		{"too long a duration", "[limits]\nauth_timeout = \"1d\"", `2: limits.auth_timeout: "1d" is too much; write at most 10m`},
		{"too great a fraction", "[roster]\npush.ratio = 1.5", `2: roster.push.ratio: 1.5 is too much; write at most 1`},
		{"no number", "[roster]\npush.ratio = nan", `2: roster.push.ratio: expected a number, found a number with a fraction; write for example ratio = 0.5`},
		{"number that does not fit", "[roster]\npush.small = 256", `2: roster.push.small: 256 does not fit; write for example small = 0`},
		{"negative for unsigned", "[roster]\npush.small = -1", `2: roster.push.small: -1 does not fit; write for example small = 0`},
		{"bad text", "[roster]\npush.level = \"loud\"", `2: roster.push.level: "loud" is not possible: slog: level string "loud": unknown name; write for example level = "INFO"`},
		{"not one of", "[log]\nformat = \"xml\"", `2: log.format: "xml" is not possible; choose one of text, json`},
		{"nearly one of", "[log]\nlevel = \"warning\"", `2: log.level: "warning" is not possible; did you mean "warn"?`},
		{"list with one not of", "[auth]\nmechanisms = [\"SCRAM-SHA256\"]", `2: auth.mechanisms[0]: "SCRAM-SHA256" is not possible; did you mean "SCRAM-SHA-256"?`},
		{"twice in a list", "[auth]\nmechanisms = [\"PLAIN\", \"PLAIN\"]", `2: auth.mechanisms: "PLAIN" is there twice; leave one out`},
		{"no way to log in", "[auth]\nmechanisms = []", `2: auth.mechanisms: nobody could log in; name at least one, as in ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]`},
		{"no domain", "domains = []", `1: domains: a server needs a domain; write domains = ["example.org"]`},
		{"bad domain", "\ndomains = [\"a b\"]", `2: domains: "a b" is not a domain: `},
		{"empty domain", "\ndomains = [\"\"]", `2: domains: a server needs a domain; write domains = ["example.org"]`},
		{"domain twice", "domains = [\"a.example\", \"A.example.\"]", `1: domains: "A.example." is there twice; leave one out`},
		{"no data folder", "data = \"\"", `1: data: the server needs a folder; write data = "./starling-data"`},
		{"foreign anonymous domain", "[auth]\nanonymous = \"a.example\"", `2: auth.anonymous: "a.example" is not a domain of this server; add it to domains, or leave it out here`},
		{"external without authorities", "[auth]\nexternal = true", `2: auth.external: needs to know which authorities to trust; set tls.client_ca to their PEM file`},
		{"address without port", "[listen]\ntls = \"localhost\"", `2: listen.tls: "localhost" is not an address; write host:port, as in "127.0.0.1:5222", "[::1]:5222" or ":5222"`},
		{"bad port", "[listen]\ntls = [\":1\", \":xmpp\"]", `2: listen.tls: "xmpp" is not a port; write a number from 0 to 65535`},
		{"bad database", "[database]\nurl = \"mysql://root:secret@db\"", `2: database.url: not the address of a database; write "sqlite:PATH" or "postgres://user:password@host/name"`},
		{"half a certificate", "[tls]\ncertificates = [\n{cert = \"a\", key = \"b\"},\n{cert = \"c\"}]", `4: tls.certificates[1]: a certificate needs two files; write {cert = "fullchain.pem", key = "privkey.pem"}`},
		{"half a certificate as a table", "[[tls.certificates]]\ncert=\"a\"\nkey=\"b\"\n[[tls.certificates]]\nkay=\"c\"", `5: tls.certificates[1].kay: unknown key; did you mean "tls.certificates[1].key"?`},
		{"limits that contradict", "[limits]\npre_auth_bytes = \"1 MiB\"", `2: limits.pre_auth_bytes: is more than stanza_bytes; lower it, or raise stanza_bytes`},
		{"burst below rate", "[limits]\nrate_burst = 1000", `2: limits.rate_burst: is less than rate_bytes, which could then never be reached; raise it, or set rate_bytes = 0 for no bound`},
		{"queue below stanza", "[limits]\nsend_queue_bytes = \"64 KiB\"", `2: limits.send_queue_bytes: is less than stanza_bytes, so the longest stanza could not be delivered; raise it`},
		{"not TOML", "data = \"x\"\nlog = format", `2: not TOML: `},
		{"key twice", "data = \"x\"\ndata = \"y\"", `2: not TOML: `},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load(Sources{File: "x.toml", FileBytes: []byte(tt.file)}, testSections()...)
			if err == nil {
				t.Fatal("accepted")
			}
			want := "x.toml:" + tt.want
			if got := err.Error(); got != want && !(strings.HasSuffix(want, ": ") && strings.HasPrefix(got, want)) {
				t.Errorf("\n got %s\nwant %s", got, want)
			}
		})
	}
}

func TestProblemsOutsideTheFile(t *testing.T) {
	tests := []struct {
		name string
		src  Sources
		want string
	}{
		{"misspelt variable", Sources{Env: []string{"STARLING_LISTEN__C2C=:1"}}, `environment STARLING_LISTEN__C2C: listen.c2c: unknown key; did you mean "STARLING_LISTEN__C2S"?`},
		{"one underscore", Sources{Env: []string{"STARLING_LISTEN_C2S=:1"}}, `environment STARLING_LISTEN_C2S: listen_c2s: unknown key; did you mean "STARLING_LISTEN__C2S"?`},
		{"table", Sources{Env: []string{"STARLING_LISTEN=:1"}}, `environment STARLING_LISTEN: listen: is a table and has no value itself; set one of its keys, such as "listen.c2s"`},
		{"below a value", Sources{Set: []string{"data.x=1"}}, `--set: data.x: unknown key; did you mean "data"?`},
		{"no value", Sources{Set: []string{"data"}}, `--set: "data" has no value; write --set key=value`},
		{"wrong type", Sources{Set: []string{"limits.elements=many"}}, `--set: limits.elements: expected a whole number, found something else; write for example elements = 5000`},
		{"more than a value", Sources{Set: []string{"limits.elements=500\nb = 5"}}, `--set: limits.elements: expected a whole number, found something else; write for example elements = 5000`},
		{"text for tables", Sources{Set: []string{"tls.certificates=a.pem"}}, `--set: tls.certificates: expected a list of tables, found text; write for example certificates = [{cert = …, key = …}]`},
		{"not UTF-8", Sources{Set: []string{"data=\xff"}}, `--set: data: the value is not UTF-8; write it in UTF-8`},
		{"bad value", Sources{Flags: map[string]string{"listen.c2s": "5222"}}, `flag: listen.c2s: "5222" is not an address; write host:port, as in "127.0.0.1:5222", "[::1]:5222" or ":5222"`},
		{"file's value against the flag's", Sources{File: "x", FileBytes: []byte("[limits]\nrate_bytes=20000"), Set: []string{"limits.rate_burst=10kB"}}, `--set: limits.rate_burst: is less than rate_bytes, which could then never be reached; raise it, or set rate_bytes = 0 for no bound`},
		{"secret is not shown", Sources{Set: []string{"registration.enabled=true", "registration.token=weak"}}, "--set: registration.token: too weak; make it longer\ndefault: registration: cannot run like this; turn it off\ndefault: registration: plain complaint"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load(tt.src, testSections()...)
			if err == nil {
				t.Fatal("accepted")
			}
			if got := err.Error(); got != tt.want {
				t.Errorf("\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	_, err := Load(Sources{
		File:      "x.toml",
		FileBytes: []byte("zzz = 1\n[log]\nformat = \"xml\"\nlevel = 5\n[limits]\nelements = 1\n"),
		Env:       []string{"STARLING_B=1", "STARLING_A=1"},
	})
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v", err)
	}
	var got []string
	for _, p := range e.Problems {
		got = append(got, Source{p.File, p.Line}.String()+" "+p.Key)
	}
	want := "x.toml:1 zzz, x.toml:3 log.format, x.toml:4 log.level, x.toml:6 limits.elements, environment STARLING_A a, environment STARLING_B b"
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("\n got %s\nwant %s", s, want)
	}
}

func TestFeatureThatIsOffIsNotValidated(t *testing.T) {
	mustLoad(t, Sources{Set: []string{"registration.token=weak"}})
}

func TestNearest(t *testing.T) {
	for _, tt := range []struct{ word, want string }{
		{"listen", "listen"}, {"listne", "listen"}, {"lst", ""}, {"datas", "data"}, {"datastore", "data"}, {"limit", "limits"}, {"roaster", ""}, {"", ""}, {strings.Repeat("l", 1000), ""},
	} {
		if got := nearest(tt.word, []string{"listen", "limits", "data"}); got != tt.want {
			t.Errorf("nearest(%.20q) = %q, want %q", tt.word, got, tt.want)
		}
	}
}
