package certs

import "github.com/prometheus/client_golang/prometheus"

// expiry tells, when it is asked, how long the certificate of each domain lasts.
type expiry struct{ store *Store }

func (e expiry) desc() *prometheus.Desc {
	return prometheus.NewDesc("starling_certificate_expiry_seconds",
		"Seconds until the certificate shown for the domain expires; negative once it has.", []string{"domain"}, nil)
}

// Describe implements prometheus.Collector.
func (e expiry) Describe(ch chan<- *prometheus.Desc) { ch <- e.desc() }

// Collect implements prometheus.Collector.
func (e expiry) Collect(ch chan<- prometheus.Metric) {
	now := e.store.options.Clock()
	for _, d := range e.store.options.Domains {
		left := e.store.ForDomain(d).Leaf.NotAfter.Sub(now).Seconds()
		ch <- prometheus.MustNewConstMetric(e.desc(), prometheus.GaugeValue, left, d)
	}
}
