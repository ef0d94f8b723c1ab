package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/sasl"
)

// accounts has one account: romeo, with the password secret.
type accounts struct{}

func (accounts) Keys(_ context.Context, username string, h sasl.Hash) (sasl.Keys, bool, error) {
	k, err := sasl.DeriveKeys(h, "secret", []byte("salt of romeo"), sasl.MinIterations)
	return k, username == "romeo", err
}

func (accounts) Verify(_ context.Context, username, password string) (bool, error) {
	return username == "romeo" && password == "secret", nil
}

var authPattern = regexp.MustCompile(`^<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='([A-Z0-9-]+)'>([^<]*)</auth>$`)

// authenticate plays the server's side of SASL and returns the mechanism.
func (p *peer) authenticate(cfg *sasl.ServerConfig) string {
	m := authPattern.FindStringSubmatch(p.until("</auth>"))
	if m == nil {
		p.fail("no <auth/>")
		return ""
	}
	server, err := sasl.NewServer(m[1], cfg)
	if err != nil {
		p.fail("%v", err)
		return ""
	}
	message := m[2]
	for !p.failed {
		in, err := sasl.Decode([]byte(message))
		if err != nil {
			p.fail("%v", err)
			break
		}
		out, done, err := server.Step(context.Background(), in)
		var failure *sasl.Failure
		switch {
		case errors.As(err, &failure):
			p.send(fmt.Sprintf("<failure xmlns='%s'><%s/><text xml:lang='en'>no</text></failure>", nsSASL, failure.Condition))
			return m[1]
		case done:
			p.send(fmt.Sprintf("<success xmlns='%s'>%s</success>", nsSASL, sasl.Encode(out)))
			return m[1]
		}
		p.send(fmt.Sprintf("<challenge xmlns='%s'>%s</challenge>", nsSASL, sasl.Encode(out)))
		message = strings.TrimSuffix(strings.TrimPrefix(p.until("</response>"), "<response xmlns='"+nsSASL+"'>"), "</response>")
	}
	return ""
}

// offer is the features before SASL.
func offer(cfg *sasl.ServerConfig) string {
	s := "<mechanisms xmlns='" + nsSASL + "'>"
	for _, m := range cfg.Offered {
		s += "<mechanism>" + m + "</mechanism>"
	}
	s += "</mechanisms>"
	if len(cfg.Bindings) > 0 {
		s += "<sasl-channel-binding xmlns='" + nsBinding + "'>"
		for _, b := range cfg.Bindings {
			s += "<channel-binding type='" + b.Type + "'/>"
		}
		s += "</sasl-channel-binding>"
	}
	return s
}

// bindings returns what the server's end of TLS can be told by.
func bindings(t *testing.T, p *peer, types ...string) []sasl.Binding {
	secure, ok := p.conn.(*tls.Conn)
	if !ok {
		return nil
	}
	state := secure.ConnectionState()
	exporter, err := sasl.TLSExporter(&state)
	if err != nil {
		t.Error(err)
	}
	all := []sasl.Binding{
		{Type: sasl.TLSExporterType, Data: exporter},
		{Type: sasl.TLSServerEndPointType, Data: sasl.ServerEndPoint(p.state.Certificates[0].Leaf)},
	}
	return slices.DeleteFunc(all, func(b sasl.Binding) bool { return !slices.Contains(types, b.Type) })
}

var bindReply = regexp.MustCompile(`<iq type='set' id='([^']+)'><bind xmlns='` + nsBind + `'><resource>orchard</resource></bind></iq>`)

func TestDial(t *testing.T) {
	scram := []string{"SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"}
	plus := append([]string{"SCRAM-SHA-512-PLUS", "SCRAM-SHA-256-PLUS"}, scram...)
	both := []string{sasl.TLSExporterType, sasl.TLSServerEndPointType}
	for _, test := range []struct {
		name      string
		mode      TLSMode
		offered   []string
		bindings  []string
		mechanism string // asked for
		want      string // used
	}{
		{name: "starttls, strongest", mode: StartTLS, offered: plus, bindings: both, want: "SCRAM-SHA-512-PLUS"},
		{name: "direct, strongest", mode: Direct, offered: plus, bindings: both, want: "SCRAM-SHA-512-PLUS"},
		{name: "server end point only", mode: Direct, offered: plus, bindings: both[1:], want: "SCRAM-SHA-512-PLUS"},
		{name: "no channel binding offered", mode: Direct, offered: scram, want: "SCRAM-SHA-512"},
		{name: "only PLAIN under TLS", mode: StartTLS, offered: []string{"PLAIN"}, want: "PLAIN"},
		{name: "no TLS", mode: None, offered: scram, want: "SCRAM-SHA-512"},
		{name: "asked for a weaker one", mode: Direct, offered: plus, bindings: both, mechanism: "SCRAM-SHA-1", want: "SCRAM-SHA-1"},
		{name: "asked for PLAIN without TLS", mode: None, offered: scram, mechanism: "PLAIN", want: "PLAIN"},
	} {
		t.Run(test.name, func(t *testing.T) {
			serverTLS, clientTLS := tlsPair(t)
			addr := serve(t, func(p *peer) {
				p.state = serverTLS
				switch test.mode {
				case StartTLS:
					p.open("<starttls xmlns='" + nsTLS + "'><required/></starttls>")
					p.expect("<starttls xmlns='" + nsTLS + "'/>")
					p.send("<proceed xmlns='" + nsTLS + "'/>")
					p.secure(serverTLS)
				case Direct:
					p.secure(serverTLS)
				}
				cfg := &sasl.ServerConfig{Domain: "a.test", Credentials: accounts{}, Offered: test.offered, Bindings: bindings(t, p, test.bindings...)}
				p.open(offer(cfg))
				if got := p.authenticate(cfg); got != test.want {
					p.fail("logged in with %s, want %s", got, test.want)
				}
				p.open("<bind xmlns='" + nsBind + "'/>")
				p.bind()
				p.expect("</stream:stream>")
				p.send("</stream:stream>")
			})
			c, err := Dial(within(t), Config{Addr: addr, TLS: test.mode, TLSConfig: clientTLS, JID: romeo, Password: "secret", Mechanism: test.mechanism})
			if err != nil {
				t.Fatal(err)
			}
			if c.JID() != jid.MustParse("romeo@a.test/orchard2") {
				t.Errorf("bound to %s", c.JID())
			}
			if got := c.Header().Attr("id"); got != "s1" {
				t.Errorf("stream id %q", got)
			}
			if (c.TLS() != nil) != (test.mode != None) {
				t.Errorf("TLS is %v", c.TLS())
			}
			if test.mode == Direct && c.TLS().ConnectionState().NegotiatedProtocol != "xmpp-client" {
				t.Error("no ALPN")
			}
			if err := c.Close(within(t)); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
}

// bind binds the resource, to another name than was asked for.
func (p *peer) bind() {
	m := bindReply.FindStringSubmatch(p.until("</iq>"))
	if m == nil {
		p.fail("no request to bind")
		return
	}
	p.send("<iq type='result' id='" + m[1] + "'><bind xmlns='" + nsBind + "'><jid>romeo@a.test/orchard2</jid></bind></iq>")
}
