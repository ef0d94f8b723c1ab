package c2s

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/internal/account"
	"github.com/starling-im/starling/internal/certs"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/router"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/telemetry"
	"github.com/starling-im/starling/internal/transport"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/stream"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// Options are the settings of the door.
type Options struct {
	Mechanisms     []string       // SASL mechanisms that may be offered, strongest first
	AllowPlaintext bool           // authentication without TLS
	Anonymous      []string       // domains with ANONYMOUS (XEP-0175)
	ClientCAs      *x509.CertPool // whose certificates clients may log in with (XEP-0178); nil for none
	MinTLS         uint16         // oldest version of TLS; 0 for TLS 1.2

	Limits         *xml.Limits   // of authenticated streams
	StrangerLimits *xml.Limits   // before
	AuthTimeout    time.Duration // from the connection to the bound resource
	RequestTimeout time.Duration // of what one stanza may make the server do
	PingAfter      time.Duration // silence after which a client is pinged (RFC 6120 §4.6.1); 0 for never
	PingTimeout    time.Duration // after which it is given up

	MaxSessions            int   // per account
	MaxStrangers           int   // connections without a bound resource
	MaxPerAddress          int   // connections from one address (IPv6: /64); 0 for no limit
	MaxStrangersPerAddress int   // of these without a bound resource
	RateBytes, RateBurst   int64 // bytes a second, and at once; 0 for no limit

	Management Management // XEP-0198
	Indication Indication // XEP-0352

	Assembly *stream.Budget // of all incomplete stanzas
	Workers  int            // requests that are worked on at once
}

// Server accepts clients.
type Server struct {
	opts      Options
	core      *module.Core
	set       *module.Set
	router    *router.Router
	door      *certs.Door
	transport *transport.Options
	workers   *session.Workers
	log       *slog.Logger
	metrics   metrics
	keeper    *keeper
	away      telemetry.Seldom // ends of sessions without the database
	offers    sync.Map         // situation to *offer; as many as there are domains and kinds of connections

	mu        sync.Mutex // guards conns, byAddr, strangers, closing and refusing
	conns     map[*conn]netip.Prefix
	byAddr    map[netip.Prefix]*tally
	strangers int
	closing   bool
	refusing  bool // takes no new connections for now
	serving   sync.WaitGroup
}

// tally counts the connections of one address.
type tally struct{ all, strangers int }

// New makes a door that serves nothing yet.
func New(core *module.Core, set *module.Set, r *router.Router, cs *certs.Store, to *transport.Options, opts Options, log *slog.Logger) *Server {
	s := &Server{
		opts: opts, core: core, set: set, router: r, transport: to,
		workers: session.NewWorkers(opts.Workers), log: log, door: cs.Door(doorOptions(&opts)),
		conns: map[*conn]netip.Prefix{}, byAddr: map[netip.Prefix]*tally{},
	}
	s.metrics = newMetrics(core.Metrics, s)
	s.keeper = newKeeper(core.Metrics, opts.Management.Hint)
	core.Go("stream management", s.watch)
	return s
}

// Serve accepts connections until the listener is closed. direct means that TLS
// comes first (XEP-0368 §3).
func (s *Server) Serve(ctx context.Context, l net.Listener, direct bool) error {
	var pause time.Duration
	for {
		nc, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil: // out of descriptors, most likely: wait for some to be freed
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.log.Error("cannot accept a connection", "listener", l.Addr().String(), "err", err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(pause):
			}
			continue
		}
		pause = 0
		s.admit(ctx, nc, direct)
	}
}

// admit starts a connection if the limits allow one more.
func (s *Server) admit(ctx context.Context, nc net.Conn, direct bool) {
	c := &conn{srv: s, sock: transport.New(nc, s.transport)} // whole before Shutdown can see it
	c.ctx = session.WithFlow(ctx, &c.flow)
	if refused := s.enter(c); refused != "" {
		s.metrics.refused.WithLabelValues(refused).Inc()
		s.log.LogAttrs(ctx, slog.LevelInfo, "connection refused", slog.String("addr", nc.RemoteAddr().String()), slog.String("limit", refused))
		nc.Close()
		return
	}
	c.reader.Limits, c.reader.Budget = s.opts.StrangerLimits, s.opts.Assembly
	c.sock.SetIdle(s.restAfter())
	c.talks = &negotiation{}
	c.talks.timer = time.AfterFunc(s.opts.AuthTimeout, func() {
		c.End(stream.Err(stream.ConnectionTimeout, "").Because(errTooSlow)) // XEP-0205 §4.3
	})
	if direct {
		var cfg *tls.Config
		cfg, c.served = s.door.Connection("")
		c.sock.DirectTLS(cfg)
	}
	c.sock.Start(ctx, c, s.serving.Done)
}

