// Command run compares Starling with a bare relay, the floor, and with ejabberd and Prosody where Debian's packages of
// them are installed, and writes what it found to RESULTS.md in the folder above:
//
//	go run ./bench/run
//
// Then it does the same with servers of several nodes, where the two of a pair are on different ones, beside two relays
// in a row, and with archives and stream management on; -part has it do only one of the three.
//
// Every server runs on this machine with the same settings as far as they have the same ones: clients only, registration
// open, no rate limits, no log, plaintext or TLS with an ECDSA certificate. The runs are interleaved, so that whatever
// else the machine does falls on all of them, and the median of each figure counts.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	runs, pairs, idle int
	duration, settle  time.Duration
	root, out         string
	only, part        string
}

func main() {
	var o options
	flag.IntVar(&o.runs, "runs", 5, "runs of each measurement")
	flag.IntVar(&o.pairs, "pairs", 500, "pairs that chat")
	flag.IntVar(&o.idle, "idle", 5000, "idle sessions whose memory is measured")
	flag.DurationVar(&o.duration, "duration", 5*time.Second, "length of one measurement")
	flag.DurationVar(&o.settle, "settle", 10*time.Second, "rest before memory is looked at")
	flag.StringVar(&o.only, "only", "", "names of the servers to run, with commas between; all if empty")
	flag.StringVar(&o.part, "part", "", "servers, nodes or archive, to do only that; all if empty")
	flag.StringVar(&o.root, "root", ".", "root of the repository")
	flag.StringVar(&o.out, "out", "bench/RESULTS.md", "file to write, from the root unless its path is absolute; of one that exists only the chapters of what is done change")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, &o); err != nil {
		fmt.Fprintln(os.Stderr, "bench/run:", err)
		os.Exit(1)
	}
}

// run does everything in a folder that it removes.
func run(ctx context.Context, o *options) error {
	if err := moreFiles(); err != nil {
		return err
	}
	if !slices.Contains([]string{"", partServers, partNodes, partArchive}, o.part) {
		return fmt.Errorf("there is no part %q", o.part)
	}
	dir, err := os.MkdirTemp("", "starling-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, program := range []string{"cmd/starling", "bench/relay"} {
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", filepath.Join(dir, filepath.Base(program)), "./"+program)
		build.Dir, build.Stderr, build.Env = o.root, os.Stderr, append(os.Environ(), "CGO_ENABLED=0")
		if err := build.Run(); err != nil {
			return fmt.Errorf("build %s: %w", program, err)
		}
	}
	path := o.out
	if !filepath.IsAbs(path) {
		path = filepath.Join(o.root, path)
	}
	found, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if o.part == "" || o.part == partServers {
		b := newBench(o, dir)
		if err := b.compare(ctx); err != nil {
			return err
		}
		found = replace(found, "# Results\n", b.results())
	}
	if o.part == "" || o.part == partNodes {
		b := newBench(o, dir)
		if err := b.cross(ctx); err != nil {
			return err
		}
		found = replace(found, nodesTitle, b.crossResults())
	}
	if o.part == "" || o.part == partArchive {
		b := newBench(o, dir)
		if err := b.keep(ctx); err != nil {
			return err
		}
		found = replace(found, keptTitle, b.keptResults())
	}
	return os.WriteFile(path, found, 0o644)
}

// What -part names.
const (
	partServers = "servers"
	partNodes   = "nodes"
	partArchive = "archive"
)

// compare measures each server by itself.
func (b *bench) compare(ctx context.Context) (err error) {
	for _, c := range contestants() {
		if !b.wants(c.name) {
			continue
		}
		if c.version, err = c.ask(); err != nil {
			fmt.Fprintf(os.Stderr, "%s: left out, %v\n", c.name, err)
			continue
		}
		b.servers = append(b.servers, c)
	}
	return b.measure(ctx)
}

// wants tells whether a server is to be run.
func (o *options) wants(name string) bool {
	return o.only == "" || strings.Contains(","+o.only+",", ","+name+",")
}

// replace puts a part of the results, which ends where the next title of its rank begins, in the place of the one that has this title,
// or before the part of bench/cluster, which comes last.
func replace(all []byte, title string, part []byte) []byte {
	all = append([]byte{'\n'}, all...) // so that every title has a line before it
	const last = "\n# Cluster\n"
	from := bytes.Index(all, []byte("\n"+title))
	to := from + 1
	if from < 0 {
		if from = bytes.Index(all, []byte(last)); from < 0 {
			from = len(all)
		}
		to = from
	} else if end := bytes.Index(all[to:], []byte("\n# ")); end >= 0 {
		to += end
	} else {
		to = len(all)
	}
	return bytes.TrimLeft(slices.Concat(all[:from], []byte{'\n'}, part, all[to:]), "\n")
}

// moreFiles lets this process, and those that it starts, have as many sockets as the system permits.
func moreFiles() error {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return err
	}
	files.Cur = files.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files)
}
