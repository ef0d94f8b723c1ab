// Package telemetry is how the server tells about itself: the log, Prometheus metrics, and the HTTP door for health,
// metrics and profiles.
//
// The door answers without log-in, so it belongs on loopback or a private network:
//
//	/healthz       200 as long as the process answers
//	/readyz        200 when every check passes, else 503 with the reasons; JSON if the client asks for it
//	/metrics       Prometheus metrics
//	/debug/pprof/  profiles of the Go runtime
package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// NewLog returns a logger that writes lines of "text" or "json" to w. The level may be changed at any time, from any
// goroutine. Attributes whose name says that they are secret are hidden, whatever their type; that is a second fence
// behind config.Secret, not a licence to log them.
func NewLog(w io.Writer, format string, level *slog.LevelVar) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: hideSecret}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, fmt.Errorf("log format %q is neither text nor json", format)
}

// ParseLevel reads a level: debug, info, warn or error.
func ParseLevel(s string) (slog.Level, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s)); err != nil {
		return 0, fmt.Errorf("log level %q is none of debug, info, warn, error", s)
	}
	return level, nil
}

// hideSecret replaces the value of an attribute with a telling name.
func hideSecret(_ []string, a slog.Attr) slog.Attr {
	switch strings.ToLower(a.Key) {
	case "password", "passwd", "secret", "token", "authorization", "cookie", "private_key":
		return slog.String(a.Key, "(hidden)")
	}
	return a
}
