package sasl

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"testing"
)

// accounts is a Credentials of one account, user with the password pencil, and counts what it is asked.
type accounts struct {
	hash       Hash
	salt       []byte
	iterations int
	err        error
	asked      int
}

func (a *accounts) Keys(_ context.Context, username string, h Hash) (Keys, bool, error) {
	a.asked++
	if a.err != nil {
		return Keys{}, false, a.err
	}
	if username == "user" {
		k, err := DeriveKeys(h, "pencil", a.salt, a.iterations)
		return k, true, err
	}
	made := sha256.Sum256([]byte(username))
	key := bytes.Repeat(made[:], 2)[:h.Size()]
	return Keys{Iterations: a.iterations, Salt: made[:len(a.salt)], Stored: key, Server: key}, false, nil
}

func (a *accounts) Verify(_ context.Context, username, password string) (bool, error) {
	a.asked++
	return username == "user" && password == "pencil", a.err
}

func config(mechanisms ...string) *ServerConfig {
	return &ServerConfig{
		Domain:      "example.org",
		Credentials: &accounts{salt: []byte("sixteen bytes of"), iterations: MinIterations},
		Offered:     mechanisms,
	}
}

// run lets client and server talk until the server is done or one of them fails.
func run(t *testing.T, c *Client, s *Server) error {
	t.Helper()
	var challenge []byte
	for range 5 {
		response, err := c.Step(challenge)
		if err != nil {
			return err
		}
		var done bool
		if challenge, done, err = s.Step(t.Context(), response); err != nil {
			return err
		}
		if done {
			if c.Done() {
				return nil
			}
			_, err := c.Step(challenge)
			return err
		}
	}
	return errors.New("the exchange does not end")
}

func checkFailure(t *testing.T, err error, want Condition, text string) {
	t.Helper()
	f, ok := errors.AsType[*Failure](err)
	if !ok {
		t.Fatalf("got %v, want a failure with %s", err, want)
	}
	if f.Condition != want || f.Text != text {
		t.Errorf("got %v, want %s (%s)", f, want, text)
	}
}

func setNonce(s *Server, nonce string) {
	if e, ok := s.exchange.(*scramServer); ok {
		e.nonce = func() string { return nonce }
	}
}

func TestNewServerRefuses(t *testing.T) {
	for _, c := range []struct {
		name, mechanism string
		offered         []string
	}{
		{"not offered", Plain, []string{"SCRAM-SHA-1"}},
		{"nothing offered", "SCRAM-SHA-1", nil},
		{"unknown", "CRAM-MD5", []string{"CRAM-MD5"}},
		{"small letters", "plain", []string{Plain}},
		{"empty", "", []string{Plain}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := NewServer(c.mechanism, config(c.offered...))
			checkFailure(t, err, InvalidMechanism, "")
		})
	}
}

