// Package journal numbers the changes of a node's own rows, in all tables together, and keeps the latest ones for
// those peers that have not got them yet.
package journal

import (
	"sync"

	"github.com/starling-im/starling/cluster/internal/frame"
)

// Journal is that of one node. A peer that lags too far behind it gets a snapshot in its place.
type Journal struct {
	most    int   // bytes kept
	version uint8 // of the encoding of what is kept

	mu     sync.Mutex // guards what follows, and orders changes: it is held from Begin to End
	seq    uint64
	tally  Tally
	base   uint64  // changes after this one are kept
	kept   []entry // one for each of them
	ops    []byte  // their encoding, one after another
	origin uint64  // where in the encoding of all changes ops begins,
	front  uint64  // and where the first change kept does
	feeds  map[*Feed]struct{}
}

// mostIdle is how many bytes of memory a journal without changes keeps for the next ones.
const mostIdle = 1 << 20

// batchHead is more than a batch has before its operations.
const batchHead = 64

// entry is where a change ends in the encoding of all of them, and the tally after it.
type entry struct {
	end   uint64
	tally Tally
}

// New returns an empty journal.
func New(most int, version uint8) *Journal {
	return &Journal{most: most, version: version, feeds: map[*Feed]struct{}{}}
}

// Begin locks the journal, and returns the number of the last change and the tally, which the caller keeps up to date.
func (j *Journal) Begin() (last uint64, t *Tally) {
	j.mu.Lock()
	return j.seq, &j.tally
}

// Record takes a change in, whose Seq is one more than what Begin returned.
func (j *Journal) Record(op *frame.Op) {
	j.seq = op.Seq
	if len(j.feeds) == 0 {
		j.base, j.kept, j.ops = j.seq, nil, nil
		j.origin, j.front = 0, 0
		return
	}
	j.ops = frame.AppendOp(j.ops, op, j.version)
	end := j.origin + uint64(len(j.ops))
	j.kept = append(j.kept, entry{end, j.tally})
	for end-j.front > uint64(j.most) {
		j.forget(1)
	}
}

// End unlocks the journal.
func (j *Journal) End() { j.mu.Unlock() }

// State returns the number of the last change, and the tally.
func (j *Journal) State() (uint64, Tally) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.seq, j.tally
}

// forget lets the first changes go. What remains moves to the front once that costs less than what has gone.
func (j *Journal) forget(n int) {
	j.front = j.kept[n-1].end
	j.kept = j.kept[n:]
	j.base += uint64(n)
	if len(j.kept) == 0 {
		j.kept, j.ops, j.origin = nil, j.ops[:0], j.front
		if cap(j.ops) > mostIdle {
			j.ops = nil
		}
	} else if gone := j.front - j.origin; gone > uint64(len(j.ops)/2) {
		j.ops = append(j.ops[:0], j.ops[gone:]...)
		j.origin = j.front
	}
}

// Feed is how far one peer has got. It is the source of the link to it.
type Feed struct {
	j       *Journal
	version uint8
	at      uint64 // guarded by j.mu
}

// Feed begins one with the changes that come from now on, in a version of the encoding.
func (j *Journal) Feed(version uint8) *Feed {
	j.mu.Lock()
	defer j.mu.Unlock()
	f := &Feed{j: j, version: version, at: j.seq}
	j.feeds[f] = struct{}{}
	return f
}

// Close ends the feed.
func (f *Feed) Close() {
	f.j.mu.Lock()
	defer f.j.mu.Unlock()
	delete(f.j.feeds, f)
	f.j.trim()
}

// trim forgets what every peer has got.
func (j *Journal) trim() {
	low := j.seq
	for f := range j.feeds {
		low = min(low, f.at)
	}
	if low > j.base {
		j.forget(int(low - j.base))
	}
}

// Pull implements link.Source.
func (f *Feed) Pull(most int) (batch []byte, seq uint64, more bool) {
	j := f.j
	j.mu.Lock()
	defer j.mu.Unlock()
	if f.at < j.base { // the peer will notice the gap and ask for all rows
		f.at = j.seq
	}
	if f.at == j.seq || most == 0 {
		return nil, f.at, f.at < j.seq
	}
	from := j.front
	if i := f.at - j.base; i > 0 {
		from = j.kept[i-1].end
	}
	b := frame.Batch{Prev: f.at}
	rest := j.kept[f.at-j.base:]
	n := 1
	for n < len(rest) && rest[n-1].end-from < uint64(most) {
		n++
	}
	f.at += uint64(n)
	b.Last, b.Rows, b.Digest = f.at, rest[n-1].tally.Rows, rest[n-1].tally.Digest
	b.Ops = frame.Ops(j.ops[from-j.origin : rest[n-1].end-j.origin])
	if f.version < min(frame.OpVersion, j.version) {
		b.Ops = b.Ops.Rewrite(nil, f.version)
	}
	batch = frame.AppendBatch(make([]byte, 0, len(b.Ops)+batchHead), b)
	if len(j.kept) > 256 {
		j.trim()
	}
	return batch, f.at, f.at < j.seq
}
