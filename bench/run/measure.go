package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/starling-im/starling/internal/load"
	"github.com/starling-im/starling/internal/xmpp/sasl"
)

// row is one figure that is compared.
type row string

// The rows. Times are in microseconds, memory is in KiB.
const (
	oneByOne  row = "window 1"
	inBursts  row = "window 8"
	median    row = "latency p50"
	tail      row = "latency p99"
	lagMedian row = "lag p50"
	lagTail   row = "lag p99"
	logIn     row = "log-in"
	hash      row = "hash"
	plainIdle row = "idle plaintext"
	tlsIdle   row = "idle TLS"
)

// key names a figure of one server.
type key struct {
	row    row
	server string
}

// bench is one comparison.
type bench struct {
	*options
	dir     string
	started time.Time
	servers []*contestant
	groups  []*group
	samples map[key][]float64
	faults  []string // what servers did wrong, in words

	keepers  []*keeper
	rounds   int               // how often the keepers were measured
	postgres *postgres         // nil if there is none
	archived map[string]*tally // of each keeper
	filled   map[string]int    // messages in the archive of which pages are read
}

func newBench(o *options, dir string) *bench {
	return &bench{options: o, dir: dir, started: time.Now(), samples: map[key][]float64{},
		archived: map[string]*tally{}, filled: map[string]int{}}
}

func (b *bench) add(r row, server string, value float64) {
	k := key{r, server}
	b.samples[k] = append(b.samples[k], value)
}

// median of the samples of a figure; false if there are none.
func (b *bench) median(r row, server string) (float64, bool) {
	s := slices.Sorted(slices.Values(b.samples[key{r, server}]))
	if len(s) == 0 {
		return 0, false
	}
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2, true
}

func (b *bench) measure(ctx context.Context) error {
	if err := b.traffic(ctx); err != nil {
		return err
	}
	return b.memory(ctx)
}

// rate is the load under which latency is measured, in messages a second.
const rate = 5000

// traffic measures everything but memory, with all servers up at once.
func (b *bench) traffic(ctx context.Context) (err error) {
	up := map[string]*instance{}
	defer func() {
		for _, in := range up {
			err = errors.Join(err, in.stop())
		}
	}()
	sessions := strconv.Itoa(2 * b.pairs)
	for _, c := range b.servers {
		in, err := c.start(ctx, b.dir, b.dir)
		if err != nil {
			return err
		}
		up[c.name] = in
		if c.name == relayName {
			continue
		}
		if _, err := b.load(ctx, c, in, "login", "--register", "-n", sessions, "--tls", "none"); err != nil {
			return err
		}
	}
	for n := range b.runs {
		fmt.Fprintf(os.Stderr, "run %d of %d\n", n+1, b.runs)
		for _, step := range b.steps() {
			for _, c := range b.servers {
				if step.skips(c.name) {
					continue
				}
				r, err := b.load(ctx, c, up[c.name], append(step.args, "--tls", "none", "-n", sessions)...)
				if err != nil {
					return err
				}
				step.take(c.name, r)
			}
		}
		if err := b.hash(); err != nil {
			return err
		}
	}
	return nil
}

// step is one measurement with each server.
type step struct {
	args  []string
	skips func(server string) bool
	take  func(server string, r *load.Report)
}

func (b *bench) steps() []step {
	length := []string{"--duration", b.duration.String(), "--drain", "1m"} // whoever is behind is late, not lossy
	cpu := func(to row) func(string, *load.Report) {
		return func(server string, r *load.Report) { b.add(to, server, r.Server.PerOperation) }
	}
	nobody := func(string) bool { return false }
	limited := func(server string) bool { return server == limitedName }
	return []step{
		{append([]string{"chat", "-w", "1"}, length...), nobody, cpu(oneByOne)},
		{append([]string{"chat", "-w", "8"}, length...), nobody, cpu(inBursts)},
		{append([]string{"chat", "--rate", strconv.Itoa(rate)}, length...), limited, func(server string, r *load.Report) {
			b.add(median, server, r.Latency.P50)
			b.add(tail, server, r.Latency.P99)
			b.add(lagMedian, server, r.Lag.P50)
			b.add(lagTail, server, r.Lag.P99)
		}},
		{[]string{"login"}, func(server string) bool { return limited(server) || server == relayName }, cpu(logIn)},
	}
}

