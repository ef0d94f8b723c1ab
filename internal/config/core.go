package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/starling-im/starling/internal/xmpp/jid"
)

// Core holds the settings of the server itself. Features bring sections of their own (see Section).
type Core struct {
	Domains  []string `toml:"domains" doc:"Domains that this server answers for. The first is the main one: it names the administrator's account and is used where a client names no domain."`
	Data     string   `toml:"data" doc:"Folder for the database, the self-signed certificate and the files of the running server. Made when missing. Relative paths start at the working directory."`
	Listen   Listen   `toml:"listen" doc:"Addresses to listen on: host:port, or :port for all interfaces. Port 0 takes any free port. Empty text turns a door off; a list opens it several times."`
	Database Database `toml:"database" doc:"Where accounts, rosters, archives and rooms are kept."`
	Cluster  Cluster  `toml:"cluster" doc:"Several nodes that are one server to users. As long as token_file, token and nats are empty there is no cluster, and no port is opened for one. All nodes need the same database: PostgreSQL."`
	TLS      TLS      `toml:"tls" doc:"Certificates and the versions of TLS."`
	Auth     Auth     `toml:"auth" doc:"How clients log in, and how guessing is slowed down."`
	Limits   Limits   `toml:"limits" doc:"Bounds that keep one peer from using up the server."`
	Log      Log      `toml:"log" doc:"The server's log, written to standard error."`
}

// Addresses is a list of host:port pairs to listen on. It is empty if the door is off.
type Addresses []string

// Listen names the addresses of each door.
type Listen struct {
	C2S   Addresses `toml:"c2s" doc:"Clients: TCP with STARTTLS."`
	TLS   Addresses `toml:"tls" doc:"Clients: TLS from the first byte (direct TLS)."`
	HTTPS Addresses `toml:"https" doc:"HTTPS: console, API, WebSocket, BOSH, upload."`
	Admin Addresses `toml:"admin" doc:"Metrics, health and profiles over plain HTTP without log-in: keep it on loopback or a private network."`

	ProxyProtocolFrom Networks `toml:"proxy_protocol_from" doc:"Load balancers, by address or network (10.0.0.5, 10.1.0.0/16), whose connections to c2s, tls and https begin with a header of the PROXY protocol (version 1 or 2) that names the client. They must send it; from others it is not taken. Empty = none."`
}

// Networks is a list of IP addresses and networks in CIDR notation.
type Networks []string

// Prefixes are the networks; an address is the network that has only it. The list is valid.
func (n Networks) Prefixes() []netip.Prefix {
	var all []netip.Prefix
	for _, s := range n {
		if p, err := parseNetwork(s); err == nil {
			all = append(all, p)
		}
	}
	return all
}

func parseNetwork(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		addr, err := netip.ParseAddr(s)
		addr = addr.Unmap().WithZone("")
		return netip.PrefixFrom(addr, addr.BitLen()), err
	}
	return netip.ParsePrefix(s)
}

// Validate checks that each is an address or a network.
func (n Networks) Validate() error {
	for _, s := range n {
		if _, err := parseNetwork(s); err != nil {
			return Invalid("", fmt.Sprintf("%q is neither an address nor a network", s), `write "10.0.0.5" or "10.1.0.0/16"`)
		}
	}
	return nil
}

// Database names the database.
type Database struct {
	URL URL `toml:"url" doc:"sqlite:PATH or postgres://user:password@host/name. Empty means SQLite in the data folder."`
}

// CertFiles is a certificate chain and its private key, both as PEM files.
type CertFiles struct {
	Cert string `toml:"cert" doc:"PEM file: the server's certificate, then the intermediate ones."`
	Key  string `toml:"key" doc:"PEM file: the private key of the certificate."`
}