// RFC 6120 §6.3.10: the initial response may be left out.
func TestNoInitialResponse(t *testing.T) {
	for _, m := range []string{"SCRAM-SHA-256", Plain, External} {
		t.Run(m, func(t *testing.T) {
			cfg := config(m)
			cfg.External = func(string) (string, error) { return "user", nil }
			s, err := NewServer(m, cfg)
			if err != nil {
				t.Fatal(err)
			}
			out, done, err := s.Step(t.Context(), nil)
			if out == nil || len(out) > 0 || done || err != nil {
				t.Fatalf("%q, %v, %v; want an empty challenge", out, done, err)
			}
			c, err := NewClient(m, &ClientConfig{Username: "user", Password: "pencil"})
			if err != nil {
				t.Fatal(err)
			}
			if err := run(t, c, s); err != nil {
				t.Error(err)
			}
		})
	}
	s, err := NewServer("SCRAM-SHA-256", config("SCRAM-SHA-256"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Step(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Step(t.Context(), nil)
	checkFailure(t, err, MalformedRequest, "")
}

func TestExternal(t *testing.T) {
	cfg := config(External)
	cfg.External = func(authzid string) (string, error) {
		switch authzid {
		case "":
			return "user", nil
		case "other@example.org":
			return "other", nil
		case "void@example.org":
			return "", nil
		}
		return "", fail(InvalidAuthzid, "")
	}
	for _, c := range []struct {
		name, authzid, user string
		want                Condition
	}{
		{"derived", "", "user", ""},
		{"chosen", "other@example.org", "other", ""},
		{"refused", "third@example.org", "", InvalidAuthzid},
		{"nobody", "void@example.org", "", TemporaryAuthFailure},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := NewServer(External, cfg)
			if err != nil {
				t.Fatal(err)
			}
			client, err := NewClient(External, &ClientConfig{Authzid: c.authzid})
			if err != nil {
				t.Fatal(err)
			}
			if err = run(t, client, s); c.want != "" {
				checkFailure(t, err, c.want, "")
			} else if err != nil || s.Username() != c.user {
				t.Errorf("%q, %v", s.Username(), err)
			}
		})
	}
}

func TestAnonymous(t *testing.T) {
	cfg := config(Anonymous)
	cfg.Anonymous = func() (string, error) { return "guest", nil }
	for name, trace := range map[string][]byte{
		"no message": nil, "empty": {}, "trace": []byte("sirhc"), "longest trace": []byte(strings.Repeat("\u00e4", 255)),
	} {
		t.Run(name, func(t *testing.T) {
			s, err := NewServer(Anonymous, cfg)
			if err != nil {
				t.Fatal(err)
			}
			out, done, err := s.Step(t.Context(), trace)
			if out != nil || !done || err != nil || s.Username() != "guest" {
				t.Errorf("%q, %v, %v, %q", out, done, err, s.Username())
			}
		})
	}
}

// A name without account must look, cost and fail as one with account and a wrong password.
func TestUnknownUserLooksKnown(t *testing.T) {
	type trace struct {
		lengths []int
		shapes  []string
		failure string
		asked   int
		allocs  float64
	}
	observe := func(t *testing.T, name string) (tr trace) {
		cfg := config("SCRAM-SHA-256", "SCRAM-SHA-1")
		creds := &fixed{Credentials: cfg.Credentials}
		cfg.Credentials = creds
		exchange := func() {
			tr.lengths, tr.shapes, creds.asked = nil, nil, 0
			s, err := NewServer("SCRAM-SHA-256", cfg)
			if err != nil {
				t.Fatal(err)
			}
			out, _, err := s.Step(t.Context(), []byte("n,,n="+name+",r=abc"))
			if err != nil {
				t.Fatal(err)
			}
			m, err := parseServerFirst(out)
			if err != nil {
				t.Fatal(err)
			}
			tr.lengths = append(tr.lengths, len(out), len(m.salt), len(m.nonce), m.iterations)
			tr.shapes = append(tr.shapes, m.downgrade)
			out, done, err := s.Step(t.Context(), []byte("c=biws,r="+m.nonce+",p="+encode64(make([]byte, 32))))
			if out != nil || done {
				t.Errorf("%q, %v", out, done)
			}
			tr.failure = err.Error()
		}
		exchange()
		tr.allocs, tr.asked = testing.AllocsPerRun(50, exchange), creds.asked
		return tr
	}
	known, unknown := observe(t, "user"), observe(t, "resu")
	if !slices.Equal(known.lengths, unknown.lengths) || !slices.Equal(known.shapes, unknown.shapes) ||
		known.failure != unknown.failure || known.asked != unknown.asked || known.allocs != unknown.allocs {
		t.Errorf("known %+v, unknown %+v", known, unknown)
	}
}

// fixed answers from what it got the first time, so that what is counted is the exchange alone.
type fixed struct {
	Credentials
	keys  Keys
	known bool
	asked int
}

func (f *fixed) Keys(ctx context.Context, username string, h Hash) (Keys, bool, error) {
	f.asked++
	if f.keys.Salt == nil {
		var err error
		if f.keys, f.known, err = f.Credentials.Keys(ctx, username, h); err != nil {
			return Keys{}, false, err
		}
	}
	return f.keys, f.known, nil
}

func TestStoredKeysOfWrongShape(t *testing.T) {
	cfg := config("SCRAM-SHA-256")
	cfg.Credentials = &fixed{keys: Keys{Iterations: 4096, Salt: []byte("salt"), Stored: make([]byte, 20), Server: make([]byte, 20)}}
	s, err := NewServer("SCRAM-SHA-256", cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Step(t.Context(), []byte("n,,n=user,r=abc"))
	checkFailure(t, err, TemporaryAuthFailure, "")
}

func TestFailureTexts(t *testing.T) {
	cause := errors.New("why")
	f := &Failure{Condition: NotAuthorized, Text: "text", Err: cause}
	if f.Error() != "sasl: not-authorized (text): why" || !errors.Is(f, cause) {
		t.Error(f)
	}
}

func TestMechanisms(t *testing.T) {
	got := Mechanisms(Anonymous, Plain, "SCRAM-SHA-1", "X-OTHER", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", External, Plain)
	want := []string{External, "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1", Plain, Anonymous}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if got := Mechanisms(); got != nil {
		t.Errorf("of nothing: %q", got)
	}
	for _, m := range strength {
		h, plus, ok := ParseScram(m)
		if strings.HasPrefix(m, "SCRAM") != ok {
			t.Errorf("%s: %v", m, ok)
		}
		if name := h.Name(); ok && (plus && name+PlusSuffix != m || !plus && name != m) {
			t.Errorf("%s is named %s", m, name)
		}
	}
}

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		name, in string
		out      []byte
		want     Condition
	}{
		{"absent", "", nil, ""},
		{"empty", "=", []byte{}, ""},
		{"data", "biws", []byte("n,,"), ""},
		{"padded", "YQ==", []byte("a"), ""},
		{"no padding", "YQ", nil, IncorrectEncoding},
		{"padding bits", "YR==", nil, IncorrectEncoding},
		{"url alphabet", "_-__", nil, IncorrectEncoding},
		{"line feed", "bi\nws", nil, IncorrectEncoding},
		{"space", "bi ws", nil, IncorrectEncoding},
		{"two equals signs", "==", nil, IncorrectEncoding},
		{"padding inside", "YQ==YQ==", nil, IncorrectEncoding},
		{"too long", strings.Repeat("AAAA", 2732), nil, MalformedRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := Decode([]byte(c.in))
			if c.want != "" {
				f, ok := errors.AsType[*Failure](err)
				if !ok || f.Condition != c.want {
					t.Errorf("got %v, want %s", err, c.want)
				}
				return
			}
			if err != nil || !bytes.Equal(out, c.out) || (out == nil) != (c.out == nil) {
				t.Errorf("got %q, %v", out, err)
			}
			if Encode(out) != c.in {
				t.Errorf("encoded again: %q", Encode(out))
			}
		})
	}
}

