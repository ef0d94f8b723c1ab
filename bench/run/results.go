package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Budgets, of Starling on this kind of machine: what it may cost beyond the relay, or at all.
var budgets = map[row]string{
	oneByOne: "relay + 4.5", inBursts: "relay + 2.6", median: "70", tail: "400", logIn: "300 above the hash", plainIdle: "6", tlsIdle: "14",
	crossOne: "two relays + 9", crossEight: "two relays + 7.2", crossP50: "150 more than on one", goneTold: "1000", goneAnswer: "1000",
	pageFirst: "10", pageMiddle: "10", pageLast: "10",
}

// results renders what was measured.
func (b *bench) results() []byte {
	var w bytes.Buffer
	fmt.Fprint(&w, "# Results\n\nWritten by `make bench`, which see; not by hand.\n\n")
	fmt.Fprintf(&w, "    go run ./bench/run -runs %d -pairs %d -idle %d -duration %v -settle %v\n\n", b.runs, b.pairs, b.idle, b.duration, b.settle)
	fmt.Fprintf(&w, "%s. %s. Generator and server share the processors. Median of %d interleaved runs of %v each "+
		"(memory: of %d); lowest and highest in parentheses.\n\n", b.started.UTC().Format("2006-01-02"), machine(), b.runs, b.duration, min(b.runs, memoryRuns))
	for _, c := range b.servers {
		if c.name != relayName && c.name != limitedName {
			fmt.Fprintf(&w, "- %s: %s\n", c.name, c.version)
		}
	}
	fmt.Fprint(&w, "\nAll servers: clients only, registration open, every limit of rates and of connections from one address off, no log, "+
		"no archive, no stream management on the sessions. ejabberd and Prosody keep passwords unhashed, as ejabberd does by default; "+
		"their settings are in `bench/run`. Prosody uses one processor.\n\n")
	b.messages(&w)
	b.latency(&w)
	b.logins(&w)
	b.idleMemory(&w)
	b.limiter(&w)
	b.mistakes(&w)
	return w.Bytes()
}

// machine describes where this runs.
func machine() string {
	var name unix.Utsname
	kernel := "unknown kernel"
	if unix.Uname(&name) == nil {
		kernel = "Linux " + unix.ByteSliceToString(name.Release[:])
	}
	processor := "unknown processor"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
				processor = strings.TrimSpace(value)
				break
			}
		}
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		load = []byte("unknown")
	}
	compiler := runtime.Version()
	if out, err := exec.Command("go", "env", "GOVERSION").Output(); err == nil {
		compiler = strings.TrimSpace(string(out))
	}
	return fmt.Sprintf("%d processors (%s), %s, %s, load average at the end %s", runtime.NumCPU(), processor, kernel, compiler,
		strings.Fields(string(load))[0])
}

// table writes rows of figures, a column for each server that has any.
func (b *bench) table(w *bytes.Buffer, first string, rows []row, but ...string) {
	var names []string
	for _, c := range b.servers {
		if _, ok := b.median(rows[0], c.name); ok && !slices.Contains(but, c.name) {
			names = append(names, c.name)
		}
	}
	b.tableOf(w, starlingName, first, names, rows)
}

// tableOf is table for these servers, of which one is ours.
func (b *bench) tableOf(w *bytes.Buffer, ours, first string, names []string, rows []row) {
	fmt.Fprintf(w, "| %s | %s | budget |\n|%s\n", first, strings.Join(names, " | "), strings.Repeat("---|", len(names)+2))
	for _, r := range rows {
		fmt.Fprintf(w, "| %s |", r)
		own, _ := b.median(r, ours)
		for _, name := range names {
			fmt.Fprintf(w, " %s", b.cell(r, name))
			if v, has := b.median(r, name); has && name != ours && own > 0 {
				fmt.Fprintf(w, ", %sx", number(v/own))
			}
			fmt.Fprint(w, " |")
		}
		fmt.Fprintf(w, " %s |\n", budgets[r])
	}
	fmt.Fprint(w, "\nAfter each figure of another server: how many times Starling's it is.\n\n")
}

