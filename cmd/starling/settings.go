package main

import (
	"os"
	"strings"

	"github.com/starling-im/starling/internal/config"
	"github.com/starling-im/starling/internal/server"
)

// defaultFile is read if it is there and no other file is named.
const defaultFile = "starling.toml"

// Sources are the flags of every command that needs the settings.
type Sources struct {
	Config   string   `placeholder:"FILE" env:"STARLING_CONFIG" help:"File of settings. Without it, ./starling.toml is read if there is one."`
	Data     *string  `placeholder:"DIR" help:"Folder for everything that the server keeps (data)."`
	Database *string  `placeholder:"URL" help:"sqlite:PATH or postgres://user:password@host/name (database.url)."`
	Set      []string `placeholder:"KEY=VALUE" sep:"none" help:"Any setting, as in --set log.level=debug. May be repeated."`
}

// Overrides are the flags of the commands that run the server, or check that it could run.
type Overrides struct {
	Domain             []string `placeholder:"NAME" help:"Domain that is served (domains). May be repeated."`
	ListenC2S          *string  `name:"listen-c2s" placeholder:"ADDR" help:"Where clients connect with STARTTLS (listen.c2s)."`
	ListenTLS          *string  `name:"listen-tls" placeholder:"ADDR" help:"Where clients connect with direct TLS (listen.tls)."`
	ListenHTTPS        *string  `name:"listen-https" placeholder:"ADDR" help:"Where browsers connect (listen.https)."`
	ListenAdmin        *string  `name:"listen-admin" placeholder:"ADDR" help:"Metrics and health, without log-in (listen.admin)."`
	AllowPlaintextAuth bool     `help:"Let clients log in without TLS (auth.allow_plaintext). For tests."`
	OpenRegistration   bool     `help:"Let anybody make an account (registration.open), those on this machine as many as they like (registration.free_loopback)."`
	LogLevel           *string  `placeholder:"LEVEL" help:"debug, info, warn or error (log.level)."`
	LogFormat          *string  `placeholder:"FORMAT" help:"text or json (log.format)."`
	JoinToken          *string  `placeholder:"FILE" help:"Join a cluster with this token, which starling cluster token makes (cluster.token_file)."`
	ClusterListen      *string  `placeholder:"ADDR" help:"Where other nodes connect (cluster.listen)."`
	ClusterPeers       *string  `placeholder:"HOST:PORT,…" help:"Other nodes of the cluster; one that is up is enough (cluster.peers)."`
	NodeName           *string  `placeholder:"NAME" help:"Name of this node of the cluster (cluster.node)."`
	AllowSharedSqlite  bool     `help:"Let nodes on one machine share an SQLite file, to try a cluster out (cluster.allow_shared_sqlite)."`
}

// load reads the settings. An *config.Error has all that is wrong with them.
func (s *Sources) load(o *Overrides) (*config.Config, error) {
	flags := map[string]string{}
	add := func(key string, value *string) {
		if value != nil {
			flags[key] = *value
		}
	}
	add("data", s.Data)
	add("database.url", s.Database)
	if len(o.Domain) > 0 {
		flags["domains"] = strings.Join(o.Domain, ",")
	}
	add("listen.c2s", o.ListenC2S)
	add("listen.tls", o.ListenTLS)
	add("listen.https", o.ListenHTTPS)
	add("listen.admin", o.ListenAdmin)
	add("log.level", o.LogLevel)
	add("log.format", o.LogFormat)
	add("cluster.token_file", o.JoinToken)
	add("cluster.listen", o.ClusterListen)
	add("cluster.peers", o.ClusterPeers)
	add("cluster.node", o.NodeName)
	if o.AllowSharedSqlite {
		flags["cluster.allow_shared_sqlite"] = "true"
	}
	if o.AllowPlaintextAuth {
		flags["auth.allow_plaintext"] = "true"
	}
	if o.OpenRegistration {
		flags["registration.open"] = "true"
		flags["registration.free_loopback"] = "true"
	}
	return config.Load(config.Sources{File: s.file(), Env: os.Environ(), Set: s.Set, Flags: flags}, server.Sections()...)
}

// file names the file of settings, "" if there is none.
func (s *Sources) file() string {
	if s.Config != "" {
		return s.Config
	}
	if _, err := os.Stat(defaultFile); err == nil {
		return defaultFile
	}
	return ""
}

// flags returns the flags that lead another command to the same data, each with a space in front.
func (s *Sources) flags() string {
	var b strings.Builder
	if s.Config != "" {
		b.WriteString(" --config " + shellQuote(s.Config))
	}
	if s.Data != nil {
		b.WriteString(" --data " + shellQuote(*s.Data))
	}
	return b.String()
}

// shellQuote writes a text so that a shell reads it as one word.
func shellQuote(s string) string {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_./:@,+=%", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
