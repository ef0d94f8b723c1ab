package c2s

import "sync"

// reason is why a connection is not read.
type reason uint8

const (
	busy      reason = 1 << iota // a worker has it
	throttled                    // it sends too fast (XEP-0205 §4.7)
	jammed                       // other nodes take no more of what it sends
	unsettled                    // too much of what it has sent is not acknowledged
)

// gate pauses the reading of a connection for reasons that come and go independently.
type gate struct {
	mu   sync.Mutex // guards shut
	shut reason
}

// pause stops reading for a reason. Only who handles the connection's input may do so.
func (c *conn) pause(why reason) {
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	c.gate.shut |= why
	c.sock.Pause()
}

// closed tells whether the connection is not read.
func (g *gate) closed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shut != 0
}

// resume takes a reason back, on any goroutine. With the last one reading goes on.
func (c *conn) resume(why reason) {
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	if c.gate.shut &= ^why; c.gate.shut == 0 {
		c.sock.Resume()
	}
}
