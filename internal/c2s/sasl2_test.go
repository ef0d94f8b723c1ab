package c2s_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/store/storetest"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/sasl"
	"github.com/starling-im/starling/internal/xmpp/xml"
	"github.com/starling-im/starling/internal/xmpptest"
)

const agent = "d4565fa7-4d72-4749-b3d3-740edbf87770"

// login2 logs in as romeo by the extensible profile, over TLS from the first byte.
func login2(t testing.TB, s *xmpptest.Server, w client.Wish) (*client.Conn, *client.Granted, error) {
	t.Helper()
	return login2With(t, s.Config(jid.MustParse("romeo@a.test")), s, w)
}

func login2With(t testing.TB, cfg client.Config, s *xmpptest.Server, w client.Wish) (*client.Conn, *client.Granted, error) {
	t.Helper()
	cfg.Addr, cfg.TLS = s.Addresses()["tls"][0], client.Direct
	c, g, err := client.Login2(t.Context(), cfg, w)
	if err == nil {
		t.Cleanup(c.Drop)
	}
	return c, g, err
}

// mustLogin2 is login2 that must succeed.
func mustLogin2(t testing.TB, s *xmpptest.Server, w client.Wish) (*client.Conn, *client.Granted) {
	t.Helper()
	c, g, err := login2(t, s, w)
	if err != nil {
		t.Fatal(err)
	}
	return c, g
}

// refused2 is login2 that must fail with a condition.
func refused2(t testing.TB, s *xmpptest.Server, w client.Wish, want sasl.Condition) {
	t.Helper()
	_, _, err := login2(t, s, w)
	var f *sasl.Failure
	if !errors.As(err, &f) || f.Condition != want {
		t.Errorf("log-in ended with %v, not with %s", err, want)
	}
}

// eachDatabase runs a server with the account romeo@a.test on both databases.
func eachDatabase(t *testing.T, test func(t *testing.T, s *xmpptest.Server), set ...string) {
	for _, d := range []store.Dialect{store.SQLite, store.Postgres} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			s := xmpptest.Start(t, xmpptest.Options{Set: append(set, xmpptest.On(t, d))})
			s.Account(t, jid.MustParse("romeo@a.test"))
			test(t, s)
		})
	}
}

// XEP-0388, XEP-0474: every mechanism works in the extensible profile; the client checks the signature of the server, and
// the list of mechanisms that it saw.
func TestExtensibleProfile(t *testing.T) {
	s := xmpptest.Start(t, xmpptest.Options{})
	s.Account(t, jid.MustParse("romeo@a.test"))
	for _, m := range []string{
		"", "SCRAM-SHA-512-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", sasl.Plain,
	} {
		c, g := mustLogin2(t, s, client.Wish{Mechanism: m})
		if g.JID.String() != "romeo@a.test" {
			t.Errorf("%s: logged in as %s", m, g.JID)
		}
		if _, err := c.Bind(t.Context(), "later"); err != nil { // as RFC 6120 has it, on the same stream
			t.Errorf("%s: %v", m, err)
		}
		c.Drop()
	}
}

// XEP-0386 §3.2: one request binds, and enables; the resource is the client's own, and stays the same.
func TestBindWithLogIn(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *xmpptest.Server) {
		w := client.Wish{Agent: agent, Bind: true, Tag: "Awesome", Carbons: true, Inactive: true, Manage: true}
		_, first := mustLogin2(t, s, w)
		if first.Managed == nil || first.Managed.ID == "" || first.Metadata.IsNone() {
			t.Fatalf("got %s", first.Success.Append(nil, ""))
		}
		ss := s.Core().Sessions.Find(first.JID)
		if ss == nil || !ss.State().Carbons {
			t.Errorf("no session of %s with carbons", first.JID)
		}
		ended := s.Ended(first.JID)
		if _, again := mustLogin2(t, s, w); again.JID != first.JID {
			t.Errorf("resource %s, then %s", first.JID, again.JID)
		}
		<-ended
		w.Tag = "Better" // the same client nonetheless
		ended = s.Ended(first.JID)
		if _, other := mustLogin2(t, s, w); other.JID == first.JID {
			t.Errorf("two tags, one resource: %s", other.JID)
		}
		<-ended
		w.Agent = "a0565fa7-4d72-4749-b3d3-740edbf87770"
		_, other := mustLogin2(t, s, w)
		if n := len(s.Core().Sessions.Account(other.JID.Bare())); n != 2 {
			t.Errorf("two clients have %d sessions", n)
		}
	})
}