// cell is a figure with its range.
func (b *bench) cell(r row, server string) string {
	m, ok := b.median(r, server)
	if !ok {
		return "–"
	}
	s := b.samples[key{r, server}]
	low, high := s[0], s[0]
	for _, v := range s {
		low, high = min(low, v), max(high, v)
	}
	return fmt.Sprintf("**%s** (%s–%s)", number(m), number(low), number(high))
}

// number writes a figure with as many digits as it deserves.
func number(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

func (b *bench) messages(w *bytes.Buffer) {
	fmt.Fprintf(w, "## A message between two users\n\nµs of server CPU per message of 432 bytes, plaintext, %d pairs, each with so many messages under way:\n\n", b.pairs)
	b.table(w, "", []row{oneByOne, inBursts}, limitedName)
	for _, r := range []row{oneByOne, inBursts} {
		floor, ok := b.median(r, relayName)
		if own, has := b.median(r, starlingName); ok && has {
			fmt.Fprintf(w, "- %s: Starling is the relay + %.1f µs.\n", r, own-floor)
		}
	}
	fmt.Fprint(w, "\n")
}

func (b *bench) latency(w *bytes.Buffer) {
	fmt.Fprintf(w, "## Latency\n\nµs from the moment when a message was due until its receiver had read it, %d messages a second, plaintext. "+
		"The lag is the part of it that passed in the generator before it had sent.\n\n", rate)
	b.table(w, "", []row{median, tail, lagMedian, lagTail})
}

func (b *bench) logins(w *bytes.Buffer) {
	fmt.Fprint(w, "## Log-in\n\nµs of server CPU per log-in with PLAIN, plaintext, from the connection to the bound resource:\n\n")
	b.table(w, "", []row{logIn})
	all, ok := b.median(logIn, starlingName)
	if cost, has := b.median(hash, starlingName); ok && has {
		fmt.Fprintf(w, "Starling checks a hash of the password (SCRAM-SHA-256, %d iterations), which takes %.0f µs by itself, measured beside; "+
			"**%.0f µs** are above the hash. The others compare the password as it is. Without the hash: ", iterations, cost, all-cost)
		var words []string
		for _, c := range b.servers {
			if v, ok := b.median(logIn, c.name); ok && c.name != starlingName {
				words = append(words, fmt.Sprintf("%s %sx", c.name, number(v/(all-cost))))
			}
		}
		fmt.Fprintf(w, "%s.\n\n", strings.Join(words, ", "))
	}
}

func (b *bench) idleMemory(w *bytes.Buffer) {
	fmt.Fprintf(w, "## Memory of an idle session\n\nKiB of resident memory, %d sessions that have fetched the roster and sent presence, "+
		"%v after the last log-in, against the same server after it had a few:\n\n", b.idle, b.settle)
	b.table(w, "", []row{plainIdle, tlsIdle})
}

func (b *bench) limiter(w *bytes.Buffer) {
	fmt.Fprint(w, "## Rate limiter\n\nµs of server CPU per message as above; the limiter counts bytes but is set so high (1 GiB/s) that it never stops anybody. "+
		"With the limits that Starling has by default no client could send this load.\n\n| | off | on |\n|---|---|---|\n")
	for _, r := range []row{oneByOne, inBursts} {
		if _, ok := b.median(r, limitedName); ok {
			fmt.Fprintf(w, "| %s | %s | %s |\n", r, b.cell(r, starlingName), b.cell(r, limitedName))
		}
	}
	fmt.Fprint(w, "\n")
}

func (b *bench) mistakes(w *bytes.Buffer) {
	fmt.Fprint(w, "## Mistakes\n\n")
	for _, k := range b.keepers {
		if t := b.archived[k.name]; t != nil {
			fmt.Fprintf(w, "- %s: found in the archives %d of %d.\n", k.name, t.found, t.looked)
		}
	}
	if len(b.archived) > 0 {
		fmt.Fprint(w, "\n")
	}
	if len(b.faults) == 0 {
		fmt.Fprint(w, "Every message of every run came once, in order and unchanged.\n")
	}
	for _, f := range b.faults {
		fmt.Fprintf(w, "- %s\n", f)
	}
}
