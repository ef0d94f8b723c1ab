package testnet

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Dial connects as net.Dialer.DialContext does, but as a program on the host would; so it reaches what listens on the
// host's loopback. The address is one in numbers. The connection may be used by everybody.
func (h *Host) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	type outcome struct {
		conn net.Conn
		err  error
	}
	done := make(chan outcome, 1)
	go func() {
		runtime.LockOSThread() // and never unlocks it: the thread, which is in another network now, ends with the goroutine
		conn, err := h.dial(ctx, network, addr)
		done <- outcome{conn, err}
	}()
	o := <-done
	return o.conn, o.err
}

func (h *Host) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	space, err := os.Open(names + h.space)
	if err != nil {
		return nil, err
	}
	defer space.Close()
	if err := unix.Setns(int(space.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter the network of %s: %w", h.Name, err)
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}
