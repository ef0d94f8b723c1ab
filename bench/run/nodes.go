package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Names of the servers of several nodes.
const (
	relaysName = "two relays in a row"
	nodesName  = "Starling, two nodes"
	erlangName = "ejabberd, three nodes"
)

// group is a server of several nodes. Its processes join each other over the loopback interface.
type group struct {
	name  string
	ask   func() (string, error)
	begin func(ctx context.Context, b *bench, up *ensemble) error
}

// ensemble is a group that runs.
type ensemble struct {
	nodes []*instance
	also  []*instance // what they need, but is not measured
}

func groups() []*group {
	built := func() (string, error) { return "this tree", nil }
	return []*group{
		{relaysName, built, twoRelays},
		{nodesName, built, twoStarlings},
		{erlangName, debian("ejabberd"), threeEjabberds},
	}
}

func (up *ensemble) addrs() (all []string) {
	for _, in := range up.nodes {
		all = append(all, in.addr)
	}
	return all
}

func (up *ensemble) pids() (all []int) {
	for _, in := range up.nodes {
		all = append(all, in.cmd.Process.Pid)
	}
	return all
}

// stop ends all nodes, the last that started first.
func (up *ensemble) stop() (err error) {
	for _, in := range slices.Backward(slices.Concat(up.also, up.nodes)) {
		err = errors.Join(err, in.stop())
	}
	return err
}

// start starts a group.
func (g *group) start(ctx context.Context, b *bench) (*ensemble, error) {
	up := &ensemble{}
	if err := g.begin(ctx, b, up); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", g.name, err), up.stop())
	}
	return up, nil
}

// add starts a node.
func (up *ensemble) add(ctx context.Context, b *bench, c *contestant) error {
	in, err := c.start(ctx, b.dir, b.dir)
	if err == nil {
		up.nodes = append(up.nodes, in)
	}
	return err
}

// twoRelays are the floor: the near one hands every connection on to the far one.
func twoRelays(ctx context.Context, b *bench, up *ensemble) error {
	if err := up.add(ctx, b, &contestant{name: "far relay", command: relay, address: firstLine}); err != nil {
		return err
	}
	near := func(p *place) (*exec.Cmd, error) {
		return exec.Command(filepath.Join(p.programs, "relay"), "-to", up.nodes[0].addr), nil
	}
	return up.add(ctx, b, &contestant{name: "near relay", command: near, address: firstLine})
}

// twoStarlings share an SQLite file, of which chat has no need. It is a new one each time: who are friends is in it.
func twoStarlings(ctx context.Context, b *bench, up *ensemble) error {
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(filepath.Join(b.dir, "shared.db"+suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	token := filepath.Join(b.dir, "token")
	if _, err := os.Stat(token); err != nil {
		if out, err := exec.CommandContext(ctx, filepath.Join(b.dir, "starling"), "cluster", "token", "--out", token).CombinedOutput(); err != nil {
			return fmt.Errorf("make a token: %w: %s", err, out)
		}
	}
	var peer, last string
	for n := range 2 {
		command := func(p *place) (*exec.Cmd, error) {
			cmd, err := starling("limits.rate_bytes=0")(p)
			if err != nil {
				return nil, err
			}
			listen := net.JoinHostPort("127.0.0.1", p.Port)
			cmd.Args = append(cmd.Args, "--database", "sqlite:"+filepath.Join(b.dir, "shared.db"), "--allow-shared-sqlite",
				"--join-token", token, "--cluster-listen", listen, "--node-name", "node"+strconv.Itoa(n))
			if peer != "" {
				cmd.Args = append(cmd.Args, "--cluster-peers", peer)
			}
			peer, last = listen, p.dir
			return cmd, nil
		}
		if err := up.add(ctx, b, &contestant{name: "node " + strconv.Itoa(n), command: command, address: starlingAddress}); err != nil {
			return err
		}
	}
	return poll(ctx, func() error {
		out, err := exec.CommandContext(ctx, filepath.Join(b.dir, "starling"), "cluster", "members", "--json", "--data", last).Output()
		if err != nil {
			return err
		}
		var members []struct{ State string }
		if err := json.Unmarshal(out, &members); err != nil {
			return err
		}
		for _, m := range members {
			if len(members) < 2 || m.State != "ready" {
				return errors.New("the nodes have not met")
			}
		}
		return nil
	})
}

// poll calls fn until it succeeds, or for as long as a server may take to start.
func poll(ctx context.Context, fn func() error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := fn()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pollEvery):
		}
	}
}

