package c2s

import (
	"crypto/x509"
	"errors"
	"slices"
	"strings"

	"github.com/starling-im/starling/internal/certs"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/sasl"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// situation is all that the offer to a stranger depends on.
type situation struct {
	domain    jid.JID
	encrypted bool
	external  bool
	bindings  string // types
}

// offer is what a stranger may do to log in, rendered: the same for all who are in one situation, so that it is put together
// once.
type offer struct {
	text       []byte
	mechanisms []string // in order
}

// offer returns the features of a stranger, and notes the mechanisms among them.
func (c *conn) offer(inline []string) []byte {
	var bindings []sasl.Binding
	if c.mayAuthenticate() {
		bindings = c.bindings()
	}
	_, encrypted := c.sock.TLSState()
	types := sasl.BindingTypes(bindings)
	key := situation{c.domain, encrypted, c.certificate() != nil, strings.Join(types, " ")}
	if known, ok := c.srv.offers.Load(key); ok {
		o := known.(*offer)
		c.talks.offered = o.mechanisms
		return o.text
	}
	o := &offer{}
	if !encrypted {
		tls := xml.New(nsTLS, "starttls")
		if !c.srv.opts.AllowPlaintext {
			tls = tls.With(xml.New(nsTLS, "required")) // RFC 6120 §5.3.1
		}
		o.text = appendElements(o.text, tls)
	}
	if c.mayAuthenticate() {
		c.talks.offered = c.mechanisms(len(bindings) > 0)
		o.mechanisms = c.talks.offered
		o.text = appendElements(o.text, c.mechanismFeatures(bindings, inline)...)
	}
	c.srv.offers.Store(key, o)
	return o.text
}

// mechanismFeatures offers the mechanisms that can be used on this connection, in both profiles, and the
// types of channel binding (XEP-0440 §3).
func (c *conn) mechanismFeatures(bindings []sasl.Binding, inline []string) []xml.Element {
	list := xml.New(nsSASL, "mechanisms")
	for _, m := range c.talks.offered {
		list = list.With(xml.New(nsSASL, "mechanism").WithText(m))
	}
	all := []xml.Element{list}
	if _, encrypted := c.sock.TLSState(); encrypted && len(c.talks.offered) > 0 { // XEP-0388 §3
		all = append(all, c.authenticationFeature(bindings, inline))
	}
	if len(bindings) == 0 {
		return all
	}
	types := xml.New(nsBinding, "sasl-channel-binding")
	for _, t := range sasl.BindingTypes(bindings) {
		types = types.With(xml.New(nsBinding, "channel-binding", "type", t))
	}
	return append(all, types)
}

// mechanisms names what is offered, strongest first: what the operator allows, as far
// as this connection can bear it.
func (c *conn) mechanisms(binding bool) []string {
	var names []string
	if c.certificate() != nil {
		names = append(names, sasl.External) // XEP-0178 §2
	}
	for _, m := range c.srv.opts.Mechanisms {
		if !strings.HasSuffix(m, "-PLUS") || binding {
			names = append(names, m)
		}
	}
	if slices.Contains(c.srv.opts.Anonymous, c.domain.Domain()) {
		names = append(names, sasl.Anonymous)
	}
	return names
}

// bindings computes what this connection can be told by; none without TLS.
func (c *conn) bindings() []sasl.Binding {
	state, encrypted := c.sock.TLSState()
	if !encrypted {
		return nil
	}
	var all []sasl.Binding
	if data, err := sasl.TLSExporter(&state); err == nil {
		all = append(all, sasl.Binding{Type: sasl.TLSExporterType, Data: data})
	}
	if cert := c.served.Certificate(); cert != nil {
		if data := sasl.ServerEndPoint(cert.Leaf); data != nil {
			all = append(all, sasl.Binding{Type: sasl.TLSServerEndPointType, Data: data})
		}
	}
	return all
}

// certificate is the client's own, if it showed one that a trusted authority signed.
func (c *conn) certificate() *x509.Certificate {
	state, encrypted := c.sock.TLSState()
	if !encrypted || c.srv.opts.ClientCAs == nil {
		return nil
	}
	cert, err := certs.VerifyClient(state, c.srv.opts.ClientCAs)
	if err != nil {
		return nil
	}
	return cert
}

// saslConfig is what an exchange on this connection depends on. It begins an attempt to log in.
func (c *conn) saslConfig() *sasl.ServerConfig {
	c.talks.attempt = c.srv.core.Accounts.Attempt(c.domain.Domain(), c.sock.RemoteAddr().Addr())
	return &sasl.ServerConfig{
		Domain:      c.domain.Domain(),
		Credentials: c.talks.attempt,
		Bindings:    c.bindings(),
		Offered:     c.talks.offered,
		External:    c.external,
		Anonymous:   func() (string, error) { return newResource(), nil },
	}
}

// external decides who the holder of the client's certificate is (XEP-0178 §2).
func (c *conn) external(authzid string) (string, error) {
	cert := c.certificate()
	if cert == nil {
		return "", &sasl.Failure{Condition: sasl.NotAuthorized}
	}
	addrs, err := sasl.XMPPAddrs(cert)
	if err != nil {
		return "", &sasl.Failure{Condition: sasl.NotAuthorized, Err: err}
	}
	var mine []jid.JID
	for _, a := range addrs {
		if j, err := jid.Parse(a); err == nil && j.IsBare() && j.Local() != "" && j.Domain() == c.domain.Domain() {
			mine = append(mine, j)
		}
	}
	switch {
	case len(mine) == 1 && authzid == "":
		return mine[0].Local(), nil
	case len(mine) == 0:
		return "", &sasl.Failure{Condition: sasl.NotAuthorized, Err: errors.New("the certificate names nobody of this domain")}
	case authzid == "":
		return "", &sasl.Failure{Condition: sasl.InvalidAuthzid, Err: errors.New("the certificate names several accounts")}
	}
	j, err := jid.Parse(authzid)
	if err != nil || !slices.Contains(mine, j) {
		return "", &sasl.Failure{Condition: sasl.InvalidAuthzid, Err: err}
	}
	return j.Local(), nil
}
