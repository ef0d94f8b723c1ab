package fleet

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what the ledgers do not count themselves.
type metrics struct {
	malformed, lost prometheus.Counter
	conflicts       atomic.Uint64
	f               *Fleet
}

func (r reason) String() string { return [...]string{"refused", "gone", "timeout"}[r] }

func (m *metrics) register(f *Fleet) {
	m.f = f
	m.malformed = prometheus.NewCounter(prometheus.CounterOpts{Name: "starling_fleet_malformed_total", Help: "Records of other nodes that could not be read."})
	m.lost = prometheus.NewCounter(prometheus.CounterOpts{Name: "starling_fleet_lost_sessions_total", Help: "Sessions of nodes that died whose contacts were told by this node."})
	gauge := func(name, help string, value func(Status) int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value(f.load())) })
	}
	counter := func(name, help string, labels prometheus.Labels, value func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 { return float64(value()) })
	}
	f.o.Metrics.MustRegister(m.malformed, m.lost,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "starling_fleet_rows", Help: "Sessions in the directory, of all nodes."},
			func() float64 { return float64(f.sessions.Len()) }),
		gauge("starling_fleet_legs_unsettled", "Stanzas on their way to sessions of other nodes.", func(s Status) int { return s.Unsettled }),
		gauge("starling_fleet_legs_parked", "Stanzas that wait for earlier ones, or are being routed anew.", func(s Status) int { return s.Parked }),
		gauge("starling_fleet_unsent_bytes", "Of stanzas for other nodes whose links have no room.", func(s Status) (n int) {
			for _, node := range s.Nodes {
				n += node.Unsent
			}
			return n
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "starling_fleet_work_waiting", Help: "Stanzas and events of the fleet that wait for a worker."},
			func() float64 { _, n := f.workers.Load(); return float64(n) }),
		counter("starling_fleet_conflicts_total", "Sessions that ended since another node has a later one of their full JID.", nil, m.conflicts.Load),
		counter("starling_fleet_pauses_total", "Pauses of reading because other nodes were slow to take what a client sent.", nil, func() uint64 {
			_, _, n := m.counts()
			return n
		}))
	for r := range reasons {
		f.o.Metrics.MustRegister(counter("starling_fleet_legs_returned_total", "Stanzas that were routed anew, by reason.",
			prometheus.Labels{"reason": r.String()}, func() uint64 {
				n, _, _ := m.counts()
				return n[r.String()]
			}))
	}
}

// counts adds up what the ledgers have counted.
func (m *metrics) counts() (returned map[string]uint64, conflicts, pauses uint64) {
	returned = map[string]uint64{}
	for i := range m.f.hands {
		h := &m.f.hands[i]
		h.mu.Lock()
		for r, n := range h.returned {
			returned[reason(r).String()] += n
		}
		pauses += h.pauses
		h.mu.Unlock()
	}
	return returned, m.conflicts.Load(), pauses
}
