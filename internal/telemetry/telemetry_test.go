package telemetry_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/telemetry"
)

func TestLog(t *testing.T) {
	var out bytes.Buffer
	var level slog.LevelVar
	for _, format := range []string{"text", "json"} {
		out.Reset()
		level.Set(slog.LevelInfo)
		log, err := telemetry.NewLog(&out, format, &level)
		if err != nil {
			t.Fatal(err)
		}
		log.Debug("before")
		level.Set(slog.LevelDebug)
		log.Debug("after", "user", "romeo", slog.Group("g", "Password", "hunter2"))
		got := out.String()
		if strings.Contains(got, "before") || !strings.Contains(got, "after") || !strings.Contains(got, "romeo") {
			t.Errorf("%s: the level is not obeyed: %s", format, got)
		}
		if strings.Contains(got, "hunter2") || !strings.Contains(got, "(hidden)") {
			t.Errorf("%s: the secret is not hidden: %s", format, got)
		}
		if isJSON := json.Valid(out.Bytes()); isJSON != (format == "json") {
			t.Errorf("%s: JSON is %t: %s", format, isJSON, got)
		}
	}
	if _, err := telemetry.NewLog(&out, "xml", &level); err == nil {
		t.Error("accepted an unknown format")
	}
}

func TestParseLevel(t *testing.T) {
	for text, want := range map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError} {
		if got, err := telemetry.ParseLevel(text); err != nil || got != want {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
	if _, err := telemetry.ParseLevel("loud"); err == nil {
		t.Error("accepted an unknown level")
	}
}

// door is an admin door on loopback.
type door struct {
	url   string
	ready telemetry.Readiness
	stop  context.CancelFunc
	ended chan error
}

// open starts a door. If h is nil, it has the real handler.
func open(t *testing.T, h http.Handler) *door {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	d := &door{ended: make(chan error, 1)}
	if h == nil {
		h = telemetry.NewHandler(telemetry.NewRegistry("1.2.3"), &d.ready, log)
	}
	server, err := telemetry.Listen("127.0.0.1:0", h, log)
	if err != nil {
		t.Fatal(err)
	}
	d.url = "http://" + server.Addr()
	ctx, stop := context.WithCancel(t.Context())
	d.stop = stop
	go func() { d.ended <- server.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-d.ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return d
}

func (d *door) get(t *testing.T, path string, change func(*http.Request)) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	if change != nil {
		change(req)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestDoor(t *testing.T) {
	d := open(t, nil)
	for _, tt := range []struct {
		path string
		code int
		want string
	}{
		{"/healthz", 200, "ok\n"},
		{"/readyz", 200, "ready\n"},
		{"/metrics", 200, `starling_build_info{go="go`},
		{"/metrics", 200, `version="1.2.3"`},
		{"/metrics", 200, "go_goroutines "},
		{"/metrics", 200, "process_open_fds "},
		{"/debug/pprof/", 200, "heap"},
		{"/debug/pprof/goroutine?debug=1", 200, "goroutine profile:"},
		{"/debug/pprof/cmdline", 200, ""},
		{"/", 404, ""},
	} {
		if code, body := d.get(t, tt.path, nil); code != tt.code || !strings.Contains(body, tt.want) {
			t.Errorf("%s: got %d %.200s, want %d %s", tt.path, code, body, tt.code, tt.want)
		}
	}
	if code, _ := d.get(t, "/healthz", func(r *http.Request) { r.Method = http.MethodPost }); code != http.StatusMethodNotAllowed {
		t.Errorf("POST: got %d", code)
	}
}

func TestForeignHostIsRefused(t *testing.T) {
	d := open(t, nil)
	for host, want := range map[string]int{
		"localhost": 200, "LOCALHOST:5280": 200, "127.0.0.1": 200, "127.0.0.1:80": 200, "[::1]:80": 200, "[::1]": 200,
		"evil.example": 421, "evil.example:5280": 421, "localhost.evil.example": 421, "10.0.0.1": 421,
	} {
		if code, _ := d.get(t, "/healthz", func(r *http.Request) { r.Host = host }); code != want {
			t.Errorf("%s: got %d, want %d", host, code, want)
		}
	}
}

func TestReadiness(t *testing.T) {
	d := open(t, nil)
	d.ready.Set("start", errors.New("still starting"))
	d.ready.Check("database", func(ctx context.Context) error { return ctx.Err() })
	d.ready.Check("cluster", func(context.Context) error { return errors.New("wrong secret") })
	asJSON := func(r *http.Request) { r.Header.Set("Accept", "application/json") }

	steps := []struct {
		name       string
		change     func()
		code       int
		text, json string
	}{
		{"two fail", func() {}, 503, "cluster: wrong secret\nstart: still starting\n",
			`{"ready":false,"failing":[{"name":"cluster","reason":"wrong secret"},{"name":"start","reason":"still starting"}]}`},
		{"one is set", func() { d.ready.Set("start", nil) }, 503, "cluster: wrong secret\n",
			`{"ready":false,"failing":[{"name":"cluster","reason":"wrong secret"}]}`},
		{"one is removed", func() { d.ready.Check("cluster", nil) }, 200, "ready\n", `{"ready":true,"failing":[]}`},
		{"a note", func() { d.ready.Note("cluster", func() string { return "3 members" }) }, 200, "ready\ncluster: 3 members\n",
			`{"ready":true,"failing":[],"notes":{"cluster":"3 members"}}`},
		{"a note and a reason", func() { d.ready.Set("cluster", errors.New("draining")) }, 503, "cluster: draining\n",
			`{"ready":false,"failing":[{"name":"cluster","reason":"draining"}],"notes":{"cluster":"3 members"}}`},
	}
	for _, s := range steps {
		s.change()
		if code, body := d.get(t, "/readyz", nil); code != s.code || body != s.text {
			t.Errorf("%s: got %d %s", s.name, code, body)
		}
		if code, body := d.get(t, "/readyz", asJSON); code != s.code || strings.TrimSpace(body) != s.json {
			t.Errorf("%s: got %d %s", s.name, code, body)
		}
		if code, body := d.get(t, "/readyz?format=json", nil); code != s.code || strings.TrimSpace(body) != s.json {
			t.Errorf("%s: got %d %s", s.name, code, body)
		}
	}
}

func TestSlowCheckHasFailed(t *testing.T) {
	var ready telemetry.Readiness
	ready.Check("database", func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	got := ready.Failing(ctx)
	if want := (telemetry.Failure{Name: "database", Reason: "no answer in time"}); len(got) != 1 || got[0] != want {
		t.Errorf("got %v", got)
	}
}

func TestShutdownWaitsForRequestsInFlight(t *testing.T) {
	began, release := make(chan struct{}), make(chan struct{})
	d := open(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(began)
		<-release
		_, _ = io.WriteString(w, "done")
	}))
	conn, err := net.Dial("tcp", strings.TrimPrefix(d.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-began
	d.stop()
	close(release)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "done" {
		t.Errorf("got %q, %v", body, err)
	}
}

func TestServeOfAnEndedContextCloses(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	server, err := telemetry.Listen("127.0.0.1:0", http.NotFoundHandler(), log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := server.Serve(ctx); err != nil {
		t.Errorf("got %v", err)
	}
	if conn, err := net.Dial("tcp", server.Addr()); err == nil {
		conn.Close()
		t.Error("the address is still open")
	}
}

func TestListenOnATakenAddress(t *testing.T) {
	d := open(t, nil)
	_, err := telemetry.Listen(strings.TrimPrefix(d.url, "http://"), http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "listen for the admin door") {
		t.Errorf("got %v", err)
	}
}

// TestSeldom: the log gets the first of many, then one every ten seconds, with the number of those that it did not get.
func TestSeldom(t *testing.T) {
	var s telemetry.Seldom
	start := time.Now()
	for _, c := range []struct {
		at   time.Duration
		more uint64
		told bool
	}{
		{0, 0, true}, {0, 0, false}, {time.Second, 0, false}, {9999 * time.Millisecond, 0, false},
		{10 * time.Second, 3, true}, {11 * time.Second, 0, false}, {time.Hour, 1, true}, {2 * time.Hour, 0, true},
	} {
		if more, told := s.Tell(start.Add(c.at)); more != c.more || told != c.told {
			t.Errorf("after %v: %v, %d more", c.at, told, more)
		}
	}
}