// TLS chooses certificates and versions.
type TLS struct {
	Certificates []CertFiles `toml:"certificates" doc:"Files of certificates, each {cert = \"…\", key = \"…\"}. The one whose names cover the domain is used; files are read again when they change. A domain that none covers gets a self-signed one."`
	ClientCA     string      `toml:"client_ca" doc:"PEM file of the authorities whose certificates clients may log in with (auth.external)."`
	MinVersion   string      `toml:"min_version" oneof:"1.2,1.3" doc:"Oldest version of TLS that is spoken."`
}

// Auth says how clients authenticate.
type Auth struct {
	Mechanisms     []string      `toml:"mechanisms" oneof:"SCRAM-SHA-512-PLUS,SCRAM-SHA-256-PLUS,SCRAM-SHA-1-PLUS,SCRAM-SHA-512,SCRAM-SHA-256,SCRAM-SHA-1,PLAIN" doc:"Password mechanisms that are offered, strongest first."`
	AllowPlaintext bool          `toml:"allow_plaintext" doc:"Lets clients log in without TLS. Only for tests, or behind a proxy that ends TLS."`
	Anonymous      []string      `toml:"anonymous" doc:"Domains on which anybody may log in without an account (ANONYMOUS). Empty means nowhere."`
	External       bool          `toml:"external" doc:"Lets clients log in with a certificate (EXTERNAL); needs tls.client_ca."`
	Iterations     int           `toml:"iterations" min:"4096" max:"10000000" doc:"SCRAM iterations for passwords set from now on. More makes a stolen database harder to use and each change of a password slower."`
	Failures       int           `toml:"failures" min:"1" doc:"Failed log-ins after which an address or an account must wait. IPv6 addresses count by their /64 network."`
	FailureWindow  time.Duration `toml:"failure_window" min:"1s" doc:"Time in which failures are counted, and after which they are forgotten."`
	Tokens         Tokens        `toml:"tokens" doc:"Tokens with which clients log in again without the password (FAST)."`
	Workers        int           `toml:"workers" min:"0" max:"1024" doc:"Password hashes computed at a time; 0 means one fewer than the number of processors, at least one."`
}

// Tokens says how clients log in again without the password (XEP-0484).
type Tokens struct {
	Lifetime time.Duration `toml:"lifetime" min:"0s" max:"8784h" doc:"Time for which a token can be used; 0 = clients are given none. A client that stays away for longer asks its user for the password."`
	Rotate   time.Duration `toml:"rotate" min:"1m" doc:"Age from which a token that is used is replaced by a new one."`
	Clients  int           `toml:"clients_per_account" min:"1" max:"1000" doc:"Clients of one account that may have tokens; whoever was given one longest ago loses it first."`
	Key      Secret        `toml:"key" doc:"Secret text that goes into the making of tokens, the same on all nodes: with it, a copy of the database holds nothing that one could log in with. Another text makes all tokens worthless."`
}

