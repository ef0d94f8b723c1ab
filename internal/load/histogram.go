package load

import (
	"fmt"
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Each power of two is divided into this many buckets, so that a quantile is wrong by at most 1/64.
const (
	bucketBits = 6
	perOctave  = 1 << bucketBits
)

// histogram counts durations. Any number of goroutines may add to it.
type histogram struct {
	buckets [(64 - bucketBits) * perOctave]atomic.Uint64
	longest atomic.Int64
}

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.buckets[bucket(uint64(d))].Add(1)
	for {
		longest := h.longest.Load()
		if int64(d) <= longest || h.longest.CompareAndSwap(longest, int64(d)) {
			return
		}
	}
}

// bucket finds the bucket of a number: numbers below perOctave have one each.
func bucket(n uint64) int {
	if n < perOctave {
		return int(n)
	}
	shift := bits.Len64(n) - bucketBits - 1
	return shift*perOctave + int(n>>shift)
}

// upper is the largest number of a bucket.
func upper(bucket int) uint64 {
	if bucket < perOctave {
		return uint64(bucket)
	}
	shift := bucket/perOctave - 1
	return (uint64(bucket%perOctave+perOctave)+1)<<shift - 1
}

// Quantiles of a distribution of durations, in microseconds.
type Quantiles struct {
	Count uint64  `json:"count"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
	Max   float64 `json:"max"`
}

// String is the quantiles for people.
func (q *Quantiles) String() string {
	return fmt.Sprintf("p50 %.0f, p90 %.0f, p99 %.0f, p99.9 %.0f, max %.0f µs", q.P50, q.P90, q.P99, q.P999, q.Max)
}

func (h *histogram) quantiles() *Quantiles {
	q := &Quantiles{Max: float64(h.longest.Load()) / 1e3}
	for i := range h.buckets {
		q.Count += h.buckets[i].Load()
	}
	wanted := []struct {
		part float64
		into *float64
	}{{.5, &q.P50}, {.9, &q.P90}, {.99, &q.P99}, {.999, &q.P999}}
	var seen uint64
	for i := range h.buckets {
		n := h.buckets[i].Load()
		if n == 0 {
			continue
		}
		seen += n
		for len(wanted) > 0 && float64(seen) >= math.Ceil(wanted[0].part*float64(q.Count)) {
			*wanted[0].into = min(float64(upper(i))/1e3, q.Max)
			wanted = wanted[1:]
		}
	}
	return q
}
