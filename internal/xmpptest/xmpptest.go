// Package xmpptest runs servers and clusters for tests, and scripts of stanzas against them.
//
// A script is a file testdata/NAME.script beside the feature it is about. It says in order what clients send and what
// they must get:
//
//	# RFC 6121 §8.5.2.1.1: a message to the bare JID, with its 'to' left alone.
//	client romeo  romeo@a.test/orchard
//	client juliet juliet@a.test/balcony
//	romeo  > <message to='juliet@a.test' type='chat' id='m'><body>hi</body></message>
//	juliet < <message from='$romeo' to='juliet@a.test' id='m'><body>hi</body></message>
//	romeo  < nothing
//
// # Lines
//
// A line that starts with white space goes on with the line before; what stands before it and after it is joined by a
// space, or by nothing if a tag begins there. Empty lines and those that start with # say nothing.
//
//	set KEY=VALUE        a setting of the server; before all else
//	single WHY           does not run on a cluster, for this reason; before all else
//	account JID          makes an account, with the password "secret"
//	client NAME JID      logs in, fetches the roster, sends presence and has seen it back; the account is made if it is new
//	client! NAME JID     only binds; a JID without localpart logs in as a guest
//	login NAME JID       authenticates as the owner of a full JID, and binds nothing, so that it can resume a stream
//	raw NAME             connects, and sends nothing; "raw NAME tls" speaks TLS at once
//	friends NAME NAME    makes two clients see each other's presence, and forgets what they got meanwhile
//	NAME > TEXT          sends; \n, \r, \t, \\ and \xFF stand for bytes
//	NAME < XML           waits for what matches; what else has come stays unread, save what came before it to a raw client
//	NAME < first XML     the same, of what is unread it must be the first
//	NAME < exactly XML   the same, without children or text that are not written
//	NAME < no XML        nothing that is unread matches
//	NAME < nothing       nothing is unread
//	NAME starttls        the TLS handshake, after <proceed/> was read
//	NAME closed          the server ends its stream, if it had one, and the connection
//	skip NAME            forgets what is unread
//	close NAME           ends the stream in order
//	drop NAME            cuts the connection
//	cut NAME             cuts the connection of a client that is going to come back
//
// "no", "nothing", "skip" and "friends" first wait until the server has handled what every client has sent before, by
// pings, and close and drop until it has handled the end of the session: no script waits for time to pass.
//
// # Clusters
//
// Scripts runs each script on one node, and each that makes more than one client on a cluster of three, too: the first
// client that it makes connects to the first node, the next to the second, and so on. What a script says holds on both:
//
// Before a client sends, and before one connects, if it is not the one who did so last, the nodes have told each other
// all they had to, and acted on it: so what one has done is seen by all, as on one node. A client that goes on by itself
// does not wait. The same holds after the pings above, and when close and drop return. Whether all is told is not guessed:
// it is seen from the tables, links, topics and sessions of all nodes, twice without a change in between.
//
// # Matching
//
// What is written must be there: the element's name, attributes, text but for white space around it, and children in any
// order. What is not written is ignored. A namespace is compared where an xmlns is written, and below. The end of a
// stream is written </stream:stream>, its header as a start tag.
//
// An attribute or text that is only $name takes any value and keeps it under that name; from then on, and in what is
// sent, it stands for the value. $any takes any value and keeps none; an attribute that is $none must not be there.
// $NAME is the full JID of the client of that name, and $open the stream header of a client of a.test.
package xmpptest

