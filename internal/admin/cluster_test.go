package admin_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/internal/account"
	"github.com/starling-im/starling/internal/admin"
	"github.com/starling-im/starling/internal/config"
	"github.com/starling-im/starling/internal/membership"
	"github.com/starling-im/starling/internal/settings"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/store/storetest"
)

// nodes is what the service and the client have in common.
type nodes interface {
	looks
	deeds
}

type looks interface {
	Status(ctx context.Context) (membership.Status, error)
	Tables(ctx context.Context) ([]membership.Table, error)
	Links(ctx context.Context) ([]membership.Link, error)
	Events(ctx context.Context) ([]membership.Event, error)
}

type deeds interface {
	Join(ctx context.Context, all bool) (membership.Status, error)
	Leave(ctx context.Context, all bool) (membership.Status, error)
	Drain(ctx context.Context) (membership.Status, error)
}

// begin makes a node that is alone in its cluster.
func begin(t *testing.T, db *store.DB, token string) *membership.Membership {
	t.Helper()
	if err := db.Migrate(t.Context(), settings.Migrations(), membership.Migrations()); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	node, err := cluster.Start(t.Context(), cluster.Config{Name: "a", Token: token, Listen: "127.0.0.1:0", Log: log, Settle: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	m, err := membership.New(node, membership.Options{
		Config: config.Cluster{
			Enabled: true, Name: "main", Token: config.Secret(token), Listen: "127.0.0.1:0", AllowSharedSQLite: true, WhenFailed: config.ServeAlone,
		},
		DB: db, Settings: settings.New(db, time.Now), Log: log, Metrics: prometheus.NewRegistry(), Now: time.Now,
		Admit: func(bool) {},
		Clear: func(context.Context, membership.Farewell) error { return nil },
		Flush: func(context.Context) error { return nil },
		Count: func() membership.Count { return membership.Count{Here: 3, Everywhere: 5} },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(m.Stop(context.Background()), node.Close()); err != nil {
			t.Error(err)
		}
	})
	m.Begin(t.Context())
	return m
}

func TestCluster(t *testing.T) {
	for _, c := range []struct {
		name string
		of   func(*testing.T, *store.DB, *membership.Membership) nodes
	}{
		{"service", func(_ *testing.T, _ *store.DB, m *membership.Membership) nodes { return admin.NewCluster(m) }},
		{"client", func(t *testing.T, db *store.DB, m *membership.Membership) nodes {
			core := newCore(t, db, account.Options{})
			return admin.Dial(serve(t, admin.Handler(core, m, slog.New(slog.DiscardHandler)))).Cluster()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := storetest.Open(t, store.SQLite)
			n, ctx := c.of(t, db, begin(t, db, cluster.NewToken())), t.Context()
			want := func(s membership.Status, err error, state string, wanted bool, by membership.Source) {
				t.Helper()
				if err != nil || s.State != state || s.Wanted != wanted || s.DecidedBy != by {
					t.Errorf("got %+v, %v; want %s", s, err, state)
				}
			}
			s, err := n.Status(ctx)
			want(s, err, "ready", true, membership.Configured)
			if s.Node != "a" || s.Sessions.Here != 3 || s.Sessions.Everywhere != 5 || len(s.Members) != 1 || !s.Members[0].Self {
				t.Errorf("got %+v", s)
			}
			if tables, err := n.Tables(ctx); err != nil || len(tables) != 1 || tables[0].Name != "nodes" || tables[0].Owned != 1 || len(tables[0].Digest) != 16 {
				t.Errorf("tables: %+v, %v", tables, err)
			}
			if links, err := n.Links(ctx); err != nil || len(links) != 0 {
				t.Errorf("links: %+v, %v", links, err)
			}
			if events, err := n.Events(ctx); err != nil || len(events) == 0 || !strings.Contains(events[0].Text, "joining") {
				t.Errorf("events: %+v, %v", events, err)
			}
			s, err = n.Leave(ctx, true)
			want(s, err, "standalone", false, membership.DecidedAll)
			s, err = n.Join(ctx, false)
			want(s, err, "ready", true, membership.DecidedHere)
			s, err = n.Drain(ctx)
			want(s, err, "drained", true, membership.DecidedHere)
			s, err = n.Join(ctx, true)
			want(s, err, "ready", true, membership.DecidedAll)
		})
	}
	t.Run("not configured", func(t *testing.T) {
		db := storetest.Open(t, store.SQLite)
		core := newCore(t, db, account.Options{})
		n := admin.Dial(serve(t, admin.Handler(core, begin(t, db, ""), slog.New(slog.DiscardHandler)))).Cluster()
		for _, do := range []func(context.Context, bool) (membership.Status, error){n.Join, n.Leave} {
			if _, err := do(t.Context(), false); !errors.Is(err, admin.NotConfigured) || !strings.Contains(err.Error(), "cluster.token_file") {
				t.Errorf("got %v", err)
			}
		}
	})
}

func TestClusterRequests(t *testing.T) {
	db := storetest.Open(t, store.SQLite)
	h := admin.Handler(newCore(t, db, account.Options{}), begin(t, db, ""), slog.New(slog.DiscardHandler))
	for _, c := range []struct {
		method, path, body string
		code               int
		want               string
	}{
		{"GET", "/v1/cluster", "", 200, `"state":"standalone"`},
		{"GET", "/v1/cluster/links", "", 200, `{"links":[]}`},
		{"POST", "/v1/cluster/join", `{"all":1}`, 400, `"code":"bad-request"`},
		{"POST", "/v1/cluster/join", `{"everybody":true}`, 400, `"code":"bad-request"`},
		{"POST", "/v1/cluster/leave", `{}`, 400, `"code":"not-configured"`},
		{"GET", "/v1/cluster/join", "", 400, `"code":"bad-request"`},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(c.method, c.path, strings.NewReader(c.body)))
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s %s %s: %d %s, want %d %s", c.method, c.path, c.body, w.Code, w.Body, c.code, c.want)
		}
	}
}
