package transport

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what happens on connections. A nil *Metrics is valid and counts nothing.
type Metrics struct {
	open, writers        prometheus.Gauge
	bytesIn, bytesOut    prometheus.Counter
	handshakes, failures prometheus.Counter
	slow                 prometheus.Counter
}

// NewMetrics makes the metrics of one kind of connection and registers them with r; it panics, as Prometheus does, if
// r has them already. Kinds are told apart by labels that r adds.
func NewMetrics(r prometheus.Registerer) *Metrics {
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		r.MustRegister(g)
		return g
	}
	counter := func(name, help string, labels prometheus.Labels) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels})
		r.MustRegister(c)
		return c
	}
	const handshakes, handshakesHelp = "starling_tls_handshakes_total", "TLS handshakes by their end."
	return &Metrics{
		open:       gauge("starling_connections_open", "Connections open now."),
		writers:    gauge("starling_connections_blocked", "Connections whose peer does not take its bytes as fast as they come."),
		bytesIn:    counter("starling_connection_received_bytes_total", "Bytes read from sockets.", nil),
		bytesOut:   counter("starling_connection_sent_bytes_total", "Bytes written to sockets.", nil),
		handshakes: counter(handshakes, handshakesHelp, prometheus.Labels{"result": "ok"}),
		failures:   counter(handshakes, handshakesHelp, prometheus.Labels{"result": "failed"}),
		slow:       counter("starling_connections_slow_closed_total", "Connections closed because their peer read too slowly or not at all.", nil),
	}
}

func (m *Metrics) opened() {
	if m != nil {
		m.open.Inc()
	}
}

func (m *Metrics) closed(slow bool) {
	if m == nil {
		return
	}
	m.open.Dec()
	if slow {
		m.slow.Inc()
	}
}

func (m *Metrics) received(n int) {
	if m != nil {
		m.bytesIn.Add(float64(n))
	}
}

func (m *Metrics) sent(n int) {
	if m != nil {
		m.bytesOut.Add(float64(n))
	}
}

func (m *Metrics) shook(ok bool) {
	switch {
	case m == nil:
	case ok:
		m.handshakes.Inc()
	default:
		m.failures.Inc()
	}
}

func (m *Metrics) blocked(by float64) {
	if m != nil {
		m.writers.Add(by)
	}
}
