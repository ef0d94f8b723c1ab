package sasl

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// The exchanges printed in the specifications, of user with the password pencil.
var vectors = []struct {
	name, mechanism                        string
	first, serverFirst, final, serverFinal string
}{
	{
		"RFC 5802 §5", "SCRAM-SHA-1",
		"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
		"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
		"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
		"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
	},
	{
		"RFC 7677 §3", "SCRAM-SHA-256",
		"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
		"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
		"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
		"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
	},
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			first, err := parseClientFirst([]byte(v.first))
			if err != nil {
				t.Fatal(err)
			}
			challenge, err := parseServerFirst([]byte(v.serverFirst))
			if err != nil {
				t.Fatal(err)
			}
			h, _, _ := ParseScram(v.mechanism)
			keys, err := DeriveKeys(h, "pencil", challenge.salt, challenge.iterations)
			if err != nil {
				t.Fatal(err)
			}

			e := &scramServer{cfg: config(v.mechanism), hash: h, first: first, user: "user", keys: keys, known: true, challenge: challenge}
			if out, err := e.finish([]byte(v.final)); err != nil || string(out) != v.serverFinal {
				t.Errorf("server: %q, %v", out, err)
			}
			e.known = false
			if _, err := e.finish([]byte(v.final)); err == nil {
				t.Error("a right proof for made-up keys was accepted")
			}

			c, err := NewClient(v.mechanism, &ClientConfig{Username: "user", Password: "pencil"})
			if err != nil {
				t.Fatal(err)
			}
			c.nonce = first.nonce
			for _, step := range []struct{ in, out string }{{"", v.first}, {v.serverFirst, v.final}, {v.serverFinal, ""}} {
				if out, err := c.Step([]byte(step.in)); err != nil || string(out) != step.out {
					t.Fatalf("client, on %q: %q, %v", step.in, out, err)
				}
			}
			if !c.Done() {
				t.Error("the client is not done")
			}
		})
	}
}

// The example of XEP-0474 §6.3, with its extension in the client's last message.
func TestDowngradeExample(t *testing.T) {
	const (
		first       = "p=tls-exporter,,n=user,r=12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6"
		serverFirst = "r=12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6a09117a6-ac50-4f2f-93f1-93799c2bddf6," +
			"s=QSXCR+Q6sek8bf92,i=4096,h=G6k/rBLDqgOhRRaCuuatSDFkJ08="
		final = "c=cD10bHMtZXhwb3J0ZXIsLFRISVMgSVMgRkFLRSBDQiBEQVRB," +
			"r=12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6a09117a6-ac50-4f2f-93f1-93799c2bddf6," +
			"x=19C6532F-1CF4-4A27-A18D-DC9CEA41BBB3,p=M/SIDjT+dfcxUh89jZEypRvFxB4="
		serverFinal = "v=MQrMPvv7yv4x4Cq4W4Ih25EqS2c="
	)
	salt, err := base64.StdEncoding.DecodeString("QSXCR+Q6sek8bf92")
	if err != nil {
		t.Fatal(err)
	}
	cfg := config("SCRAM-SHA-1", "SCRAM-SHA-1-PLUS")
	cfg.Credentials = &accounts{salt: salt, iterations: 4096}
	cfg.Bindings = []Binding{
		{Type: TLSServerEndPointType, Data: []byte("x")},
		{Type: TLSExporterType, Data: []byte("THIS IS FAKE CB DATA")},
	}
	s, err := NewServer("SCRAM-SHA-1-PLUS", cfg)
	if err != nil {
		t.Fatal(err)
	}
	setNonce(s, "a09117a6-ac50-4f2f-93f1-93799c2bddf6")
	for _, step := range []struct {
		in, out string
		done    bool
	}{{first, serverFirst, false}, {final, serverFinal, true}} {
		out, done, err := s.Step(t.Context(), []byte(step.in))
		if err != nil || string(out) != step.out || done != step.done {
			t.Fatalf("on %q: %q, %v, %v", step.in, out, done, err)
		}
	}
}

func TestDowngradeHash(t *testing.T) {
	// XEP-0474 §6.1: without announced types there is no separator, and the order is that of bytes.
	for _, c := range []struct {
		name              string
		mechanisms, types []string
		hashed            string
	}{
		{"no types", []string{"SCRAM-SHA-1", "PLAIN"}, nil, "PLAIN\x1eSCRAM-SHA-1"},
		{"types", []string{"B", "a", "A"}, []string{"z", "B"}, "A\x1eB\x1ea\x1fB\x1ez"},
	} {
		if got, want := downgradeHash(SHA256, c.mechanisms, c.types), encode64(digest(SHA256, []byte(c.hashed))); got != want {
			t.Errorf("%s: %s, want %s", c.name, got, want)
		}
		if c.mechanisms[0] == "A" {
			t.Errorf("%s: the list of the caller was sorted", c.name)
		}
	}
}

