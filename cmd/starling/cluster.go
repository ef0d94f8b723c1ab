package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/internal/admin"
	"github.com/starling-im/starling/internal/membership"
)

// clusterCommands ask and tell the running server about its cluster.
type clusterCommands struct {
	Token   clusterToken   `cmd:"" help:"Make a join token, of which all nodes of a cluster get a copy."`
	Status  clusterStatus  `cmd:"" help:"Show what this node is doing and who else is there."`
	Members clusterMembers `cmd:"" help:"List the nodes that this one sees."`
	Tables  clusterTables  `cmd:"" help:"List the tables that the nodes have copies of, with a digest that is equal on all of them."`
	Links   clusterLinks   `cmd:"" help:"List the links to the other nodes, with what is on its way."`
	Events  clusterEvents  `cmd:"" help:"List what happened in the cluster lately, as this node saw it."`
	Join    clusterJoin    `cmd:"" help:"Put this node, or all nodes, into the cluster, while they run. This is kept."`
	Leave   clusterLeave   `cmd:"" help:"Take this node, or all nodes, out of the cluster, while they run. This is kept."`
	Drain   clusterDrain   `cmd:"" help:"Send the clients of this node to the others and keep new ones away, before it is stopped."`
}

type clusterToken struct {
	Out string `placeholder:"FILE" help:"File to write, which only its owner can read. Without it, the token is shown."`
}

// Help is the long help text.
func (*clusterToken) Help() string {
	return `Whoever has the token can join the cluster and read everything in it: copy it to the other
nodes the way you copy private keys.

    starling cluster token --out join-token
    scp join-token second.example.org:/etc/starling/`
}

// Run is called by the parser.
func (t *clusterToken) Run(c *console) error {
	token := cluster.NewToken() + "\n"
	if t.Out == "" {
		_, err := fmt.Fprint(c.out, token)
		return err
	}
	f, err := os.OpenFile(t.Out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return usage(t.Out + " exists already: nodes that use it would no longer find those that use another one. Name another file")
	}
	if err == nil {
		_, err = f.WriteString(token)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("write the join token: %w", err)
	}
	_, err = fmt.Fprintf(c.out, "%s has a new join token. Copy it to all nodes, and name it in cluster.token_file or with --join-token.\n", t.Out)
	return err
}

// ClusterSources are the flags of the commands that ask the running server.
type ClusterSources struct {
	Sources
	JSON bool `name:"json" help:"Write JSON instead of text."`
}

// ask runs fn on the running server.
func (s *ClusterSources) ask(c *console, fn func(*admin.ClusterClient) error) error {
	cfg, err := s.load(&Overrides{})
	if err != nil {
		return err
	}
	client, _, err := running(c, cfg.Data)
	if err != nil {
		return err
	}
	if client == nil {
		return &notRunning{cfg.Data}
	}
	return fn(client.Cluster())
}

// notRunning says that there is no server to ask.
type notRunning struct{ data string }

func (e *notRunning) Error() string { return "no server runs on the data folder " + e.data }

// show writes an answer: as JSON, or as text makes it.
func (s *ClusterSources) show(c *console, answer any, text func() error) error {
	if !s.JSON {
		return text()
	}
	e := json.NewEncoder(c.out)
	e.SetIndent("", "  ")
	return e.Encode(answer)
}

type clusterStatus struct{ ClusterSources }

// Help is the long help text.
func (*clusterStatus) Help() string {
	return `States: standalone (it works alone), joining, ready (it is a full member), draining (it sends its
clients away), drained (it takes none), failed (it could not join, and a person must mend something).

    starling cluster status
    starling cluster status --data /var/lib/starling --json | jq .state`
}

// Run is called by the parser.
func (s *clusterStatus) Run(c *console) error {
	return s.ask(c, func(all *admin.ClusterClient) error {
		st, err := all.Status(c)
		if err != nil {
			return err
		}
		return s.show(c, st, func() error { return writeStatus(c.out, &st) })
	})
}

type clusterMembers struct{ ClusterSources }

// Run is called by the parser.
func (s *clusterMembers) Run(c *console) error {
	return s.ask(c, func(all *admin.ClusterClient) error {
		st, err := all.Status(c)
		if err != nil {
			return err
		}
		return s.show(c, st.Members, func() error { return writeMembers(c.out, st.Members) })
	})
}

