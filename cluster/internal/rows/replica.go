package rows

import (
	"log/slog"
	"sync"
	"time"

	"github.com/starling-im/starling/cluster/internal/clock"
	"github.com/starling-im/starling/cluster/internal/frame"
)

const (
	askAgain = 2 * time.Second // between two repairs, and when nothing of a snapshot has come for so long
	noAnswer = 8 * time.Second // to which this grows: who is asked anew begins anew, and a busy node would never end
	maxStood = 4               // beacons that tell of changes which do not come
	maxTombs = 1 << 20         // deletions remembered while a snapshot comes
)

// Replica is the copy of another node's rows, in all tables. It begins by asking for all of them, and does so again
// whenever it has missed a change, or its digest turns out to differ. Changes are applied while a snapshot comes: each
// row carries the sequence of its change, so the later one wins whatever comes first.
type Replica struct {
	store *Store
	clock *clock.Clock
	log   *slog.Logger
	saw   func(*frame.Op) // is called for each row that comes; may be nil
	ask   func(id uint64) // asks for a snapshot; it does not wait

	patience time.Duration // that a frame waits for the rows before it; less than the time after which its sender finds this node stuck

	mu       sync.Mutex // guards what follows, and orders changes: it is held while tables apply them
	owner    *Owner
	seq      uint64 // all changes up to this one are in
	tally    tally
	synced   bool // the copy has been complete once
	loading  bool
	ended    bool
	id       uint64 // of the snapshot asked for
	asked    time.Time
	tries    int // of asking without an answer
	gen      uint32
	tombs    map[tomb]uint64 // what was deleted since it was asked for
	from, to uint64          // the run of changes seen since: those after from up to to
	run      bool
	stood    int    // beacons during which the copy stood still although it lagged
	last     uint64 // seq at the last beacon
	repaired time.Time
	reached  chan struct{} // closed when seq grows or synced is set
	repairs  uint64        // snapshots asked for after the first one
	op       frame.Op      // what is being applied
}

type tomb struct{ table, key string }

// NewReplica returns the copy of an owner's rows. A frame waits for the rows before it no longer than patience.
func NewReplica(s *Store, c *clock.Clock, log *slog.Logger, o *Owner, patience time.Duration) *Replica {
	return &Replica{store: s, clock: c, log: log, owner: o, patience: patience, reached: make(chan struct{})}
}

// load asks for all rows. It is called with mu held.
func (r *Replica) load(why string) {
	if why != "" {
		r.repairs++
		r.log.Info("copy of a member's tables is repaired", slog.String("member", r.owner.ID), slog.String("why", why))
	}
	r.loading = true
	r.id++
	r.gen++
	r.asked = time.Now()
	r.stood = 0
	r.tombs, r.run = map[tomb]uint64{}, false
	r.ask(r.id)
}

// Start asks for all rows over a new link.
func (r *Replica) Start(ask func(id uint64)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ask = ask
	r.load("")
}

// End makes the replica take nothing more. It returns how far it is: torn tells a copy that is not whole from others.
func (r *Replica) End(torn uint64) (seq, tornAt uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	r.progress()
	if r.synced && !r.loading {
		torn = 0
	}
	return r.reach(), torn
}

// reach is how far the copy is, counting the changes that came while a snapshot is awaited. It is called with mu held.
func (r *Replica) reach() uint64 {
	if r.loading && r.run && r.from <= r.seq {
		return max(r.seq, r.to)
	}
	return r.seq
}

func (r *Replica) progress() {
	close(r.reached)
	r.reached = make(chan struct{})
}

// Delta applies changes.
func (r *Replica) Delta(b frame.Batch) {
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
		if r.tally != (tally{Rows: b.Rows, Digest: b.Digest}) {
			r.repair("digest differs")
		}
		r.progress()
	}
}

