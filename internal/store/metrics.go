package store

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	factory promauto.Factory
	seconds *prometheus.HistogramVec // by op
	errors  *prometheus.CounterVec   // by op and kind
	batch   prometheus.Histogram     // SQLite: writes per commit
	retries prometheus.Counter       // PostgreSQL: transactions run again after a collision
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		factory: f,
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "starling_store_seconds",
			Help:    "Time of a database transaction, waiting included.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 4, 10), // 50 µs … 13 s
		}, []string{"op"}),
		errors: f.NewCounterVec(prometheus.CounterOpts{
			Name: "starling_store_errors_total",
			Help: "Database transactions that failed, by what went wrong; not_found is no failure and not counted.",
		}, []string{"op", "kind"}),
		batch: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "starling_store_batch_writes",
			Help:    "Writes that shared one commit (SQLite).",
			Buckets: prometheus.ExponentialBuckets(1, 2, 9), // 1 … 256
		}),
		retries: f.NewCounter(prometheus.CounterOpts{
			Name: "starling_store_retries_total",
			Help: "Transactions that were run again after a collision with another (PostgreSQL).",
		}),
	}
}

// queue exports the number of writes that wait.
func (m *metrics) queue(length func() int) {
	m.factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "starling_store_write_queue_length",
		Help: "Writes that wait for their turn (SQLite).",
	}, func() float64 { return float64(length()) })
}

func (m *metrics) observe(op string, begun time.Time, err error) {
	m.seconds.WithLabelValues(op).Observe(time.Since(begun).Seconds())
	var kind string
	switch {
	case err == nil, errors.Is(err, ErrNotFound):
		return
	case errors.Is(err, ErrConflict):
		kind = "conflict"
	case errors.Is(err, ErrUnavailable):
		kind = "unavailable"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		kind = "cancelled"
	default:
		kind = "other"
	}
	m.errors.WithLabelValues(op, kind).Inc()
}
