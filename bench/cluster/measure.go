package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/starling-im/starling/cluster"
)

// bench collects what is measured.
type bench struct {
	*options
	ctx     context.Context
	started time.Time
	samples map[string][]float64
}

func (b *bench) add(name string, v float64) { b.samples[name] = append(b.samples[name], v) }

// inFlight are the numbers of records under way in a closed loop.
var inFlight = []int{1, 8, 64, 512}

const smallest = 3 // nodes of a cluster that does nothing

// sizes of clusters that do nothing.
func (b *bench) sizes() (list []int) {
	for _, n := range []int{smallest, 10, 20} {
		if n <= b.largest {
			list = append(list, n)
		}
	}
	return list
}

// measure makes one run of everything.
func (b *bench) measure() error {
	for _, step := range []func() error{b.link, b.table, b.join} {
		if err := step(); err != nil {
			return err
		}
	}
	for _, n := range b.sizes() {
		if err := b.idle(n, 0); err != nil {
			return err
		}
	}
	if b.largest < smallest {
		return nil
	}
	return b.idle(smallest, tableRows)
}

// process is a node in a process of its own.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// nodes are those of one cluster.
type nodes []*process

// spawn starts one that stands alone yet.
func (b *bench) spawn(name, token, peers string) (*process, error) {
	p := &process{cmd: exec.CommandContext(b.ctx, os.Args[0], role, name, token)}
	p.cmd.Stderr, p.cmd.Env = os.Stderr, append(os.Environ(), "PEERS="+peers)
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	return p, p.cmd.Start()
}

// cluster starts nodes that have joined and see each other.
func (b *bench) cluster(count int) (ns nodes, err error) {
	token, peers := cluster.NewToken(), ""
	for i := range count {
		p, err := b.spawn(fmt.Sprint("node", i), token, peers)
		if err != nil {
			return ns, err
		}
		ns = append(ns, p)
		address, err := p.do("join")
		if err != nil {
			return ns, err
		}
		if i == 0 {
			peers = address
		}
	}
	_, err = ns.all(fmt.Sprint("members ", count))
	return ns, err
}

// do sends a command and returns the answer.
func (p *process) do(command string) (string, error) {
	if err := p.tell(command); err != nil {
		return "", err
	}
	return p.answer()
}

func (p *process) tell(command string) error {
	_, err := fmt.Fprintln(p.in, command)
	return err
}

func (p *process) answer() (string, error) {
	line, err := p.out.ReadString('\n')
	return strings.TrimSpace(line), err
}

// number returns the first number of the answer to a command.
func (p *process) number(command string) (v float64, err error) {
	s, err := p.do(command)
	if err == nil {
		_, err = fmt.Sscan(s, &v)
	}
	return v, err
}