// XEP-0198 §9.2: a session goes on over another connection, with what came meanwhile; one that is not there any more is
// replaced by a new one in the same round trip.
func TestResumeWithLogIn(t *testing.T) {
	s := xmpptest.Start(t, xmpptest.Options{})
	s.Account(t, jid.MustParse("romeo@a.test"))
	w := client.Wish{Agent: agent, Bind: true, Manage: true, NewToken: sasl.HTExporter}
	c, g := mustLogin2(t, s, w)
	m := g.Managed
	if err := m.Stanza(t.Context(), []byte("<message to='nobody@b.test' type='chat' id='1'><body>hi</body></message>")); err != nil {
		t.Fatal(err)
	}
	c.Drop()
	juliet := s.Dial(t, jid.MustParse("juliet@a.test/balcony"))
	message := xml.New(xml.NSClient, "message", "to", g.JID.String(), "type", "chat", "id", "m").With(xml.New(xml.NSClient, "body").WithText("there?"))
	if err := juliet.Send(t.Context(), message); err != nil {
		t.Fatal(err)
	}
	if _, err := juliet.IQ(t.Context(), xml.New(xml.NSClient, "iq", "type", "get").With(xml.New("urn:xmpp:ping", "ping"))); err != nil {
		t.Fatal(err)
	}
	_, back := mustLogin2(t, s, client.Wish{Agent: agent, Bind: true, Token: g.Token, Resume: m, Early: true})
	if !back.Resumed || back.JID != g.JID {
		t.Fatalf("not resumed: %s", back.Success.Append(nil, ""))
	}
	for {
		e, err := m.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if e.Attr("id") == "m" {
			break
		}
	}
	m.ID = "forgotten"
	_, anew := mustLogin2(t, s, client.Wish{Agent: agent, Bind: true, Manage: true, Token: g.Token, Resume: m, Early: true})
	if anew.Resumed || anew.Success.Child("urn:xmpp:sm:3", "failed") == nil || anew.Managed == nil {
		t.Errorf("got %s", anew.Success.Append(nil, ""))
	}
}

// XEP-0484: a token is given, used, replaced, and worth nothing when it should not be.
func TestTokens(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *xmpptest.Server) {
		for _, m := range []string{sasl.HTExporter, sasl.HTEndPoint, sasl.HTNone} {
			_, g := mustLogin2(t, s, client.Wish{Agent: agent, NewToken: m})
			if g.Token == nil {
				t.Fatalf("%s: no token in %s", m, g.Success.Append(nil, ""))
			}
			token := *g.Token
			_, again := mustLogin2(t, s, client.Wish{Agent: agent, Token: &token, Bind: true})
			if again.Token != nil {
				t.Errorf("%s: a new token, though the old one is fresh", m)
			}
			other := token
			other.Mechanism = map[string]string{sasl.HTNone: sasl.HTExporter}[m]
			if other.Mechanism == "" {
				other.Mechanism = sasl.HTNone
			}
			refused2(t, s, client.Wish{Agent: agent, Token: &other}, sasl.NotAuthorized)
			refused2(t, s, client.Wish{Agent: "another", Token: &token}, sasl.NotAuthorized)
			refused2(t, s, client.Wish{Token: &token}, sasl.MalformedRequest)
			mustLogin2(t, s, client.Wish{Agent: agent, Token: &token, Count: 2})
			refused2(t, s, client.Wish{Agent: agent, Token: &token, Count: 2}, sasl.NotAuthorized)
			refused2(t, s, client.Wish{Agent: agent, Token: &token, Count: -1}, sasl.MalformedRequest)
			mustLogin2(t, s, client.Wish{Agent: agent, Token: &token, Count: 3, Invalidate: true})
			refused2(t, s, client.Wish{Agent: agent, Token: &token}, sasl.NotAuthorized)
		}
	}, "auth.failures=100")
}

