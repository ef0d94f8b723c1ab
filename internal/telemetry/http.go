package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	checkTimeout    = 2 * time.Second  // for all readiness checks together
	shutdownTimeout = 5 * time.Second  // for requests in flight when the server stops
	readTimeout     = 10 * time.Second // for a request
	writeTimeout    = 5 * time.Minute  // for an answer: a profile takes as long as it was asked to
	idleTimeout     = time.Minute
	maxHeaderBytes  = 16 << 10
)

// NewHandler returns the handler of the admin door.
func NewHandler(metrics prometheus.Gatherer, ready *Readiness, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeText(w, http.StatusOK, "ok\n")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { serveReady(w, r, ready) })
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelError),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
	}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return ownHost(mux)
}

// serveReady answers 200 or 503, as JSON if the client prefers it.
func serveReady(w http.ResponseWriter, r *http.Request, ready *Readiness) {
	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
	defer cancel()
	failing, notes := ready.Failing(ctx), ready.Notes()
	code := http.StatusOK
	if len(failing) > 0 {
		code = http.StatusServiceUnavailable
	}
	if strings.Contains(r.Header.Get("Accept"), "application/json") || r.URL.Query().Get("format") == "json" {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(struct { // an error means that the client has gone
			Ready   bool              `json:"ready"`
			Failing []Failure         `json:"failing"`
			Notes   map[string]string `json:"notes,omitempty"`
		}{len(failing) == 0, failing, notes})
		return
	}
	var text strings.Builder
	if len(failing) == 0 {
		text.WriteString("ready\n")
	}
	for _, f := range failing {
		fmt.Fprintf(&text, "%s: %s\n", f.Name, f.Reason)
		delete(notes, f.Name) // the reason tells more
	}
	for _, name := range slices.Sorted(maps.Keys(notes)) {
		fmt.Fprintf(&text, "%s: %s\n", name, notes[name])
	}
	writeText(w, code, text.String())
}

func writeText(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text)) // an error means that the client has gone
}

// ownHost refuses requests that reach a loopback address under a foreign name: a web page that makes the
// operator's browser resolve its own name to 127.0.0.1 must not read profiles and metrics.
func ownHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		if isLoopback(local) && !isLoopbackName(r.Host) {
			writeText(w, http.StatusMisdirectedRequest, "this address answers to localhost only\n")
			return
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// isLoopbackName reports whether the Host field of a request names this machine by "localhost" or by its address.
func isLoopbackName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return strings.EqualFold(host, "localhost") || err == nil && addr.IsLoopback()
}

// Server serves HTTP on one address.
type Server struct {
	listener net.Listener
	http     *http.Server
}

// Listen opens addr (host:port; port 0 takes a free one) for a handler. Connections wait until Serve is called.
func Listen(addr string, h http.Handler, log *slog.Logger) (*Server, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for the admin door: %w", err)
	}
	return &Server{listener: listener, http: &http.Server{
		Handler:           h,
		ReadTimeout:       readTimeout,
		ReadHeaderTimeout: readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}}, nil
}

// Addr returns the address that the server listens on, with the port that was taken.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Serve answers requests until ctx ends. Then it accepts no more, gives those in flight five seconds, and returns nil.
// It returns early only if the listener fails. Serve is called once, also to close a server that is not needed.
func (s *Server) Serve(ctx context.Context) error {
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		if s.http.Shutdown(grace) != nil {
			_ = s.http.Close() // those that are left have had their time
		}
	})
	err := s.http.Serve(s.listener)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve the admin door: %w", err)
}
