package natsbus

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/starling-im/starling/cluster/internal/bus"
)

// TestClients: clients with TLS and the password reach each other through the cluster, and nothing else.
func TestClients(t *testing.T) {
	token := NewToken()
	door := Clients{Listen: "127.0.0.1:0", User: "app", Password: "correct horse"}
	a := open(t, 0, &Embedded{Token: []byte(token), Listen: "127.0.0.1:0", Clients: door})
	b := open(t, 1, &Embedded{Token: []byte(token), Listen: "127.0.0.1:0", Clients: door, Peers: []string{a.address()}})
	a.until(t, true, b.id)
	trust, err := ClientTLS([]byte(token), "test")
	if err != nil {
		t.Fatal(err)
	}
	url := func(n *node) string { return "nats://" + n.Bus.(*embedded).server.Addr().String() }
	for name, o := range map[string][]nats.Option{
		"no TLS":         {nats.UserInfo("app", "correct horse")},
		"wrong password": {nats.UserInfo("app", "incorrect horse"), nats.Secure(trust)},
		"no user":        {nats.Secure(trust)},
	} {
		if c, err := nats.Connect(url(a), append(o, nats.Timeout(patience))...); err == nil {
			t.Errorf("%s: connected", name)
			c.Close()
		}
	}
	foreign, err := ClientTLS([]byte(NewToken()), "test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nats.Connect(url(a), nats.UserInfo("app", "correct horse"), nats.Secure(foreign), nats.Timeout(patience)); err == nil {
		t.Error("a client of another cluster connected")
	}
	connect := func(n *node) *nats.Conn {
		c, err := nats.Connect(url(n), nats.UserInfo("app", "correct horse"), nats.Secure(trust), nats.Timeout(patience))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	from, to := connect(a), connect(b)
	all, err := to.SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	leaked := make(chan string, 1)
	if _, err := b.Subscribe(bus.Data, "hello", func(m bus.Message) { leaked <- m.Subject }); err != nil {
		t.Fatal(err)
	}
	if err := to.Flush(); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		_ = a.Publish(bus.Data, "secret", []byte("x"))
		_ = a.Publish(bus.Control, "secret", []byte("x"))
		if err := from.Publish("hello", nil); err != nil {
			t.Fatal(err)
		}
		m, err := all.NextMsg(5 * time.Millisecond)
		if errors.Is(err, nats.ErrTimeout) {
			<-tick.C
			continue
		}
		if err != nil || m.Subject != "hello" {
			t.Fatalf("a client got %v, %v", m, err)
		}
		break
	}
	select {
	case s := <-leaked:
		t.Errorf("a node got %q from a client", s)
	default:
	}
	if err := b.Bus.(*embedded).rekey([]byte(token)); err != nil {
		t.Errorf("new keys: %v", err)
	}
	connect(b)
}

func TestClientsRefused(t *testing.T) {
	for _, c := range []struct {
		name, reason string
		Clients
	}{
		{"no user", "no user", Clients{Listen: "127.0.0.1:0", Password: "correct horse"}},
		{"short password", "no good password", Clients{Listen: "127.0.0.1:0", User: "app", Password: "horse"}},
		{"the nodes' user", "cannot be the user CTL", Clients{Listen: "127.0.0.1:0", User: "CTL", Password: "correct horse"}},
		{"no address", `"nonsense" is not an address`, Clients{Listen: "nonsense", User: "app", Password: "correct horse"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := tryOpen(t, 0, &Embedded{Token: []byte(NewToken()), Listen: "127.0.0.1:0", Clients: c.Clients})
			checkFailure(t, err, c.reason)
		})
	}
}
