package testnet_test

import (
	"os"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/testnet"
)

// TestDial: what is dialled from a host reaches that host's loopback, and no other's.
func TestDial(t *testing.T) {
	n := testnet.New(t, "a", "b")
	const addr = "127.0.0.1:7000"
	told := map[string]<-chan string{}
	for _, h := range n.Hosts() {
		p, heard := start(t, h.Name, h.Command(os.Args[0]))
		ask(t, p, "listen", addr)
		told[h.Name] = heard
	}
	for name, other := range map[string]string{"a": "b", "b": "a"} {
		c, err := n.Host(name).Dial(t.Context(), "udp4", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		select {
		case <-told[name]:
		case <-told[other]:
			t.Errorf("what was said on %s came to %s", name, other)
		case <-time.After(patience):
			t.Fatalf("what was said on %s did not come", name)
		}
	}
}
