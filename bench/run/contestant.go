package main

import (
	"bufio"
	"context"
	"embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"time"

	"github.com/starling-im/starling/internal/server"
)

// Names of the contestants.
const (
	relayName    = "relay"
	starlingName = "Starling"
	limitedName  = "Starling, limiter on"
)

// contestant is a server that can be started.
type contestant struct {
	name    string
	version string
	ask     func() (string, error) // its version; an error if it is not installed
	command func(p *place) (*exec.Cmd, error)
	address func(ctx context.Context, p *place) (string, error) // once it is ready
}

// place is where a server runs. The folder stays from one start to the next.
type place struct {
	programs string // folder of what was built here
	dir      string
	port     int    // free at the start, for servers that cannot choose one themselves
	Port     string // the same
	Key      string // certificate and key of localhost
	Cert     string
	Dir      string
	Archive  string   // where ejabberd or Prosody keeps archives, in its own words; empty: nowhere
	Managed  bool     // with stream management
	output   *os.File // what the server writes
}

// instance is a server that runs.
type instance struct {
	addr string
	cmd  *exec.Cmd
	done chan error
}

// Ready, and gone, within these times.
const (
	startTimeout = time.Minute
	stopTimeout  = 30 * time.Second
	pollEvery    = 50 * time.Millisecond
)

// folder is where the server runs, and keeps what it has from one start to the next.
func (c *contestant) folder(dir string) string {
	return filepath.Join(dir, "at-"+strings.ReplaceAll(c.name, " ", "-"))
}

// start starts the server on its folder and waits until it takes connections.
func (c *contestant) start(ctx context.Context, programs, dir string) (*instance, error) {
	p := &place{programs: programs, dir: c.folder(dir)}
	if err := p.prepare(); err != nil {
		return nil, err
	}
	defer p.output.Close()
	cmd, err := c.command(p)
	if err != nil {
		return nil, err
	}
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, p.output, p.output
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	in := &instance{cmd: cmd, done: make(chan error, 1)}
	go func() { in.done <- cmd.Wait() }()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		if in.addr, err = c.address(ctx, p); err == nil {
			return in, nil
		}
		select {
		case ended := <-in.done:
			return nil, fmt.Errorf("%s ended at once: %v: %s", c.name, ended, p.said())
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("%s does not get ready: %w", c.name, err), in.stop())
		case <-time.After(pollEvery):
		}
	}
}

// said is the end of what a server has written.
func (p *place) said() string {
	b, _ := os.ReadFile(filepath.Join(p.dir, "output"))
	return string(b[max(0, len(b)-1000):])
}

// stop ends the server and waits until it is gone.
func (in *instance) stop() error {
	if err := in.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-in.done:
	case <-time.After(stopTimeout):
		in.cmd.Process.Kill()
		<-in.done
	}
	return nil
}

func (p *place) prepare() error {
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	p.port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	p.Dir, p.Port = p.dir, strconv.Itoa(p.port)
	p.Key, p.Cert = filepath.Join(p.dir, "key.pem"), filepath.Join(p.dir, "cert.pem")
	if err := writeCertificate(p.Cert, p.Key); err != nil {
		return err
	}
	p.output, err = os.Create(filepath.Join(p.dir, "output"))
	return err
}

// dialed is the address of a server that takes connections on the port of the place.
func dialed(ctx context.Context, p *place) (string, error) {
	addr := net.JoinHostPort("127.0.0.1", p.Port)
	return addr, answers(ctx, addr)
}

// answers tells whether connections to an address are accepted.
func answers(ctx context.Context, addr string) error {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return nc.Close()
}

//go:embed ejabberd.yml prosody.cfg.lua
var settings embed.FS

// write fills in a file of settings.
func (p *place) write(name string) (path string, err error) {
	t, err := template.ParseFS(settings, name)
	if err != nil {
		return "", err
	}
	path = filepath.Join(p.dir, name)
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	return path, errors.Join(t.Execute(f, p), f.Close())
}

