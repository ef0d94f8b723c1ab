package account

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/starling-im/starling/internal/xmpp/sasl"
)

// hashers bounds the processors that hash passwords, so that a flood of log-ins cannot stop the flow of messages. It is a
// pool of permits: the work is done on the goroutine of whoever asks.
type hashers struct {
	permits chan struct{}
	waiting atomic.Int64
	queue   int64
	seconds prometheus.Histogram
	refused prometheus.Counter
}

func newHashers(workers, queue int, metrics promauto.Factory) *hashers {
	if workers <= 0 {
		workers = max(1, runtime.GOMAXPROCS(0)-1)
	}
	p := &hashers{
		permits: make(chan struct{}, workers),
		queue:   int64(queue),
		seconds: metrics.NewHistogram(prometheus.HistogramOpts{
			Name:    "starling_account_hash_seconds",
			Help:    "Time to hash a password, waiting not included.",
			Buckets: prometheus.ExponentialBuckets(250e-6, 2, 12), // 0.25 ms … 0.5 s
		}),
		refused: metrics.NewCounter(prometheus.CounterOpts{
			Name: "starling_account_hash_refused_total",
			Help: "Passwords that were not hashed since too many were waiting.",
		}),
	}
	metrics.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "starling_account_hash_queue_length",
		Help: "Passwords that wait to be hashed.",
	}, func() float64 { return float64(p.waiting.Load()) })
	return p
}

// derive is sasl.DeriveKeys, once there is a permit. It returns ErrBusy if too many wait already.
func (p *hashers) derive(ctx context.Context, h sasl.Hash, password string, salt []byte, iterations int) (sasl.Keys, error) {
	if err := p.acquire(ctx); err != nil {
		return sasl.Keys{}, err
	}
	defer func() { <-p.permits }()
	begun := time.Now()
	keys, err := sasl.DeriveKeys(h, password, salt, iterations)
	p.seconds.Observe(time.Since(begun).Seconds())
	return keys, err
}

func (p *hashers) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case p.permits <- struct{}{}:
		return nil
	default:
	}
	defer p.waiting.Add(-1)
	if p.waiting.Add(1) > p.queue {
		p.refused.Inc()
		return ErrBusy
	}
	select {
	case p.permits <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