// restAfter is the silence after which a connection gives back what handling input took.
func (s *Server) restAfter() time.Duration {
	const rest = 5 * time.Second
	if s.opts.PingAfter > 0 {
		return min(rest, s.opts.PingAfter)
	}
	return rest
}

// errTooSlow ends a connection that is not logged in when it should be.
var errTooSlow = errors.New("took too long to log in")

// enter counts a new connection, or names the limit that it would break.
func (s *Server) enter(c *conn) (limit string) {
	prefix := account.Network(c.sock.RemoteAddr().Addr())
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.byAddr[prefix]
	if t == nil {
		t = &tally{}
	}
	switch o := &s.opts; {
	case s.closing:
		return "shutdown"
	case s.refusing:
		return "drain"
	case o.MaxStrangers > 0 && s.strangers >= o.MaxStrangers:
		return "pre_auth_connections"
	case o.MaxPerAddress > 0 && t.all >= o.MaxPerAddress:
		return "connections_per_address"
	case o.MaxStrangersPerAddress > 0 && t.strangers >= o.MaxStrangersPerAddress:
		return "pre_auth_per_address"
	}
	t.all++
	t.strangers++
	s.strangers++
	s.byAddr[prefix] = t
	s.conns[c] = prefix
	s.serving.Add(1)
	return ""
}

// bound counts a connection as no longer a stranger's.
func (s *Server) bound(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.byAddr[s.conns[c]]; t != nil {
		t.strangers--
		s.strangers--
	}
}

// gone forgets a connection.
func (s *Server) gone(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	prefix, ok := s.conns[c]
	if !ok {
		return
	}
	delete(s.conns, c)
	t := s.byAddr[prefix]
	t.all--
	if c.sess == nil {
		t.strangers--
		s.strangers--
	}
	if t.all == 0 {
		delete(s.byAddr, prefix)
	}
}

// acceptSession holds an account to its number of sessions (RFC 6120 §7.6.2.1).
func (s *Server) acceptSession(others []*session.Session) error {
	present := 0
	for _, o := range others {
		if l, ok := o.Out.(*line); !ok || !l.waits() { // those that wait for their client have a bound of their own
			present++
		}
	}
	if s.opts.MaxSessions > 0 && present >= s.opts.MaxSessions {
		return stanza.Err(stanza.ResourceConstraint, "this account has "+strconv.Itoa(present)+" sessions already")
	}
	return nil
}

// sessionLost tells the features of a session of another node whose client has come here.
func (s *Server) sessionLost(sess *session.Session) {
	if !sess.State().Available() {
		return
	}
	session.Within(context.Background(), func(ctx context.Context, _ *session.Flow) {
		ctx, cancel := context.WithTimeout(ctx, s.opts.RequestTimeout)
		defer cancel()
		if err := s.core.Hooks.Lost.Each(ctx, &module.Passage{Session: sess}); err != nil {
			s.log.Error("end of a session on another node not told", "user", sess.JID.String(), "err", err)
		}
	})
}

// sessionEnded tells the features that a session is over, and then the other nodes.
func (s *Server) sessionEnded(sess *session.Session) {
	defer s.core.Sessions.Gone(sess)
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("panic while handling the end of a session", "user", sess.JID.String(), "panic", p, "stack", string(debug.Stack()))
		}
	}()
	session.Within(context.Background(), func(ctx context.Context, _ *session.Flow) {
		ctx, cancel := context.WithTimeout(ctx, s.opts.RequestTimeout)
		defer cancel()
		if err := s.core.Hooks.Ended.Each(ctx, &module.Passage{Session: sess}); err != nil {
			s.unhandled(sess, err)
		}
		if !sess.Anonymous {
			return
		}
		// XEP-0175 §1: nothing is kept of a guest, who can never come back.
		if err := s.core.Hooks.Deleted.Each(ctx, &module.AccountEvent{Account: sess.Bare}); err != nil {
			s.log.Error("guest not forgotten", "user", sess.JID.String(), "err", err)
		}
	})
}