// apply applies the operations after the sequence.
func (r *Replica) apply(ops frame.Ops, after uint64) {
	op := &r.op
	var t core
	name := ""
	for len(ops) > 0 {
		ops.Read(op)
		if after > 0 && op.Seq <= after {
			continue
		}
		r.clock.Observe(op.Stamp)
		if t == nil || name != op.Table {
			t, name = r.store.table(op.Table), op.Table
		}
		if op.Delete {
			if t.remove(r.owner, op, &r.tally) == errMoved {
				t = r.store.table(op.Table)
				_ = t.remove(r.owner, op, &r.tally)
			}
			if r.loading && op.Seq > 0 && len(r.tombs) < maxTombs {
				r.tombs[tomb{op.Table, op.Key}] = op.Seq
			}
			continue
		}
		if r.loading && (r.tombs[tomb{op.Table, op.Key}] >= op.Seq || t.seqOf(r.owner, op.Key) > op.Seq) {
			continue
		}
		t = r.put(t, op)
	}
	*op = frame.Op{Table: op.Table} // the rest belongs to the record
}

// put stores a row, and returns its table.
func (r *Replica) put(t core, op *frame.Op) core {
	if r.saw != nil {
		r.saw(op)
	}
	err := t.put(r.owner, op, r.gen, &r.tally)
	if err == errMoved {
		t = r.store.table(op.Table)
		err = t.put(r.owner, op, r.gen, &r.tally)
	}
	if err != nil {
		r.log.Error("row of a member cannot be read", slog.String("table", op.Table), slog.String("member", r.owner.ID), slog.Any("err", err))
	}
	return t
}

// Chunk applies rows of a snapshot.
func (r *Replica) Chunk(id uint64, ops frame.Ops) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.loading || id != r.id || r.ended {
		return
	}
	r.asked = time.Now()
	r.apply(ops, 0)
}

// Finish ends a snapshot. It returns true when the copy is complete for the first time.
func (r *Replica) Finish(s frame.Snapshot) (first bool) {
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
	r.loading, r.tombs, r.tries = false, nil, 0
	if r.seq = s.Seq; r.run {
		r.seq = max(r.to, s.Seq)
	}
	if r.seq == s.Seq && r.tally != (tally{Rows: s.Rows, Digest: s.Digest}) {
		r.log.Warn("snapshot does not add up", slog.String("member", r.owner.ID))
		_, r.tally = r.store.recount(r.owner)
	}
	first, r.synced = !r.synced, true
	r.progress()
	return first
}

// Wait returns when the copy has reached a sequence, or after a while.
func (r *Replica) Wait(seq uint64, done <-chan struct{}) {
	if seq == 0 {
		return
	}
	var timer *time.Timer
	for {
		r.mu.Lock()
		ok, reached := r.ended || r.synced && r.reach() >= seq, r.reached
		r.mu.Unlock()
		if ok {
			return
		}
		if timer == nil {
			timer = time.NewTimer(r.patience)
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

// Compare takes in what a beacon says about the tables.
func (r *Replica) Compare(seq uint64, t tally) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.ended:
	case r.loading:
		if time.Since(r.asked) > min(askAgain<<r.tries, noAnswer) {
			r.tries = min(r.tries+1, 8)
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
func (r *Replica) repair(why string) {
	if time.Since(r.repaired) >= askAgain {
		r.repaired, r.stood = time.Now(), 0
		r.load(why)
	}
}

// Scrub counts the rows anew, and repairs a copy that is not what it is believed to be.
func (r *Replica) Scrub() {
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

// State returns how far the copy is.
func (r *Replica) State() (seq uint64, t tally, synced bool, repairs uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seq, r.tally, r.synced && !r.loading, r.repairs
}

// Owner returns whose rows these are.
func (r *Replica) Owner() *Owner { return r.owner }

// Watch makes saw be called for each row that comes.
func (r *Replica) Watch(saw func(*frame.Op)) { r.saw = saw }
