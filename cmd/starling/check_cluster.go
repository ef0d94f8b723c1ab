package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/internal/config"
	"github.com/starling-im/starling/internal/membership"
	"github.com/starling-im/starling/internal/server"
	"github.com/starling-im/starling/internal/store"
)

// lookupTimeout is how long one name may take to be looked up.
const lookupTimeout = 5 * time.Second

// checkCluster looks whether the node could join its cluster. It does not join. runs tells that the server does run, and
// so has the port.
func checkCluster(c *console, r *findings, cfg *config.Config, runs bool) {
	k := &cfg.Cluster
	if !k.Configured() {
		r.note("cluster", "is not configured")
		return
	}
	name, err := server.NodeName(cfg)
	if err != nil {
		r.problem("cluster.node", err, "set it")
	} else {
		r.ok("cluster.node", "is %s, in the cluster %s", name, k.Name)
	}
	checkShareable(r, cfg)
	if len(k.NATS) > 0 {
		r.ok("cluster.nats", "the nodes meet at servers of your own")
		return
	}
	checkToken(r, k)
	if !runs {
		checkListen(r, k.Listen)
	}
	if len(k.Peers) == 0 && k.DNS == "" && k.Multicast == "" {
		r.note("cluster.peers", "is empty, and so are dns and multicast: other nodes must name this one")
	}
	for _, peer := range k.Peers {
		host := peer
		if h, _, err := net.SplitHostPort(peer); err == nil {
			host = h
		}
		checkName(c, r, "cluster.peers", host, false)
	}
	if k.DNS != "" {
		host, _, _ := strings.Cut(k.DNS, ":")
		checkName(c, r, "cluster.dns", host, strings.HasPrefix(k.DNS, "_"))
	}
}

// checkShareable looks whether several nodes can work on the database.
func checkShareable(r *findings, cfg *config.Config) {
	kind := store.Postgres
	if strings.HasPrefix(cfg.DatabaseURL(), "sqlite:") {
		kind = store.SQLite
	}
	switch f := membership.Unshareable(kind, cfg.Cluster.AllowSharedSQLite); {
	case f != nil:
		r.problem("database.url", errors.New(f.Reason), f.Remedy)
	case kind == store.SQLite:
		r.note("database.url", "is an SQLite file that nodes share: all of them must run on this machine, and each waits for the others")
	default:
		r.ok("database.url", "can be shared by several nodes")
	}
}

// checkToken looks whether the join token is one, and whether others can read it.
func checkToken(r *findings, k *config.Cluster) {
	text, key := k.Token.Reveal(), "cluster.token"
	if k.TokenFile != "" {
		key = "cluster.token_file"
		b, err := os.ReadFile(k.TokenFile)
		if err != nil {
			r.problem(key, err, "make a token with `starling cluster token --out "+shellQuote(k.TokenFile)+"`, or copy that of another node")
			return
		}
		if info, err := os.Stat(k.TokenFile); err == nil && info.Mode().Perm()&0o077 != 0 {
			r.note(key, "other users of this machine can read %s, and so join the cluster; chmod 600 keeps them out", k.TokenFile)
		}
		text = string(b)
	}
	err := cluster.CheckToken(text)
	if f, ok := errors.AsType[*cluster.Failure](err); ok {
		r.problem(key, errors.New(f.Reason), f.Remedy)
		return
	}
	if err != nil {
		r.problem(key, err, "")
		return
	}
	r.ok(key, "is a join token")
}

// checkListen opens the port for other nodes for a moment.
func checkListen(r *findings, address string) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		failed := &server.ListenError{Key: "cluster.listen", Address: address, Err: err}
		r.problem("cluster.listen", fmt.Errorf("cannot listen on %s: %w", address, err), advise(failed))
		return
	}
	l.Close()
	r.ok("cluster.listen", "%s is free", address)
}

// checkName looks whether a name has addresses, or stands for services.
func checkName(c *console, r *findings, key, host string, service bool) {
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return
	}
	ctx, cancel := context.WithTimeout(c, lookupTimeout)
	defer cancel()
	var err error
	if service {
		_, _, err = net.DefaultResolver.LookupSRV(ctx, "", "", host)
	} else {
		_, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	}
	if err != nil {
		r.problem(key, err, "is the name right, and does it resolve on this machine?")
		return
	}
	r.ok(key, "%s can be looked up", host)
}
