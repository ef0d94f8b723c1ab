package transport

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// The clients of a benchmark are a process of their own, this program with peerEnv set, so that what is measured is the
// server's.
const (
	peerEnv     = "STARLING_TRANSPORT_PEER" // ADDRESS TLS CONNECTIONS WINDOW; a window of 0: exchange three messages, then be idle
	messageSize = 432                       // a chat message as clients send it
)

func TestMain(m *testing.M) {
	if args := strings.Fields(os.Getenv(peerEnv)); len(args) == 4 {
		if err := peer(args[0], args[1] == "true", args[2], args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// peer opens its connections, says so, and goes on until its standard input ends.
func peer(address string, secure bool, connections, window string) error {
	n, err := strconv.Atoi(connections)
	if err != nil {
		return err
	}
	w, err := strconv.Atoi(window)
	if err != nil {
		return err
	}
	message := make([]byte, messageSize)
	var conns []net.Conn
	for range n {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		if secure {
			c = tls.Client(c, clientTLS())
		}
		for range 3 {
			if _, err := c.Write(message); err != nil {
				return err
			}
			if _, err := io.ReadFull(c, message); err != nil {
				return err
			}
		}
		conns = append(conns, c)
	}
	fmt.Println("ready")
	if in := bufio.NewReader(os.Stdin); w > 0 {
		in.ReadString('\n')
		for i, c := range conns {
			go answer(c)
			if i%2 == 0 {
				c.Write(bytes.Repeat(message, w))
			}
		}
	}
	io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(conns)
	return nil
}

// answer sends a message for each that comes.
func answer(c net.Conn) {
	buf, had := make([]byte, 16<<10), 0
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		had += n
		whole := had / messageSize * messageSize
		had -= whole
		for ; whole > 0; whole -= min(whole, len(buf)) {
			c.Write(buf[:min(whole, len(buf))])
		}
	}
}

// crowd is a running process of clients, and their connections' server sides.
type crowd struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	wg  sync.WaitGroup
}

// gather starts n clients, each of them served on a goroutine of its own, and waits until they have exchanged their first
// messages.
func gather(b *testing.B, secure bool, n, window int, serve func(i int, nc *net.TCPConn)) *crowd {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	c := &crowd{cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %v %d %d", peerEnv, l.Addr(), secure, n, window))
	c.cmd.Stderr = os.Stderr
	c.in, _ = c.cmd.StdinPipe()
	out, _ := c.cmd.StdoutPipe()
	if err := c.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	for i := range n {
		nc, err := l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		c.wg.Go(func() { serve(i, nc.(*net.TCPConn)) })
	}
	l.Close()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		b.Fatal(line, err)
	}
	return c
}

func (c *crowd) leave() {
	c.in.Close()
	c.cmd.Wait()
	c.wg.Wait()
}

// relay gives what one of a pair of connections sends to the other. Until all are there each has its own back.
type relay struct {
	conns   []*Conn
	paired  atomic.Bool
	relayed func(bytes int)
}

// end is the Handler of one of them.
type end struct {
	*relay
	i     int
	dirty *Conn
}

func (e *end) OnBytes(b []byte) error {
	to := e.conns[e.i]
	if e.paired.Load() {
		to = e.conns[e.i^1]
		e.relayed(len(b))
	}
	needFlush, err := to.Append(b)
	if needFlush {
		e.dirty = to
	}
	return err
}

func (e *end) OnFlush() {
	if e.dirty != nil {
		e.dirty.Flush()
		e.dirty = nil
	}
}

func (e *end) OnClose(error) {}

// BenchmarkRelay measures the CPU that a message costs the server on its way from one connection to another, next to a
// relay that blocks in Read and Write with a buffer for each connection.
func BenchmarkRelay(b *testing.B) {
	const n = 200
	for _, secure := range []bool{false, true} {
		for _, window := range []int{1, 8} {
			name := fmt.Sprintf("tls=%v/window=%d/", secure, window)
			b.Run(name+"blocking", func(b *testing.B) {
				ends, paired := make([]net.Conn, n), atomic.Bool{}
				measureRelay(b, secure, n, window, func(relayed func(int)) (func(int, *net.TCPConn), func()) {
					return func(i int, nc *net.TCPConn) {
						ends[i] = nc
						if secure {
							ends[i] = tls.Server(nc, serverTLS(tls.VersionTLS13))
						}
						defer nc.Close()
						buf := make([]byte, 4096)
						for {
							n, err := ends[i].Read(buf)
							if err != nil {
								return
							}
							to := ends[i]
							if paired.Load() {
								to = ends[i^1]
								relayed(n)
							}
							to.Write(buf[:n])
						}
					}, func() { paired.Store(true) }
				})
			})
			b.Run(name+"transport", func(b *testing.B) {
				r, o, cfg := &relay{conns: make([]*Conn, n)}, &Options{}, serverTLS(tls.VersionTLS13)
				measureRelay(b, secure, n, window, func(relayed func(int)) (func(int, *net.TCPConn), func()) {
					r.relayed = relayed
					return func(i int, nc *net.TCPConn) {
						r.conns[i] = New(nc, o)
						if secure {
							r.conns[i].DirectTLS(cfg)
						}
						r.conns[i].Serve(context.Background(), &end{relay: r, i: i})
					}, func() { r.paired.Store(true) }
				})
			})
		}
	}
}

func measureRelay(b *testing.B, secure bool, n, window int, start func(relayed func(int)) (serve func(int, *net.TCPConn), pair func())) {
	var total atomic.Int64
	done := make(chan struct{})
	last := int64(b.N) * messageSize
	serve, pair := start(func(bytes int) {
		if t := total.Add(int64(bytes)); t >= last && t-int64(bytes) < last {
			close(done)
		}
	})
	c := gather(b, secure, n, window, serve)
	pair()
	b.ResetTimer()
	before := processTime(b)
	io.WriteString(c.in, "go\n")
	<-done
	spent := processTime(b) - before
	b.StopTimer()
	b.ReportMetric(float64(spent)/float64(b.N), "cpu-ns/op")
	c.leave()
}

func processTime(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkIdle measures the memory of connections that wait, each of which has echoed three messages: resident, and the
// parts of it that the heap and the stacks are in use of, after garbage collections.
func BenchmarkIdle(b *testing.B) {
	const n = 2000
	for _, secure := range []bool{false, true} {
		b.Run(fmt.Sprintf("tls=%v", secure), func(b *testing.B) {
			o, cfg := &Options{}, serverTLS(tls.VersionTLS13)
			ctx, cancel := context.WithCancel(context.Background())
			for range b.N {
				rss, heap, stack := memory(b)
				r := &relay{conns: make([]*Conn, n)}
				c := gather(b, secure, n, 0, func(i int, nc *net.TCPConn) {
					r.conns[i] = New(nc, o)
					if secure {
						r.conns[i].DirectTLS(cfg)
					}
					r.conns[i].Serve(ctx, &end{relay: r, i: i})
				})
				rss2, heap2, stack2 := memory(b)
				b.ReportMetric(float64(rss2-rss)/n, "resident-B/conn")
				b.ReportMetric(float64(heap2-heap)/n, "heap-B/conn")
				b.ReportMetric(float64(stack2-stack)/n, "stack-B/conn")
				c.leave()
			}
			cancel()
		})
	}
}

func memory(b *testing.B) (resident, heap, stack int) {
	for range 4 { // stacks halve with each
		runtime.GC()
	}
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(statm))[1])
	if err != nil {
		b.Fatal(err)
	}
	return pages * os.Getpagesize(), int(m.HeapAlloc), int(m.StackInuse)
}