// unhandled logs that features did not deal with the end of a session. When the database is away that happens to all.
func (s *Server) unhandled(sess *session.Session, err error) {
	more, told := uint64(0), true
	if errors.Is(err, store.ErrUnavailable) {
		more, told = s.away.Tell(time.Now())
	}
	if told {
		s.log.Error("end of a session not handled", "user", sess.JID.String(), "more", more, "err", err)
	}
}

// host is the served domain that a header's 'to' names. Choice: a header without
// 'to' means the default domain (RFC 6120 §4.7.2 asks to be liberal).
func (s *Server) host(to jid.JID) (jid.JID, bool) {
	if to.IsZero() {
		return s.core.Domains[0], true
	}
	return to.Host(), s.core.Local(to) && to.IsHost()
}

// defaultHeader is our header for a stream whose client has not said whom it wants.
func (s *Server) defaultHeader() stream.Header {
	return stream.Header{From: s.core.Domains[0], ID: stream.NewID(), Lang: "en", Version: stream.V1(), Content: xml.NSClient}
}

// limitsFeature tells what a stream may cost (XEP-0478 §3.1).
func (s *Server) limitsFeature(authenticated bool) xml.Element {
	limits := s.opts.StrangerLimits
	if authenticated {
		limits = s.opts.Limits
	}
	e := xml.New(nsLimits, "limits").With(xml.New(nsLimits, "max-bytes").WithText(strconv.Itoa(limits.Bytes)))
	if s.opts.PingAfter > 0 {
		e = e.With(xml.New(nsLimits, "idle-seconds").WithText(strconv.Itoa(int(s.opts.PingAfter.Seconds()))))
	}
	return e
}

func doorOptions(o *Options) certs.DoorOptions {
	d := certs.DoorOptions{ALPN: []string{"xmpp-client"}, MinVersion: o.MinTLS, ClientCAs: o.ClientCAs} // XEP-0368 §3
	if o.ClientCAs != nil {
		d.ClientAuth = tls.RequestClientCert
	}
	return d
}

// Shutdown ends every stream with system-shutdown (RFC 6120 §4.9.3.20), and returns
// when all are gone and their ends told, or the context is over.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	for _, c := range s.all() {
		c.End(stream.Err(stream.SystemShutdown, ""))
	}
	done := make(chan struct{})
	go func() {
		s.serving.Wait()
		for _, l := range s.keeper.lines() { // nobody is left that could take it: what their clients did not get is kept
			l.expire("shutdown")
		}
		s.workers.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type metrics struct {
	streamErrors, authFailures, refused *prometheus.CounterVec
	logins                              *prometheus.CounterVec
	throttled, tokens                   prometheus.Counter
}

func newMetrics(r prometheus.Registerer, s *Server) metrics {
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	m := metrics{
		streamErrors: vec("starling_c2s_stream_errors_total", "Client streams that ended with an error, by condition.", "condition"),
		authFailures: vec("starling_c2s_auth_failures_total", "Failed authentications, by condition.", "condition"),
		refused:      vec("starling_c2s_refused_total", "Connections that were refused, by limit.", "limit"),
		logins:       vec("starling_c2s_logins_total", "Successful authentications, by mechanism.", "mechanism"),
		throttled:    prometheus.NewCounter(prometheus.CounterOpts{Name: "starling_c2s_throttled_total", Help: "Pauses of reading because a client sent too fast."}),
		tokens:       prometheus.NewCounter(prometheus.CounterOpts{Name: "starling_c2s_tokens_total", Help: "Tokens that were given to clients, to log in with."}),
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	r.MustRegister(m.streamErrors, m.authFailures, m.refused, m.logins, m.throttled, m.tokens,
		gauge("starling_c2s_connections", "Client connections.", func() float64 {
			s.mu.Lock()
			defer s.mu.Unlock()
			return float64(len(s.conns))
		}),
		gauge("starling_sessions", "Bound resources.", func() float64 { return float64(s.core.Sessions.Len()) }),
		gauge("starling_assembly_bytes", "Bytes held for incomplete stanzas.", func() float64 { return float64(s.opts.Assembly.Used()) }),
		gauge("starling_c2s_workers_running", "Requests that are being worked on.", func() float64 { n, _ := s.workers.Load(); return float64(n) }),
		gauge("starling_c2s_workers_waiting", "Requests that wait for a worker.", func() float64 { _, n := s.workers.Load(); return float64(n) }),
	)
	return m
}
