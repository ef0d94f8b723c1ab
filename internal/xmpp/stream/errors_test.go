package stream_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/starling-im/starling/internal/xmpp/stream"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

func TestErrorAppend(t *testing.T) {
	secret := errors.New("secret")
	for name, tc := range map[string]struct {
		in   error
		want string
	}{
		"condition":   {stream.Err(stream.HostUnknown, ""), "<host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"},
		"text":        {stream.Err(stream.PolicyViolation, "a < b"), "<policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/><text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>a &lt; b</text>"},
		"cause":       {stream.Err(stream.NotAuthorized, "").Because(secret), "<not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"},
		"wrapped":     {fmt.Errorf("secret: %w", stream.Err(stream.Conflict, "")), "<conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"},
		"other host":  {stream.SeeOther("[2001:db8::1]:5222"), "<see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>[2001:db8::1]:5222</see-other-host>"},
		"anything":    {secret, "<internal-server-error xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"},
		"syntax":      {&xml.SyntaxError{Condition: xml.NotWellFormed}, "<not-well-formed xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"},
		"size":        {&xml.SyntaxError{Condition: xml.PolicyViolation, AppCondition: xml.StanzaTooBig, Text: "big"}, "<policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/><text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>big</text><stanza-too-big xmlns='urn:xmpp:errors'/>"},
		"application": {&stream.Error{Condition: stream.UndefinedCondition, App: xml.New("urn:x", "x")}, "<undefined-condition xmlns='urn:ietf:params:xml:ns:xmpp-streams'/><x xmlns='urn:x'/>"},
	} {
		t.Run(name, func(t *testing.T) {
			e := stream.AsError(tc.in)
			want := "<stream:error>" + tc.want + "</stream:error>"
			if got := string(e.Append(nil)); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			e.Because(errors.New("other")) // makes a copy
			if again := string(e.Append(nil)); again != want {
				t.Errorf("after Because: %s", again)
			}
		})
	}
	err := stream.AsError(stream.Err(stream.NotAuthorized, "no").Because(secret))
	if !errors.Is(err, secret) || !strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "not-authorized: no") {
		t.Errorf("what the log sees: %v", err)
	}
	if err := stream.AsError(secret); !errors.Is(err, secret) {
		t.Errorf("the cause of an internal error is lost: %v", err)
	}
}
