package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/starling-im/starling/internal/load"
	"github.com/starling-im/starling/internal/server"
)

// The rows of sessions with stream management.
const (
	allBack     row = "all back, s"
	backCPU     row = "CPU of a session's return, µs"
	plainHeap   row = "without stream management"
	managedHeap row = "with it"
)

// A storm: so many sessions lose their connections at once and come back, so many at a time, to so many messages each.
const (
	stormSessions = 2000
	stormAtOnce   = 100
	stormMessages = 5
)

// stormers are the servers whose sessions come back; none of them has an archive.
func stormers() []*contestant {
	built := func() (string, error) { return "this tree", nil }
	return []*contestant{
		{name: starlingName, ask: built, command: starling("limits.rate_bytes=0"), address: starlingAddress},
		foreign("ejabberd", "ejabberd", "", "ejabberd", true),
		foreign("Prosody", "Prosody", "", "prosody", true),
	}
}

// storms measures how sessions come back, one server after the other. It is done once: a storm is two thousand times the same.
func (b *bench) storms(ctx context.Context) error {
	for _, c := range stormers() {
		if _, err := c.ask(); err != nil || !b.wants(c.name) {
			continue
		}
		if err := b.storm(ctx, c); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return b.hash()
}

func (b *bench) storm(ctx context.Context, c *contestant) (err error) {
	in, err := c.start(ctx, b.dir, b.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.stop()) }()
	cfg := b.loadOf(load.Resume, in)
	cfg.Sessions, cfg.Concurrent, cfg.Away, cfg.Accounts.Register = stormSessions+1, stormAtOnce, stormMessages, true
	r, err := b.here(ctx, c.name, &cfg)
	if err != nil {
		return err
	}
	b.add(allBack, c.name, r.Seconds)
	b.add(backCPU, c.name, r.Server.PerOperation)
	return nil
}

// heapSessions is how many idle sessions are measured.
const heapSessions = 3000

// managedMemory measures what idle sessions take of Starling's memory after its garbage was collected: its heap, and the
// stacks of its goroutines. It is done once, since that is the same each time.
func (b *bench) managedMemory(ctx context.Context) error {
	for _, managed := range []bool{false, true} {
		if err := b.heapOf(ctx, managed); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) heapOf(ctx context.Context, managed bool) (err error) {
	c := &contestant{name: starlingName, address: starlingAddress, command: func(p *place) (*exec.Cmd, error) {
		cmd, err := starling("limits.rate_bytes=0")(p)
		if err == nil {
			cmd.Args = append(slices.DeleteFunc(cmd.Args, func(a string) bool { return a == "--listen-admin=" }), "--listen-admin=127.0.0.1:0")
		}
		return cmd, err
	}}
	in, err := c.start(ctx, b.dir, b.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.stop()) }()
	warm := b.loadOf(load.Chat, in)
	warm.Sessions, warm.Managed, warm.Duration, warm.Accounts.Register = 10, managed, time.Second, true
	if _, err := b.here(ctx, c.name, &warm); err != nil {
		return err
	}
	cfg := b.loadOf(load.Idle, in)
	cfg.Sessions, cfg.Managed, cfg.Accounts.Register = heapSessions, managed, true
	cfg.Memory = func() (int64, error) { return liveMemory(ctx, c.folder(b.dir)) }
	r, err := b.here(ctx, c.name, &cfg)
	if err != nil {
		return err
	}
	if managed {
		b.add(managedHeap, c.name, r.Memory.PerSession)
	} else {
		b.add(plainHeap, c.name, r.Memory.PerSession)
	}
	return nil
}

// collections is how often garbage is collected before a look: what is pooled goes with the second.
const collections = 3

// liveMemory asks a server, by the folder that it runs in, for the bytes of its live heap and of its stacks.
func liveMemory(ctx context.Context, folder string) (bytes int64, err error) {
	info, err := server.ReadRunInfo(folder)
	if err != nil {
		return 0, err
	}
	var text []byte
	for range collections {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+info.Addresses["admin"]+"/debug/pprof/heap?gc=1&debug=1", nil)
		if err != nil {
			return 0, err
		}
		reply, err := http.DefaultClient.Do(request)
		if err != nil {
			return 0, err
		}
		text, err = io.ReadAll(reply.Body)
		reply.Body.Close()
		if err != nil {
			return 0, err
		}
	}
	for _, name := range []string{"# HeapAlloc = ", "# Stack = "} {
		_, rest, _ := strings.Cut(string(text), "\n"+name)
		digits, _, _ := strings.Cut(strings.SplitN(rest, "\n", 2)[0], " ")
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("profile of the heap: %s%w", name, err)
		}
		bytes += n
	}
	return bytes, nil
}
