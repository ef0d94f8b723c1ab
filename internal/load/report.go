package load

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Report is what a run found. Times are in microseconds unless the name says otherwise.
type Report struct {
	Scenario   Scenario  `json:"scenario"`
	Addrs      []string  `json:"addrs"`
	TLS        string    `json:"tls"`
	Started    time.Time `json:"started"`
	Sessions   int       `json:"sessions"`
	Window     int       `json:"window,omitempty"`
	Rate       float64   `json:"rate,omitempty"` // messages a second that were asked for
	Size       int       `json:"size_bytes,omitempty"`
	Words      bool      `json:"words,omitempty"` // each message said something else
	Seconds    float64   `json:"seconds"`         // length of the measured interval
	Operations uint64    `json:"operations"`      // in it: messages or presences received, log-ins
	PerSecond  float64   `json:"per_second"`

	Server  *CPU       `json:"server_cpu,omitempty"`
	Store   *CPU       `json:"store_cpu,omitempty"` // of the server's database
	Client  CPU        `json:"client_cpu"`
	Latency *Quantiles `json:"latency,omitempty"`  // from the moment when a message was due to be sent until it was read
	Lag     *Quantiles `json:"send_lag,omitempty"` // how much of it passed before the generator itself had sent
	Memory  *Memory    `json:"memory,omitempty"`
	Behind  float64    `json:"acknowledged_after_seconds,omitempty"` // from the last message that came until the server had acknowledged all
	Sent    []uint32   `json:"-"`                                    // Chat: what each session has sent, in their order
	Faults  Faults     `json:"faults"`
}

// CPU is processor time.
type CPU struct {
	User            float64 `json:"user_seconds"`
	System          float64 `json:"system_seconds"`
	PerOperation    float64 `json:"us_per_operation"`
	UserOperation   float64 `json:"user_us_per_operation"`
	SystemOperation float64 `json:"system_us_per_operation"`
}

func newCPU(c cpu, n uint64) CPU {
	r := CPU{User: c.user.Seconds(), System: c.system.Seconds()}
	if n > 0 {
		r.UserOperation = 1e6 * r.User / float64(n)
		r.SystemOperation = 1e6 * r.System / float64(n)
		r.PerOperation = r.UserOperation + r.SystemOperation
	}
	return r
}

// Memory is resident memory of the server, in bytes.
type Memory struct {
	Before     int64   `json:"before_bytes"`
	After      int64   `json:"after_bytes"`
	PerSession float64 `json:"bytes_per_session"`
}

func newReport(c *Config) *Report {
	r := &Report{
		Scenario: c.Scenario, Addrs: c.Addrs, Started: time.Now().UTC(), Sessions: c.Sessions,
		TLS: [...]string{"starttls", "direct", "none"}[c.TLS],
	}
	switch c.Scenario {
	case Chat:
		r.Size, r.Rate, r.Words = c.Size, c.Rate, c.Words
		if c.Rate == 0 {
			r.Window = c.Window
		}
	case Presence, Resume:
		r.Size = c.Size
	}
	return r
}

// Write prints the report for people.
func (r *Report) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(t, name+"\t"+format+"\n", args...)
	}
	row("scenario", "%s, %d sessions, TLS: %s", r.Scenario, r.Sessions, r.TLS)
	if len(r.Addrs) > 1 {
		row("nodes", "%d", len(r.Addrs))
	}
	switch {
	case r.Rate > 0:
		row("load", "%.0f messages/s of %d bytes, open loop", r.Rate, r.Size)
	case r.Window > 0:
		row("load", "window of %d messages of %d bytes in each pair", r.Window, r.Size)
	}
	if r.Words {
		row("texts", "another one in each message")
	}
	if r.Operations > 0 {
		row("done", "%d in %.2f s, %.0f/s", r.Operations, r.Seconds, r.PerSecond)
		row("client CPU", "%.2f µs each", r.Client.PerOperation)
	}
	if s := r.Server; s != nil {
		row("server CPU", "%.2f µs each (%.2f user + %.2f system), %.2f s in all", s.PerOperation, s.UserOperation, s.SystemOperation, s.User+s.System)
	}
	if s := r.Store; s != nil {
		row("database CPU", "%.2f µs each, %.2f s in all", s.PerOperation, s.User+s.System)
	}
	if r.Behind > 0 {
		row("acknowledged", "%.0f ms after the last message", 1e3*r.Behind)
	}
	if q := r.Latency; q != nil {
		row("latency", "%v", q)
		row("of which send lag", "%v", r.Lag)
	}
	if m := r.Memory; m != nil {
		row("server memory", "%.2f KiB a session (%.1f MiB before, %.1f MiB after)", m.PerSession/1024, float64(m.Before)/(1<<20), float64(m.After)/(1<<20))
	}
	f := &r.Faults
	row("faults", "lost %d, duplicated %d, reordered %d, changed %d, bounced %d, unacknowledged %d, broken sessions %d",
		f.Lost, f.Duplicated, f.Reordered, f.Changed, f.Bounced, f.Unacknowledged, f.Broken)
	for _, s := range f.Samples {
		row("", "%s", s)
	}
	return t.Flush()
}
