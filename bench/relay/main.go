// Command relay is the floor under every measurement of a server: it joins TCP connections in pairs and copies bytes
// between them, as plainly as Go can. Each connection first sends a line; the two that send the same one are a pair.
//
// `starling bench chat --raw` puts the same stanzas through it, on the same sockets in the same pattern, as through a
// server. What a server costs beyond the relay is what XMPP costs.
//
// With -to it is the near one of two in a row: it hands each connection on to another relay, one for one.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"net"
	"os"
	"sync"
)

// bufferSize is what one read takes.
const bufferSize = 4 << 10

func main() {
	addr := flag.String("listen", "127.0.0.1:0", "address to listen on")
	to := flag.String("to", "", "address of another relay, which gets every connection")
	flag.Parse()
	l, err := net.Listen("tcp", *addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "relay:", err)
		os.Exit(1)
	}
	fmt.Println(l.Addr())
	r := relay{waiting: map[string]*end{}}
	for {
		nc, err := l.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, "relay:", err)
			os.Exit(1)
		}
		if *to != "" {
			go handOn(nc, *to)
			continue
		}
		go r.serve(nc)
	}
}

// relay finds the partner of each connection.
type relay struct {
	mu      sync.Mutex // guards waiting
	waiting map[string]*end
}

// end is one connection of a pair.
type end struct {
	nc   net.Conn
	peer chan net.Conn // gets the partner's connection
}

func (r *relay) serve(nc net.Conn) {
	defer nc.Close()
	in := bufio.NewReaderSize(nc, bufferSize)
	line, err := in.ReadString('\n')
	if err != nil {
		return
	}
	peer := r.pair(line, nc)
	defer peer.Close()
	buf := make([]byte, bufferSize)
	rest := buf[:in.Buffered()]
	if _, err := in.Read(rest); err != nil && len(rest) > 0 {
		return
	}
	if _, err := peer.Write(rest); err != nil {
		return
	}
	in = nil
	carry(peer, nc, buf)
}

// handOn joins a connection with a new one to another relay.
func handOn(nc net.Conn, addr string) {
	defer nc.Close()
	next, err := net.Dial("tcp", addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "relay:", err)
		return
	}
	defer next.Close()
	var back sync.WaitGroup
	back.Go(func() {
		defer nc.Close()
		carry(nc, next, make([]byte, bufferSize))
	})
	carry(next, nc, make([]byte, bufferSize))
	next.Close()
	back.Wait()
}

// carry copies bytes until an end is reached.
func carry(to, from net.Conn, buf []byte) {
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// pair waits for the connection that has sent the same line.
func (r *relay) pair(line string, nc net.Conn) net.Conn {
	r.mu.Lock()
	if other := r.waiting[line]; other != nil {
		delete(r.waiting, line)
		r.mu.Unlock()
		other.peer <- nc
		return other.nc
	}
	me := &end{nc, make(chan net.Conn, 1)}
	r.waiting[line] = me
	r.mu.Unlock()
	return <-me.peer
}
