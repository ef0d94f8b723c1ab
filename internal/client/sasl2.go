package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/starling-im/starling/internal/xmpp/datetime"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/sasl"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

const (
	nsSASL2   = "urn:xmpp:sasl:2"
	nsBind2   = "urn:xmpp:bind:0"
	nsFAST    = "urn:xmpp:fast:0"
	nsCarbons = "urn:xmpp:carbons:2"
	nsCSI     = "urn:xmpp:csi:0"
	nsMAM     = "urn:xmpp:mam:2"
	nsUpgrade = "urn:xmpp:sasl:upgrade:0"
	nsScram   = "urn:xmpp:scram-upgrade:0"

	taskPrefix = "UPGR-"
)

// Token is what a client logs in with instead of its password (XEP-0484).
type Token struct {
	Mechanism string // with which alone it can be used
	Text      string
	Expires   time.Time
}

// Wish is what a client asks for together with its log-in (XEP-0388). The zero Wish is to authenticate.
type Wish struct {
	Mechanism string // empty: the strongest offered, or that of the token
	Agent     string // id of this client, for tokens and a stable resource

	Token      *Token // to log in with
	Count      int    // of uses of the token; 0 for not counting
	Invalidate bool   // it is its last use
	NewToken   string // mechanism for which a token is asked for

	Upgrades []sasl.Hash // for which the client would give the keys of its password (XEP-0480)

	Bind     bool // XEP-0386; with it go:
	Tag      string
	Carbons  bool
	Inactive bool
	Manage   bool // XEP-0198 §9.1, so that the session can be resumed

	Resume *Managed // a session to go on with (XEP-0198 §9.2)
	// Early sends everything together with the stream header, for a server whose features are known: one round trip. It
	// needs a mechanism of one message, such as those of tokens.
	Early bool
}

// Granted is what the server has answered.
type Granted struct {
	JID      jid.JID     // full, unless nothing was bound
	Token    *Token      // new one; nil for none
	Managed  *Managed    // the session with stream management: the resumed one, or a new one; nil for none
	Resumed  bool        // it is Wish.Resume
	Metadata xml.Element // of the archive; None for none
	Success  xml.Element
}