// Limits bounds what peers may use. Sizes are in bytes; rates are per second.
type Limits struct {
	StanzaBytes       Size          `toml:"stanza_bytes" min:"10000" max:"64 MiB" doc:"Longest stanza of a client."`
	Elements          int           `toml:"elements" min:"100" doc:"Most elements in one stanza."`
	PreAuthBytes      Size          `toml:"pre_auth_bytes" min:"1 KiB" max:"1 MiB" doc:"Longest element before log-in."`
	PreAuthElements   int           `toml:"pre_auth_elements" min:"8" doc:"Most elements inside one element before log-in."`
	AuthTimeout       time.Duration `toml:"auth_timeout" min:"1s" max:"10m" doc:"Time from connecting until log-in must be complete."`
	PreAuthTotal      int           `toml:"pre_auth_connections" min:"1" doc:"Connections that have not logged in yet, in total."`
	PreAuthPerAddress int           `toml:"pre_auth_per_address" min:"1" doc:"Connections that have not logged in yet, from one address (IPv6: /64 network)."`
	PerAddress        int           `toml:"connections_per_address" min:"0" doc:"Connections from one address (IPv6: /64 network); 0 = no bound."`
	PerAccount        int           `toml:"sessions_per_account" min:"1" doc:"Sessions of one account at a time."`
	SendQueueBytes    Size          `toml:"send_queue_bytes" min:"64 KiB" max:"1 GiB" doc:"Bytes that may wait for one slow client before its connection is given up."`
	RateBytes         Size          `toml:"rate_bytes" doc:"Bytes per second that a client may send in the long run; 0 = no bound."`
	RateBurst         Size          `toml:"rate_burst" doc:"Bytes that a client may send at once before the rate applies."`
	AssemblyTotal     Size          `toml:"assembly_total" min:"1 MiB" doc:"Memory for stanzas that have arrived only in part, over all connections."`
	HandshakeTimeout  time.Duration `toml:"handshake_timeout" min:"1s" max:"5m" doc:"Time for a TLS handshake."`
	WriteTimeout      time.Duration `toml:"write_timeout" min:"1s" max:"10m" doc:"Time in which a client must take bytes that wait for it."`
	CloseTimeout      time.Duration `toml:"close_timeout" min:"100ms" max:"1m" doc:"Time to wait for the peer's end of a stream after ours."`
	PingAfter         time.Duration `toml:"ping_after" doc:"Silence after which a client is asked whether it is still there; 0 = never."`
	PingTimeout       time.Duration `toml:"ping_timeout" min:"1s" doc:"Time for the answer, after which the connection counts as lost."`
}

// Log says how the server writes its log.
type Log struct {
	Format string `toml:"format" oneof:"text,json" doc:"Lines for people (text) or for machines (json)."`
	Level  string `toml:"level" oneof:"debug,info,warn,error" doc:"Least important messages that are written. Bodies of messages and passwords never are."`
}

// defaults returns the settings in force when nothing is set.
func defaults() Core {
	return Core{
		Domains: []string{"localhost"},
		Data:    "./starling-data",
		Listen: Listen{
			C2S:   Addresses{":5222"},
			TLS:   Addresses{":5223"},
			HTTPS: Addresses{":5443"},
			Admin: Addresses{"127.0.0.1:5280"},
		},
		Cluster: Cluster{
			Enabled: true, Name: "main", Listen: defaultClusterListen, WhenFailed: ServeAlone, DrainTime: 10 * time.Second,
		},
		TLS: TLS{MinVersion: "1.2"},
		Auth: Auth{
			Mechanisms: []string{
				"SCRAM-SHA-512-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS",
				"SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN",
			},
			Iterations:    10_000,
			Failures:      10,
			FailureWindow: 5 * time.Minute,
			Tokens:        Tokens{Lifetime: 21 * 24 * time.Hour, Rotate: 24 * time.Hour, Clients: 50},
		},
		Limits: Limits{
			StanzaBytes: 256 << 10, // RFC 6120 §13.12: never below 10,000
			Elements:    5000,

			PreAuthBytes:      8 << 10,
			PreAuthElements:   32,
			AuthTimeout:       30 * time.Second,
			PreAuthTotal:      5000,
			PreAuthPerAddress: 100,
			PerAddress:        1000,
			PerAccount:        20,

			SendQueueBytes: 1 << 20,
			RateBytes:      10_000,
			RateBurst:      64_000,
			AssemblyTotal:  64 << 20,

			HandshakeTimeout: 10 * time.Second,
			WriteTimeout:     30 * time.Second,
			CloseTimeout:     5 * time.Second,
			PingAfter:        10 * time.Minute,
			PingTimeout:      time.Minute,
		},
		Log: Log{Format: "text", Level: "info"},
	}
}

// DatabaseURL returns the database's address, with the default filled in. It may hold a password.
func (c *Core) DatabaseURL() string {
	if c.Database.URL == "" {
		return "sqlite:" + filepath.Join(c.Data, "starling.db")
	}
	return c.Database.URL.Reveal()
}