// memoryRuns bounds how often memory is measured: unlike time it does not suffer from what else the machine does.
const memoryRuns = 3

// memory measures idle sessions, each time of a server that was just started, on accounts that exist.
func (b *bench) memory(ctx context.Context) error {
	for n := -1; n < min(b.runs, memoryRuns); n++ { // -1 makes the accounts
		for _, mode := range []struct {
			tls string
			row row
		}{{"none", plainIdle}, {"starttls", tlsIdle}} {
			for _, c := range b.servers {
				if c.name == relayName || c.name == limitedName || n < 0 && mode.row == tlsIdle {
					continue
				}
				args := []string{"idle", "--settle", b.settle.String(), "-n", strconv.Itoa(b.idle), "--tls", mode.tls}
				if n < 0 {
					args = []string{"login", "--register", "-n", strconv.Itoa(b.idle), "--tls", mode.tls}
				}
				r, err := b.fresh(ctx, c, args)
				if err != nil {
					return err
				}
				if n >= 0 {
					b.add(mode.row, c.name, r.Memory.PerSession/1024)
				}
			}
		}
	}
	return nil
}

// warmSessions chat for a moment before memory is measured, so that code which a server loads once is not counted to
// the sessions.
const warmSessions = "10"

// fresh starts a server for one measurement.
func (b *bench) fresh(ctx context.Context, c *contestant, args []string) (r *load.Report, err error) {
	in, err := c.start(ctx, b.dir, b.dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.stop()) }()
	if _, err := b.load(ctx, c, in, "chat", "-n", warmSessions, "--duration", "1s", "--tls", "none", "--register"); err != nil {
		return nil, err
	}
	return b.load(ctx, c, in, args...)
}

func (b *bench) load(ctx context.Context, c *contestant, in *instance, args ...string) (*load.Report, error) {
	if c.name == relayName {
		args = append(args, "--raw")
	}
	return b.loadAt(ctx, c.name, []string{in.addr}, []int{in.cmd.Process.Pid}, args...)
}

// loadAt runs `starling bench` in a process of its own, at the addresses of a server of which these are the processes.
func (b *bench) loadAt(ctx context.Context, name string, addrs []string, pids []int, args ...string) (*load.Report, error) {
	file := filepath.Join(b.dir, "report.json")
	scenario := args[0]
	line := append([]string{"bench", scenario, strings.Join(addrs, ",")}, args[1:]...)
	line = append(line, "--quiet", "--json", file, "--mechanism", "PLAIN")
	for _, pid := range pids {
		line = append(line, "--server-pid", strconv.Itoa(pid))
	}
	if err := load.Rest(ctx, pids...); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(b.dir, "starling"), line...)
	os.Remove(file)
	out, failed := cmd.CombinedOutput()
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s, %s: %w: %s", name, scenario, failed, out)
	}
	r := &load.Report{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "%s, %v:\n%s", name, args, out)
	b.blame(name, r)
	return r, nil
}

// blame notes what a server did wrong.
func (b *bench) blame(name string, r *load.Report) {
	f := r.Faults
	if f.Total() == 0 {
		return
	}
	text := fmt.Sprintf("%s, %s: of %d messages %d were lost, %d repeated, %d out of order, %d changed; %d sessions broke",
		name, r.Scenario, r.Operations, f.Lost, f.Duplicated, f.Reordered, f.Changed, f.Broken)
	if f.Unacknowledged > 0 {
		text += fmt.Sprintf("; %d messages were not acknowledged", f.Unacknowledged)
	}
	b.faults = append(b.faults, text)
}

// hashes is how many keys are derived to measure one.
const hashes = 200

// hash measures what deriving the key of a password costs: the part of a log-in that is there on purpose.
func (b *bench) hash() error {
	before, err := processorTime()
	if err != nil {
		return err
	}
	for range hashes {
		if _, err := sasl.DeriveKeys(sasl.SHA256, "bench-password", []byte("sixteen bytes!!!"), iterations); err != nil {
			return err
		}
	}
	after, err := processorTime()
	b.add(hash, starlingName, float64((after-before).Microseconds())/hashes)
	return err
}

func processorTime() (time.Duration, error) {
	var u unix.Rusage
	err := unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}