// Login2 connects, secures the stream, and authenticates by the extensible profile with all that the wish says.
func Login2(ctx context.Context, cfg Config, w Wish) (*Conn, *Granted, error) {
	c, err := Connect(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	var g *Granted
	early := w.Early && (cfg.TLS == Direct)
	if w.Early = early; !early {
		err = c.secure(ctx)
	}
	if err == nil {
		g, err = c.Authenticate2(ctx, w)
	}
	if err != nil {
		c.Drop()
		return nil, nil, fmt.Errorf("log in as %s at %s: %w", cfg.JID, cfg.Addr, err)
	}
	return c, g, nil
}

// Authenticate2 logs in by the extensible profile of SASL (XEP-0388 §2.3), and binds or resumes as the wish says. The error
// is a *sasl.Failure if the server refuses, and the stream may then be used for another try.
func (c *Conn) Authenticate2(ctx context.Context, w Wish) (*Granted, error) {
	cfg := c.saslConfig2(&w)
	if w.Mechanism == "" {
		if w.Mechanism = c.choose(cfg); w.Mechanism == "" {
			return nil, fmt.Errorf("no mechanism to use among %q", cfg.Offered)
		}
	}
	exchange, err := sasl.NewClient(w.Mechanism, cfg)
	if err != nil {
		return nil, err
	}
	initial, err := exchange.Step(nil)
	if err != nil {
		return nil, err
	}
	request := w.element(initial)
	first := request.Append(nil, xml.NSClient)
	if w.Early {
		c.in.restart()
		first = append(c.streamHeader(c.cfg.JID.Domain()), first...)
	}
	if err := c.Raw(ctx, first); err != nil {
		return nil, err
	}
	if w.Early {
		if err := c.streamOpened(ctx); err != nil {
			return nil, err
		}
	}
	return c.exchange2(ctx, &w, exchange)
}

// exchange2 answers challenges until the server has decided.
func (c *Conn) exchange2(ctx context.Context, w *Wish, exchange *sasl.Client) (*Granted, error) {
	for {
		e, err := c.receive(ctx)
		switch {
		case err != nil:
			return nil, err
		case e.Space != nsSASL2:
			return nil, unexpected("the answer of SASL", e)
		}
		switch e.Local {
		case "challenge":
			response, err := answer(exchange, &e)
			if err != nil {
				return nil, err
			}
			if err := c.Send(ctx, xml.New(nsSASL2, "response").WithText(sasl.Encode(response))); err != nil {
				return nil, err
			}
		case "continue":
			if err := c.upgrade(ctx, w, exchange, &e); err != nil {
				return nil, err
			}
		case "success":
			return c.granted(ctx, w, exchange, e)
		case "failure":
			return nil, newFailure(e)
		default:
			return nil, unexpected("the answer of SASL", e)
		}
	}
}

// upgrade does the task that <continue/> names (XEP-0480 §3), if the server has proven itself.
func (c *Conn) upgrade(ctx context.Context, w *Wish, exchange *sasl.Client, e *xml.Element) error {
	if data := e.Child(nsSASL2, "additional-data"); data != nil {
		if _, err := answer(exchange, data); err != nil {
			return err
		}
	}
	if !exchange.Done() {
		return sasl.ErrServer
	}
	task := e.Child(nsSASL2, "tasks").Child(nsSASL2, "task").Text()
	h, _, ok := sasl.ParseScram(strings.TrimPrefix(task, taskPrefix))
	if !ok || !slices.Contains(w.Upgrades, h) {
		return fmt.Errorf("unknown task %q", task)
	}
	if err := c.Send(ctx, xml.New(nsSASL2, "next", "task", task)); err != nil {
		return err
	}
	data, err := c.receive(ctx)
	if err != nil {
		return err
	}
	salt := data.Child(nsScram, "salt")
	if data.Space != nsSASL2 || data.Local != "task-data" || salt == nil {
		return unexpected("a salt", data)
	}
	raw, err := sasl.Decode([]byte(salt.Text()))
	if err != nil {
		return err
	}
	iterations, err := strconv.Atoi(salt.Attr("iterations"))
	if err != nil {
		return err
	}
	salted, err := sasl.Salted(h, c.cfg.Password, raw, iterations)
	if err != nil {
		return err
	}
	return c.Send(ctx, xml.New(nsSASL2, "task-data").With(xml.New(nsScram, "hash").WithText(sasl.Encode(salted))))
}

// saslConfig2 is saslConfig with what the extensible profile offers.
func (c *Conn) saslConfig2(w *Wish) *sasl.ClientConfig {
	cfg := c.saslConfig()
	cfg.Offered = nil
	for m := range c.features.Child(nsSASL2, "authentication").Elements() {
		if m.Space == nsSASL2 && m.Local == "mechanism" {
			cfg.Offered = append(cfg.Offered, m.Text())
		}
	}
	mechanism := w.Mechanism
	if w.Token != nil {
		cfg.Password = w.Token.Text
		if w.Mechanism == "" {
			w.Mechanism = w.Token.Mechanism
		}
		mechanism = w.Mechanism
	}
	if binding, ok := sasl.ParseHT(mechanism); ok && binding != "" && c.TLS() != nil {
		cfg.Binding = bindingOf(c.TLS().ConnectionState(), []string{binding})
	}
	return cfg
}

// element is <authenticate/>.
func (w *Wish) element(initial []byte) xml.Element {
	e := xml.New(nsSASL2, "authenticate", "mechanism", w.Mechanism)
	if initial != nil {
		e = e.With(xml.New(nsSASL2, "initial-response").WithText(sasl.Encode(initial)))
	}
	if w.Agent != "" {
		e = e.With(xml.New(nsSASL2, "user-agent", "id", w.Agent))
	}
	if w.Token != nil {
		use := xml.New(nsFAST, "fast")
		if w.Count != 0 {
			use = use.WithAttr("count", strconv.Itoa(w.Count))
		}
		if w.Invalidate {
			use = use.WithAttr("invalidate", "true")
		}
		e = e.With(use)
	}
	if w.NewToken != "" {
		e = e.With(xml.New(nsFAST, "request-token", "mechanism", w.NewToken))
	}
	for _, h := range w.Upgrades {
		e = e.With(xml.New(nsUpgrade, "upgrade").WithText(taskPrefix + h.Name()))
	}
	if m := w.Resume; m != nil {
		e = e.With(m.resumeRequest())
	}
	if !w.Bind {
		return e
	}
	bind := xml.New(nsBind2, "bind")
	if w.Tag != "" {
		bind = bind.With(xml.New(nsBind2, "tag").WithText(w.Tag))
	}
	if w.Carbons {
		bind = bind.With(xml.New(nsCarbons, "enable"))
	}
	if w.Inactive {
		bind = bind.With(xml.New(nsCSI, "inactive"))
	}
	if w.Manage {
		bind = bind.With(xml.New(nsSM, "enable", "resume", "true"))
	}
	return e.With(bind)
}

// granted reads <success/> and what comes with it (XEP-0388 §2.6.1).
func (c *Conn) granted(ctx context.Context, w *Wish, exchange *sasl.Client, e xml.Element) (*Granted, error) {
	if data := e.Child(nsSASL2, "additional-data"); data != nil {
		if _, err := answer(exchange, data); err != nil {
			return nil, err
		}
	}
	if !exchange.Done() {
		return nil, sasl.ErrServer
	}
	g := &Granted{Success: e, Metadata: xml.None}
	var err error
	if g.JID, err = jid.Parse(e.Child(nsSASL2, "authorization-identifier").Text()); err != nil {
		return nil, fmt.Errorf("who is logged in: %w", err)
	}
	if t := e.Child(nsFAST, "token"); t != nil {
		g.Token = &Token{Mechanism: w.NewToken, Text: t.Attr("token")}
		if g.Token.Mechanism == "" && w.Token != nil {
			g.Token.Mechanism = w.Token.Mechanism
		}
		if g.Token.Expires, err = datetime.Parse(t.Attr("expiry")); err != nil {
			return nil, err
		}
	}
	if resumed := e.Child(nsSM, "resumed"); resumed != nil && w.Resume != nil {
		g.Managed, g.Resumed = w.Resume, true
		return g, w.Resume.goOn(ctx, c, resumed.Attr("h"))
	}
	if bound := e.Child(nsBind2, "bound"); bound != nil {
		c.bound = g.JID
		if m := bound.Child(nsMAM, "metadata"); m != nil {
			g.Metadata = *m
		}
		if enabled := bound.Child(nsSM, "enabled"); enabled != nil {
			g.Managed = managed(c, enabled)
		}
	}
	return g, c.readFeatures(ctx)
}

// errNoFeatures says that a server does not offer the extensible profile.
var errNoFeatures = errors.New("the server does not offer the extensible profile of SASL")

// Offers2 returns the mechanisms of tokens that the server offers (XEP-0484 §3.1), or an error if it has not offered the
// profile.
func (c *Conn) Offers2() (fast []string, err error) {
	feature := c.features.Child(nsSASL2, "authentication")
	if feature == nil {
		return nil, errNoFeatures
	}
	for m := range feature.Child(nsSASL2, "inline").Child(nsFAST, "fast").Elements() {
		fast = append(fast, m.Text())
	}
	slices.Sort(fast)
	return fast, nil
}
