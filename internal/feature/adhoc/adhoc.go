// Package adhoc lets clients find and run commands (XEP-0050): dialogues of forms that
// other features declare.
package adhoc

import (
	"context"
	"fmt"
	"time"

	"github.com/starling-im/starling/internal/hook"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/xmpp/form"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// NS is the namespace of commands, and the node under which they are listed (XEP-0050 §2.2).
const NS = "http://jabber.org/protocol/commands"

const nsInfo, nsItems = "http://jabber.org/protocol/disco#info", "http://jabber.org/protocol/disco#items"

// Module is the feature's declaration.
var Module = module.Def[Config]{
	Name:     "adhoc",
	Doc:      "Runs commands that other features offer in the menus of clients.",
	Specs:    []module.Spec{{XEP: 50, Version: "1.3.0"}},
	Disco:    module.Disco{module.Server: {NS}},
	Defaults: Config{Timeout: 10 * time.Minute, MaxSessions: 1000, MaxPerUser: 10},
	Start:    start,
}

// Config is the feature's configuration.
type Config struct {
	Timeout     time.Duration `toml:"timeout" min:"10s" doc:"Time after which a dialogue that nobody goes on with is forgotten."`
	MaxSessions int           `toml:"max_sessions" min:"1" doc:"Dialogues that may be under way at once."`
	MaxPerUser  int           `toml:"max_sessions_per_user" min:"1" doc:"Dialogues that one user may have under way; the oldest give way."`
}

// Command is what a feature offers.
type Command struct {
	Target module.Target // whom it is asked of
	Node   string        // unique for the target
	Name   string        // for people
	// Allowed tells who may run it. Nil stands for everybody, or for the owner if the
	// target is an account.
	Allowed func(c *Call) bool
	// Run is the first stage, which gets no form.
	Run Stage
}

// Stage does one step of a command. An error is returned to the client; it may try the
// same step again.
type Stage func(ctx context.Context, c *Call) (Reply, error)

// Call is one step that a client asks for.
type Call struct {
	Asker  jid.JID // full, or bare for what is no client
	Entity jid.JID // the domain or the bare JID of the account that is asked
	Values form.Values
}

// Reply is what a stage leads to.
type Reply struct {
	Form    *form.Form    // to fill in if there is a next stage, else the result
	Next    Stage         // takes the form that was filled in; nil when the command is done
	More    bool          // after Next there is another form
	Note    string        // to be shown
	Failed  bool          // the command is done and has failed, for the reason in Note (XEP-0050 §3.6)
	Payload []xml.Element // beside or instead of a form
}

// Commands are all that are offered.
type Commands struct {
	host     *module.Host
	byTarget map[module.Target][]*Command
	sessions *sessions
}

func start(h *module.Host, cfg Config) error {
	c := &Commands{host: h, byTarget: map[module.Target][]*Command{}, sessions: newSessions(cfg, h.Now, h.Metrics)}
	h.Provide(c)
	for _, t := range []module.Target{module.Server, module.Account} {
		h.IQ(t, stanza.Set, NS, "command", func(ctx context.Context, iq *stanza.Stanza) (xml.Element, error) {
			return c.execute(ctx, t, iq)
		})
	}
	h.Hooks.Info.Add(h.Name, hook.Amend, c.info)
	h.Hooks.Items.Add(h.Name, hook.Amend, c.items)
	h.Hooks.Ended.Add(h.Name, hook.Record, func(_ context.Context, e *module.Passage) error {
		c.sessions.leave(e.Session.JID)
		return nil
	})
	return nil
}

// Add offers a command. Features add theirs when they start.
func (c *Commands) Add(cmd Command) {
	if c.find(cmd.Target, cmd.Node) != nil {
		panic(fmt.Sprintf("adhoc: two commands have the node %s", cmd.Node))
	}
	c.byTarget[cmd.Target] = append(c.byTarget[cmd.Target], &cmd)
}

func (c *Commands) find(t module.Target, node string) *Command {
	for _, cmd := range c.byTarget[t] {
		if cmd.Node == node {
			return cmd
		}
	}
	return nil
}

// allows tells whether the caller may run the command.
func (cmd *Command) allows(call *Call) bool {
	switch {
	case cmd.Allowed != nil:
		return cmd.Allowed(call)
	case cmd.Target == module.Account:
		return call.Asker.Bare() == call.Entity
	}
	return true
}

// info tells about the list of commands and each of them: XEP-0050 §2.2.
func (c *Commands) info(_ context.Context, e *module.InfoEvent) error {
	if e.Node == "" {
		if e.Target == module.Account && len(c.byTarget[module.Account]) > 0 {
			e.Features = append(e.Features, NS)
		}
		return nil
	}
	if e.Node == NS {
		e.Known = true
		e.Identities = append(e.Identities, xml.New(nsInfo, "identity", "category", "automation", "type", "command-list", "name", "Commands"))
		e.Features = append(e.Features, NS)
		return nil
	}
	cmd := c.find(e.Target, e.Node)
	if cmd == nil {
		return nil
	}
	if !cmd.allows(&Call{Asker: e.Asker, Entity: e.Entity}) {
		return stanza.Err(stanza.Forbidden, "")
	}
	e.Known = true
	e.Identities = append(e.Identities, xml.New(nsInfo, "identity", "category", "automation", "type", "command-node", "name", cmd.Name))
	e.Features = append(e.Features, NS, form.NS)
	return nil
}

// items lists the commands that the asker may run: XEP-0050 §2.2.
func (c *Commands) items(_ context.Context, e *module.ItemsEvent) error {
	if e.Node != NS {
		if c.find(e.Target, e.Node) != nil {
			e.Known = true // a command has no items
		}
		return nil
	}
	e.Known = true
	for _, cmd := range c.byTarget[e.Target] {
		if cmd.allows(&Call{Asker: e.Asker, Entity: e.Entity}) {
			e.Items = append(e.Items, xml.New(nsItems, "item", "jid", e.Entity.String(), "node", cmd.Node, "name", cmd.Name))
		}
	}
	return nil
}
