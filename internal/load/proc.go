package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of CPU time in /proc: USER_HZ is 100 on every architecture that Go runs on.
const tick = 10 * time.Millisecond

// cpu is processor time that was used.
type cpu struct{ user, system time.Duration }

func (c cpu) minus(o cpu) cpu { return cpu{c.user - o.user, c.system - o.system} }

// process is what /proc/PID/stat tells of one process.
type process struct {
	parent int
	used   cpu
}

// readProcess reads /proc/PID/stat. What a process has used includes what its children had that have ended. Its second field, in parentheses, may hold anything.
func readProcess(pid int) (process, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return process{}, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // from the third field, the state
	if len(fields) < 15 {
		return process{}, fmt.Errorf("process %d: /proc has a stat of %d fields", pid, len(fields))
	}
	var n [5]int64
	for i, at := range []int{1, 11, 12, 13, 14} { // ppid, utime, stime, cutime, cstime
		if n[i], err = strconv.ParseInt(fields[at], 10, 64); err != nil {
			return process{}, fmt.Errorf("process %d: %w", pid, err)
		}
	}
	return process{int(n[0]), cpu{time.Duration(n[1]+n[3]) * tick, time.Duration(n[2]+n[4]) * tick}}, nil
}

// tree returns a process and all that descend from it.
func tree(pid int) (map[int]process, error) {
	root, err := readProcess(pid)
	if err != nil {
		return nil, fmt.Errorf("look at the server: %w", err)
	}
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	others := map[int]process{}
	for _, name := range names {
		n, _ := strconv.Atoi(filepath.Base(name))
		p, err := readProcess(n)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // ended meanwhile
		}
		if err != nil {
			return nil, err
		}
		others[n] = p
	}
	found := map[int]process{pid: root}
	for grown := true; grown; {
		grown = false
		for n, p := range others {
			if _, known := found[n]; known {
				continue
			}
			if _, ours := found[p.parent]; ours {
				found[n] = p
				grown = true
			}
		}
	}
	return found, nil
}

// trees returns processes and all that descend from them.
func trees(pids []int) (map[int]process, error) {
	all := map[int]process{}
	for _, pid := range pids {
		found, err := tree(pid)
		if err != nil {
			return nil, err
		}
		maps.Copy(all, found)
	}
	return all, nil
}

// usedBy is what processes and their descendants have used.
func usedBy(pids []int) (cpu, error) {
	all, err := trees(pids)
	var sum cpu
	for _, p := range all {
		sum.user += p.used.user
		sum.system += p.used.system
	}
	return sum, err
}

// ProcessorTime is what processes and their descendants have used so far.
func ProcessorTime(pids ...int) (time.Duration, error) {
	used, err := usedBy(pids)
	return used.user + used.system, err
}

// A server is at rest when it has used less than restShare of a processor for restFor.
const (
	restFor     = 500 * time.Millisecond
	restShare   = 0.1
	restTimeout = 3 * time.Minute
)

// Rest waits until processes have nothing left to do of what was before, such as the end of their sessions.
func Rest(ctx context.Context, pids ...int) error {
	ctx, cancel := context.WithTimeout(ctx, restTimeout)
	defer cancel()
	last, err := ProcessorTime(pids...)
	for err == nil {
		select {
		case <-ctx.Done():
			return fmt.Errorf("processes %d do not come to rest: %w", pids, context.Cause(ctx))
		case <-time.After(restFor):
		}
		before := last
		last, err = ProcessorTime(pids...)
		if float64(last-before) < restShare*float64(restFor) {
			break
		}
	}
	return err
}

// residentMemory is the memory, in bytes, that processes and their descendants occupy. Pages that they share count for
// each.
func residentMemory(pids []int) (int64, error) {
	all, err := trees(pids)
	if err != nil {
		return 0, err
	}
	var sum int64
	for n := range all {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(n), "status"))
		if err != nil {
			return 0, fmt.Errorf("look at the server: %w", err)
		}
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
				kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
				if err != nil {
					return 0, fmt.Errorf("process %d: %w", n, err)
				}
				sum += kib << 10
			}
		}
	}
	return sum, nil
}

// ownTime is the processor time of this process.
func ownTime() (cpu, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return cpu{}, err
	}
	return cpu{time.Duration(u.Utime.Nano()), time.Duration(u.Stime.Nano())}, nil
}

// measure is an interval in which processor time is counted.
type measure struct {
	pids, stored          []int
	start                 time.Time
	server, store, client cpu
}

func (g *generator) begin() (*measure, error) {
	m := &measure{pids: g.cfg.ServerPIDs, stored: g.cfg.StorePIDs}
	err := m.read()
	m.start = time.Now()
	return m, err
}

func (m *measure) read() (err error) {
	if len(m.pids) > 0 {
		if m.server, err = usedBy(m.pids); err != nil {
			return err
		}
	}
	if len(m.stored) > 0 {
		if m.store, err = usedBy(m.stored); err != nil {
			return err
		}
	}
	m.client, err = ownTime()
	return err
}

// end writes into the report what n operations took.
func (m *measure) end(r *Report, n uint64) error {
	now := measure{pids: m.pids, stored: m.stored}
	elapsed := time.Since(m.start)
	if err := now.read(); err != nil {
		return err
	}
	r.Seconds = elapsed.Seconds()
	r.Operations = n
	r.PerSecond = float64(n) / r.Seconds
	r.Client = newCPU(now.client.minus(m.client), n)
	if len(m.pids) > 0 {
		used := newCPU(now.server.minus(m.server), n)
		r.Server = &used
	}
	if len(m.stored) > 0 {
		used := newCPU(now.store.minus(m.store), n)
		r.Store = &used
	}
	return nil
}
