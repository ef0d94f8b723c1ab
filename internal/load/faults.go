package load

import "sync"

// Faults are what the server did wrong.
type Faults struct {
	Lost       uint64 `json:"lost"`
	Duplicated uint64 `json:"duplicated"`
	Reordered  uint64 `json:"reordered"` // came after one that was sent later
	Changed    uint64 `json:"changed"`   // came with other content, or at the wrong session
	Bounced    uint64 `json:"bounced"`   // came back
	Broken     uint64 `json:"broken_sessions"`

	Unacknowledged uint64   `json:"unacknowledged"`    // came, but the server did not say so to its sender
	Samples        []string `json:"samples,omitempty"` // the first few, told in words
}

// Total counts all faults.
func (f *Faults) Total() uint64 {
	return f.Lost + f.Duplicated + f.Reordered + f.Changed + f.Bounced + f.Broken + f.Unacknowledged
}

// maxSamples bounds the faults that are told in words, maxSample the bytes that are quoted.
const (
	maxSamples = 5
	maxSample  = 1000
)

// faults collects the faults of all sessions.
type faults struct {
	mu  sync.Mutex // guards sum
	sum Faults
}

// note counts a fault.
func (f *faults) note(count func(*Faults), sample string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	count(&f.sum)
	f.tell(sample)
}

// tell keeps words about something that need not be a fault by itself.
func (f *faults) tell(sample string) {
	if sample != "" && len(f.sum.Samples) < maxSamples {
		f.sum.Samples = append(f.sum.Samples, sample[:min(len(sample), maxSample)])
	}
}

// hint is tell for a caller without the lock.
func (f *faults) hint(sample string) { f.note(func(*Faults) {}, sample) }

func (f *faults) tally() Faults {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sum
}
