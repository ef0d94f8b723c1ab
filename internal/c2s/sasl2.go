package c2s

import (
	"context"
	"strings"

	"github.com/starling-im/starling/internal/account"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/sasl"
	"github.com/starling-im/starling/internal/xmpp/stream"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// nsSASL2 is the namespace of the extensible SASL profile (XEP-0388).
const nsSASL2 = "urn:xmpp:sasl:2"

// maxAgent bounds the id that a client gives itself, which is to be a UUID (XEP-0388 §2.3). Choice: any other text does, too;
// one that is longer counts as none.
const maxAgent = 128

// wants is what a client asks for with <authenticate/> (XEP-0388 §2.3).
type wants struct {
	agent     string            // id of the client; empty if it has none
	resume    *xml.Element      // XEP-0198 §9.2
	bind      *xml.Element      // XEP-0386 §3.2
	token     string            // mechanism for which a token is asked for (XEP-0484 §3.2); empty for none
	use       *account.TokenUse // the token that the client comes with (XEP-0484 §3.4)
	tasks     []sasl.Hash       // upgrades that are left to do (XEP-0480 §2.2)
	task      *upgrade          // the one under way
	pending   jid.JID           // who is going to be logged in when the tasks are done
	requested []sasl.Hash       // upgrades
}

// exchanging2 tells whether an exchange of this profile is under way, during which nothing else may be sent.
func (n *negotiation) exchanging2() bool {
	return n.wants != nil && (n.exchange != nil || !n.wants.pending.IsZero())
}

// authenticationFeature offers the profile, and what may be asked for together with the log-in (XEP-0388 §2.1).
func (c *conn) authenticationFeature(bindings []sasl.Binding, inline []string) xml.Element {
	e := xml.New(nsSASL2, "authentication")
	for _, m := range c.talks.offered {
		e = e.With(xml.New(nsSASL2, "mechanism").WithText(m))
	}
	all := xml.New(nsSASL2, "inline").With(c.bindFeature(inline))
	if c.srv.opts.Management.On {
		all = all.With(xml.New(nsSM, "sm")) // XEP-0198 §9.2
	}
	if fast := c.fastMechanisms(bindings); len(fast) > 0 {
		all = all.With(fastFeature(fast))
	}
	e = e.With(all)
	for _, h := range c.upgrades() {
		e = e.With(xml.New(nsUpgrade, "upgrade").WithText(taskPrefix + h.Name()))
	}
	return e
}

// sasl2 handles the elements of the profile: XEP-0388 §2.3 to §2.6.
func (c *conn) sasl2(e *xml.Element) error {
	t := c.talks
	if t.authenticated() || e.Local == "authenticate" && t.exchanging2() { // XEP-0388 §4.8
		return stream.Err(stream.PolicyViolation, "authentication was begun already")
	}
	if t.wants == nil {
		t.wants, t.exchange = &wants{}, nil
	}
	if _, encrypted := c.sock.TLSState(); !encrypted { // XEP-0388 §3
		return c.refuse(&sasl.Failure{Condition: sasl.EncryptionRequired})
	}
	switch e.Local {
	case "authenticate":
		return c.authenticate2(e)
	case "response":
		if t.exchange == nil {
			return c.refuse(&sasl.Failure{Condition: sasl.MalformedRequest, Text: "no exchange is under way"})
		}
		return c.stepAuth(decode2(e))
	case "next", "task-data":
		return c.upgrade(e)
	case "abort": // XEP-0388 §4.5
		return c.refuse(&sasl.Failure{Condition: sasl.Aborted})
	}
	return stream.Err(stream.UnsupportedStanzaType, "")
}

// authenticate2 begins an exchange.
func (c *conn) authenticate2(e *xml.Element) error {
	cfg := c.saslConfig()
	t := c.talks
	w := &wants{resume: e.Child(nsSM, "resume"), bind: e.Child(nsBind2, "bind"), requested: requestedUpgrades(e)}
	if id := e.Child(nsSASL2, "user-agent").Attr("id"); len(id) <= maxAgent {
		w.agent = id
	}
	t.wants = w
	fast := c.fastMechanisms(cfg.Bindings)
	if ask := e.Child(nsFAST, "request-token"); ask != nil {
		w.token = oneOf(ask.Attr("mechanism"), fast)
	}
	if use := e.Child(nsFAST, "fast"); use != nil {
		if err := c.useToken(w, use, cfg); err != nil {
			return c.refuse(err)
		}
		cfg.Offered = fast
	}
	return c.beginAuth(e.Attr("mechanism"), cfg, func() ([]byte, error) {
		initial := e.Child(nsSASL2, "initial-response")
		if initial == nil {
			return nil, nil
		}
		return decode2(initial)
	})
}

// decode2 reads data. XEP-0388 §2.2: an empty element is an empty text. Choice: white space around is no harm.
func decode2(e *xml.Element) ([]byte, error) {
	switch text := strings.TrimSpace(e.Text()); text {
	case "":
		return []byte{}, nil
	case "=":
		return nil, &sasl.Failure{Condition: sasl.IncorrectEncoding}
	default:
		return sasl.Decode([]byte(text))
	}
}

// encode2 writes data likewise.
func encode2(data []byte) string {
	if len(data) == 0 {
		return ""
	}
	return sasl.Encode(data)
}

// proven goes on when a client has proven who it is: with the tasks that it has asked for, or to success.
func (c *conn) proven(ctx context.Context, user jid.JID, out []byte) error {
	w := c.talks.wants
	c.planUpgrades()
	if len(w.tasks) == 0 {
		return c.succeed(ctx, user, out)
	}
	w.pending, c.talks.exchange = user, nil
	c.nextTask(out)
	return nil
}

// succeed does all that the client has asked for, and tells it: XEP-0388 §2.6.1. What it sees first of the session is
// <success/>, and what comes for it follows.
func (c *conn) succeed(ctx context.Context, user jid.JID, out []byte) error {
	w := c.talks.wants
	w.pending = jid.JID{}
	token, err := c.newToken(ctx, user)
	if err != nil {
		return c.refuse(err)
	}
	c.admit(ctx, user)
	success := xml.New(nsSASL2, "success")
	if out != nil {
		success = success.With(xml.New(nsSASL2, "additional-data").WithText(encode2(out)))
	}
	var results []xml.Element
	resumed := false
	if w.resume != nil {
		answer, ok, err := c.takeOver(ctx, w.resume)
		if err != nil {
			return err
		}
		resumed, results = ok, append(results, answer)
	}
	if w.bind != nil && !resumed { // XEP-0386 §3.2
		bound, err := c.bind2(ctx, w)
		if err != nil {
			c.expel()
			return c.refuse(err)
		}
		if !bound.IsNone() {
			results = append(results, bound)
		}
	}
	identity := user
	if c.sess != nil {
		identity = c.sess.JID
	}
	success = success.With(xml.New(nsSASL2, "authorization-identifier").WithText(identity.String())).With(results...)
	if !token.IsNone() {
		success = success.With(token)
	}
	b := success.Append(nil, xml.NSClient)
	if !resumed { // XEP-0198 §9.2: a stream that is resumed has its features
		b = c.appendFeatures(b)
	}
	c.send(b)
	if c.sess != nil {
		c.begin()
	}
	return nil
}

// expel takes admit back: the client has not been told.
func (c *conn) expel() {
	c.talks.user, c.talks.anonymous = jid.JID{}, false
	c.reader.Limits = c.srv.opts.StrangerLimits
}

// oneOf is the name if it is one of those, else empty.
func oneOf(name string, names []string) string {
	for _, n := range names {
		if n == name {
			return n
		}
	}
	return ""
}
