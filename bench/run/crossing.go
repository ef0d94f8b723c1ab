package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/starling-im/starling/internal/load"
)

// The rows of servers of several nodes. Times are in microseconds but for the last two, which are in milliseconds.
const (
	crossOne   row = "window 1, across nodes"
	crossEight row = "window 8, across nodes"
	crossFlood row = "window 64, across nodes"
	crossP50   row = "latency p50, across nodes"
	crossP99   row = "latency p99, across nodes"
	aloneP50   row = "latency p50, on one of them"
	goneTold   row = "contact is told"
	goneAnswer row = "contact's client is answered for"
)

// nodesTitle begins the part of the results about servers of several nodes.
const nodesTitle = "# Several nodes\n"

// cross measures servers of several nodes, all up at once: first traffic, then what happens when a node is killed.
func (b *bench) cross(ctx context.Context) error {
	for _, g := range groups() {
		var err error
		if _, err = g.ask(); err != nil {
			fmt.Fprintf(os.Stderr, "%s: left out, %v\n", g.name, err)
			continue
		}
		b.groups = append(b.groups, g)
	}
	if err := b.crossTraffic(ctx); err != nil {
		return err
	}
	for range min(b.runs, memoryRuns) {
		for _, g := range b.groups {
			if g.name == relaysName {
				continue
			}
			if err := b.failover(ctx, g); err != nil {
				return fmt.Errorf("%s: %w", g.name, err)
			}
		}
	}
	return nil
}

func (b *bench) crossTraffic(ctx context.Context) (err error) {
	up := map[string]*ensemble{}
	defer func() {
		for _, e := range up {
			err = errors.Join(err, e.stop())
		}
	}()
	sessions := strconv.Itoa(2 * b.pairs)
	for _, g := range b.groups {
		e, err := g.start(ctx, b)
		if err != nil {
			return err
		}
		up[g.name] = e
		if g.name == relaysName {
			continue
		}
		if _, err := b.loadAt(ctx, g.name, e.addrs(), e.pids(), "login", "--register", "-n", sessions, "--tls", "none"); err != nil {
			return err
		}
	}
	for n := range b.runs {
		fmt.Fprintf(os.Stderr, "several nodes, run %d of %d\n", n+1, b.runs)
		for _, step := range b.crossSteps() {
			for _, g := range b.groups {
				e := up[g.name]
				addrs := e.addrs()
				if step.skips(g.name) {
					if g.name == relaysName {
						continue
					}
					addrs = addrs[:1]
				}
				args := append(step.args, "--tls", "none", "-n", sessions)
				if g.name == relaysName {
					args = append(args, "--raw")
				}
				r, err := b.loadAt(ctx, g.name, addrs, e.pids(), args...)
				if err != nil {
					return err
				}
				step.take(g.name, r)
			}
		}
	}
	return nil
}
