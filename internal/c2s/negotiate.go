package c2s

import (
	"context"
	"crypto/tls"
	"slices"
	"time"

	"github.com/starling-im/starling/internal/account"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/sasl"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/stream"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// Namespaces of the negotiation.
const (
	nsTLS     = "urn:ietf:params:xml:ns:xmpp-tls"
	nsSASL    = "urn:ietf:params:xml:ns:xmpp-sasl"
	nsBind    = "urn:ietf:params:xml:ns:xmpp-bind"
	nsSession = "urn:ietf:params:xml:ns:xmpp-session"
	nsBinding = "urn:xmpp:sasl-cb:0"
	nsLimits  = "urn:xmpp:stream-limits:0"
)

// negotiation is what a connection needs until its resource is bound.
type negotiation struct {
	timer     *time.Timer // ends the connection when it takes too long
	from      jid.JID     // who the client's header says it is
	user      jid.JID     // bare JID once authenticated
	anonymous bool
	offered   []string // SASL mechanisms, as sent
	mechanism string   // of the exchange under way
	exchange  *sasl.Server
	wants     *wants // of <authenticate/>; nil in the profile of RFC 6120
	attempt   *account.Attempt
	failures  int // failed attempts to authenticate
}

func (n *negotiation) authenticated() bool { return !n.user.IsZero() }

// claimed is whom the exchange under way is about, as far as it is known.
func (n *negotiation) claimed() jid.JID {
	if n.attempt == nil {
		return jid.JID{}
	}
	return n.attempt.User()
}

func (n *negotiation) stop() { n.timer.Stop() }

// maxLang is longer than any language tag of use. The default language of a stream is written on each of its
// stanzas, so a longer one would make much of little. Choice: it counts as none.
const maxLang = 64

// header handles the client's stream header, the first or after a restart.
func (c *conn) header(it *xml.Item) error {
	if c.talks == nil {
		return stream.Err(stream.BadFormat, "the stream is open already")
	}
	h, err := stream.ParseHeader(it, c.reader.Stream(), xml.NSClient)
	if len(h.Lang) > maxLang {
		h.Lang = ""
	}
	reply := c.srv.defaultHeader()
	reply.To, reply.Lang = h.From.Bare(), responseLang(h.Lang)
	if h.Version.Major == 0 {
		reply.Version = stream.Version{} // RFC 6120 §4.7.5 rule 4
	}
	host, known := c.srv.host(h.To)
	if known {
		reply.From = host
	}
	c.openResponse(reply)
	switch {
	case err != nil:
		return err
	case !known: // RFC 6120 §4.9.3.6
		return stream.Err(stream.HostUnknown, "")
	case !h.From.IsZero() && h.From.Host() != host: // XEP-0388 §2.1
		return stream.Err(stream.InvalidFrom, "")
	case c.domain.IsZero():
		c.domain = host
	case c.domain != host:
		// The identity was proven to the first domain; another one would inherit it.
		return stream.Err(stream.HostUnknown, "the domain of a connection cannot change")
	}
	if t := c.talks; t.authenticated() && !h.From.IsZero() && h.From.Bare() != t.user && !t.anonymous {
		return stream.Err(stream.InvalidFrom, "") // RFC 6120 §4.9.3.9
	}
	c.talks.from = h.From.Bare()
	c.lang = h.Lang
	c.sendFeatures()
	return nil
}

// responseLang is the language of our texts: RFC 6120 §4.7.4.
func responseLang(asked string) string {
	if asked == "en" || len(asked) > 3 && asked[:3] == "en-" {
		return asked
	}
	return "en"
}

// openResponse sends our header.
func (c *conn) openResponse(h stream.Header) {
	c.opened.Store(true)
	c.send(h.Append(nil))
}

// restart expects a new header after TLS or SASL (RFC 6120 §4.3.3).
func (c *conn) restart() {
	c.reader.Restart()
	c.opened.Store(false)
}

// sendFeatures offers what may come next (RFC 6120 §4.3.2).
func (c *conn) sendFeatures() { c.send(c.appendFeatures(nil)) }

// appendFeatures renders the offer, in the order of XEP-0170 §2.1.
func (c *conn) appendFeatures(dst []byte) []byte {
	event := module.FeatureEvent{Stranger: c.stranger(), Authenticated: c.talks.authenticated()}
	if c.mayAuthenticate() {
		if err := c.srv.core.Hooks.Features.Each(c.ctx, &event); err != nil {
			c.srv.log.Error("stream features not complete", "err", err)
		}
	}
	dst = append(dst, "<stream:features>"...) // the prefix that our header declares
	switch {
	case c.sess != nil: // bound together with the log-in
		event.Add = slices.DeleteFunc(event.Add, func(e xml.Element) bool { return e.Space == nsSM && c.in != nil })
	case event.Authenticated:
		dst = appendElements(dst, xml.New(nsBind, "bind"), xml.New(nsSession, "session").With(xml.New(nsSession, "optional")))
	default:
		dst = append(dst, c.offer(event.Inline)...)
	}
	dst = appendElements(dst, event.Add...)
	dst = appendElements(dst, c.srv.limitsFeature(event.Authenticated))
	return append(dst, "</stream:features>"...)
}

// appendElements renders elements as they stand in a stream of clients.
func appendElements(dst []byte, all ...xml.Element) []byte {
	for i := range all {
		dst = all[i].Append(dst, xml.NSClient)
	}
	return dst
}

// mayAuthenticate is the one gate in front of authentication: encrypted, or the
// operator allows to do without.
func (c *conn) mayAuthenticate() bool {
	_, encrypted := c.sock.TLSState()
	return encrypted || c.srv.opts.AllowPlaintext
}

func (c *conn) stranger() module.Stranger {
	_, encrypted := c.sock.TLSState()
	return module.Stranger{Domain: c.domain, Addr: c.sock.RemoteAddr().Addr(), Encrypted: encrypted}
}

// negotiate handles an element before a resource is bound.
func (c *conn) negotiate(it *xml.Item) error {
	e := it.Element()
	switch {
	case e.Space == nsTLS && e.Local == "starttls":
		return c.startTLS()
	case c.talks.exchanging2() && e.Space != nsSASL2: // XEP-0388 §2.4
		return stream.Err(stream.PolicyViolation, "nothing else may be sent during authentication")
	case e.Space == nsSASL2:
		return c.sasl2(&e)
	case e.Space == nsSASL:
		return c.sasl(&e)
	case e.Space == nsSM:
		return c.strangerManages(&e)
	case kindOf(it) == stanza.IQ:
		return c.negotiateIQ(it)
	case kindOf(it) != 0: // RFC 6120 §4.9.3.12, §7.1
		return stream.Err(stream.NotAuthorized, "")
	}
	return stream.Err(stream.UnsupportedStanzaType, "")
}

// startTLS begins the TLS negotiation: RFC 6120 §5.4.
func (c *conn) startTLS() error {
	_, encrypted := c.sock.TLSState()
	if encrypted || c.talks.authenticated() {
		c.done = true
		if c.ended.CompareAndSwap(false, true) {
			err := stream.Err(stream.PolicyViolation, "starttls is not offered")
			c.report(err, err, c.user())
			c.close([]byte("<failure xmlns='"+nsTLS+"'/>"), err) // RFC 6120 §5.4.2.2
		}
		return nil
	}
	c.sock.Append([]byte("<proceed xmlns='" + nsTLS + "'/>"))
	c.reader.Discard() // RFC 6120 §5.4.3.3: nothing sent before TLS counts
	c.restart()
	c.lang, c.talks.from = "", jid.JID{}
	var cfg *tls.Config
	cfg, c.served = c.srv.door.Connection(c.domain.Domain())
	c.sock.StartTLS(cfg)
	return nil
}

// negotiateIQ binds a resource, or answers what strangers may ask.
func (c *conn) negotiateIQ(it *xml.Item) error {
	st, err := stanza.Parse(it, jid.JID{}, "")
	if err != nil || !st.IsRequest() {
		return stream.Err(stream.NotAuthorized, "")
	}
	p := st.Children()[0]
	switch {
	case c.talks.authenticated():
		if p.Space != nsBind || p.Local != "bind" || st.Type != stanza.Set {
			return stream.Err(stream.NotAuthorized, "a resource has to be bound first") // RFC 6120 §7.1
		}
		c.async(func(ctx context.Context) error { return c.bind(ctx, st) })
		return nil
	case c.mayAuthenticate():
		if handle := c.srv.set.StrangerHandler(st.Type, p.Space, p.Local); handle != nil {
			c.async(func(ctx context.Context) error {
				payload, err := handle(ctx, c.stranger(), st)
				c.answerStranger(st, payload, err)
				return nil
			})
			return nil
		}
	}
	return stream.Err(stream.NotAuthorized, "")
}

// answerStranger sends the reply to an iq of somebody who has no address yet.
func (c *conn) answerStranger(iq *stanza.Stanza, payload xml.Element, err error) {
	reply := c.srv.router.Answer(iq, payload, err)
	c.send([]byte(reply.WithAddresses(c.domain, jid.JID{}).String()))
}