// XEP-0484 §3.5: the token that takes another's place makes it worthless when it is used, and not before.
func TestTokenRotation(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *xmpptest.Server) {
		_, g := mustLogin2(t, s, client.Wish{Agent: agent, NewToken: sasl.HTNone})
		old := g.Token
		mustLogin2(t, s, client.Wish{Agent: agent, Token: old})
		_, g = mustLogin2(t, s, client.Wish{Agent: agent, Token: old, NewToken: sasl.HTNone})
		mustLogin2(t, s, client.Wish{Agent: agent, Token: old})
		mustLogin2(t, s, client.Wish{Agent: agent, Token: g.Token})
		refused2(t, s, client.Wish{Agent: agent, Token: old}, sasl.NotAuthorized)
		mustLogin2(t, s, client.Wish{Agent: agent, Token: g.Token})

		if err := s.Core().Accounts.SetPassword(t.Context(), g.JID.Bare(), xmpptest.Password); err != nil {
			t.Fatal(err)
		}
		refused2(t, s, client.Wish{Agent: agent, Token: g.Token}, sasl.NotAuthorized)
	})
}

// XEP-0480: an account that came with keys of SHA-1 only gets the others when its client offers to make them; who has a token
// cannot say what the password is.
func TestUpgrade(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *xmpptest.Server) {
		err := s.Core().DB.Write(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Exec(`DELETE FROM account_keys WHERE hash <> $1`, sasl.SHA1.Name())
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		refused2(t, s, client.Wish{Mechanism: "SCRAM-SHA-256"}, sasl.NotAuthorized)
		all := []sasl.Hash{sasl.SHA256, sasl.SHA512, sasl.SHA1}
		_, g := mustLogin2(t, s, client.Wish{Mechanism: "SCRAM-SHA-1", Agent: agent, NewToken: sasl.HTNone})
		mustLogin2(t, s, client.Wish{Agent: agent, Token: g.Token, Upgrades: all})
		refused2(t, s, client.Wish{Mechanism: "SCRAM-SHA-256"}, sasl.NotAuthorized)
		_, g = mustLogin2(t, s, client.Wish{Mechanism: "SCRAM-SHA-1-PLUS", Upgrades: all, Bind: true, Tag: "t"})
		if g.JID.Resource() == "" {
			t.Error("not bound after the tasks")
		}
		for _, m := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512-PLUS", "SCRAM-SHA-1"} {
			mustLogin2(t, s, client.Wish{Mechanism: m, Upgrades: all})
		}
	})
}

// counter counts how often a client waits for the server: reads after a write.
type counter struct {
	net.Conn
	mu    sync.Mutex
	wrote bool
	trips int
}

func (c *counter) Write(b []byte) (int, error) {
	c.mu.Lock()
	c.wrote = true
	c.mu.Unlock()
	return c.Conn.Write(b)
}

func (c *counter) Read(b []byte) (int, error) {
	c.mu.Lock()
	if c.wrote {
		c.wrote = false
		c.trips++
	}
	c.mu.Unlock()
	return c.Conn.Read(b)
}

func (c *counter) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trips
}