// threeEjabberds are joined as join_cluster does it. They have an epmd and a cookie of their own.
func threeEjabberds(ctx context.Context, b *bench, up *ensemble) error {
	daemon := &contestant{name: "epmd", address: dialed, command: func(p *place) (*exec.Cmd, error) {
		return exec.Command("epmd", "-port", p.Port, "-address", "127.0.0.1"), nil
	}}
	in, err := daemon.start(ctx, b.dir, b.dir)
	if err != nil {
		return err
	}
	up.also = append(up.also, in)
	_, port, err := net.SplitHostPort(in.addr)
	if err != nil {
		return err
	}
	e := erlang{port: port, cookie: rand.Text()}
	for n := range 3 {
		command := func(p *place) (*exec.Cmd, error) {
			if err := os.RemoveAll(filepath.Join(p.dir, "mnesia")); err != nil { // it knows of nodes that ran before
				return nil, err
			}
			cmd, err := ejabberd(p)
			if err != nil {
				return nil, err
			}
			return e.named(cmd, e.node(n)), nil
		}
		if err := up.add(ctx, b, &contestant{name: "ejabberd " + strconv.Itoa(n), command: command, address: dialed}); err != nil {
			return err
		}
		if n == 0 {
			continue
		}
		if err := e.join(ctx, n); err != nil {
			return err
		}
	}
	return poll(ctx, func() error {
		for _, in := range up.nodes {
			nc, err := net.Dial("tcp", in.addr)
			if err != nil {
				return err
			}
			nc.Close()
		}
		return nil
	})
}

// erlang is a network of Erlang nodes.
type erlang struct{ port, cookie string }

func (e *erlang) node(n int) string { return "bench" + strconv.Itoa(n) + "@localhost" }

// named gives a process of Erlang a name, by which others reach it.
func (e *erlang) named(cmd *exec.Cmd, name string) *exec.Cmd {
	cmd.Args = slices.Insert(cmd.Args, 1, "-sname", name, "-setcookie", e.cookie, "-start_epmd", "false",
		"-kernel", "inet_dist_use_interface", "{127,0,0,1}")
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, "ERL_EPMD_PORT="+e.port, "ERL_EPMD_ADDRESS=127.0.0.1")
	return cmd
}

// join has a node join the first one, once ejabberd has started there: to stop it earlier, as joining does, would hang.
func (e *erlang) join(ctx context.Context, n int) error {
	const done = "joined"
	call := fmt.Sprintf("{ejabberd, _, _} = lists:keyfind(ejabberd, 1, rpc:call('%[1]s', application, which_applications, [])), "+
		"io:format(\"~p\", [rpc:call('%[1]s', ejabberd_cluster, join, ['%[2]s'])]), "+
		"io:format(\" %[3]s ~p\", [length(rpc:call('%[1]s', ejabberd_cluster, get_nodes, []))]), halt().", e.node(n), e.node(0), done)
	return poll(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, startTimeout)
		defer cancel()
		out, err := e.named(exec.CommandContext(ctx, "erl", "-noinput", "-hidden", "-eval", call), "ask@localhost").CombinedOutput()
		if err == nil && !strings.Contains(string(out), done+" "+strconv.Itoa(n+1)) {
			err = errors.New("it has not joined")
		}
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}
