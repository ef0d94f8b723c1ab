package cluster

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-im/starling/cluster/internal/link"
)

// metrics are what Prometheus sees of a node. Most values are read when they are asked for.
type metrics struct {
	registerer prometheus.Registerer
	collector  *collector
	calls      *prometheus.HistogramVec
	runs       *prometheus.HistogramVec
}

func (m *metrics) register(n *Node) error {
	if m.registerer = n.cfg.Registerer; m.registerer == nil {
		return nil
	}
	m.calls = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "cluster_task_call_seconds", Help: "Time that calls of tasks took, by how they ended.", Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10),
	}, []string{"task", "outcome"})
	m.runs = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "cluster_task_run_seconds", Help: "Time that tasks ran on this node.", Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10),
	}, []string{"task"})
	m.collector = newCollector(n)
	for i, c := range m.collectors() {
		if err := m.registerer.Register(c); err != nil {
			for _, done := range m.collectors()[:i] {
				m.registerer.Unregister(done)
			}
			return err
		}
	}
	return nil
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.calls, m.runs, m.collector}
}

func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.collectors() {
		m.registerer.Unregister(c)
	}
}

func (m *metrics) called(task string, took time.Duration, err error) {
	if m.calls == nil {
		return
	}
	outcome := "done"
	var remote *RemoteError
	switch {
	case errors.As(err, &remote) && remote.Panicked:
		outcome = "panicked"
	case remote != nil:
		outcome = "failed"
	case errors.Is(err, ErrUnknownTask):
		outcome = "unknown"
	case errors.Is(err, ErrGone):
		outcome = "gone"
	case err != nil:
		outcome = "error"
	}
	m.calls.WithLabelValues(task, outcome).Observe(took.Seconds())
}

func (m *metrics) ran(task string, took time.Duration) {
	if m.runs != nil {
		m.runs.WithLabelValues(task).Observe(took.Seconds())
	}
}

// collector reads a node's values when Prometheus asks.
type collector struct {
	n     *Node
	descs map[string]*prometheus.Desc // by name
	kinds map[string]prometheus.ValueType
}

// values are all metrics that the collector has: name, kind, labels, help.
var values = []struct {
	name   string
	kind   prometheus.ValueType
	labels []string
	help   string
}{
	{"members", prometheus.GaugeValue, nil, "Members that this node sees, itself included."},
	{"state", prometheus.GaugeValue, []string{"state"}, "1 for the state that the node is in."},
	{"incarnation", prometheus.GaugeValue, nil, "Incarnation of this node."},
	{"malformed_total", prometheus.CounterValue, nil, "Messages that could not be read."},
	{"dropped_total", prometheus.CounterValue, nil, "Beacons and such that were left out because the node lagged."},
	{"unknown_channel_total", prometheus.CounterValue, nil, "Records for channels that this program does not have."},
	{"strange_total", prometheus.CounterValue, nil, "Records of kinds that this version does not know."},
	{"rows_owned", prometheus.GaugeValue, nil, "Rows of this node in all tables."},
	{"changes_total", prometheus.CounterValue, nil, "Changes of this node's rows."},
	{"rows_copied", prometheus.GaugeValue, []string{"member"}, "Rows copied from a member."},
	{"repairs_total", prometheus.CounterValue, []string{"member"}, "Copies of a member's tables that had to be made anew."},
	{"link_unacknowledged_bytes", prometheus.GaugeValue, []string{"member", "link"}, "Bytes for a member that are not acknowledged."},
	{"link_waiting", prometheus.GaugeValue, []string{"member", "link"}, "Callers that wait for room in the window."},
	{"link_round_trip_seconds", prometheus.GaugeValue, []string{"member", "link"}, "Time from sending to the acknowledgement after applying, smoothed."},
	{"link_frames_sent_total", prometheus.CounterValue, []string{"member", "link"}, "Frames sent."},
	{"link_bytes_sent_total", prometheus.CounterValue, []string{"member", "link"}, "Bytes of frames sent."},
	{"link_frames_resent_total", prometheus.CounterValue, []string{"member", "link"}, "Frames sent again."},
	{"link_probes_total", prometheus.CounterValue, []string{"member", "link"}, "Times that a member was silent for so long that it was asked."},
	{"link_window_full_total", prometheus.CounterValue, []string{"member", "link"}, "Records that had to wait for room in the window."},
	{"link_frames_applied_total", prometheus.CounterValue, []string{"member", "link"}, "Frames received and applied."},
	{"link_bytes_received_total", prometheus.CounterValue, []string{"member", "link"}, "Bytes of frames received."},
	{"link_frames_doubled_total", prometheus.CounterValue, []string{"member", "link"}, "Frames that had come before."},
	{"link_frames_dropped_total", prometheus.CounterValue, []string{"member", "link"}, "Frames received and dropped for lack of room; they come again."},
}

func newCollector(n *Node) *collector {
	c := &collector{n, map[string]*prometheus.Desc{}, map[string]prometheus.ValueType{}}
	for _, v := range values {
		c.descs[v.name] = prometheus.NewDesc("cluster_"+v.name, v.help, v.labels, nil)
		c.kinds[v.name] = v.kind
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	n := c.n
	v := n.view.Load()
	put := func(name string, x float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(c.descs[name], c.kinds[name], x, labels...)
	}
	put("members", float64(len(v.members)))
	for st := Standalone; st <= Failed; st++ {
		on := 0.0
		if v.self.State == st {
			on = 1
		}
		put("state", on, st.String())
	}
	put("incarnation", float64(v.self.Incarnation))
	put("malformed_total", float64(n.malformed.Load()))
	put("dropped_total", float64(n.dropped.Load()))
	put("unknown_channel_total", float64(n.channels.unknown.Load()))
	put("strange_total", float64(n.strange.Load()))
	seq, t := n.journal.State()
	put("rows_owned", float64(t.Rows))
	put("changes_total", float64(seq))
	for _, m := range v.members {
		p := v.peers[m.ID]
		if p == nil {
			continue
		}
		_, copied, _, repairs := p.copy.State()
		put("rows_copied", float64(copied.Rows), m.Name)
		put("repairs_total", float64(repairs), m.Name)
		collectLink(put, p.stanza.Stats(), m.Name, "stanza")
		collectLink(put, p.bulk.Stats(), m.Name, "bulk")
	}
}

func collectLink(put func(string, float64, ...string), s link.Stats, member, name string) {
	put("link_unacknowledged_bytes", float64(s.Unacked), member, name)
	put("link_waiting", float64(s.Waiting), member, name)
	put("link_round_trip_seconds", s.RTT.Seconds(), member, name)
	put("link_frames_sent_total", float64(s.Sent), member, name)
	put("link_bytes_sent_total", float64(s.Bytes), member, name)
	put("link_frames_resent_total", float64(s.Resent), member, name)
	put("link_probes_total", float64(s.Probes), member, name)
	put("link_window_full_total", float64(s.Full), member, name)
	put("link_frames_applied_total", float64(s.Applied), member, name)
	put("link_bytes_received_total", float64(s.Received), member, name)
	put("link_frames_doubled_total", float64(s.Doubled), member, name)
	put("link_frames_dropped_total", float64(s.Dropped), member, name)
}
