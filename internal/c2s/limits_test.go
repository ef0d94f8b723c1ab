package c2s_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/sasl"
	"github.com/starling-im/starling/internal/xmpp/stream"
	"github.com/starling-im/starling/internal/xmpptest"
)

// TestTrap24_TooBig: a stanza beyond the limits ends the stream while it is still incomplete (RFC 6120 §4.9.3.14,
// XEP-0205 §4.5); one within them, of at least 10,000 bytes, passes (RFC 6120 §13.12).
func TestTrap24_TooBig(t *testing.T) {
	t.Parallel()
	s := xmpptest.Start(t, xmpptest.Options{Set: []string{
		"limits.stanza_bytes=20000", "limits.elements=100", "limits.pre_auth_bytes=2000", "limits.pre_auth_elements=8",
	}})
	const violation = `<stream:error><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/><stanza-too-big xmlns='urn:xmpp:errors'/></stream:error>`
	bound := func(text, outcome string) string {
		return "client! romeo romeo@a.test/x\nromeo > " + text + "\nromeo < first " + outcome + "\n"
	}
	stranger := func(text, outcome string) string {
		return "raw x\nx > $open\nx < <stream:features/>\nx > " + text + "\nx < first " + outcome + "\nx < first </stream:stream>\nx closed\n"
	}
	message := "<message to='romeo@a.test/x' id='m'><body>%s</body></message>"
	for _, c := range []struct{ name, script string }{
		{"within", bound(fmt.Sprintf(message, strings.Repeat("x", 19_000)), "<message id='m'/>")},
		{"bytes", bound(fmt.Sprintf(message, strings.Repeat("x", 20_001)), violation)},
		{"incomplete", bound("<message to='romeo@a.test/x'><body>"+strings.Repeat("x", 20_001), violation)},
		{"elements", bound(fmt.Sprintf(message, strings.Repeat("<a/>", 101)), violation)},
		{"stranger's bytes", stranger("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>"+strings.Repeat("x", 2001), violation)},
		{"stranger's elements", stranger("<iq type='set' id='1'>"+strings.Repeat("<a/>", 9), violation)},
	} {
		t.Run(c.name, func(t *testing.T) { xmpptest.Play(t, s, c.name, c.script) })
	}
}

// TestShutdown: every stream ends with system-shutdown when the server stops (RFC 6120 §4.9.3.20).
func TestShutdown(t *testing.T) {
	t.Parallel()
	s := xmpptest.Start(t, xmpptest.Options{})
	c := s.Dial(t, jid.MustParse("romeo@a.test/orchard"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.Halt(t)
	}()
	var failed *client.StreamError
	if _, err := c.Next(ctx); !errors.As(err, &failed) || failed.Condition != stream.SystemShutdown {
		t.Errorf("got %v", err)
	}
	if _, err := c.Next(ctx); !errors.Is(err, client.ErrFooter) {
		t.Errorf("then %v", err)
	}
	c.Drop()
	<-stopped
}

// TestDisabled: an account that is disabled cannot log in, and is told why once the password was right (RFC 6120 §6.5.2).
func TestDisabled(t *testing.T) {
	t.Parallel()
	s := xmpptest.Start(t, xmpptest.Options{})
	who := jid.MustParse("romeo@a.test/orchard")
	s.Account(t, who.Bare())
	if err := s.Core().Accounts.SetDisabled(t.Context(), who.Bare(), true); err != nil {
		t.Fatal(err)
	}
	for password, want := range map[string]sasl.Condition{xmpptest.Password: sasl.AccountDisabled, "wrong": sasl.NotAuthorized} {
		for _, mechanism := range []string{"SCRAM-SHA-256-PLUS", "PLAIN"} {
			cfg := s.Config(who)
			cfg.Password, cfg.Mechanism = password, mechanism
			var failure *sasl.Failure
			if _, err := client.Dial(t.Context(), cfg); !errors.As(err, &failure) || failure.Condition != want {
				t.Errorf("%s with password %q: %v, awaited %s", mechanism, password, err, want)
			}
		}
	}
}