import (
	"context"
	"crypto/tls"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/config"
	"github.com/starling-im/starling/internal/hook"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/server"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/store/storetest"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

// Password is that of every account made here.
const Password = "secret"

// patience is how long a test waits for what must happen.
const patience = 15 * time.Second

// Options are how a server for a test differs from others.
type Options struct {
	// Set are settings "key=value", over those that every server for tests has. The database is SQLite unless
	// database.url says otherwise, for which storetest.URL has an empty one.
	Set []string
}

// Server is a server that runs in this process, on loopback ports and a data folder of its own.
type Server struct {
	*server.Server
	halt sync.Once

	mu    sync.Mutex // guards ended
	ended map[*session.Session]chan struct{}
}

// Start runs a server until the test ends. It serves a.test and b.test, logs to the test, and may be sent anything at
// any speed.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := start(t, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// start is Start on any goroutine.
func start(t testing.TB, o Options) (*Server, error) {
	set := []string{
		"data=" + t.TempDir(), "domains=a.test,b.test", "auth.iterations=4096", "limits.rate_bytes=0",
		"listen.c2s=127.0.0.1:0", "listen.tls=127.0.0.1:0", "listen.https=", "listen.admin=",
	}
	cfg, err := config.Load(config.Sources{Set: append(set, o.Set...)}, server.Sections()...)
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	node, err := server.New(t.Context(), cfg, log, "test", intervals)
	if err != nil {
		return nil, err
	}
	s := &Server{Server: node, ended: map[*session.Session]chan struct{}{}}
	t.Cleanup(func() { s.Halt(t) })
	// Copy is the last stage: whatever the features do about the end is done.
	node.Core().Hooks.Ended.Add("xmpptest", hook.Copy, func(_ context.Context, e *module.Passage) error {
		s.sessionEnded(e.Session)
		return nil
	})
	return s, node.Start(t.Context())
}

// intervals makes nodes ready sooner than others are, and lets none be taken for dead because tests keep the machine busy.
func intervals(c *cluster.Config) {
	c.Beacon, c.Settle = 50*time.Millisecond, time.Millisecond
	c.Suspect, c.DeadAfter, c.HintGrace, c.Stuck = patience, 2*patience, patience, 2*patience
}

// Halt stops the server before the end of the test. It may be called again.
func (s *Server) Halt(t testing.TB) {
	t.Helper()
	s.halt.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Errorf("stop the server: %v", err)
		}
	})
}

func (s *Server) sessionEnded(ss *session.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if done, ok := s.ended[ss]; ok {
		close(done)
		delete(s.ended, ss)
	}
}

// Ended returns a channel that is closed when the end of the session that a full JID has now on this server has been
// handled.
func (s *Server) Ended(full jid.JID) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ss *session.Session
	for _, here := range s.Core().Sessions.Here(full.Bare()) {
		if here.JID == full {
			ss = here
		}
	}
	if done, ok := s.ended[ss]; ok {
		return done
	}
	done := make(chan struct{})
	if ss == nil {
		close(done)
	} else {
		s.ended[ss] = done
	}
	return done
}

// Account makes an account unless it is there.
func (s *Server) Account(t testing.TB, bare jid.JID) {
	t.Helper()
	accounts := s.Core().Accounts
	known, err := accounts.Exists(t.Context(), bare)
	if err == nil && !known {
		err = accounts.Create(t.Context(), bare, Password)
	}
	if err != nil {
		t.Fatalf("make the account %s: %v", bare, err)
	}
}

// Config is how to reach the server as the owner of a JID, over STARTTLS.
func (s *Server) Config(who jid.JID) client.Config {
	return client.Config{
		Addr: s.Addresses()["c2s"][0], JID: who, Password: Password,
		TLSConfig: &tls.Config{InsecureSkipVerify: true},
	}
}

// Dial logs in and binds the resource of full, or one of the server's choice if it has none. The account is made if it
// is new; without a localpart the client is a guest. The connection is cut when the test ends.
func (s *Server) Dial(t testing.TB, full jid.JID) *client.Conn {
	t.Helper()
	if full.Local() != "" {
		s.Account(t, full.Bare())
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := client.Dial(ctx, s.Config(full))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Drop)
	return c
}

// login authenticates, and leaves it to the caller to bind a resource or resume a stream.
func (s *Server) login(ctx context.Context, t testing.TB, full jid.JID) (*client.Conn, error) {
	s.Account(t, full.Bare())
	c, err := client.LogIn(ctx, s.Config(full))
	if err != nil {
		return nil, err
	}
	t.Cleanup(c.Drop)
	return c, nil
}

// On is the setting that puts a server on a database of its own, of the dialect.
func On(t testing.TB, d store.Dialect) string {
	t.Helper()
	return "database.url=" + storetest.URL(t, d)
}
