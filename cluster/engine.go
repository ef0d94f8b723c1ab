package cluster

import (
	"crypto/tls"
	"fmt"
	"os"

	"github.com/starling-im/starling/cluster/internal/bus"
	"github.com/starling-im/starling/cluster/internal/natsbus"
)

// NewToken returns a new join token, in one line of text. Everything that knows it can join the cluster.
func NewToken() string { return natsbus.NewToken() }

// CheckToken looks whether a text, such as that of a token file, can be used as Config.Token. The error is a *Failure.
func CheckToken(text string) error { return natsbus.CheckToken([]byte(text)) }

// ClientTLS returns what a client of NATS needs to connect to Config.ClientListen, and to know that it speaks to a node
// of the cluster. token is the text of the token file.
func ClientTLS(token, cluster string) (*tls.Config, error) {
	return natsbus.ClientTLS([]byte(token), cluster)
}

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
	var reread func() ([]byte, error)
	if c.TokenFile != "" {
		name := c.TokenFile
		reread = func() ([]byte, error) { return os.ReadFile(name) }
		var err error
		if token, err = reread(); err != nil {
			return nil, &Failure{Reason: "the join token cannot be read", Remedy: fmt.Sprintf("make %s readable, or name another file", name), Err: err}
		}
	}
	if len(token) == 0 {
		return nil, &Failure{Reason: "no join token is configured", Remedy: "make one on one node, and give it to all of them"}
	}
	return &natsbus.Embedded{
		Token: token, Reread: reread, Listen: c.Listen, Advertise: c.Advertise, Peers: c.Peers, DNS: c.DNS, Multicast: c.Multicast,
		Clients: natsbus.Clients{Listen: c.ClientListen, User: c.ClientUser, Password: c.ClientPassword},
	}, nil
}
