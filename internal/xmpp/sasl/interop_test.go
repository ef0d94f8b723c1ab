package sasl

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/xdg-go/scram"
)

var otherHash = map[Hash]scram.HashGeneratorFcn{SHA1: scram.SHA1, SHA256: scram.SHA256, SHA512: scram.SHA512}

var theirChannel = scram.ChannelBinding{Type: scram.ChannelBindingTLSExporter, Data: channel.Data}

// interop runs a test for each mechanism, with passwords of which the server knows all but "pen".
func interop(t *testing.T, test func(t *testing.T, mechanism, password, known string)) {
	for _, mechanism := range strength {
		if _, _, ok := ParseScram(mechanism); !ok {
			continue
		}
		for _, password := range []string{"pencil", "pen", "p\u00e9\u2168\u00ad\u3000"} {
			known := password
			if password == "pen" {
				known = "pencil"
			}
			t.Run(mechanism+" "+password, func(t *testing.T) { test(t, mechanism, password, known) })
		}
	}
}

// TestTheirClient lets our server talk to the client of another implementation.
func TestTheirClient(t *testing.T) {
	interop(t, func(t *testing.T, mechanism, password, known string) {
		h, plus, _ := ParseScram(mechanism)
		client, err := otherHash[h].NewClient("user", password, "user@example.org")
		if err != nil {
			t.Fatal(err)
		}
		conversation := client.NewConversation()
		if plus {
			conversation = client.NewConversationWithChannelBinding(theirChannel)
		}
		cfg := config(mechanism)
		cfg.Bindings = []Binding{channel}
		cfg.Credentials = passwords{"user": known}
		s, err := NewServer(mechanism, cfg)
		if err != nil {
			t.Fatal(err)
		}
		err = talk(t, conversation, s)
		if password != known {
			checkFailure(t, err, NotAuthorized, "")
		} else if err != nil || !conversation.Valid() || s.Username() != "user" {
			t.Errorf("%v, %v, %q", err, conversation.Valid(), s.Username())
		}
	})
}

// TestTheirServer lets our client talk to the server of another implementation.
func TestTheirServer(t *testing.T) {
	interop(t, func(t *testing.T, mechanism, password, known string) {
		h, plus, _ := ParseScram(mechanism)
		keys, err := DeriveKeys(h, known, []byte("sixteen bytes of"), MinIterations)
		if err != nil {
			t.Fatal(err)
		}
		server, err := otherHash[h].NewServer(func(string) (scram.StoredCredentials, error) {
			factors := scram.KeyFactors{Salt: string(keys.Salt), Iters: keys.Iterations}
			return scram.StoredCredentials{KeyFactors: factors, StoredKey: keys.Stored, ServerKey: keys.Server}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		conversation := server.NewConversation()
		cfg := &ClientConfig{Username: "user", Password: password, Offered: []string{mechanism}}
		if plus {
			conversation, cfg.Binding = server.NewConversationWithChannelBinding(theirChannel), channel
		}
		c, err := NewClient(mechanism, cfg)
		if err != nil {
			t.Fatal(err)
		}
		var in string
		for range 2 {
			out, err := c.Step([]byte(in))
			if err != nil {
				t.Fatal(err)
			}
			if in, err = conversation.Step(string(out)); err != nil && password == known {
				t.Fatal(err)
			}
		}
		_, err = c.Step([]byte(in)) // "e=invalid-proof" for the wrong password
		if right := password == known; conversation.Valid() != right || c.Done() != right || (err == nil) != right {
			t.Errorf("valid: %v, done: %v, %v", conversation.Valid(), c.Done(), err)
		}
	})
}

// talk lets the other implementation's client talk to our server.
func talk(t *testing.T, c *scram.ClientConversation, s *Server) error {
	t.Helper()
	var challenge []byte
	for range 3 {
		response, err := c.Step(string(challenge))
		if err != nil {
			return err
		}
		var done bool
		if challenge, done, err = s.Step(t.Context(), []byte(response)); err != nil {
			return err
		}
		if done {
			_, err = c.Step(string(challenge))
			return err
		}
	}
	return errors.New("the exchange does not end")
}

// FuzzPassword compares preparation with the other implementation's.
func FuzzPassword(f *testing.F) {
	for _, s := range []string{"pencil", "I\u00adX", "\u2168\u00aa", "a\u00a0b\u200bc", "e\u0301\u0340", "\u0627\u0031\u0628", "\ufdfa", "\ud55c\u1112\u1161"} {
		f.Add(s)
	}
	salt := []byte("sixteen bytes of")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := PreparePassword(s)
		if err == nil {
			if again, err := PreparePassword(got); err != nil || again != got {
				t.Errorf("%q becomes %q, then %q, %v", s, got, again, err)
			}
		}
		client, otherErr := scram.SHA1.NewClient("user", s, "")
		if otherErr != nil || len(s) > 50 || strings.Map(mapPassword, s) == "" {
			return // not a password by SASLprep, or perhaps too long for ours, or empty
		}
		if err != nil {
			t.Fatalf("%q is refused", s)
		}
		theirs, otherErr := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: string(salt), Iters: 4096})
		if otherErr != nil {
			t.Fatal(otherErr)
		}
		ours, err := DeriveKeys(SHA1, s, salt, 4096)
		if err != nil || !bytes.Equal(ours.Stored, theirs.StoredKey) || !bytes.Equal(ours.Server, theirs.ServerKey) {
			t.Errorf("%q: other keys, %v", s, err)
		}
	})
}
