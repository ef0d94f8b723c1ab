package sasl

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
)

// given are the tokens of a client: one that is made up, and one that it has.
type given struct {
	token    string
	accepted error // what Accept returns
	asked    string
}

func (g *given) Tokens(_ context.Context, username, mechanism string) ([]string, error) {
	g.asked = username + " " + mechanism
	return []string{"made up", g.token}, nil
}

func (g *given) Accept(_ context.Context, token int) error {
	if token != 1 {
		return errors.New("not the token that was proven")
	}
	return g.accepted
}

// What @xmpp/client 0.14 sends, by its own test, for the user "null" and the token "hai".
func TestHTVector(t *testing.T) {
	want, ok := decode64("bnVsbACNMNimsTBnxS04m8x7wgKjBHdDUL/nXPU4J4vqxqjBIg==")
	c, err := NewClient(HTNone, &ClientConfig{Username: "null", Password: "hai"})
	if err != nil || !ok {
		t.Fatal(err)
	}
	if got, err := c.Step(nil); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%x, %v", got, err)
	}
}

func TestHT(t *testing.T) {
	point := Binding{Type: TLSServerEndPointType, Data: []byte("hash")}
	for _, c := range []struct {
		name, mechanism string
		client          ClientConfig
		binding         Binding // of the client
		accepted        error
		want            Condition
	}{
		{name: "none", mechanism: HTNone},
		{name: "exporter", mechanism: HTExporter, binding: channel},
		{name: "end point", mechanism: HTEndPoint, binding: point},
		{name: "capitals", mechanism: HTNone, client: ClientConfig{Username: "USER"}},
		{name: "wrong token", mechanism: HTNone, client: ClientConfig{Password: "guess"}, want: NotAuthorized},
		{name: "another channel", mechanism: HTExporter, binding: Binding{TLSExporterType, []byte("other")}, want: NotAuthorized},
		{name: "another certificate", mechanism: HTEndPoint, binding: Binding{TLSServerEndPointType, []byte("other")}, want: NotAuthorized},
		{name: "expired", mechanism: HTNone, accepted: fail(CredentialsExpired, ""), want: CredentialsExpired},
		{name: "database away", mechanism: HTNone, accepted: errors.New("away"), want: TemporaryAuthFailure},
		{name: "no name", mechanism: HTNone, client: ClientConfig{Username: "a b"}, want: NotAuthorized},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.client.Username == "" {
				c.client.Username = "user"
			}
			if c.client.Password == "" {
				c.client.Password = "token"
			}
			c.client.Binding = c.binding
			tokens := &given{token: "token", accepted: c.accepted}
			bindings := []Binding{channel, point}
			s, err := NewServer(c.mechanism, &ServerConfig{Domain: "example.org", Offered: HTMechanisms(bindings), Bindings: bindings, Tokens: tokens})
			if err != nil {
				t.Fatal(err)
			}
			cl, err := NewClient(c.mechanism, &c.client)
			if err != nil {
				t.Fatal(err)
			}
			first, err := cl.Step(nil)
			if err != nil {
				t.Fatal(err)
			}
			out, done, err := s.Step(t.Context(), first)
			var f *Failure
			switch {
			case c.want != "":
				if !errors.As(err, &f) || f.Condition != c.want {
					t.Errorf("ended with %v", err)
				}
				return
			case err != nil || !done || s.Username() != "user" || tokens.asked != "user "+c.mechanism:
				t.Fatalf("%v, done %v, as %q, asked for %q", err, done, s.Username(), tokens.asked)
			}
			if _, err := cl.Step(out); err != nil || !cl.Done() {
				t.Errorf("the client does not trust the server: %v", err)
			}
			out[0] ^= 1
			other, _ := NewClient(c.mechanism, &c.client)
			_, _ = other.Step(nil)
			if _, err := other.Step(out); !errors.Is(err, ErrServer) {
				t.Errorf("the client trusts anybody: %v", err)
			}
		})
	}
}

func TestHTMalformed(t *testing.T) {
	proof := string(htHash("token", htInitiator, nil))
	for name, in := range map[string]string{
		"empty": "", "no name": "\x00" + proof, "no proof": "user\x00", "short": "user\x00" + proof[1:], "long": "user\x00" + proof + "x",
		"no separator": "user" + proof[:10], "not UTF-8": "us\xffer\x00" + proof,
	} {
		s, err := NewServer(HTNone, &ServerConfig{Domain: "example.org", Offered: []string{HTNone}, Tokens: &given{token: "token"}})
		if err != nil {
			t.Fatal(err)
		}
		var f *Failure
		if _, _, err := s.Step(t.Context(), []byte(in)); !errors.As(err, &f) || f.Condition != MalformedRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHTMechanisms(t *testing.T) {
	if got := HTMechanisms(nil); !slices.Equal(got, []string{HTNone}) {
		t.Errorf("without bindings %v", got)
	}
	if _, err := NewClient(HTExporter, &ClientConfig{Username: "user", Password: "token"}); err == nil {
		t.Error("a client binds to nothing")
	}
}
