// Command cluster measures package cluster: nodes are processes of this program on one machine, linked as in earnest by
// embedded servers and mutual TLS. It writes what it found as the last part of RESULTS.md in the folder above:
//
//	go run ./bench/cluster
//
// CPU is user and system time of all processes that take part, so it is hardly touched by what else the machine does,
// unlike rates and times.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	runs     int
	duration time.Duration
	rows     int
	out      string
	largest  int
}

// role is the first argument of a process that is a node.
const role = "node"

func main() {
	if len(os.Args) == 4 && os.Args[1] == role {
		exit(serve(os.Args[2], os.Args[3]))
	}
	var o options
	flag.IntVar(&o.runs, "runs", 3, "runs of each measurement")
	flag.DurationVar(&o.duration, "duration", 3*time.Second, "length of one measurement of the link; one of an idle cluster takes ten times as long")
	flag.IntVar(&o.rows, "rows", 100_000, "rows in the table of the node that another one joins")
	flag.IntVar(&o.largest, "nodes", 20, "nodes in the largest cluster")
	flag.StringVar(&o.out, "out", "bench/RESULTS.md", "file whose last part is replaced")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	exit(run(ctx, &o))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/cluster:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// title begins the part of the results that this program writes.
const title = "# Cluster\n"

func run(ctx context.Context, o *options) error {
	b := &bench{options: o, ctx: ctx, started: time.Now(), samples: map[string][]float64{}}
	for i := range o.runs {
		fmt.Fprintf(os.Stderr, "run %d of %d\n", i+1, o.runs)
		if err := b.measure(); err != nil {
			return err
		}
	}
	old, err := os.ReadFile(o.out)
	if err != nil {
		return err
	}
	if i := bytes.Index(old, []byte("\n"+title)); i >= 0 {
		old = old[:i]
	}
	return os.WriteFile(o.out, append(append(old, '\n'), b.results()...), 0o644)
}
