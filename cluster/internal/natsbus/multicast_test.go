package natsbus

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"
)

// group is a multicast group for one test: nobody else uses its port now.
func group(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	return fmt.Sprintf("239.255.42.%d:%d", os.Getpid()%200+1, c.LocalAddr().(*net.UDPAddr).Port)
}

// TestMulticast: nodes of one token find each other, and ignore others on the same group.
func TestMulticast(t *testing.T) {
	token, g := NewToken(), group(t)
	engine := func(token string) *Embedded {
		return &Embedded{
			Token: []byte(token), Listen: "127.0.0.1:0", Multicast: g, Interface: "lo", Announce: 50 * time.Millisecond,
		}
	}
	a, b, stranger := open(t, 0, engine(token)), open(t, 1, engine(token)), open(t, 2, engine(NewToken()))
	a.until(t, true, b.id)
	b.until(t, true, a.id)
	eventually(t, "stranger's announcement ignored", func() bool { return len(a.log.with("announcement ignored")) == 1 })
	select {
	case h := <-stranger.Hints():
		t.Errorf("stranger met %s", h.Peer)
	default:
	}
	if lines := a.log.with("WARN"); len(lines) > 0 {
		t.Errorf("not quiet: %v", lines)
	}
}

// TestMulticastNetwork lets two processes in two network namespaces, joined by a cable, find each other.
func TestMulticastNetwork(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	names := [2]string{fmt.Sprintf("sb%da", os.Getpid()), fmt.Sprintf("sb%db", os.Getpid())}
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("ip %v: %v: %s", args, err, out)
			}
			t.Skipf("no network namespaces here: ip %v: %v: %s", args, err, out)
		}
	}
	for _, n := range names {
		ip("netns", "add", n)
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", n).Run() })
	}
	ip("link", "add", names[0], "netns", names[0], "type", "veth", "peer", "name", names[1], "netns", names[1])
	for i, n := range names {
		ip("-n", n, "addr", "add", fmt.Sprintf("10.99.0.%d/24", i+1), "dev", n)
		ip("-n", n, "link", "set", n, "up")
		ip("-n", n, "link", "set", "lo", "up")
	}
	role := &Embedded{
		Token: []byte(NewToken()), Listen: "0.0.0.0:0", Multicast: "239.255.42.99:7421", Announce: 100 * time.Millisecond,
	}
	met := make(chan string, 16)
	for i, n := range names {
		startPeer(t, role, peerName(i), met, "ip", "netns", "exec", n)
	}
	for range names {
		select {
		case line := <-met:
			t.Log(line)
		case <-time.After(patience):
			t.Fatal("they do not meet")
		}
	}
}