func BenchmarkServer(b *testing.B) {
	cfg := config("SCRAM-SHA-256")
	creds := &fixed{Credentials: cfg.Credentials}
	cfg.Credentials = creds
	for b.Loop() {
		s, err := NewServer("SCRAM-SHA-256", cfg)
		if err != nil {
			b.Fatal(err)
		}
		setNonce(s, "SERVER")
		if _, _, err = s.Step(b.Context(), []byte("n,,n=user,r=abc")); err != nil {
			b.Fatal(err)
		}
		_, _, err = s.Step(b.Context(), []byte("c=biws,r=abcSERVER,p=AAAA"))
		if err == nil {
			b.Fatal("authenticated")
		}
	}
}

func BenchmarkDeriveKeys(b *testing.B) {
	salt := []byte("sixteen bytes of")
	for h := SHA1; h <= SHA512; h++ {
		b.Run(h.Name(), func(b *testing.B) {
			for b.Loop() {
				if _, err := DeriveKeys(h, "pencil", salt, 10_000); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// passwords is a Credentials of several accounts.
type passwords map[string]string

func (p passwords) Keys(_ context.Context, username string, h Hash) (Keys, bool, error) {
	k, err := DeriveKeys(h, p[username], []byte("sixteen bytes of"), MinIterations)
	return k, true, err
}

func (p passwords) Verify(_ context.Context, username, password string) (bool, error) {
	return password == p[username], nil
}
