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
	oftenCycles = 4         // collections in paceEvery that are too many
	calmBytes   = 4 << 20   // allocated in paceEvery: few enough to go back
	paceRoom    = 128 << 20 // bytes that the heap may grow by while busy
	maxPercent  = 400       // of the live heap
	usual       = 100       // percent, unless GOGC says otherwise
	calmTicks   = 10        // of paceEvery, before memory is given back; longer than connections take to rest
)

// pace adapts the collector to the load until the context ends. An operator who sets
// GOGC has decided already. While people log in the collector keeps its usual pace: what
// sessions keep would otherwise lie scattered among garbage, which no collection mends.
func (s *Server) pace(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	defer debug.SetGCPercent(usual)
	t := time.NewTicker(paceEvery)
	defer t.Stop()
	p := pacer{samples: []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}, {Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}}}
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			p.tick(s.core.Sessions.Len())
		}
	}
}

// pacer remembers what the last tick saw.
type pacer struct {
	samples        []metrics.Sample
	cycles, allocs uint64
	sessions       int
	owed           bool // memory is to be given back once it is calm
	calm           int  // ticks in a row
}

func (p *pacer) tick(sessions int) {
	metrics.Read(p.samples)
	cycles, live, allocs := p.samples[0].Value.Uint64(), p.samples[1].Value.Uint64(), p.samples[2].Value.Uint64()
	grows := sessions > p.sessions+p.sessions/100
	switch {
	case grows:
		debug.SetGCPercent(usual)
		p.owed = true
	case cycles-p.cycles > oftenCycles:
		debug.SetGCPercent(percentFor(live))
		p.owed = true
	}
	p.calm++
	if grows || allocs-p.allocs > calmBytes {
		p.calm = 0
	}
	if p.owed && p.calm == calmTicks {
		debug.SetGCPercent(usual)
		debug.FreeOSMemory()
		p.owed = false
	}
	p.cycles, p.allocs, p.sessions = cycles, allocs, sessions
}

// percentFor lets a heap of so many live bytes grow by paceRoom, at least by the usual
// share and at most by maxPercent.
func percentFor(live uint64) int {
	return int(min(max(paceRoom*100/max(live, 1), usual), maxPercent))
}
