// Command run compares Starling with a bare relay, the floor, and with ejabberd and Prosody where Debian's packages of
// them are installed, and writes what it found to RESULTS.md in the folder above:
//
//	go run ./bench/run
//
// Every server runs on this machine with the same settings as far as they have the same ones: clients only, registration
// open, no rate limits, no log, plaintext or TLS with an ECDSA certificate. The runs are interleaved, so that whatever
// else the machine does falls on all of them, and the median of each figure counts.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	runs, pairs, idle int
	duration, settle  time.Duration
	root, out         string
	only              string
}

func main() {
	var o options
	flag.IntVar(&o.runs, "runs", 5, "runs of each measurement")
	flag.IntVar(&o.pairs, "pairs", 500, "pairs that chat")
	flag.IntVar(&o.idle, "idle", 5000, "idle sessions whose memory is measured")
	flag.DurationVar(&o.duration, "duration", 5*time.Second, "length of one measurement")
	flag.DurationVar(&o.settle, "settle", 10*time.Second, "rest before memory is looked at")
	flag.StringVar(&o.only, "only", "", "names of the servers to run, with commas between; all if empty")
	flag.StringVar(&o.root, "root", ".", "root of the repository")
	flag.StringVar(&o.out, "out", "bench/RESULTS.md", "file to write, from the root")
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
	b := &bench{options: o, dir: dir, started: time.Now(), samples: map[key][]float64{}}
	for _, c := range contestants() {
		if o.only != "" && !strings.Contains(","+o.only+",", ","+c.name+",") {
			continue
		}
		if c.version, err = c.ask(); err != nil {
			fmt.Fprintf(os.Stderr, "%s: left out, %v\n", c.name, err)
			continue
		}
		b.servers = append(b.servers, c)
	}
	if err := b.measure(ctx); err != nil {
		return err
	}
	path, found := filepath.Join(o.root, o.out), b.results()
	if old, err := os.ReadFile(path); err == nil {
		if i := bytes.Index(old, []byte("\n# Cluster\n")); i >= 0 { // the part of bench/cluster stays
			found = append(found, old[i:]...)
		}
	}
	return os.WriteFile(path, found, 0o644)
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
