package sasl

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

// checkRefusal asks that a parser which refuses does it with a Failure.
func checkRefusal(t *testing.T, err error) bool {
	t.Helper()
	if err == nil {
		return false
	}
	if _, ok := errors.AsType[*Failure](err); !ok {
		t.Errorf("%v is not a failure", err)
	}
	return true
}

func FuzzClientFirst(f *testing.F) {
	for _, v := range vectors {
		f.Add([]byte(v.first))
	}
	f.Add([]byte("p=tls-exporter,a=a=2Cb,n=u=3Ds,r=x,y=z,q=="))
	f.Add([]byte("n,,m=x,n=user,r=x"))
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := parseClientFirst(in)
		if checkRefusal(t, err) {
			return
		}
		if m.header+m.bare != string(in) {
			t.Errorf("%q was split into %q and %q", in, m.header, m.bare)
		}
		flag := string(m.flag)
		if m.flag == 'p' {
			flag = "p=" + m.binding
		}
		if m.authzid != "" {
			flag += ",a=" + escapeName(m.authzid)
		} else {
			flag += ","
		}
		if flag+"," != m.header {
			t.Errorf("the parts make %q of the header %q", flag, m.header)
		}
		start := "n=" + escapeName(m.username) + ",r=" + m.nonce
		if rest, ok := strings.CutPrefix(m.bare, start); !ok || rest != "" && rest[0] != ',' {
			t.Errorf("%q does not begin with %q", m.bare, start)
		}
		if len(m.username) > maxUsername || len(m.authzid) > maxAuthzid || len(m.nonce) > maxNonce || !utf8.ValidString(m.username) {
			t.Errorf("out of bounds: %+v", m)
		}
	})
}

func FuzzClientFinal(f *testing.F) {
	for _, v := range vectors {
		f.Add([]byte(v.final))
	}
	f.Add([]byte("c=biws,r=x,y=z,p=AA=="))
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := parseClientFinal(in)
		if checkRefusal(t, err) {
			return
		}
		if again := m.rest + ",p=" + encode64(m.proof); again != string(in) {
			t.Errorf("%q becomes %q", in, again)
		}
		if start := "c=" + encode64(m.binding) + ",r=" + m.nonce; !strings.HasPrefix(m.rest, start) {
			t.Errorf("%q does not begin with %q", m.rest, start)
		}
	})
}

func FuzzServerFirst(f *testing.F) {
	for _, v := range vectors {
		f.Add([]byte(v.serverFirst))
	}
	f.Add([]byte("r=x,s=AAAA,i=1,h=AAAA"))
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := parseServerFirst(in)
		if checkRefusal(t, err) {
			return
		}
		again, err := parseServerFirst([]byte(m.String()))
		if err != nil || again.String() != m.String() {
			t.Errorf("%q becomes %q, %v", m.String(), again.String(), err)
		}
		m.downgrade = ""
		if !strings.HasPrefix(string(in), m.String()) {
			t.Errorf("%q does not begin with %q", in, m.String())
		}
	})
}

func FuzzServerFinal(f *testing.F) {
	for _, v := range vectors {
		f.Add([]byte(v.serverFinal))
	}
	f.Add([]byte("e=other-error,x=y"))
	f.Fuzz(func(t *testing.T, in []byte) {
		signature, reported, err := parseServerFinal(in)
		if checkRefusal(t, err) {
			return
		}
		start := "v=" + encode64(signature)
		if reported != "" {
			start = "e=" + reported
		}
		if !strings.HasPrefix(string(in), start) {
			t.Errorf("%q does not begin with %q", in, start)
		}
	})
}

func FuzzPlain(f *testing.F) {
	f.Add([]byte("\x00user\x00pencil"))
	f.Add([]byte("user@example.org\x00user\x00pencil"))
	f.Fuzz(func(t *testing.T, in []byte) {
		authzid, authcid, password, err := parsePlain(in)
		if checkRefusal(t, err) {
			return
		}
		if again := authzid + "\x00" + authcid + "\x00" + password; again != string(in) || authcid == "" || password == "" {
			t.Errorf("%q becomes %q", in, again)
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{"", "=", "biws", "YQ==", "YR==", "bi\r\nws"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		message, err := Decode(text)
		if checkRefusal(t, err) {
			return
		}
		if again := Encode(message); again != string(text) {
			t.Errorf("%q becomes %q", text, again)
		}
	})
}

func FuzzName(f *testing.F) {
	f.Add("user,=")
	f.Add("=2C=3D")
	f.Fuzz(func(t *testing.T, s string) {
		if name, err := parseName(s, maxUsername); err == nil && !strings.Contains(s, ",") && escapeName(name) != s {
			t.Errorf("%q is the name %q, which is written %q", s, name, escapeName(name))
		}
		if s != "" && len(s) <= maxUsername {
			if name, err := parseName(escapeName(s), maxUsername); err != nil || name != s {
				t.Errorf("%q is read back as %q, %v", s, name, err)
			}
		}
	})
}

// FuzzServer sends two messages to a server, which must not authenticate anyone nor break.
func FuzzServer(f *testing.F) {
	f.Add([]byte("n,,n=user,r=abc"), []byte("c=biws,r=abcSERVER,p=AAAA"))
	f.Add([]byte("p=tls-exporter,,n=user,r=abc"), []byte("c=cD10bHMtZXhwb3J0ZXIsLHg=,r=abcSERVER,p=AAAA"))
	cfg := config("SCRAM-SHA-256", "SCRAM-SHA-256-PLUS")
	cfg.Bindings = []Binding{{Type: TLSExporterType, Data: []byte("x")}}
	key := bytes.Repeat([]byte("k"), 32)
	cfg.Credentials = &fixed{keys: Keys{Iterations: 4096, Salt: key, Stored: key, Server: key}, known: true}
	f.Fuzz(func(t *testing.T, first, final []byte) {
		for _, mechanism := range cfg.Offered {
			s, err := NewServer(mechanism, cfg)
			if err != nil {
				t.Fatal(err)
			}
			setNonce(s, "SERVER")
			if _, _, err = s.Step(t.Context(), first); err == nil {
				_, _, err = s.Step(t.Context(), final)
			}
			if checkRefusal(t, err); err == nil && (first != nil || s.Username() != "") {
				t.Errorf("authenticated as %q", s.Username())
			}
		}
	})
}
