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
				b.faults = append(b.faults, fmt.Sprintf("%s: a node's death was not measured: %v", g.name, err))
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
				if step.alone {
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

// crossStep is one measurement with each group.
type crossStep struct {
	args  []string
	alone bool // all sessions are on the first node
	take  func(server string, r *load.Report)
}

func (b *bench) crossSteps() []crossStep {
	length := []string{"--duration", b.duration.String(), "--drain", "15s"}
	cpu := func(window string, to row) crossStep {
		return crossStep{append([]string{"chat", "-w", window}, length...), false, func(server string, r *load.Report) {
			b.add(to, server, r.Server.PerOperation)
		}}
	}
	paced := append([]string{"chat", "--rate", strconv.Itoa(rate)}, length...)
	return []crossStep{
		cpu("1", crossOne), cpu("8", crossEight), cpu("64", crossFlood),
		{paced, false, func(server string, r *load.Report) {
			b.add(crossP50, server, r.Latency.P50)
			b.add(crossP99, server, r.Latency.P99)
		}},
		{paced, true, func(server string, r *load.Report) { b.add(aloneP50, server, r.Latency.P50) }},
	}
}

// crossResults renders what was measured with several nodes.
func (b *bench) crossResults() []byte {
	var w bytes.Buffer
	fmt.Fprint(&w, nodesTitle, "\nWritten by `make bench`, which see; not by hand.\n\n")
	fmt.Fprintf(&w, "    go run ./bench/run -part nodes -runs %d -pairs %d -duration %v\n\n", b.runs, b.pairs, b.duration)
	fmt.Fprintf(&w, "%s. %s. All nodes and the generator share the processors. Median of %d interleaved runs of %v each; lowest and highest in "+
		"parentheses.\n\n", b.started.UTC().Format("2006-01-02"), machine(), b.runs, b.duration)
	fmt.Fprint(&w, "The two of each pair are on different nodes, so that every message passes a link. Starling's nodes are joined by embedded NATS servers with mutual "+
		"TLS, those of ejabberd (Debian's, join_cluster) without TLS. The relays are two in a row, each copying every byte.\n\n")
	names := make([]string, len(b.groups))
	for i, g := range b.groups {
		names[i] = g.name
	}
	fmt.Fprintf(&w, "µs of CPU of all nodes together per message of 432 bytes, plaintext, %d pairs, each with so many messages under way; "+
		"latency in µs at %d messages a second:\n\n", b.pairs, rate)
	b.tableOf(&w, nodesName, "", names, []row{crossOne, crossEight, crossFlood, crossP50, crossP99, aloneP50})
	for _, r := range []row{crossOne, crossEight} {
		floor, ok := b.median(r, relaysName)
		if own, has := b.median(r, nodesName); ok && has {
			fmt.Fprintf(&w, "- %s: Starling is two relays + %.1f µs.\n", r, own-floor)
		}
	}
	for _, name := range names {
		across, ok := b.median(crossP50, name)
		if alone, has := b.median(aloneP50, name); ok && has {
			fmt.Fprintf(&w, "- %s: the hop adds %.0f µs (p50).\n", name, across-alone)
		}
	}
	fmt.Fprintf(&w, "\nA node is killed (SIGKILL) on which a contact is; ms until a user elsewhere is told that the contact is gone, and until asking the contact's "+
		"client, every 10 ms, brings an answer of the server. Nothing within %v is a dash.\n\n", failoverTimeout)
	b.tableOf(&w, nodesName, "", names[min(1, len(names)):], []row{goneTold, goneAnswer})
	b.mistakes(&w)
	return w.Bytes()
}
