package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// results renders what was measured, beside the figures of the prototypes that the design rests on.
func (b *bench) results() []byte {
	var w bytes.Buffer
	fmt.Fprintf(&w, "%s\nWritten by `go run ./bench/cluster -runs %d -duration %v -rows %d`; not by hand.\n\n", title, b.runs, b.duration, b.rows)
	fmt.Fprintf(&w, "%s. %d processors, %s, load average at the end %s. Nodes are processes on this machine, with embedded NATS servers and mutual TLS "+
		"between them. Median of %d runs; lowest and highest in parentheses. CPU is user and system time of all nodes that take part.\n\n",
		b.started.UTC().Format(time.DateOnly), runtime.NumCPU(), runtime.Version(), load(), b.runs)
	b.links(&w)
	b.tables(&w)
	b.idles(&w)
	return w.Bytes()
}

func (b *bench) links(w *bytes.Buffer) {
	fmt.Fprintf(w, "## Link\n\nRecords of %d bytes from one node to another: as fast as the window allows (4 senders), and a closed loop of so many records under way, "+
		"echoed by the receiver; µs of CPU per record, one way.\n\n", recordSize)
	fmt.Fprint(w, "| | µs of CPU | records/s | prototype with TLS: µs, records/s | direct TCP with TLS | gRPC |\n|---|---|---|---|---|---|\n")
	fmt.Fprintf(w, "| saturation | %s | %s | 1.26, 1,328,000 | 0.50, 2,069,000 | 0.69, 2,438,000 |\n", b.figure("flood cpu", 3), b.figure("flood rate", 3))
	rivals := map[int]string{1: "44.2 | 23.2 | 31.9", 8: "22.1 | 6.3 | 9.4", 64: "9.6 | 3.6 | 5.5", 512: "4.6, 354,000 | 2.3, 764,000 | 5.7, 293,000"}
	for _, k := range inFlight {
		fmt.Fprintf(w, "| %d under way | %s | %s | %s |\n", k, b.figure(fmt.Sprint("loop cpu ", k), 3), b.figure(fmt.Sprint("loop rate ", k), 3), rivals[k])
	}
	fmt.Fprint(w, "\nThe prototype batches as the library does and carries sequence, acknowledgement and window; TCP and gRPC (without TLS) carry only their own.\n\n")
}

func (b *bench) tables(w *bytes.Buffer) {
	fmt.Fprintf(w, "## Table\n\nEach of three nodes writes %d rows at the same moment, of a key of some 32 bytes and a value of some 90; seen everywhere when every node has %d. "+
		"The rivals are those of the design's measurements, with the same number of rows.\n\n", tableRows, 3*tableRows)
	fmt.Fprint(w, "| | here | budget | prototype | JetStream KV | Olric |\n|---|---|---|---|---|---|\n")
	fmt.Fprintf(w, "| seen everywhere, ms | %s | 300 | 143–155 | 1650–2410 | 1370–64500 |\n", b.figure("table time", 3))
	fmt.Fprintf(w, "| all deleted everywhere, ms | %s | | 100–130 | | |\n", b.figure("delete time", 3))
	fmt.Fprintf(w, "| µs of CPU per row, all nodes | %s | | 4.6–4.9 | 46–77 | 42–60 |\n", b.figure("table cpu", 3))
	fmt.Fprintf(w, "| bytes of heap per row at its writer | %s | 300 | 247 | 637 | |\n", b.figure("row heap", 3))
	fmt.Fprintf(w, "| bytes of heap per row in a copy | %s | 300 | 247 | 637 | |\n", b.figure("copy heap", 3))
	fmt.Fprintf(w, "| heap that comes and goes with a row, three writers | %s | 300 | | | |\n", b.figure("table kept", 3))
	fmt.Fprintf(w, "| join of a node to %d rows until it is ready, ms | %s | | | | |\n", b.rows, b.figure("join time", 3))
	fmt.Fprintf(w, "| CPU of both for that, ms | %s | | | | |\n", b.figure("join cpu", 3))
	fmt.Fprint(w, "\nA node listens for two beacons, one second, before it is ready, whatever it has to copy.\n\n")
}

func (b *bench) idles(w *bytes.Buffer) {
	fmt.Fprintf(w, "## Nothing to do\n\nEach node, all on this machine, for %v. Nearly all of the CPU goes into waking threads, which costs what the machine makes it cost: the number of times "+
		"compares better.\n\n", idleSpans*b.duration)
	fmt.Fprint(w, "| nodes | rows of each | CPU, % of a processor | threads woken a second | heap, MiB | resident, MiB | prototype: CPU, resident |\n|---|---|---|---|---|---|---|\n")
	prototype := map[int]string{3: "0.6, 19", 10: "1.7, 25", 20: "2.9, 31"}
	line := func(nodes, rows int, beside string) {
		name := fmt.Sprintf(" %d %d", nodes, rows)
		fmt.Fprintf(w, "| %d | %d | %s | %s | %s | %s | %s |\n", nodes, rows, b.figure("idle cpu"+name, 2), b.figure("idle woken"+name, 3),
			b.figure("idle heap"+name, 3), b.figure("idle resident"+name, 3), beside)
	}
	for _, n := range b.sizes() {
		line(n, 0, prototype[n])
	}
	line(smallest, tableRows, "")
}

// figure renders the median of the samples with their range, with so many significant digits.
func (b *bench) figure(name string, digits int) string {
	s := slices.Sorted(slices.Values(b.samples[name]))
	if len(s) == 0 {
		return ""
	}
	return fmt.Sprintf("**%s** (%s–%s)", round(s[len(s)/2], digits), round(s[0], digits), round(s[len(s)-1], digits))
}

func round(v float64, digits int) string {
	scale := 1.0
	for v/scale >= 1000 {
		scale *= 10
	}
	if scale > 1 {
		return fmt.Sprintf("%.0f", float64(int64(v/scale+0.5))*scale)
	}
	return fmt.Sprintf("%.*g", digits, v)
}

func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
