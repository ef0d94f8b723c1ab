package cluster_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/membership"
	"github.com/starling-im/starling/internal/xmpptest"
)

// command runs `starling cluster` on a node, with the program that is installed there.
func (n *node) command(args ...string) string {
	n.w.t.Helper()
	return xmpptest.Command(n.w.t, n.program, nil, append(append([]string{"cluster"}, args...), "--data", n.Data)...)
}

// install puts a version on a machine whose node is stopped, and starts it.
func (w *world) install(program, name string) *node {
	w.t.Helper()
	w.program = program
	return w.start(name)
}

// versions tells which version each member has, as a node lists them.
func (n *node) versions() map[string]string {
	n.w.t.Helper()
	var members []membership.Member
	if err := json.Unmarshal([]byte(n.command("members", "--json")), &members); err != nil {
		n.w.t.Fatal(err)
	}
	all := map[string]string{}
	for _, m := range members {
		all[m.Name] = m.Version
	}
	return all
}

// couples chat while the nodes are upgraded.
func couples() [][2]string {
	return [][2]string{
		{"romeo@a.test/orchard", "juliet@a.test/balcony"}, {"paris@a.test/hall", "rosaline@a.test/window"}, {"nurse@a.test/house", "peter@a.test/gate"},
	}
}

// TestUpgradeOnline upgrades one node after another while people chat, and goes back the same way.
func TestUpgradeOnline(t *testing.T) {
	t.Parallel()
	this, next := xmpptest.Program(t), xmpptest.NextProgram(t)
	names := []string{"one", "two", "three"}
	w := newNetwork(t, names...)
	var at doors
	at.set(w.running()...)
	all := travel(w, &at, couples()...)
	type step struct {
		program, version string
		out, in          string // commands; in may be empty
	}
	steps := []step{{next, "next", "drain", ""}, {this, "devel", "leave", "join"}}
	for _, step := range slices.Repeat(steps, map[bool]int{false: 1, true: 10}[soaking()]) {
		for _, name := range names {
			begun := time.Now()
			n := w.nodes[name]
			at.set(slices.DeleteFunc(w.running(), func(o *node) bool { return o == n })...)
			n.command(step.out)
			if s, err := n.Status(); err != nil || s.Sessions.Here != 0 {
				t.Errorf("%s after %s: %+v, %v", name, step.out, s, err)
			}
			n.leave()
			n = w.install(step.program, name)
			if step.in != "" {
				n.command(step.in)
			}
			w.together()
			if v := n.versions(); len(v) != len(names) || v[name] != step.version {
				t.Errorf("after %s was upgraded to %s it sees the versions %v", name, step.version, v)
			}
			at.set(w.running()...)
			meet(all)
			t.Logf("%s has version %s after %v", name, step.version, time.Since(begun))
		}
	}
	arrive(all)
	w.alike()
}

// TestUpgradeStopped upgrades all nodes while none runs. One is started before the others.
func TestUpgradeStopped(t *testing.T) {
	t.Parallel()
	names := []string{"one", "two", "three"}
	w := newNetwork(t, names...)
	var at doors
	at.set(w.running()...)
	all := travel(w, &at, couples()...)
	for _, name := range names {
		w.nodes[name].leave()
	}
	at.set()
	w.program = xmpptest.NextProgram(t)
	at.set(w.start(names[0]))
	w.together()
	w.startAll(names[1:]...)
	w.together()
	at.set(w.running()...)
	for name, version := range w.nodes[names[0]].versions() {
		if version != "next" {
			t.Errorf("%s has version %s", name, version)
		}
	}
	arrive(all)
	w.alike()
}

// TestUpgradeSplit upgrades half of the nodes, has them be a cluster of their own, sends everybody there, and upgrades
// the other half.
func TestUpgradeSplit(t *testing.T) {
	t.Parallel()
	for _, halves := range [][2][]string{{{"one"}, {"two"}}, {{"one", "two"}, {"three", "four"}}} {
		t.Run(fmt.Sprint(halves), func(t *testing.T) {
			t.Parallel()
			split(t, halves[0], halves[1])
		})
	}
}

func split(t *testing.T, old, young []string) {
	w := newNetwork(t, slices.Concat(old, young)...)
	nodes := func(names []string) (all []*node) {
		for _, name := range names {
			all = append(all, w.nodes[name])
		}
		return all
	}
	var at doors
	at.set(w.running()...)
	all := travel(w, &at, couples()...)

	at.set(nodes(old)...)
	for _, n := range nodes(young) {
		n.command("drain")
		n.leave()
	}
	w.program, w.settings, w.known = xmpptest.NextProgram(t), []string{"cluster.name=next"}, young
	w.startAll(young...)
	united(t, nodes(young)...)
	united(t, nodes(old)...)

	at.set(nodes(young)...)
	for _, n := range nodes(old) {
		n.command("drain")
		n.leave()
	}
	w.known = nil
	w.startAll(old...)
	w.together()
	at.set(w.running()...)
	comeBack(all) // what one half stores for who is on the other one waits for their next log-in
	arrive(all)
	w.alike()
}
