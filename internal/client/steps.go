package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"

	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/sasl"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

const (
	nsTLS      = "urn:ietf:params:xml:ns:xmpp-tls"
	nsSASL     = "urn:ietf:params:xml:ns:xmpp-sasl"
	nsBinding  = "urn:xmpp:sasl-cb:0"
	nsBind     = "urn:ietf:params:xml:ns:xmpp-bind"
	nsRegister = "jabber:iq:register"
)

// OpenStream sends a stream header, for the first time or anew after TLS or SASL, and returns the server's features.
// RFC 6120 §4.7.1: once there is TLS, the header says who the client is.
func (c *Conn) OpenStream(ctx context.Context, to string) (xml.Element, error) {
	c.in.restart()
	if err := c.Raw(ctx, c.streamHeader(to)); err != nil {
		return xml.None, err
	}
	err := c.streamOpened(ctx)
	return c.features, err
}

// streamHeader is what opens a stream.
func (c *Conn) streamHeader(to string) []byte {
	h := []byte("<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'")
	h = appendAttr(h, "to", to)
	if c.TLS() != nil && c.cfg.JID.Local() != "" {
		h = appendAttr(h, "from", c.cfg.JID.Bare().String())
	}
	return append(h, '>')
}

// streamOpened reads the server's header and features.
func (c *Conn) streamOpened(ctx context.Context) error {
	if _, err := c.receive(ctx); err != nil { // the header
		return err
	}
	return c.readFeatures(ctx)
}

// readFeatures reads the features, of a new stream or after XEP-0388's success.
func (c *Conn) readFeatures(ctx context.Context) error {
	e, err := c.receive(ctx)
	if err != nil {
		return err
	}
	if e.Space != xml.NSStream || e.Local != "features" {
		return unexpected("stream features", e)
	}
	c.features = e
	return nil
}

func appendAttr(dst []byte, name, value string) []byte {
	dst = append(append(append(dst, ' '), name...), "='"...)
	return append(xml.AppendAttr(dst, value), '\'')
}

// StartTLS negotiates TLS (RFC 6120 §5.4). The stream has to be opened again afterwards.
func (c *Conn) StartTLS(ctx context.Context) error {
	if err := c.Send(ctx, xml.New(nsTLS, "starttls")); err != nil {
		return err
	}
	e, err := c.receive(ctx)
	if err != nil {
		return err
	}
	if e.Space != nsTLS || e.Local != "proceed" {
		return unexpected("leave to start TLS", e)
	}
	if c.in.pending() { // whoever sent it is not protected by the TLS that follows
		return errors.New("bytes between <proceed/> and TLS")
	}
	return c.handshake(ctx)
}

// Authenticate logs in by SASL (RFC 6120 §6.4) with the mechanism, offered or not. If mechanism is empty it takes the
// strongest that was offered, PLAIN only under TLS. The error is a *sasl.Failure if the server refuses, and the stream
// may then be used for another try. After success it has to be opened again.
func (c *Conn) Authenticate(ctx context.Context, mechanism string) error {
	cfg := c.saslConfig()
	if mechanism == "" {
		if mechanism = c.choose(cfg); mechanism == "" {
			return fmt.Errorf("no mechanism to use among %q", cfg.Offered)
		}
	}
	exchange, err := sasl.NewClient(mechanism, cfg)
	if err != nil {
		return err
	}
	initial, err := exchange.Step(nil)
	if err != nil {
		return err
	}
	next := xml.New(nsSASL, "auth", "mechanism", mechanism).WithText(sasl.Encode(initial))
	for {
		if err := c.Send(ctx, next); err != nil {
			return err
		}
		e, err := c.receive(ctx)
		if err != nil {
			return err
		}
		switch {
		case e.Space == nsSASL && e.Local == "challenge":
			response, err := answer(exchange, &e)
			if err != nil {
				return err
			}
			next = xml.New(nsSASL, "response").WithText(sasl.Encode(response))
		case e.Space == nsSASL && e.Local == "success":
			return finish(exchange, &e)
		case e.Space == nsSASL && e.Local == "failure":
			return newFailure(e)
		default:
			return unexpected("the answer of SASL", e)
		}
	}
}

func answer(exchange *sasl.Client, e *xml.Element) ([]byte, error) {
	challenge, err := sasl.Decode([]byte(e.Text()))
	if err != nil {
		return nil, err
	}
	return exchange.Step(challenge)
}

// finish checks what came with success (RFC 6120 §6.4.6).
func finish(exchange *sasl.Client, e *xml.Element) error {
	if e.Text() != "" {
		if _, err := answer(exchange, e); err != nil {
			return err
		}
	}
	if !exchange.Done() {
		return sasl.ErrServer
	}
	return nil
}