// debian returns a function that asks for the version of a package.
func debian(name string) func() (string, error) {
	return func() (string, error) {
		out, err := exec.Command("dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Version}", name).Output()
		status, version, _ := strings.Cut(string(out), " ")
		if err != nil || !strings.HasPrefix(status, "ii") {
			return "", fmt.Errorf("not installed (apt-get install %s)", name)
		}
		return "Debian " + strings.TrimSpace(version), nil
	}
}

func contestants() []*contestant {
	built := func() (string, error) { return "this tree", nil }
	return []*contestant{
		{name: relayName, ask: built, command: relay, address: firstLine},
		{name: starlingName, ask: built, command: starling("limits.rate_bytes=0"), address: starlingAddress},
		{name: limitedName, ask: built, command: starling("limits.rate_bytes=1GiB", "limits.rate_burst=1GiB"), address: starlingAddress},
		{name: "ejabberd", ask: debian("ejabberd"), command: ejabberd, address: dialed},
		{name: "Prosody", ask: debian("prosody"), command: prosody, address: dialed},
	}
}

func relay(p *place) (*exec.Cmd, error) {
	return exec.Command(filepath.Join(p.programs, "relay")), nil
}

func firstLine(_ context.Context, p *place) (string, error) {
	f, err := os.Open(filepath.Join(p.dir, "output"))
	if err != nil {
		return "", err
	}
	defer f.Close()
	line, err := bufio.NewReader(f).ReadString('\n')
	return strings.TrimSpace(line), err
}

// iterations is what Starling's passwords are hashed with here: as few as may be, since the hash is not what is compared.
const iterations = 4096

// starling starts Starling with every limit off that the load would meet: all clients have one address.
func starling(more ...string) func(p *place) (*exec.Cmd, error) {
	return func(p *place) (*exec.Cmd, error) {
		args := []string{
			"serve", "--data", p.dir, "--allow-plaintext-auth", "--open-registration", "--log-level", "error",
			"--listen-c2s", "127.0.0.1:0", "--listen-tls=", "--listen-https=", "--listen-admin=",
		}
		for _, s := range append([]string{
			"limits.connections_per_address=0", "limits.pre_auth_per_address=100000", "limits.pre_auth_connections=100000",
			"auth.iterations=" + strconv.Itoa(iterations), "auth.workers=2", "archive.enabled=false",
		}, more...) {
			args = append(args, "--set", s)
		}
		return exec.Command(filepath.Join(p.programs, "starling"), args...), nil
	}
}

// starlingAddress is where the server says that clients connect. One that was killed has left this behind.
func starlingAddress(ctx context.Context, p *place) (string, error) {
	info, err := server.ReadRunInfo(p.dir)
	if err != nil {
		return "", err
	}
	addr := info.Addresses["c2s"]
	return addr, answers(ctx, addr)
}

// ejabberd starts the emulator as ejabberdctl would, but without a node name, so that no other daemon is needed.
func ejabberd(p *place) (*exec.Cmd, error) {
	path, err := p.write("ejabberd.yml")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("erl", "-noinput", "+K", "true", "+P", "250000",
		"-mnesia", "dir", strconv.Quote(filepath.Join(p.dir, "mnesia")), "-s", "ejabberd")
	libs, err := filepath.Glob("/usr/lib/*/ejabberd-*")
	if err != nil || len(libs) == 0 {
		return nil, errors.New("ejabberd is not where Debian has it")
	}
	cmd.Env = append(os.Environ(), "ERL_LIBS="+filepath.Dir(libs[0]), "ERL_MAX_PORTS=32000", "ERL_CRASH_DUMP_BYTES=0",
		"EJABBERD_CONFIG_PATH="+path, "EJABBERD_LOG_PATH="+filepath.Join(p.dir, "ejabberd.log"))
	return cmd, nil
}

func prosody(p *place) (*exec.Cmd, error) {
	path, err := p.write("prosody.cfg.lua")
	if err != nil {
		return nil, err
	}
	return exec.Command("prosody", "-F", "--config", path), nil
}
