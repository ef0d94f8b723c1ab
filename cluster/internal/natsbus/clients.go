package natsbus

import (
	"crypto/tls"
	"fmt"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/starling-im/starling/cluster/internal/bus"
)

// Clients is a door for clients of NATS, with TLS and one user. They have an account of their own: they reach each other
// through all nodes of the cluster, and see and send nothing of what the nodes send each other.
type Clients struct {
	Listen         string // host:port; empty means that there is no door
	User, Password string
}

// clientAccount is the account of clients.
const clientAccount = "CLIENTS"

// leastPassword is the length of the shortest password of clients, in bytes.
const leastPassword = 12

func (c *Clients) check() error {
	if c.Listen == "" {
		return nil
	}
	if _, _, err := hostPort(c.Listen); err != nil {
		return err
	}
	if c.User == "" || len(c.Password) < leastPassword {
		return &bus.Failure{
			Reason: "the port for NATS clients has no user, or no good password",
			Remedy: fmt.Sprintf("configure a user and a password of at least %d bytes, or no port for clients", leastPassword),
		}
	}
	for _, name := range accounts {
		if c.User == name {
			return &bus.Failure{Reason: fmt.Sprintf("NATS clients cannot be the user %s", name), Remedy: "configure another user"}
		}
	}
	return nil
}

// open adds the door to the options of a server.
func (c *Clients) open(o *server.Options) {
	if c.Listen == "" {
		return
	}
	host, port, _ := hostPort(c.Listen) // has been checked
	if port == 0 {
		port = server.RANDOM_PORT
	}
	account := server.NewAccount(clientAccount)
	o.Host, o.Port = host, port
	o.Accounts = append(o.Accounts, account)
	o.Users = append(o.Users, &server.User{Username: c.User, Password: c.Password, Account: account})
	c.secure(o)
}

// secure gives the door the certificate that the server shows other nodes. Clients need none.
func (c *Clients) secure(o *server.Options) {
	if c.Listen == "" {
		return
	}
	config := o.Cluster.TLSConfig.Clone()
	config.ClientAuth, config.ClientCAs = tls.NoClientCert, nil
	o.TLSConfig, o.TLSTimeout = config, routeHandshake
}

// ClientTLS returns the configuration for clients of a cluster: it trusts the holders of the join tokens in the text.
func ClientTLS(tokens []byte, cluster string) (*tls.Config, error) {
	keys, err := newKeyring(tokens, cluster)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, ServerName: nodeName, RootCAs: keys.trusted}, nil
}
