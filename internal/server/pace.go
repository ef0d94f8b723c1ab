package server

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The garbage collector runs whenever the heap has doubled, which for the small heap of
// a server with few sessions is dozens of times a second under load: a fifth of the
// processor. So while it runs often the heap may grow further, by a bounded number of
// bytes; when it has become rare again, the memory is given back.
const (
	paceEvery   = time.Second
	oftenCycles = 4        // collections in paceEvery that are too many
	calmBytes   = 4 << 20  // allocated in paceEvery: few enough to go back
	paceRoom    = 64 << 20 // bytes that the heap may grow by while busy
	maxPercent  = 400      // of the live heap
	usual       = 100      // percent, unless GOGC says otherwise
	calmRounds  = 5        // of paceEvery, before memory is given back
)

// pace adapts the collector to the load until the context ends. An operator who sets
// GOGC has decided already. While people log in the collector keeps its usual pace: what
// sessions keep would otherwise lie scattered among garbage, which no collection mends.
func (s *Server) pace(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	t := time.NewTicker(paceEvery)
	defer t.Stop()
	samples := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}, {Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(samples)
	lastCycles, lastAllocs := samples[0].Value.Uint64(), samples[2].Value.Uint64()
	sessions, busy, calm := s.core.Sessions.Len(), false, 0
	for {
		select {
		case <-ctx.Done():
			debug.SetGCPercent(usual)
			return
		case <-t.C:
		}
		metrics.Read(samples)
		cycles, live, allocs := samples[0].Value.Uint64(), samples[1].Value.Uint64(), samples[2].Value.Uint64()
		before := sessions
		sessions = s.core.Sessions.Len()
		switch {
		case sessions > before+before/100:
			if busy {
				debug.SetGCPercent(usual)
				busy = false
			}
		case !busy && cycles-lastCycles > oftenCycles:
			debug.SetGCPercent(percentFor(live))
			busy, calm = true, 0
		case busy && allocs-lastAllocs < calmBytes:
			if calm++; calm == calmRounds {
				debug.SetGCPercent(usual)
				debug.FreeOSMemory()
				busy = false
			}
		case busy:
			calm = 0
			debug.SetGCPercent(percentFor(live))
		}
		lastCycles, lastAllocs = cycles, allocs
	}
}

// percentFor lets a heap of so many live bytes grow by paceRoom, at least by the usual
// share and at most by maxPercent.
func percentFor(live uint64) int {
	return int(min(max(paceRoom*100/max(live, 1), usual), maxPercent))
}
