package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/sasl"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/stream"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// drain reads to the end and describes each event.
func drain(ctx context.Context, c *Conn) (got []string) {
	for {
		e, err := c.Next(ctx)
		var broken *xml.SyntaxError
		switch {
		case err == nil:
			got = append(got, e.String())
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &broken), ctx.Err() != nil:
			return append(got, err.Error())
		default:
			got = append(got, err.Error())
		}
	}
}

func TestNext(t *testing.T) {
	body := "<message xmlns='jabber:client'><body>hi</body></message>"
	for _, test := range []struct {
		name, sent string
		want       []string
	}{
		{"elements", body + " \n " + body, []string{body, body, "EOF"}},
		{"end of stream", body + "</stream:stream>", []string{body, "the server closed its stream", "EOF"}},
		{"cut in an element", body + "<message>", []string{body, "unexpected EOF"}},
		{"stream error",
			"<stream:error><conflict xmlns='" + stream.NSErrors + "'/><text xmlns='" + stream.NSErrors + "'>newer</text></stream:error></stream:stream>",
			[]string{"stream error: conflict: newer", "the server closed its stream", "EOF"}},
		{"stream error without text", "<stream:error><reset xmlns='" + stream.NSErrors + "'/></stream:error>",
			[]string{"stream error: reset", "EOF"}},
		{"not well-formed", body + "<a></b>", nil},
		{"large", "<message><body>" + strings.Repeat("x", 1<<20) + "</body></message>",
			[]string{"<message xmlns='jabber:client'><body>" + strings.Repeat("x", 1<<20) + "</body></message>", "EOF"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := connect(t, "", func(p *peer) { p.send(test.sent) })
			got := drain(within(t), c)
			if test.want == nil {
				if len(got) != 2 || !strings.Contains(got[1], xml.NotWellFormed) {
					t.Errorf("got %q", got)
				}
			} else if !slices.Equal(got, test.want) {
				t.Errorf("got %.300q, want %.300q", got, test.want)
			}
			if test.name == "large" && cap(c.in.buf) > maxIdle {
				t.Errorf("keeps a buffer of %d bytes", cap(c.in.buf))
			}
		})
	}
}

func TestNextSeesHeader(t *testing.T) {
	addr := serve(t, func(p *peer) {
		p.expect("<nonsense>")
		p.send("<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='s1'>")
		p.send("<stream:error><invalid-namespace xmlns='" + stream.NSErrors + "'/></stream:error></stream:stream>")
	})
	c, err := Connect(within(t), Config{Addr: addr, TLS: None})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Drop()
	if err := c.Raw(within(t), []byte("<nonsense>")); err != nil {
		t.Fatal(err)
	}
	want := []string{"<stream xmlns='http://etherx.jabber.org/streams' id='s1'/>", "stream error: invalid-namespace",
		"the server closed its stream", "EOF"}
	if got := drain(within(t), c); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNextEndsWithContext(t *testing.T) {
	second := make(chan struct{})
	c := connect(t, "", func(p *peer) {
		p.send("<message id='1'/><message id='2'>")
		<-second
		p.send("<body>rest</body></message>")
	})
	if e, err := c.Next(within(t)); err != nil || e.Attr("id") != "1" {
		t.Fatalf("got %s, %v", e, err)
	}
	timed, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := c.Next(timed); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deadline: got %v", err)
	}
	cause := errors.New("enough")
	cancelled, stop := context.WithCancelCause(t.Context())
	stop(cause)
	if _, err := c.Next(cancelled); !errors.Is(err, cause) {
		t.Errorf("cancelled: got %v", err)
	}
	close(second)
	e, err := c.Next(within(t))
	if err != nil || e.Child(xml.NSClient, "body").Text() != "rest" {
		t.Errorf("after the timeouts: got %s, %v", e, err)
	}
}

