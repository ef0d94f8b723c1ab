// Package testnet gives tests several machines on one: hosts, which are network namespaces of Linux that a switch
// joins, and whose cables can be cut; and programs on them, which are told what to do in lines of JSON, through pipes
// that no cut reaches.
//
// It needs root and the program ip. Where it lacks them it skips the test, but fails it when the environment has
// CI=true.
package testnet

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

const (
	prefix = "testnet-"    // of the namespaces: testnet-<process>-<random>-<host>
	names  = "/run/netns/" // where ip keeps namespaces by name
	nobody = "02:00:00:00:00:01"
	trunk  = "trunk" // the bridge that hosts are on while no partition is made
)

// Net is a network of hosts, which are all joined to one switch. It goes with the test. Its methods fail the test when
// they cannot do what they are asked to; they may be called by one goroutine at a time.
type Net struct {
	t      testing.TB
	begin  string // of the names of its namespaces
	hosts  []*Host
	sides  int          // bridges made besides the trunk
	silent [][2]*Host   // pairs whose first does not reach the second
	apart  map[int]bool // indexes of the hosts that are not on the trunk
}

// Host is a machine of a Net. Its only network interface besides loopback is eth0.
type Host struct {
	Name  string
	Addr  netip.Addr // of eth0, IPv4
	space string     // name of its namespace
	index int
}

// New makes a network of at most 200 hosts.
func New(t testing.TB, hosts ...string) *Net {
	t.Helper()
	sweep(t)
	var salt [3]byte
	_, _ = rand.Read(salt[:]) // never fails
	n := &Net{t: t, begin: fmt.Sprintf("%s%d-%s-", prefix, os.Getpid(), hex.EncodeToString(salt[:])), apart: map[int]bool{}}
	t.Cleanup(n.remove)
	if out, err := run("", "netns add "+n.hub()); err != nil {
		unable(t, fmt.Sprintf("ip netns add: %v: %s", err, out))
	}
	n.ip("-n "+n.hub(), "link add "+trunk+" type bridge mcast_snooping 0", "link set "+trunk+" up")
	for i, name := range hosts {
		h := &Host{Name: name, Addr: netip.AddrFrom4([4]byte{10, 99, 0, byte(i + 1)}), space: n.begin + name, index: i}
		n.hosts = append(n.hosts, h)
		n.ip("", "netns add "+h.space)
		n.ip("-n "+h.space,
			"link set lo up",
			fmt.Sprintf("link add eth0 type veth peer name %s netns %s", h.port(), n.hub()),
			fmt.Sprintf("addr add %s/24 dev eth0", h.Addr),
			"link set eth0 up")
		n.ip("-n "+n.hub(), "link set "+h.port()+" master "+trunk+" up")
	}
	return n
}

// unable ends a test that cannot have a network.
func unable(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("no network namespaces, which CI must have: %s", why)
	}
	t.Skipf("no network namespaces here, they need root and the program ip: %s", why)
}

func (n *Net) hub() string { return n.begin + "switch" }

// port is the name of a host's end at the switch.
func (h *Host) port() string { return "port" + strconv.Itoa(h.index) }

// Hosts returns the hosts in the order given to New.
func (n *Net) Hosts() []*Host { return slices.Clone(n.hosts) }

// Host returns a host by its name.
func (n *Net) Host(name string) *Host {
	n.t.Helper()
	for _, h := range n.hosts {
		if h.Name == name {
			return h
		}
	}
	n.t.Fatalf("there is no host %q", name)
	return nil
}

// Command makes the command that runs a program on the host. Its process is the program itself.
func (h *Host) Command(program string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", h.space, program}, args...)...)
}

// Partition joins the hosts of each side with one another and with nobody else; a host of no side is alone. Packets to
// the others are lost silently, as with a cable that is cut far away.
func (n *Net) Partition(sides ...[]string) {
	n.t.Helper()
	var cmds []string
	place := func(bridge string, h *Host) {
		cmds = append(cmds, fmt.Sprintf("link set %s master %s", h.port(), bridge))
		n.apart[h.index] = true
	}
	side := func() string {
		n.sides++
		bridge := fmt.Sprintf("side%d", n.sides)
		cmds = append(cmds, "link add "+bridge+" type bridge mcast_snooping 0", "link set "+bridge+" up")
		return bridge
	}
	alone := map[string]bool{}
	for _, h := range n.hosts {
		alone[h.Name] = true
	}
	for _, names := range sides {
		bridge := side()
		for _, name := range names {
			alone[name] = false
			place(bridge, n.Host(name))
		}
	}
	for _, h := range n.hosts {
		if alone[h.Name] {
			place(side(), h)
		}
	}
	n.ip("-n "+n.hub(), cmds...)
}

// Cut lets what one host sends to another be lost silently. The other direction, and all other pairs, are as before,
// and so is multicast.
func (n *Net) Cut(from, to string) {
	n.t.Helper()
	a, b := n.Host(from), n.Host(to)
	n.ip("-n "+a.space, fmt.Sprintf("neigh replace %s lladdr %s nud permanent dev eth0", b.Addr, nobody))
	n.silent = append(n.silent, [2]*Host{a, b})
}

// Heal ends all partitions and cuts.
func (n *Net) Heal() {
	n.t.Helper()
	for _, p := range n.silent {
		n.ip("-n "+p[0].space, fmt.Sprintf("neigh del %s dev eth0", p[1].Addr))
	}
	n.silent = nil
	var cmds []string
	for _, h := range n.hosts {
		if n.apart[h.index] {
			cmds = append(cmds, "link set "+h.port()+" master "+trunk)
		}
	}
	if len(cmds) > 0 {
		n.ip("-n "+n.hub(), cmds...)
	}
	clear(n.apart)
}

// ip runs commands of ip in one batch.
func (n *Net) ip(options string, commands ...string) {
	n.t.Helper()
	if out, err := run(options, commands...); err != nil {
		n.t.Fatalf("ip %s %q: %v: %s", options, commands, err, out)
	}
}

func run(options string, commands ...string) ([]byte, error) {
	cmd := exec.Command("ip", append(strings.Fields(options), "-batch", "-")...)
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	return cmd.CombinedOutput()
}

// remove takes the network away.
func (n *Net) remove() {
	for _, h := range n.hosts {
		_, _ = run("", "netns del "+h.space)
	}
	_, _ = run("", "netns del "+n.hub())
}

// sweep removes what runs left behind that were killed: their namespaces, and the programs in these.
func sweep(t testing.TB) {
	t.Helper()
	left, err := filepath.Glob(names + prefix + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range left {
		space := filepath.Base(path)
		owner, _, _ := strings.Cut(strings.TrimPrefix(space, prefix), "-")
		pid, err := strconv.Atoi(owner)
		if err != nil || syscall.Kill(pid, 0) == nil {
			continue
		}
		out, _ := exec.Command("ip", "netns", "pids", space).Output()
		for _, f := range bytes.Fields(out) {
			if orphan, err := strconv.Atoi(string(f)); err == nil {
				_ = syscall.Kill(orphan, syscall.SIGKILL)
			}
		}
		_, _ = run("", "netns del "+space)
	}
}
