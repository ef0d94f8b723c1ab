package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/starling-im/starling/cluster"
)

// session is a row as a directory of chat sessions would have it.
type session struct {
	ID                      [16]byte
	Bound, Guardian         uint64
	Attached, Held, Changed uint32
	Capabilities            [20]byte
	Show, Status            string
	Priority                int8
	Flags                   uint8
}

// sessions is the codec of session.
type sessions struct{}

func (sessions) Append(b []byte, s session) ([]byte, error) {
	b = append(b, s.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, s.Bound)
	b = binary.BigEndian.AppendUint64(b, s.Guardian)
	b = binary.BigEndian.AppendUint32(b, s.Attached)
	b = binary.BigEndian.AppendUint32(b, s.Held)
	b = binary.BigEndian.AppendUint32(b, s.Changed)
	b = append(b, s.Capabilities[:]...)
	b = append(b, byte(s.Priority), s.Flags, byte(len(s.Show)))
	return append(append(b, s.Show...), s.Status...), nil
}

const fixed = 67 // bytes before Show

func (sessions) Decode(b []byte) (s session, err error) {
	if len(b) < fixed || len(b) < fixed+int(b[fixed-1]) {
		return s, errors.New("short row")
	}
	copy(s.ID[:], b)
	s.Bound, s.Guardian = binary.BigEndian.Uint64(b[16:]), binary.BigEndian.Uint64(b[24:])
	s.Attached, s.Held, s.Changed = binary.BigEndian.Uint32(b[32:]), binary.BigEndian.Uint32(b[36:]), binary.BigEndian.Uint32(b[40:])
	copy(s.Capabilities[:], b[44:])
	s.Priority, s.Flags = int8(b[64]), b[65]
	rest := b[fixed:]
	s.Show, s.Status = show(rest[:b[fixed-1]]), string(rest[b[fixed-1]:])
	return s, nil
}

// show returns a value of few, without a copy of its own.
func show(b []byte) string {
	switch string(b) {
	case "dnd":
		return "dnd"
	case "away":
		return "away"
	}
	return string(b)
}

// node is what a process does when it is told to.
type node struct {
	*cluster.Node
	rows     *cluster.Table[session]
	records  *cluster.Channel
	received atomic.Int64
	echo     atomic.Bool // what comes is sent back
}

// serve is a node that reads a command from each line of standard input, and answers it with a line.
func serve(name, token string) error {
	n := &node{}
	var err error
	n.Node, err = cluster.Start(context.Background(), cluster.Config{
		Name: name, Cluster: "bench", Token: token, Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler), Peers: strings.Fields(os.Getenv("PEERS")),
	})
	if err != nil {
		return err
	}
	n.rows = cluster.NewTable(n.Node, "sessions", sessions{})
	n.records = n.Channel("records", n.receive, nil)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var command string
		var a, b int
		_, _ = fmt.Sscan(in.Text(), &command, &a, &b) // what is left out stays zero
		answer, err := n.do(command, a, b)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", name, in.Text(), err)
		}
		fmt.Println(answer...)
	}
	return nil // the process ends with its parent, without farewell
}

// do carries out a command.
func (n *node) do(command string, a, b int) ([]any, error) {
	switch command {
	case "join":
		err := n.Join(context.Background())
		return []any{n.Self().Address}, err
	case "members":
		await(func() bool { return len(n.Members()) == a })
	case "put": // a rows, and wait until there are b
		start := time.Now()
		for i := range a {
			if err := n.rows.Put(fmt.Sprintf("user%d@example.org/%s.3f9a2c7d", i, n.Self().Name), row(i)); err != nil {
				return nil, err
			}
		}
		await(func() bool { return n.rows.Len() == b })
		return []any{time.Since(start).Microseconds()}, nil
	case "delete": // all rows, and wait until there are none
		for r := range n.rows.Owned() {
			n.rows.Delete(r.Key)
		}
		await(func() bool { return n.rows.Len() == 0 })
	case "usage":
		return usage(a == 1), nil
	case "loop": // a records under way, for b milliseconds
		return []any{n.loop(a, time.Duration(b)*time.Millisecond)}, nil
	case "flood":
		return []any{n.flood(a, time.Duration(b)*time.Millisecond)}, nil
	case "received":
		return []any{n.received.Load()}, nil
	case "echo":
		n.echo.Store(true)
	default:
		return nil, errors.New("no such command")
	}
	return []any{"done"}, nil
}

func await(ok func() bool) {
	for !ok() {
		time.Sleep(500 * time.Microsecond)
	}
}

// row makes the row of a session in use.
func row(i int) session {
	s := session{Bound: uint64(i) << 20, Guardian: uint64(i) << 30, Attached: 1, Status: fmt.Sprintf("in a meeting until %d", i%24), Show: "dnd", Priority: 5}
	binary.BigEndian.PutUint64(s.ID[:], uint64(i))
	return s
}

// usage returns the process's CPU time in microseconds, its resident memory and its heap in bytes, and how often its
// threads had waited and were woken.
func usage(collect bool) []any {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // never fails
	if collect {
		runtime.GC()
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	var size, resident int64
	if text, err := os.ReadFile("/proc/self/statm"); err == nil {
		_, _ = fmt.Sscan(string(text), &size, &resident)
	}
	return []any{u.Utime.Nano()/1000 + u.Stime.Nano()/1000, resident * int64(os.Getpagesize()), m.HeapAlloc, u.Nvcsw}
}

const recordSize = 300

// receive counts, and sends a record on while a loop lasts. No loop is so large that Send could wait.
func (n *node) receive(from cluster.Member, record []byte) {
	n.received.Add(1)
	if n.echo.Load() {
		_ = n.records.Send(context.Background(), from.ID, record) // a lost one shows as a slower loop
	}
}

func (n *node) other() string {
	for _, m := range n.Members() {
		if m.ID != n.Self().ID {
			return m.ID
		}
	}
	return ""
}

// loop sends records to a node that echoes them and sends each one again, and returns how many came back.
func (n *node) loop(records int, d time.Duration) int64 {
	before := n.received.Load()
	n.echo.Store(true)
	to := n.other()
	for range records {
		_ = n.records.Send(context.Background(), to, make([]byte, recordSize))
	}
	time.Sleep(d)
	n.echo.Store(false)
	time.Sleep(20 * time.Millisecond) // the last ones come to rest
	return n.received.Load() - before
}

// flood sends with several goroutines as fast as the window lets them, and returns how many records were accepted.
func (n *node) flood(senders int, d time.Duration) int64 {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	to := n.other()
	var sent atomic.Int64
	var work sync.WaitGroup
	for range senders {
		work.Go(func() {
			record := make([]byte, recordSize)
			for ctx.Err() == nil && n.records.Send(ctx, to, record) == nil {
				sent.Add(1)
			}
		})
	}
	work.Wait()
	return sent.Load()
}
