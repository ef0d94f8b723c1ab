package sasl

import (
	"strings"
	"testing"
)

const (
	first = "n,,n=user,r=abc"
	nonce = "r=abcSERVER"
)

var long = strings.Repeat("x", 1024)

// refusals are messages of which the server answers the last with a failure.
var refusals = []struct {
	name      string
	mechanism string
	messages  []string
	want      Condition
	text      string
}{
	{"nothing", "SCRAM-SHA-1", []string{""}, MalformedRequest, ""},
	{"header alone", "SCRAM-SHA-1", []string{"n,,"}, MalformedRequest, ""},
	{"one comma", "SCRAM-SHA-1", []string{"n,n=user"}, MalformedRequest, ""},
	{"unknown flag", "SCRAM-SHA-1", []string{"x,,n=user,r=abc"}, MalformedRequest, ""},
	{"capital flag", "SCRAM-SHA-1", []string{"N,,n=user,r=abc"}, MalformedRequest, ""},
	{"flag for gss-api", "SCRAM-SHA-1", []string{"F,n,,n=user,r=abc"}, MalformedRequest, ""},
	{"binding without name", "SCRAM-SHA-1-PLUS", []string{"p=,,n=user,r=abc"}, MalformedRequest, ""},
	{"binding with a bad name", "SCRAM-SHA-1-PLUS", []string{"p=tls_unique,,n=user,r=abc"}, MalformedRequest, ""},
	{"authzid without attribute", "SCRAM-SHA-1", []string{"n,user,n=user,r=abc"}, MalformedRequest, ""},
	{"empty authzid", "SCRAM-SHA-1", []string{"n,a=,n=user,r=abc"}, MalformedRequest, ""},
	{"authzid with a bare equals sign", "SCRAM-SHA-1", []string{"n,a=a=b,n=user,r=abc"}, MalformedRequest, ""},
	{"authzid too long", "SCRAM-SHA-1", []string{"n,a=" + long + long + ",n=user,r=abc"}, MalformedRequest, ""},
	{"no username", "SCRAM-SHA-1", []string{"n,,r=abc"}, MalformedRequest, ""},
	{"empty username", "SCRAM-SHA-1", []string{"n,,n=,r=abc"}, MalformedRequest, ""},
	{"username too long", "SCRAM-SHA-1", []string{"n,,n=" + long + ",r=abc"}, MalformedRequest, ""},
	{"username with a bare equals sign", "SCRAM-SHA-1", []string{"n,,n=us=er,r=abc"}, MalformedRequest, ""},
	{"username with a small escape", "SCRAM-SHA-1", []string{"n,,n=us=2cer,r=abc"}, MalformedRequest, ""},
	{"username with another escape", "SCRAM-SHA-1", []string{"n,,n=us=41er,r=abc"}, MalformedRequest, ""},
	{"username with an escape cut off", "SCRAM-SHA-1", []string{"n,,n=user=2,r=abc"}, MalformedRequest, ""},
	{"username with NUL", "SCRAM-SHA-1", []string{"n,,n=us\x00er,r=abc"}, MalformedRequest, ""},
	{"username not UTF-8", "SCRAM-SHA-1", []string{"n,,n=us\xff,r=abc"}, MalformedRequest, ""},
	{"username with a decoded comma", "SCRAM-SHA-1", []string{"n,,n=a=2Cb=3Dc,r=abc", "c=biws,r=abcSERVER,p=AAAA"}, NotAuthorized, ""},
	{"nonce before username", "SCRAM-SHA-1", []string{"n,,r=abc,n=user"}, MalformedRequest, ""},
	{"no nonce", "SCRAM-SHA-1", []string{"n,,n=user"}, MalformedRequest, ""},
	{"empty nonce", "SCRAM-SHA-1", []string{"n,,n=user,r="}, MalformedRequest, ""},
	{"nonce with a space", "SCRAM-SHA-1", []string{"n,,n=user,r=a b"}, MalformedRequest, ""},
	{"nonce beyond ASCII", "SCRAM-SHA-1", []string{"n,,n=user,r=\u00e4"}, MalformedRequest, ""},
	{"nonce too long", "SCRAM-SHA-1", []string{"n,,n=user,r=" + long[:257]}, MalformedRequest, ""},
	{"comma at the end", "SCRAM-SHA-1", []string{first + ","}, MalformedRequest, ""},
	{"empty extension", "SCRAM-SHA-1", []string{first + ",x="}, MalformedRequest, ""},
	{"extension without name", "SCRAM-SHA-1", []string{first + ",xyz"}, MalformedRequest, ""},
	{"second username", "SCRAM-SHA-1", []string{first + ",n=other"}, MalformedRequest, ""},
	{"mandatory extension in front", "SCRAM-SHA-1", []string{"n,,m=x,n=user,r=abc"}, NotAuthorized, "extensions-not-supported"},
	{"mandatory extension behind", "SCRAM-SHA-1", []string{first + ",m=x"}, NotAuthorized, "extensions-not-supported"},
	{"binding under the plain name", "SCRAM-SHA-1", []string{"p=tls-exporter,,n=user,r=abc"}, NotAuthorized, "channel-binding-not-supported"},
	{"no binding under the bound name", "SCRAM-SHA-1-PLUS", []string{first}, NotAuthorized, "server-does-support-channel-binding"},
	{"could bind under the bound name", "SCRAM-SHA-1-PLUS", []string{"y,,n=user,r=abc"}, NotAuthorized, "server-does-support-channel-binding"},
	{"message too long", "SCRAM-SHA-1", []string{first + ",x=" + strings.Repeat("x", maxMessage)}, MalformedRequest, "message too long"},

	{"no proof", "SCRAM-SHA-1", []string{first, "c=biws," + nonce}, MalformedRequest, ""},
	{"empty proof", "SCRAM-SHA-1", []string{first, "c=biws," + nonce + ",p="}, MalformedRequest, "invalid-encoding"},
	{"proof not base64", "SCRAM-SHA-1", []string{first, "c=biws," + nonce + ",p=!"}, MalformedRequest, "invalid-encoding"},
	{"proof with padding bits", "SCRAM-SHA-1", []string{first, "c=biws," + nonce + ",p=AB=="}, MalformedRequest, "invalid-encoding"},
	{"proof not last", "SCRAM-SHA-1", []string{first, "c=biws," + nonce + ",p=AAAA,x=y"}, MalformedRequest, "invalid-encoding"},
	{"two proofs", "SCRAM-SHA-1", []string{first, "c=biws," + nonce + ",p=AAAA,p=AAAA"}, MalformedRequest, ""},
	{"short proof", "SCRAM-SHA-1", []string{first, "c=biws," + nonce + ",p=AAAA"}, NotAuthorized, ""},
	{"wrong proof", "SCRAM-SHA-1", []string{first, "c=biws," + nonce + ",p=" + encode64(make([]byte, 20))}, NotAuthorized, ""},
	{"no header", "SCRAM-SHA-1", []string{first, nonce + ",p=AAAA"}, MalformedRequest, ""},
	{"header not base64", "SCRAM-SHA-1", []string{first, "c=b," + nonce + ",p=AAAA"}, MalformedRequest, "invalid-encoding"},
	{"other header", "SCRAM-SHA-1", []string{first, "c=eSws," + nonce + ",p=AAAA"}, NotAuthorized, "channel-bindings-dont-match"},
	{"header without the authzid", "SCRAM-SHA-1", []string{"n,a=user@example.org,n=user,r=abc", "c=biws," + nonce + ",p=AAAA"},
		NotAuthorized, "channel-bindings-dont-match"},
	{"nonce of the client alone", "SCRAM-SHA-1", []string{first, "c=biws,r=abc,p=AAAA"}, NotAuthorized, ""},
	{"nonce of another exchange", "SCRAM-SHA-1", []string{first, "c=biws,r=abcOTHER,p=AAAA"}, NotAuthorized, ""},
	{"nonce that goes on", "SCRAM-SHA-1", []string{first, "c=biws," + nonce + "x,p=AAAA"}, NotAuthorized, ""},
	{"mandatory extension at last", "SCRAM-SHA-1", []string{first, "c=biws," + nonce + ",m=x,p=AAAA"}, NotAuthorized, "extensions-not-supported"},
	{"mandatory extension first", "SCRAM-SHA-1", []string{first, "m=x,c=biws," + nonce + ",p=AAAA"}, NotAuthorized, "extensions-not-supported"},

	{"nothing", Plain, []string{""}, MalformedRequest, ""},
	{"one NUL", Plain, []string{"\x00user"}, MalformedRequest, ""},
	{"three NULs", Plain, []string{"\x00user\x00pencil\x00"}, MalformedRequest, ""},
	{"no name", Plain, []string{"\x00\x00pencil"}, MalformedRequest, ""},
	{"no password", Plain, []string{"\x00user\x00"}, MalformedRequest, ""},
	{"not UTF-8", Plain, []string{"\x00user\x00\xff"}, MalformedRequest, ""},
	{"name too long", Plain, []string{"\x00" + long + "\x00pencil"}, MalformedRequest, ""},
	{"password too long", Plain, []string{"\x00user\x00" + long}, MalformedRequest, ""},
	{"authzid too long", Plain, []string{long + long + "\x00user\x00pencil"}, MalformedRequest, ""},

	{"not UTF-8", External, []string{"\xff"}, MalformedRequest, ""},
	{"NUL", External, []string{"a\x00b"}, MalformedRequest, ""},
	{"too long", External, []string{long + long}, MalformedRequest, ""},
	{"not configured", External, []string{""}, TemporaryAuthFailure, ""},
	{"trace not UTF-8", Anonymous, []string{"\xff"}, MalformedRequest, ""},
	{"trace too long", Anonymous, []string{long[:256]}, MalformedRequest, ""},
	{"not configured", Anonymous, []string{""}, TemporaryAuthFailure, ""},
}

func TestServerRefuses(t *testing.T) {
	for _, c := range refusals {
		t.Run(c.mechanism+" "+c.name, func(t *testing.T) {
			cfg := config(strength...)
			cfg.Bindings = []Binding{{Type: TLSExporterType, Data: []byte("x")}}
			s, err := NewServer(c.mechanism, cfg)
			if err != nil {
				t.Fatal(err)
			}
			setNonce(s, "SERVER")
			for _, m := range c.messages[:len(c.messages)-1] {
				if _, done, err := s.Step(t.Context(), []byte(m)); done || err != nil {
					t.Fatalf("%q: %v, %v", m, done, err)
				}
			}
			_, done, err := s.Step(t.Context(), []byte(c.messages[len(c.messages)-1]))
			checkFailure(t, err, c.want, c.text)
			if done || s.Username() != "" {
				t.Error("done with a failure")
			}
			if _, _, err := s.Step(t.Context(), []byte(first)); err == nil {
				t.Error("the exchange went on after it had failed")
			}
		})
	}
}