// Validate checks what concerns several sections.
func (c *Core) Validate() error {
	switch {
	case len(c.Domains) == 0 || slices.Contains(c.Domains, ""):
		return Invalid("domains", "a server needs a domain", `write domains = ["example.org"]`)
	case c.Data == "":
		return Invalid("data", "the server needs a folder", `write data = "./starling-data"`)
	case c.Auth.External && c.TLS.ClientCA == "":
		return Invalid("auth.external", "needs to know which authorities to trust", "set tls.client_ca to their PEM file")
	}
	for _, d := range c.Auth.Anonymous {
		if !slices.Contains(c.Domains, d) {
			return Invalid("auth.anonymous", strconv.Quote(d)+" is not a domain of this server", "add it to domains, or leave it out here")
		}
	}
	return nil
}

// prepareDomains brings the domains into their one comparable form; report is called for each that has none. Empty
// ones are those that were not a text, which has been reported.
func (c *Core) prepareDomains(report func(key, text, remedy string)) {
	prepare := func(key string, list []string) {
		for i, d := range list {
			prepared, err := jid.Domainpart(d)
			switch {
			case d == "":
			case err != nil:
				report(key, fmt.Sprintf("%q is not a domain: %v", d, err), `write it as in "example.org"`)
			case slices.Contains(list[:i], prepared):
				report(key, fmt.Sprintf("%q is there twice", d), "leave one out")
			default:
				list[i] = prepared
			}
		}
	}
	prepare("domains", c.Domains)
	prepare("auth.anonymous", c.Auth.Anonymous)
}

// Validate checks that every address has a host part, which may be empty, and a port.
func (a Addresses) Validate() error {
	for _, s := range a {
		_, port, err := net.SplitHostPort(s)
		if err != nil {
			return Invalid("", fmt.Sprintf("%q is not an address", s), `write host:port, as in "127.0.0.1:5222", "[::1]:5222" or ":5222"`)
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return Invalid("", fmt.Sprintf("%q is not a port", port), "write a number from 0 to 65535")
		}
	}
	return nil
}

// Validate checks that the URL names a database that the server can use.
func (d *Database) Validate() error {
	scheme, rest, _ := strings.Cut(d.URL.Reveal(), ":")
	switch {
	case d.URL == "", scheme == "sqlite" && rest != "":
		return nil
	case (scheme == "postgres" || scheme == "postgresql") && strings.HasPrefix(rest, "//"):
		return nil
	}
	return Invalid("url", "not the address of a database", `write "sqlite:PATH" or "postgres://user:password@host/name"`)
}

// Validate checks that both files are named.
func (c *CertFiles) Validate() error {
	if c.Cert == "" || c.Key == "" {
		return Invalid("", "a certificate needs two files", `write {cert = "fullchain.pem", key = "privkey.pem"}`)
	}
	return nil
}

// Validate checks that something is offered and that nothing is offered twice.
func (a *Auth) Validate() error {
	if len(a.Mechanisms) == 0 && len(a.Anonymous) == 0 && !a.External {
		return Invalid("mechanisms", "nobody could log in", `name at least one, as in ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]`)
	}
	for i, m := range a.Mechanisms {
		if slices.Contains(a.Mechanisms[:i], m) {
			return Invalid("mechanisms", strconv.Quote(m)+" is there twice", "leave one out")
		}
	}
	return nil
}

// Validate checks limits against each other.
func (l *Limits) Validate() error {
	switch {
	case l.PreAuthBytes > l.StanzaBytes:
		return Invalid("pre_auth_bytes", "is more than stanza_bytes", "lower it, or raise stanza_bytes")
	case l.RateBytes > 0 && l.RateBurst < l.RateBytes:
		return Invalid("rate_burst", "is less than rate_bytes, which could then never be reached", "raise it, or set rate_bytes = 0 for no bound")
	case l.SendQueueBytes < l.StanzaBytes:
		return Invalid("send_queue_bytes", "is less than stanza_bytes, so the longest stanza could not be delivered", "raise it")
	}
	return nil
}