func TestRawEndsWithContext(t *testing.T) {
	done := make(chan struct{})
	c := connect(t, "", func(*peer) { <-done }) // does not read
	defer close(done)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := c.Raw(ctx, make([]byte, 64<<20)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestIQ(t *testing.T) {
	c := connect(t, "", func(p *peer) {
		p.expect("<iq type='get' id='c1'><ping xmlns='urn:xmpp:ping'/></iq>")
		p.send("<message id='first'/><iq type='get' id='c1'><ping xmlns='urn:xmpp:ping'/></iq><iq type='result' id='other'/>")
		p.send("<iq type='result' id='c1'/><message id='last'/>")
		p.expect("<iq type='get' id='mine'/>")
		p.send("<iq type='error' id='mine'><error type='modify'><bad-request xmlns='" + stanza.NSErrors + "'/>" +
			"<text xmlns='" + stanza.NSErrors + "'>no child</text><app xmlns='urn:app'/></error></iq>")
	})
	ping := xml.New("urn:xmpp:ping", "ping")
	if _, err := c.IQ(within(t), xml.New(xml.NSClient, "iq", "type", "get").With(ping)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"first", "c1", "other", "last"} {
		e, err := c.Next(within(t))
		if err != nil || e.Attr("id") != want {
			t.Errorf("got %s, %v; want id %s", e, err, want)
		}
	}
	_, err := c.IQ(within(t), xml.New(xml.NSClient, "iq", "type", "get", "id", "mine"))
	var refused *StanzaError
	if !errors.As(err, &refused) {
		t.Fatalf("got %v", err)
	}
	if refused.Type != "modify" || refused.Condition != stanza.BadRequest || refused.Text != "no child" {
		t.Errorf("got %+v", refused)
	}
}

func TestConcurrentSend(t *testing.T) {
	const senders, each = 8, 100
	message := "<message><body>" + strings.Repeat("x", 500) + "</body></message>"
	c := connect(t, "", func(p *peer) {
		for range senders * each {
			p.expect(message)
		}
		p.send("</stream:stream>")
	})
	e := xml.New(xml.NSClient, "message").With(xml.New(xml.NSClient, "body").WithText(strings.Repeat("x", 500)))
	ctx := within(t)
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for range each {
				if err := c.Send(ctx, e); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	if _, err := c.Next(ctx); err != ErrFooter {
		t.Errorf("got %v", err)
	}
	wg.Wait()
}

func TestClose(t *testing.T) {
	t.Run("answered", func(t *testing.T) {
		c := connect(t, "", func(p *peer) {
			p.send("<message/>")
			p.expect("</stream:stream>")
			p.send("<message/></stream:stream>")
			if n, err := p.conn.Read(make([]byte, 1)); err != io.EOF {
				p.fail("after the end: %d bytes, %v", n, err)
			}
		})
		if err := c.Close(within(t)); err != nil {
			t.Error(err)
		}
	})
	t.Run("not answered", func(t *testing.T) {
		c := connect(t, "", func(p *peer) {
			p.expect("</stream:stream>")
			p.conn.Read(make([]byte, 1))
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := c.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func TestDropEndsNext(t *testing.T) {
	c := connect(t, "", func(p *peer) { p.conn.Read(make([]byte, 1)) })
	failed := make(chan error)
	ctx := within(t)
	go func() {
		_, err := c.Next(ctx)
		failed <- err
	}()
	c.Drop()
	if err := <-failed; err == nil {
		t.Error("no error")
	}
}

func TestStartTLSRefused(t *testing.T) {
	for _, test := range []struct{ name, answer, want string }{
		{"failure", "<failure xmlns='" + nsTLS + "'/>", "awaited leave to start TLS"},
		{"bytes before TLS", "<proceed xmlns='" + nsTLS + "'/><message/>", "bytes between <proceed/> and TLS"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := connect(t, "", func(p *peer) {
				p.expect("<starttls xmlns='" + nsTLS + "'/>")
				p.send(test.answer)
			})
			if err := c.StartTLS(within(t)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAuthenticateRefused(t *testing.T) {
	cfg := &sasl.ServerConfig{Domain: "a.test", Credentials: accounts{}, Offered: []string{"SCRAM-SHA-256", "PLAIN"}}
	t.Run("wrong password, then the right one", func(t *testing.T) {
		c := connect(t, offer(cfg), func(p *peer) {
			p.authenticate(cfg)
			p.authenticate(cfg)
		})
		c.cfg.Password = "guess"
		err := c.Authenticate(within(t), "")
		var failure *sasl.Failure
		if !errors.As(err, &failure) || failure.Condition != sasl.NotAuthorized || failure.Text != "no" {
			t.Errorf("got %v", err)
		}
		c.cfg.Password = "secret"
		if err := c.Authenticate(within(t), ""); err != nil {
			t.Errorf("second try: %v", err)
		}
	})
	t.Run("success without proof", func(t *testing.T) {
		for _, data := range []string{"", sasl.Encode([]byte("v=bm90IHRoZSBzaWduYXR1cmU="))} {
			c := connect(t, offer(cfg), func(p *peer) {
				p.until("</auth>")
				p.send("<success xmlns='" + nsSASL + "'>" + data + "</success>")
			})
			if err := c.Authenticate(within(t), "SCRAM-SHA-256"); err == nil {
				t.Errorf("success with %q was taken", data)
			}
		}
	})
	t.Run("only PLAIN without TLS", func(t *testing.T) {
		c := connect(t, offer(&sasl.ServerConfig{Offered: []string{"PLAIN"}}), func(*peer) {})
		if err := c.Authenticate(within(t), ""); err == nil {
			t.Error("the password was sent")
		}
	})
}

func TestRegister(t *testing.T) {
	const form = "<query xmlns='jabber:iq:register'><instructions>choose</instructions><username/><password/></query>"
	for _, test := range []struct{ name, form, reply, condition string }{
		{"made", form, "<iq type='result' id='c2'/>", ""},
		{"taken", form, "<iq type='error' id='c2'><error type='cancel'><conflict xmlns='" + stanza.NSErrors + "'/></error></iq>", "conflict"},
		{"other form", "<query xmlns='jabber:iq:register'><username/></query>", "", "ask for a password"},
	} {
		t.Run(test.name, func(t *testing.T) {
			addr := serve(t, func(p *peer) {
				p.open("")
				p.expect("<iq type='get' to='a.test' id='c1'><query xmlns='jabber:iq:register'/></iq>")
				p.send("<iq type='result' id='c1'>" + test.form + "</iq>")
				if test.reply == "" {
					return
				}
				p.expect("<iq type='set' to='a.test' id='c2'><query xmlns='jabber:iq:register'>" +
					"<username>romeo</username><password>secret</password></query></iq>")
				p.send(test.reply)
				if test.condition == "" {
					p.expect("</stream:stream>")
					p.send("</stream:stream>")
				}
			})
			err := Register(within(t), Config{Addr: addr, TLS: None, JID: romeo, Password: "secret"})
			if got := fmt.Sprint(err); (err == nil) != (test.condition == "") || !strings.Contains(got, test.condition) {
				t.Errorf("got %v, want %q", err, test.condition)
			}
		})
	}
}

func TestBindRefused(t *testing.T) {
	c := connect(t, "", func(p *peer) {
		p.expect("<iq type='set' id='c1'><bind xmlns='" + nsBind + "'/></iq>")
		p.send("<iq type='error' id='c1'><error type='cancel'><conflict xmlns='" + stanza.NSErrors + "'/></error></iq>")
	})
	_, err := c.Bind(within(t), "")
	var refused *StanzaError
	if !errors.As(err, &refused) || refused.Condition != stanza.Conflict {
		t.Errorf("got %v", err)
	}
	if c.JID() != (jid.JID{}) {
		t.Errorf("bound to %s", c.JID())
	}
}
