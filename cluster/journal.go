package cluster

import (
	"sync"

	"github.com/starling-im/starling/cluster/internal/frame"
)

// journal numbers the changes of this node's own rows, in all tables together, and keeps the latest ones for those
// peers that have not got them yet. A peer that lags too far behind gets a snapshot in their place.
type journal struct {
	most int // bytes kept

	mu    sync.Mutex // guards what follows, and orders changes: it is held while a table applies one
	seq   uint64
	tally tally
	base  uint64 // changes after this one are in entries
	kept  []entry
	bytes int
	feeds map[*feed]struct{}
}

// tally is how many rows there are, and the exclusive or of their sums.
type tally struct{ rows, digest uint64 }

func (t *tally) add(sum uint64)    { t.rows++; t.digest ^= sum }
func (t *tally) remove(sum uint64) { t.rows--; t.digest ^= sum }

// entry is an encoded change, and the tally after it.
type entry struct {
	op    []byte
	tally tally
}

func newJournal(most int) *journal { return &journal{most: most, feeds: map[*feed]struct{}{}} }

// record keeps a change that was just numbered. It is called with mu held.
func (j *journal) record(op *frame.Op) {
	if len(j.feeds) == 0 {
		j.base, j.kept, j.bytes = j.seq, nil, 0
		return
	}
	e := entry{frame.AppendOp(nil, op), j.tally}
	j.kept = append(j.kept, e)
	j.bytes += len(e.op)
	for j.bytes > j.most {
		j.forget(1)
	}
}

func (j *journal) forget(n int) {
	for i := range n {
		j.bytes -= len(j.kept[i].op)
		j.kept[i] = entry{}
	}
	j.kept = j.kept[n:]
	j.base += uint64(n)
	if len(j.kept) == 0 {
		j.kept = nil
	}
}

// state returns the sequence and the tally.
func (j *journal) state() (uint64, tally) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.seq, j.tally
}

// feed is how far one peer has got. It is the source of the link to it.
type feed struct {
	j     *journal
	at    uint64 // guarded by j.mu
	lapse uint64 // how often it fell behind what is kept; guarded by j.mu
}

// feed begins one with the changes that come from now on.
func (j *journal) feed() *feed {
	j.mu.Lock()
	defer j.mu.Unlock()
	f := &feed{j: j, at: j.seq}
	j.feeds[f] = struct{}{}
	return f
}

func (f *feed) close() {
	f.j.mu.Lock()
	defer f.j.mu.Unlock()
	delete(f.j.feeds, f)
	f.j.trim()
}

// trim forgets what every peer has got.
func (j *journal) trim() {
	low := j.seq
	for f := range j.feeds {
		low = min(low, f.at)
	}
	if low > j.base {
		j.forget(int(low - j.base))
	}
}

// Pull implements link.Source.
func (f *feed) Pull(most int) (batch []byte, seq uint64, more bool) {
	j := f.j
	j.mu.Lock()
	defer j.mu.Unlock()
	if f.at < j.base { // the peer will notice the gap and ask for all rows
		f.at = j.seq
		f.lapse++
	}
	if f.at == j.seq || most == 0 {
		return nil, f.at, f.at < j.seq
	}
	b := frame.Batch{Prev: f.at}
	for i := f.at - j.base; i < uint64(len(j.kept)) && len(b.Ops) < most; i++ {
		e := &j.kept[i]
		b.Ops = append(b.Ops, e.op...)
		b.Rows, b.Digest = e.tally.rows, e.tally.digest
		f.at++
	}
	b.Last = f.at
	if len(j.kept) > 256 {
		j.trim()
	}
	return frame.AppendBatch(nil, b), f.at, f.at < j.seq
}
