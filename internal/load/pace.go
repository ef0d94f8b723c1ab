package load

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// pacer waits for moments more exactly than time.Sleep, whose waits the runtime rounds up to a millisecond when it has
// nothing else to do: it has a thread of its own, which sleeps in the kernel.
type pacer struct{}

// newPacer must be called by the goroutine that will wait.
func newPacer() *pacer {
	runtime.LockOSThread()
	// By default the kernel lets a sleep take 50 µs longer. If this fails the waits are less exact, and the send lag shows it.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	return &pacer{}
}

// stop gives the thread back; with the slack it has, it is not used for anything else.
func (*pacer) stop() {}

// wait returns at t, or at once if that has passed.
func (p *pacer) wait(t time.Time) {
	for {
		d := time.Until(t)
		if d <= 0 {
			return
		}
		pause := unix.NsecToTimespec(int64(d))
		_ = unix.Nanosleep(&pause, nil) // a signal may end it early: the loop looks again
	}
}
