package cluster

import (
	"log/slog"
	"sync"
	"time"

	"github.com/starling-im/starling/cluster/internal/frame"
)

const (
	askAgain  = 2 * time.Second // when nothing of a snapshot has come for so long
	waitTable = time.Second     // that a frame waits for the rows before it
	maxStood  = 4               // beacons that tell of changes which do not come
	maxTombs  = 1 << 20         // deletions remembered while a snapshot comes
)

// replica is the copy of another node's rows, in all tables. It begins by asking for all of them, and does so again
// whenever it has missed a change, or its digest turns out to differ. Changes are applied while a snapshot comes: each
// row carries the sequence of its change, so the later one wins whatever comes first.
type replica struct {
	store *store
	clock *clock
	log   *slog.Logger
	ask   func(id uint64) // asks for a snapshot; it does not wait

	mu       sync.Mutex // guards what follows, and orders changes: it is held while tables apply them
	owner    *owner
	seq      uint64 // all changes up to this one are in
	tally    tally
	synced   bool // the copy has been complete once
	loading  bool
	ended    bool
	id       uint64 // of the snapshot asked for
	asked    time.Time
	gen      uint32
	tombs    map[tomb]uint64 // what was deleted since it was asked for
	from, to uint64          // the run of changes seen since: those after from up to to
	run      bool
	stood    int    // beacons during which the copy stood still although it lagged
	last     uint64 // seq at the last beacon
	repaired time.Time
	reached  chan struct{} // closed when seq grows or synced is set
	repairs  uint64        // snapshots asked for after the first one
}

type tomb struct{ table, key string }

func newReplica(s *store, c *clock, log *slog.Logger, o *owner) *replica {
	return &replica{store: s, clock: c, log: log, owner: o, reached: make(chan struct{})}
}

// load asks for all rows. It is called with mu held.
func (r *replica) load(why string) {
	if why != "" {
		r.repairs++
		r.log.Info("copy of a member's tables is repaired", slog.String("member", r.owner.id), slog.String("why", why))
	}
	r.loading = true
	r.id++
	r.gen++
	r.asked = time.Now()
	r.stood = 0
	r.tombs, r.run = map[tomb]uint64{}, false
	r.ask(r.id)
}

// start asks for all rows over a new link.
func (r *replica) start(ask func(id uint64)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ask = ask
	r.load("")
}

// end makes the replica take nothing more.
func (r *replica) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	r.progress()
}

func (r *replica) progress() {
	close(r.reached)
	r.reached = make(chan struct{})
}

// delta applies changes.
func (r *replica) delta(b frame.Batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.ended:
	case r.loading:
		if !r.run || b.Prev != r.to {
			r.from, r.run = b.Prev, true
		}
		r.to = b.Last
		r.apply(b.Ops, 0)
	case b.Last <= r.seq:
	case b.Prev > r.seq:
		r.load("changes are missing")
		r.from, r.to, r.run = b.Prev, b.Last, true
		r.apply(b.Ops, 0)
	default:
		r.apply(b.Ops, r.seq)
		r.seq = b.Last
		if r.tally != (tally{b.Rows, b.Digest}) {
			r.repair("digest differs")
		}
		r.progress()
	}
}

// apply applies the operations after the sequence.
func (r *replica) apply(ops frame.Ops, after uint64) {
	for len(ops) > 0 {
		op := ops.Next()
		if op.Seq <= after {
			continue
		}
		r.clock.observe(op.Stamp)
		t := r.store.table(op.Table)
		if op.Delete {
			if t.seqOf(r.owner, op.Key) <= op.Seq {
				t.remove(r.owner, op.Key, &r.tally)
			}
			if r.loading && len(r.tombs) < maxTombs {
				r.tombs[tomb{op.Table, op.Key}] = op.Seq
			}
			continue
		}
		if r.loading && (r.tombs[tomb{op.Table, op.Key}] >= op.Seq || t.seqOf(r.owner, op.Key) > op.Seq) {
			continue
		}
		r.put(t, &op)
	}
}

func (r *replica) put(t core, op *frame.Op) {
	err := t.put(r.owner, op, r.gen, &r.tally)
	if err == errMoved {
		err = r.store.table(op.Table).put(r.owner, op, r.gen, &r.tally)
	}
	if err != nil {
		r.log.Error("row of a member cannot be read", slog.String("table", op.Table), slog.String("member", r.owner.id), slog.Any("err", err))
	}
}

// chunk applies rows of a snapshot.
func (r *replica) chunk(id uint64, ops frame.Ops) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.loading || id != r.id || r.ended {
		return
	}
	r.asked = time.Now()
	r.apply(ops, 0)
}

// finish ends a snapshot. It returns true when the copy is complete for the first time.
func (r *replica) finish(s frame.Snapshot) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.loading || s.ID != r.id || r.ended {
		return false
	}
	if r.run && r.from > s.Seq || len(r.tombs) >= maxTombs {
		r.load("changes are missing")
		return false
	}
	for _, t := range r.store.all() {
		t.sweep(r.owner, r.gen, s.Seq, &r.tally)
	}
	r.loading, r.tombs = false, nil
	if r.seq = s.Seq; r.run {
		r.seq = max(r.to, s.Seq)
	}
	if r.seq == s.Seq && r.tally != (tally{s.Rows, s.Digest}) {
		r.log.Warn("snapshot does not add up", slog.String("member", r.owner.id))
		_, r.tally = r.store.recount(r.owner)
	}
	first, r.synced = !r.synced, true
	r.progress()
	return first
}

// wait returns when the copy has reached a sequence, or after a while.
func (r *replica) wait(seq uint64, done <-chan struct{}) {
	if seq == 0 {
		return
	}
	var timer *time.Timer
	for {
		r.mu.Lock()
		ok, reached := r.ended || r.synced && (r.seq >= seq || r.loading && r.run && r.to >= seq), r.reached
		r.mu.Unlock()
		if ok {
			return
		}
		if timer == nil {
			timer = time.NewTimer(waitTable)
			defer timer.Stop()
		}
		select {
		case <-reached:
		case <-done:
			return
		case <-timer.C:
			return
		}
	}
}

// compare takes in what a beacon says about the tables.
func (r *replica) compare(seq uint64, t tally) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.ended:
	case r.loading:
		if time.Since(r.asked) > askAgain {
			r.load("no answer")
		}
	case r.seq == seq && r.tally != t:
		r.repair("digest differs")
	case r.seq < seq && r.seq == r.last:
		if r.stood++; r.stood >= maxStood {
			r.repair("changes are missing")
		}
	default:
		r.stood = 0
	}
	r.last = r.seq
}

// repair asks for all rows, but not time and again. It is called with mu held.
func (r *replica) repair(why string) {
	if time.Since(r.repaired) >= askAgain {
		r.repaired, r.stood = time.Now(), 0
		r.load(why)
	}
}

// scrub counts the rows anew, and repairs a copy that is not what it is believed to be.
func (r *replica) scrub() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.loading || r.ended {
		return
	}
	contents, claims := r.store.recount(r.owner)
	if contents != r.tally || claims != r.tally {
		r.tally = claims
		r.repair("rows were changed in memory")
	}
}

// state returns how far the copy is.
func (r *replica) state() (seq uint64, t tally, synced bool, repairs uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seq, r.tally, r.synced && !r.loading, r.repairs
}