type clusterTables struct{ ClusterSources }

// Run is called by the parser.
func (s *clusterTables) Run(c *console) error {
	return s.ask(c, func(all *admin.ClusterClient) error {
		tables, err := all.Tables(c)
		if err != nil {
			return err
		}
		return s.show(c, tables, func() error { return writeTables(c.out, tables) })
	})
}

type clusterLinks struct{ ClusterSources }

// Run is called by the parser.
func (s *clusterLinks) Run(c *console) error {
	return s.ask(c, func(all *admin.ClusterClient) error {
		links, err := all.Links(c)
		if err != nil {
			return err
		}
		return s.show(c, links, func() error { return writeLinks(c.out, links) })
	})
}

type clusterEvents struct{ ClusterSources }

// Run is called by the parser.
func (s *clusterEvents) Run(c *console) error {
	return s.ask(c, func(all *admin.ClusterClient) error {
		events, err := all.Events(c)
		if err != nil {
			return err
		}
		return s.show(c, events, func() error { return writeEvents(c.out, events) })
	})
}

// Whole is the flag of the commands that can concern all nodes.
type Whole struct {
	All bool `help:"All nodes that use the database, also those that are added later, and not just this one."`
}

type clusterJoin struct {
	ClusterSources
	Whole
}

// Help is the long help text.
func (*clusterJoin) Help() string {
	return `The decision is kept in the database: it counts before cluster.enabled and survives restarts. With
--all it replaces what was decided for single nodes. A node whose joining failed tries again, and
one that was drained takes clients again.

    starling cluster join
    starling cluster join --all`
}

// Run is called by the parser.
func (s *clusterJoin) Run(c *console) error {
	return s.operate(c, "joining", func(all *admin.ClusterClient) (membership.Status, error) { return all.Join(c, s.All) })
}

type clusterLeave struct {
	ClusterSources
	Whole
}

// Help is the long help text.
func (*clusterLeave) Help() string {
	return `The decision is kept in the database: it counts before cluster.enabled and survives restarts. The
clients of this node are first sent to the others; with --all, they stay where they are, and
each node stands alone.

    starling cluster leave
    starling cluster leave --all`
}

// Run is called by the parser.
func (s *clusterLeave) Run(c *console) error {
	return s.operate(c, "draining", func(all *admin.ClusterClient) (membership.Status, error) { return all.Leave(c, s.All) })
}

type clusterDrain struct{ ClusterSources }

// Help is the long help text.
func (*clusterDrain) Help() string {
	return `Over cluster.drain_time the clients of this node are sent elsewhere; then it leaves the cluster. It
takes no clients, and /readyz says so, until "starling cluster join" or a restart.

    starling cluster drain && systemctl stop starling`
}

// Run is called by the parser.
func (s *clusterDrain) Run(c *console) error {
	return s.operate(c, "draining", func(all *admin.ClusterClient) (membership.Status, error) { return all.Drain(c) })
}

const (
	pollEvery  = 500 * time.Millisecond
	joinWithin = time.Minute
)

// operate has the server do something, waits as long as that takes, and shows what has become of it.
func (s *ClusterSources) operate(c *console, moving string, do func(*admin.ClusterClient) (membership.Status, error)) error {
	return s.ask(c, func(all *admin.ClusterClient) error {
		st, err := do(all)
		if err == nil {
			st, err = settled(c, all, st, moving)
		}
		if err != nil {
			return err
		}
		if err := s.show(c, st, func() error { return writeStatus(c.out, &st) }); err != nil {
			return err
		}
		if st.Failure != nil || st.Wanted && st.Trouble != "" {
			return errProblems // the status tells them
		}
		return nil
	})
}

// settled waits while the server is moving.
func settled(ctx context.Context, all *admin.ClusterClient, st membership.Status, moving string) (membership.Status, error) {
	again := time.NewTicker(pollEvery)
	defer again.Stop()
	for begun := time.Now(); st.State == moving && (moving != "joining" || time.Since(begun) < joinWithin); {
		select {
		case <-again.C:
		case <-ctx.Done():
			return st, ctx.Err()
		}
		var err error
		if st, err = all.Status(ctx); err != nil {
			return st, err
		}
	}
	return st, nil
}