func TestDeriveKeys(t *testing.T) {
	// Intermediate values of the exchange in RFC 5802 §5.
	salt := []byte("\x41\x25\xc2\x47\xe4\x3a\xb1\xe9\x3c\x6d\xff\x76")
	k, err := DeriveKeys(SHA1, "pencil", salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(k.Stored); got != "e9d94660c39d65c38fbad91c358f14da0eef2bd6" {
		t.Errorf("StoredKey %s", got)
	}
	if got := hex.EncodeToString(k.Server); got != "0fe09258b3ac852ba502cc62ba903eaacdbf7d31" {
		t.Errorf("ServerKey %s", got)
	}
	if k.Iterations != 4096 || string(k.Salt) != string(salt) {
		t.Errorf("%+v", k)
	}
	for _, c := range []struct {
		name, password string
		salt           []byte
		iterations     int
	}{
		{"few iterations", "pencil", salt, MinIterations - 1},
		{"many iterations", "pencil", salt, MaxIterations + 1},
		{"short salt", "pencil", salt[:7], 4096},
		{"long salt", "pencil", make([]byte, 257), 4096},
		{"no password", "", salt, 4096},
	} {
		if _, err := DeriveKeys(SHA1, c.password, c.salt, c.iterations); err == nil {
			t.Errorf("%s: no error", c.name)
		}
	}
}

func TestPreparePassword(t *testing.T) {
	for _, c := range []struct{ name, in, out string }{
		{"ascii", "pencil ~!", "pencil ~!"},
		{"soft hyphen", "I\u00adX", "IX"},
		{"compatibility", "\u2168\u00aa", "IXa"},
		{"case", "USER", "USER"},
		{"spaces", "a\u00a0b\u3000c\u2003d", "a b c d"},
		{"decomposed", "e\u0301", "\u00e9"},
		{"emoji with variation", "\u2764\ufe0f", "\u2764"},
		{"emoji beyond Unicode 3.2", "\U0001f600", "\U0001f600"},
		{"mixed directions", "a\u05d0", "a\u05d0"},
		{"longest", strings.Repeat("x", maxPassword), strings.Repeat("x", maxPassword)},
	} {
		if got, err := PreparePassword(c.in); err != nil || got != c.out {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
	for name, in := range map[string]string{
		"empty": "", "nothing left": "\u00ad", "control": "a\x07", "delete": "\x7f", "not UTF-8": "\xff", "private use": "\ue000",
		"non-character": "\ufffe", "tag": "\U000e0041", "direction mark": "\u200e", "replacement": "\ufffd", "line separator": "\u2028",
		"ideographic description": "\u2ff0", "too long": strings.Repeat("x", maxPassword+1), "grows too long": strings.Repeat("\ufdfa", 300),
	} {
		if got, err := PreparePassword(in); !errors.Is(err, ErrPassword) || got != "" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestClientRefuses feeds the client what a bad server may send.
func TestClientRefuses(t *testing.T) {
	for _, c := range []struct {
		name, first, final string
		want               error
	}{
		{"empty", "", "", nil},
		{"nonce not continued", "r=abX,s=AAAAAAAAAAA=,i=4096", "", nil},
		{"nonce not extended", "r=abc,s=AAAAAAAAAAA=,i=4096", "", nil},
		{"no salt", "r=abcd,i=4096", "", nil},
		{"salt not base64", "r=abcd,s=A,i=4096", "", nil},
		{"short salt", "r=abcd,s=AAAA,i=4096", "", nil},
		{"salt after count", "r=abcd,i=4096,s=AAAAAAAAAAA=", "", nil},
		{"few iterations", "r=abcd,s=AAAAAAAAAAA=,i=1", "", nil},
		{"many iterations", "r=abcd,s=AAAAAAAAAAA=,i=99999999", "", nil},
		{"count beyond integers", "r=abcd,s=AAAAAAAAAAA=,i=99999999999999999999", "", nil},
		{"count with zero", "r=abcd,s=AAAAAAAAAAA=,i=04096", "", nil},
		{"signed count", "r=abcd,s=AAAAAAAAAAA=,i=+4096", "", nil},
		{"mandatory extension", "m=x,r=abcd,s=AAAAAAAAAAA=,i=4096", "", nil},
		{"nonce too long", "r=abc" + strings.Repeat("d", 510) + ",s=AAAAAAAAAAA=,i=4096", "", nil},
		{"other offer", "r=abcd,s=AAAAAAAAAAA=,i=4096,h=AAAA", "", ErrDowngrade},
		{"wrong signature", "r=abcd,s=AAAAAAAAAAA=,i=4096", "v=AAAA", ErrServer},
		{"signature not base64", "r=abcd,s=AAAAAAAAAAA=,i=4096", "v=A", nil},
		{"no signature", "r=abcd,s=AAAAAAAAAAA=,i=4096", "", nil},
		{"error", "r=abcd,s=AAAAAAAAAAA=,i=4096", "e=invalid-proof", nil},
		{"error with extension", "r=abcd,s=AAAAAAAAAAA=,i=4096", "e=other-error,x=y", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, err := NewClient("SCRAM-SHA-1", &ClientConfig{Username: "user", Password: "pencil", Offered: []string{"SCRAM-SHA-1"}})
			if err != nil {
				t.Fatal(err)
			}
			client.nonce = "abc"
			if _, err := client.Step(nil); err != nil {
				t.Fatal(err)
			}
			if _, err = client.Step([]byte(c.first)); err == nil {
				_, err = client.Step([]byte(c.final))
			}
			if err == nil || client.Done() || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("got %v, done: %v", err, client.Done())
			}
		})
	}
	if _, err := NewClient("SCRAM-SHA-1-PLUS", &ClientConfig{}); err == nil {
		t.Error("a bound mechanism without binding")
	}
	if _, err := NewClient("CRAM-MD5", &ClientConfig{}); err == nil {
		t.Error("an unknown mechanism")
	}
}