// all gives every node a command and returns how long it took until all had answered.
func (ns nodes) all(command string) (time.Duration, error) {
	start := time.Now()
	for _, p := range ns {
		if err := p.tell(command); err != nil {
			return 0, err
		}
	}
	for _, p := range ns {
		if _, err := p.answer(); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}

// used is what nodes have used together: microseconds of CPU, bytes, and how often their threads were woken.
type used struct{ cpu, resident, heap, woken float64 }

func (ns nodes) used(collect bool) (sum used, err error) {
	command := "usage 0"
	if collect {
		command = "usage 1"
	}
	for _, p := range ns {
		s, err := p.do(command)
		if err != nil {
			return sum, err
		}
		var u used
		if _, err := fmt.Sscan(s, &u.cpu, &u.resident, &u.heap, &u.woken); err != nil {
			return sum, err
		}
		sum.cpu, sum.resident, sum.heap, sum.woken = sum.cpu+u.cpu, sum.resident+u.resident, sum.heap+u.heap, sum.woken+u.woken
	}
	return sum, nil
}

// spent returns the CPU that nodes use while fn runs.
func (ns nodes) spent(fn func() error) (micros float64, err error) {
	before, err := ns.used(false)
	if err != nil {
		return 0, err
	}
	if err := fn(); err != nil {
		return 0, err
	}
	after, err := ns.used(false)
	return after.cpu - before.cpu, err
}

func (ns nodes) end() {
	for _, p := range ns {
		_ = p.in.Close()
		_ = p.cmd.Wait()
	}
}

// link measures records from one node to another.
func (b *bench) link() error {
	ns, err := b.cluster(2)
	defer ns.end()
	if err != nil {
		return err
	}
	millis := b.duration.Milliseconds()
	var sent float64
	start := time.Now()
	cpu, err := ns.spent(func() error {
		if sent, err = ns[0].number(fmt.Sprint("flood 4 ", millis)); err != nil {
			return err
		}
		for got := 0.0; got < sent && err == nil; {
			got, err = ns[1].number("received")
		}
		return err
	})
	if err != nil {
		return err
	}
	b.add("flood rate", sent/time.Since(start).Seconds())
	b.add("flood cpu", cpu/sent)
	if _, err := ns[1].do("echo"); err != nil {
		return err
	}
	for _, k := range inFlight {
		var trips float64
		cpu, err := ns.spent(func() (err error) {
			trips, err = ns[0].number(fmt.Sprintf("loop %d %d", k, millis))
			return err
		})
		if err != nil {
			return err
		}
		b.add(fmt.Sprint("loop cpu ", k), cpu/(2*trips))
		b.add(fmt.Sprint("loop rate ", k), 2*trips/b.duration.Seconds())
	}
	return nil
}

// tableRows is what each of three nodes puts.
const tableRows = 20_000

// table measures rows that three nodes write at the same time.
func (b *bench) table() error {
	ns, err := b.cluster(3)
	defer ns.end()
	if err != nil {
		return err
	}
	put := fmt.Sprintf("put %d %d", tableRows, 3*tableRows)
	if _, err := ns.all(put); err != nil { // the first time makes room for the rows
		return err
	}
	if _, err := ns.all("delete"); err != nil {
		return err
	}
	for range 3 {
		before, err := ns.used(true)
		if err != nil {
			return err
		}
		var took time.Duration
		cpu, err := ns.spent(func() (err error) { took, err = ns.all(put); return err })
		if err != nil {
			return err
		}
		after, err := ns.used(true)
		if err != nil {
			return err
		}
		b.add("table time", float64(took.Microseconds())/1000)
		b.add("table cpu", cpu/(3*tableRows))
		b.add("table kept", (after.heap-before.heap)/(9*tableRows))
		if took, err = ns.all("delete"); err != nil {
			return err
		}
		b.add("delete time", float64(took.Microseconds())/1000)
	}
	return nil
}

// join measures how a node gets the rows of another one, and what a row takes in a table that was empty.
func (b *bench) join() error {
	token := cluster.NewToken()
	old, err := b.spawn("old", token, "")
	if err != nil {
		return err
	}
	ns := nodes{old}
	defer func() { ns.end() }()
	empty, err := ns.used(true)
	if err != nil {
		return err
	}
	if _, err := old.do(fmt.Sprintf("put %d %d", b.rows, b.rows)); err != nil {
		return err
	}
	full, err := ns.used(true)
	if err != nil {
		return err
	}
	b.add("row heap", (full.heap-empty.heap)/float64(b.rows))
	address, err := old.do("join")
	if err != nil {
		return err
	}
	fresh, err := b.spawn("new", token, address)
	if err != nil {
		return err
	}
	ns = append(ns, fresh)
	bare, err := nodes{fresh}.used(true)
	if err != nil {
		return err
	}
	var ready time.Duration
	cpu, err := ns.spent(func() error {
		start := time.Now()
		_, err := fresh.do("join") // it is ready when it has all rows
		ready = time.Since(start)
		return err
	})
	if err != nil {
		return err
	}
	if _, err := fresh.do(fmt.Sprint("put 0 ", b.rows)); err != nil {
		return err
	}
	copied, err := nodes{fresh}.used(true)
	if err != nil {
		return err
	}
	b.add("join time", float64(ready.Microseconds())/1000)
	b.add("join cpu", cpu/1000)
	b.add("copy heap", (copied.heap-bare.heap)/float64(b.rows))
	return nil
}

const (
	idleAfter = 5 * time.Second // until the last one that joined is old news
	idleSpans = 10              // lengths of another measurement: what comes every ten seconds must count as often as it comes
)

// idle measures a cluster that has nothing to do, whose nodes have put so many rows each before.
func (b *bench) idle(count, rows int) error {
	ns, err := b.cluster(count)
	defer ns.end()
	if err != nil {
		return err
	}
	if _, err := ns.all(fmt.Sprintf("put %d %d", rows, count*rows)); err != nil {
		return err
	}
	if _, err := ns.used(true); err != nil { // what a load before has left to collect is not of an idle node
		return err
	}
	time.Sleep(idleAfter)
	before, err := ns.used(false)
	if err != nil {
		return err
	}
	start := time.Now()
	time.Sleep(idleSpans * b.duration)
	after, err := ns.used(false)
	if err != nil {
		return err
	}
	each := float64(count) * time.Since(start).Seconds()
	u, err := ns.used(true)
	if err != nil {
		return err
	}
	name := fmt.Sprintf(" %d %d", count, rows)
	b.add("idle cpu"+name, (after.cpu-before.cpu)/each/1e4)
	b.add("idle woken"+name, (after.woken-before.woken)/each)
	b.add("idle resident"+name, u.resident/float64(count)/(1<<20))
	b.add("idle heap"+name, u.heap/float64(count)/(1<<20))
	return b.ctx.Err()
}