// A client with a token is logged in, bound, and has all that it wants, in one round trip after that of TLS.
func TestOneRoundTrip(t *testing.T) {
	s := xmpptest.Start(t, xmpptest.Options{})
	s.Account(t, jid.MustParse("romeo@a.test"))
	w := client.Wish{Agent: agent, Bind: true, Carbons: true, Manage: true, NewToken: sasl.HTExporter}
	_, g := mustLogin2(t, s, w)
	cfg := s.Config(jid.MustParse("romeo@a.test"))
	var counted *counter
	cfg.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		counted = &counter{Conn: c}
		return counted, err
	}
	// TLS 1.3: the client writes once and reads, then its last message goes out with the first of the stream.
	w.NewToken, w.Token, w.Early = "", g.Token, true
	if _, g, err := login2With(t, cfg, s, w); err != nil || g.Managed == nil {
		t.Fatal(err)
	}
	if n := counted.count(); n != 2 {
		t.Errorf("%d round trips, with that of TLS", n)
	}
}

// What was given with one set of keys is worth nothing with another: a copy of the database is no key ring.
func TestTokensNeedTheKey(t *testing.T) {
	url := storetest.URL(t, store.Postgres)
	first := xmpptest.Start(t, xmpptest.Options{Set: []string{"database.url=" + url, "auth.tokens.key=one", "cluster.enabled=false"}})
	first.Account(t, jid.MustParse("romeo@a.test"))
	_, g := mustLogin2(t, first, client.Wish{Agent: agent, NewToken: sasl.HTNone})
	first.Halt(t)
	second := xmpptest.Start(t, xmpptest.Options{Set: []string{"database.url=" + url, "auth.tokens.key=two", "cluster.enabled=false"}})
	refused2(t, second, client.Wish{Agent: agent, Token: g.Token}, sasl.NotAuthorized)
}

// XEP-0474: a client notices that somebody took mechanisms off the list, in both profiles.
func TestDowngrade(t *testing.T) {
	s := xmpptest.Start(t, xmpptest.Options{})
	s.Account(t, jid.MustParse("romeo@a.test"))
	for name, logIn := range map[string]func(c *client.Conn) error{
		"RFC 6120": func(c *client.Conn) error { return c.Authenticate(t.Context(), "SCRAM-SHA-1") },
		"XEP-0388": func(c *client.Conn) error {
			_, err := c.Authenticate2(t.Context(), client.Wish{Mechanism: "SCRAM-SHA-1"})
			return err
		},
	} {
		for _, taken := range []string{"", "SCRAM-SHA-512", "SCRAM-SHA-256"} {
			cfg := s.Config(jid.MustParse("romeo@a.test"))
			cfg.Addr, cfg.TLS = s.Addresses()["tls"][0], client.Direct
			c, err := client.Connect(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Drop)
			if _, err := c.OpenStream(t.Context(), "a.test"); err != nil {
				t.Fatal(err)
			}
			*c.Features() = without(*c.Features(), taken)
			var want error
			if taken != "" {
				want = sasl.ErrDowngrade
			}
			if err := logIn(c); !errors.Is(err, want) {
				t.Errorf("%s without %q: %v", name, taken, err)
			}
		}
	}
}

// without is an element without those below that hold a text.
func without(e xml.Element, text string) xml.Element {
	bare := e
	bare.Nodes = nil
	for child := range e.Elements() {
		if text == "" || child.Text() != text {
			bare = bare.With(without(*child, text))
		}
	}
	if e.First() == nil {
		bare = bare.WithText(e.Text())
	}
	return bare
}

// A token that one node has given is good on another, and so is the place of the client: its session moves.
func TestTokenOnAnotherNode(t *testing.T) {
	url := "database.url=" + storetest.URL(t, store.Postgres)
	c := xmpptest.StartCluster(t, xmpptest.Options{Set: []string{url}}, 2)
	first, second := c.Nodes[0], c.Nodes[1]
	first.Account(t, jid.MustParse("romeo@a.test"))
	w := client.Wish{Agent: agent, Bind: true, Tag: "t", Manage: true, NewToken: sasl.HTEndPoint}
	_, g := mustLogin2(t, first, w)
	w.Token, w.NewToken = g.Token, ""
	ended := first.Ended(g.JID)
	if _, there := mustLogin2(t, second, w); there.JID != g.JID { // whose certificate is another one
		t.Errorf("%s, then %s", g.JID, there.JID)
	}
	<-ended
}
