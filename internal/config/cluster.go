package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Cluster says how this node finds the others of its cluster, and what it does without them.
type Cluster struct {
	Enabled bool   `toml:"enabled" doc:"Whether this node joins when it starts. What an operator decides while it runs (starling cluster join, starling cluster leave) is kept in the database, survives restarts, and counts before this setting."`
	Node    string `toml:"node" doc:"Name of this node, for people; unlike that of all others, and the same after a restart. Empty means the host's name and some letters that stand for the data folder."`
	Name    string `toml:"name" doc:"Name of the cluster. Nodes of different clusters do not meet."`

	TokenFile string `toml:"token_file" doc:"File with the join token: a copy of the same file on all nodes, made by starling cluster token. Who has it can join. It is read at every join; with several lines the first token is used and all are accepted."`
	Token     Secret `toml:"token" doc:"The join token itself, where a file is inconvenient."`

	Listen    string   `toml:"listen" doc:"Where other nodes connect: host:port, or :port for all interfaces. Only nodes that have the token get in."`
	Advertise string   `toml:"advertise" doc:"host:port at which other nodes reach this one, where it is not the address of listen."`
	Peers     []string `toml:"peers" doc:"host:port of other nodes, or only host if they use the same port. One of them that is up is enough; this node may be among them."`
	DNS       string   `toml:"dns" doc:"A name whose addresses are nodes, or whose SRV records name them if it begins with _ (Kubernetes: a headless service)."`
	Multicast string   `toml:"multicast" doc:"group:port of UDP on which nodes of one network find each other, as in \"239.255.17.1:5291\"."`
	NATS      []URL    `toml:"nats" doc:"NATS servers of your own to use in place of connections between the nodes: tls://user:password@host:port. Then listen, advertise, peers, dns, multicast and the token are not used."`

	AdvertiseClient string        `toml:"advertise_client" doc:"host:port at which clients reach just this node. While another node drains, its clients are sent here. Empty means that they are only told to come back, and find a node themselves."`
	DrainTime       time.Duration `toml:"drain_time" max:"1h" doc:"Time over which a node that drains ends its sessions, so that not all clients come back at once."`
	WhenFailed      string        `toml:"when_failed" oneof:"serve-alone,refuse" doc:"What a node does that cannot join for a reason that a person must mend: serve-alone goes on with the users who are connected to it, refuse takes no clients."`

	AllowSharedSQLite bool `toml:"allow_shared_sqlite" doc:"Lets nodes share an SQLite file. Only for trying out, with all nodes on one machine: each commit then waits for those of the other nodes."`
}

// What a node does that cannot join: Cluster.WhenFailed.
const (
	ServeAlone = "serve-alone"
	Refuse     = "refuse"
)

const (
	defaultClusterListen = ":5290"
	maxNodeName          = 64 // bytes
	tokenRemedy          = "make one with `starling cluster token --out FILE`, copy the file to all nodes, and name it in cluster.token_file"
)

// Configured reports whether there is enough to join a cluster. Without it no port is opened.
func (c *Cluster) Configured() bool { return c.TokenFile != "" || c.Token != "" || len(c.NATS) > 0 }

// Validate checks the addresses, and that what has been set is enough to join.
func (c *Cluster) Validate() error {
	errs := []error{
		c.validateNames(), validateListen("listen", c.Listen), validateDialled("advertise", c.Advertise),
		validateDialled("advertise_client", c.AdvertiseClient), c.validateMulticast(),
	}
	for _, p := range c.Peers {
		errs = append(errs, validatePeer("peers", p))
	}
	if !strings.HasPrefix(c.DNS, "_") && c.DNS != "" {
		errs = append(errs, validatePeer("dns", c.DNS))
	}
	if c.Token != "" && c.TokenFile != "" {
		errs = append(errs, Invalid("token", "is there beside token_file", "leave one of them out"))
	}
	if !c.Configured() {
		for _, s := range []struct {
			key string
			set bool
		}{
			{"listen", c.Listen != defaultClusterListen}, {"peers", len(c.Peers) > 0}, {"dns", c.DNS != ""}, {"multicast", c.Multicast != ""},
		} {
			if s.set {
				errs = append(errs, Invalid(s.key, "does nothing without a join token", tokenRemedy))
				break
			}
		}
	}
	return errors.Join(errs...)
}

func (c *Cluster) validateNames() error {
	token := func(r rune) bool {
		return 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-' || r == '_'
	}
	if c.Name == "" || len(c.Name) > maxNodeName || strings.ContainsFunc(c.Name, func(r rune) bool { return !token(r) }) {
		return Invalid("name", fmt.Sprintf("%q is not a name of a cluster", c.Name), "use at most 64 lower-case letters, digits, - and _")
	}
	if len(c.Node) > maxNodeName || strings.ContainsFunc(c.Node, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }) {
		return Invalid("node", fmt.Sprintf("%q is not a name of a node", c.Node), "use at most 64 bytes without spaces")
	}
	return nil
}

func (c *Cluster) validateMulticast() error {
	if c.Multicast == "" {
		return nil
	}
	group, err := netip.ParseAddrPort(c.Multicast)
	if err != nil || !group.Addr().IsMulticast() || group.Port() == 0 {
		return Invalid("multicast", fmt.Sprintf("%q is not a multicast group", c.Multicast), `write group:port, as in "239.255.17.1:5291"`)
	}
	return nil
}

// validateListen checks host:port, where the host may be empty and the port 0.
func validateListen(key, address string) error {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return Invalid(key, fmt.Sprintf("%q is not an address", address), `write host:port, as in ":5290" or "10.0.0.1:5290"`)
	}
	return nil
}

// validateDialled checks host:port that others dial; empty is none.
func validateDialled(key, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err == nil && host == "" {
		err = errors.New("no host")
	}
	if n, portErr := strconv.ParseUint(port, 10, 16); err == nil && n == 0 {
		err = cmp.Or(portErr, errors.New("no port"))
	}
	if err != nil && address != "" {
		return Invalid(key, fmt.Sprintf("%q cannot be dialled", address), `write host:port, as in "chat1.example.org:5290"`)
	}
	return nil
}

// validatePeer checks host or host:port.
func validatePeer(key, address string) error {
	if _, err := netip.ParseAddr(strings.Trim(address, "[]")); err == nil {
		return nil
	}
	if address != "" && !strings.ContainsAny(address, ": /") {
		return nil
	}
	if address == "" || validateDialled(key, address) != nil {
		return Invalid(key, fmt.Sprintf("%q is not the address of a node", address), `write host or host:port, as in "chat2.example.org:5290"`)
	}
	return nil
}
