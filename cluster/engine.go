package cluster

import (
	"fmt"
	"os"

	"github.com/starling-im/starling/cluster/internal/bus"
	"github.com/starling-im/starling/cluster/internal/natsbus"
)

// NewToken returns a new join token, in one line of text. Everything that knows it can join the cluster.
func NewToken() string { return natsbus.NewToken() }

// open returns the engine that the configuration asks for.
func (c *Config) open() (bus.Engine, error) {
	switch {
	case c.engine != nil:
		return c.engine, nil
	case c.NATS != "":
		return &natsbus.External{URLs: c.NATS, TLS: c.TLS}, nil
	case c.Listen == "":
		return nil, &Failure{Reason: "no address to listen on is configured", Remedy: "set Listen, or NATS for a server of your own"}
	}
	token := []byte(c.Token)
	if c.TokenFile != "" {
		b, err := os.ReadFile(c.TokenFile)
		if err != nil {
			return nil, &Failure{Reason: "the join token cannot be read", Remedy: fmt.Sprintf("make %s readable, or name another file", c.TokenFile), Err: err}
		}
		token = b
	}
	if len(token) == 0 {
		return nil, &Failure{Reason: "no join token is configured", Remedy: "make one on one node, and give it to all of them"}
	}
	return &natsbus.Embedded{
		Token: token, Listen: c.Listen, Advertise: c.Advertise, Peers: c.Peers, DNS: c.DNS, Multicast: c.Multicast,
	}, nil
}
