package storetest

import (
	"io"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Wire is a way to PostgreSQL that can be cut.
type Wire struct {
	URL    string // of the database, over the wire
	target *pgx.ConnConfig
	path   string

	mu       sync.Mutex // guards the fields below
	listener net.Listener
	conns    []net.Conn
}

// NewWire makes a way to the database with the URL target. It cannot be passed until Join.
func NewWire(t *testing.T, target string) *Wire {
	t.Helper()
	cfg, err := pgx.ParseConfig(target)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	u.Host, u.RawQuery = "", url.Values{"host": {dir}, "sslmode": {"disable"}}.Encode()
	w := &Wire{URL: u.String(), target: cfg, path: filepath.Join(dir, ".s.PGSQL.5432")}
	t.Cleanup(w.Cut)
	return w
}

// Join makes the way passable.
func (w *Wire) Join(t *testing.T) {
	t.Helper()
	l, err := net.Listen("unix", w.path)
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.listener = l
	w.mu.Unlock()
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			network, address := pgconn.NetworkAddress(w.target.Host, w.target.Port)
			out, err := net.Dial(network, address)
			if err != nil {
				in.Close()
				return
			}
			w.mu.Lock()
			w.conns = append(w.conns, in, out)
			w.mu.Unlock()
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				go func() {
					io.Copy(pair[0], pair[1])
					pair[0].Close()
				}()
			}
		}
	}()
}

// Cut ends all connections and refuses new ones.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.listener != nil {
		w.listener.Close()
	}
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}