// saslConfig gathers what the server offers and what the connection has.
func (c *Conn) saslConfig() *sasl.ClientConfig {
	cfg := &sasl.ClientConfig{Username: c.cfg.JID.Local(), Password: c.cfg.Password}
	for m := range c.features.Child(nsSASL, "mechanisms").Elements() {
		cfg.Offered = append(cfg.Offered, m.Text())
	}
	for b := range c.features.Child(nsBinding, "sasl-channel-binding").Elements() {
		cfg.BindingTypes = append(cfg.BindingTypes, b.Attr("type"))
	}
	if secure := c.TLS(); secure != nil {
		cfg.Binding = bindingOf(secure.ConnectionState(), cfg.BindingTypes)
	}
	return cfg
}

// bindingOf returns the best channel binding that both ends have, or none (XEP-0440 §3). From a server that does not name
// its types, tls-exporter is expected with TLS 1.3 (RFC 9266 §3).
func bindingOf(state tls.ConnectionState, types []string) sasl.Binding {
	if len(types) == 0 || slices.Contains(types, sasl.TLSExporterType) {
		if data, err := sasl.TLSExporter(&state); err == nil {
			return sasl.Binding{Type: sasl.TLSExporterType, Data: data}
		}
	}
	if len(types) == 0 || slices.Contains(types, sasl.TLSServerEndPointType) {
		if data := sasl.ServerEndPoint(state.PeerCertificates[0]); data != nil {
			return sasl.Binding{Type: sasl.TLSServerEndPointType, Data: data}
		}
	}
	return sasl.Binding{}
}

// choose returns the strongest mechanism that can be used, or "".
func (c *Conn) choose(cfg *sasl.ClientConfig) string {
	for _, m := range sasl.Mechanisms(cfg.Offered...) {
		_, plus, scram := sasl.ParseScram(m)
		switch {
		case cfg.Username == "":
			if m == sasl.Anonymous {
				return m
			}
		case scram && (!plus || cfg.Binding.Type != ""), m == sasl.Plain && c.TLS() != nil:
			return m
		}
	}
	return ""
}

// Bind binds a resource (RFC 6120 §7.7), or one of the server's choice if resource is empty (RFC 6120 §7.6), and
// returns the full JID.
func (c *Conn) Bind(ctx context.Context, resource string) (jid.JID, error) {
	bind := xml.New(nsBind, "bind")
	if resource != "" {
		bind = bind.With(xml.New(nsBind, "resource").WithText(resource))
	}
	reply, err := c.IQ(ctx, xml.New(xml.NSClient, "iq", "type", "set").With(bind))
	if err != nil {
		return jid.JID{}, err
	}
	j, err := jid.Parse(reply.Child(nsBind, "bind").Child(nsBind, "jid").Text())
	if err != nil {
		return jid.JID{}, fmt.Errorf("bind: %w", err)
	}
	c.bound = j
	return j, nil
}

// Register makes an account on a stream that has not authenticated (XEP-0077 §3.1).
func (c *Conn) Register(ctx context.Context, username, password string) error {
	query := xml.New(nsRegister, "query")
	to := c.cfg.JID.Domain()
	form, err := c.IQ(ctx, xml.New(xml.NSClient, "iq", "type", "get", "to", to).With(query))
	if err != nil {
		return err
	}
	asked := form.Child(nsRegister, "query")
	for _, field := range []string{"username", "password"} {
		if asked.Child(nsRegister, field) == nil {
			return fmt.Errorf("the registration form does not ask for a %s", field)
		}
	}
	query = query.With(xml.New(nsRegister, "username").WithText(username), xml.New(nsRegister, "password").WithText(password))
	_, err = c.IQ(ctx, xml.New(xml.NSClient, "iq", "type", "set", "to", to).With(query))
	return err
}

// Register connects, secures the stream, makes the account of cfg with its password and closes the stream. The error
// is a *StanzaError with stanza.Conflict if the account exists already.
func Register(ctx context.Context, cfg Config) error {
	c, err := Connect(ctx, cfg)
	if err != nil {
		return err
	}
	defer c.Drop()
	if err := c.secure(ctx); err != nil {
		return fmt.Errorf("register %s at %s: %w", cfg.JID, cfg.Addr, err)
	}
	if err := c.Register(ctx, cfg.JID.Local(), cfg.Password); err != nil {
		return fmt.Errorf("register %s at %s: %w", cfg.JID, cfg.Addr, err)
	}
	return c.Close(ctx)
}
