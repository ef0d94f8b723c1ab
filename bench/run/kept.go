package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/load"
)

// Names of the servers that are compared with archives and with stream management.
const (
	bareName     = "Starling, neither"
	sqliteName   = "Starling, SQLite"
	postgresName = "Starling, PostgreSQL"
	managedName  = "Starling, stream management"
	bothName     = "Starling, both, SQLite"
	mnesiaName   = "ejabberd, Mnesia"
	erlSQLName   = "ejabberd, SQLite"
	filesName    = "Prosody, files"
	luaSQLName   = "Prosody, SQLite"
)

// The rows of messages that are kept or acknowledged, in microseconds.
const (
	keptOne    row = "one under way"
	keptEight  row = "eight under way"
	storeOne   row = "PostgreSQL itself, one under way"
	storeEight row = "PostgreSQL itself, eight under way"
	ackOne     row = "acknowledged, one under way"
	ackEight   row = "acknowledged, eight under way"
	rateEight  row = "messages a second"
	keptWords  row = "eight under way, each says something else"
)

// These measurements are many, so each is short.
const (
	keptRuns   = 3
	keptLength = 2 * time.Second
	keptWithin = 4 * time.Minute // no run begins that would end later, but for the first
	slowAfter  = 8 * time.Second // whose measurement took longer is not measured again
)

// keeper is a server with which messages are measured that are kept, or acknowledged, or both.
type keeper struct {
	name    string
	on      *contestant   // several keepers may be on one
	managed bool          // the sessions have stream management
	keeps   bool          // the server has an archive
	slow    map[talk]bool // where one measurement took longer than slowAfter
}

// talk is how people write: with so many messages under way, and other words in each.
type talk struct {
	window int
	words  bool
}

// keepers returns who is compared. database is the URL of PostgreSQL, empty if there is none.
func keepers(database string) []*keeper {
	built := func() (string, error) { return "this tree", nil }
	ours := func(name string, more ...string) *contestant {
		return &contestant{name: name, ask: built, address: starlingAddress, command: starling(append(more, "limits.rate_bytes=0")...)}
	}
	bare, onSQLite := ours(bareName), ours(sqliteName, "archive.enabled=true")
	all := []*keeper{
		{name: bareName, on: bare},
		{name: sqliteName, on: onSQLite, keeps: true},
		{name: managedName, on: bare, managed: true},
		{name: bothName, on: onSQLite, managed: true, keeps: true},
	}
	if database != "" {
		all = append(all, &keeper{name: postgresName, on: ours(postgresName, "archive.enabled=true", "database.url="+database), keeps: true})
	}
	for _, other := range []struct{ name, where, needs string }{
		{mnesiaName, "mnesia", "ejabberd"}, {erlSQLName, "sql", "erlang-p1-sqlite3"},
		{filesName, "internal", "prosody"}, {luaSQLName, "sql", "lua-dbi-sqlite3"},
	} {
		family, _, _ := strings.Cut(other.name, ",")
		all = append(all, &keeper{name: other.name, on: foreign(family, other.name, other.where, other.needs, false), keeps: true})
	}
	for _, k := range all {
		k.slow = map[talk]bool{}
	}
	return all
}

// foreign is ejabberd or Prosody with an archive, or with stream management. needs is a package that it cannot do without.
func foreign(family, name, archive, needs string, managed bool) *contestant {
	command := map[string]func(*place) (*exec.Cmd, error){"ejabberd": ejabberd, "Prosody": prosody}[family]
	return &contestant{
		name: name,
		ask: func() (string, error) {
			if _, err := debian(needs)(); err != nil {
				return "", err
			}
			return debian(strings.ToLower(family))()
		},
		command: func(p *place) (*exec.Cmd, error) {
			p.Archive, p.Managed = archive, managed
			return command(p)
		},
		address: dialed,
	}
}

// postgres is a PostgreSQL server for this comparison.
type postgres struct {
	url   string
	pid   int
	guard *exec.Cmd
	alive io.Closer // the guard's standard input, with whose end the server ends
}

// startPostgres starts it with durable commits.
func (b *bench) startPostgres(ctx context.Context) (*postgres, error) {
	guard := exec.Command(filepath.Join(b.dir, "pgserver"), "-fsync", "--", "sh", "-c", `echo "$STARLING_TEST_POSTGRES"; exec cat`)
	guard.Stderr = os.Stderr
	alive, err := guard.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := guard.StdoutPipe()
	if err != nil {
		return nil, err
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", guard.Path, "./internal/store/storetest/pgserver")
	build.Dir, build.Stderr = b.root, os.Stderr
	if err := build.Run(); err != nil {
		return nil, err
	}
	if err := guard.Start(); err != nil {
		return nil, err
	}
	pg := &postgres{guard: guard, alive: alive}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		pg.url = strings.TrimSpace(line)
		pg.pid, err = postmaster(pg.url)
	}
	if err != nil {
		return nil, errors.Join(err, pg.stop())
	}
	return pg, nil
}

func (pg *postgres) stop() error {
	pg.alive.Close()
	return pg.guard.Wait()
}

// postmaster is the process of a server that has its data beside its socket.
func postmaster(address string) (int, error) {
	u, err := url.Parse(address)
	if err != nil {
		return 0, err
	}
	file, err := os.ReadFile(filepath.Join(u.Query().Get("host"), "data", "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(file), "\n")
	return strconv.Atoi(first)
}

// keep measures what archives and stream management cost.
func (b *bench) keep(ctx context.Context) (err error) {
	database := ""
	if pg, err := b.startPostgres(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "%s: left out, %v\n", postgresName, err)
	} else {
		defer func() { err = errors.Join(err, pg.stop()) }()
		b.postgres, database = pg, pg.url
	}
	for _, k := range keepers(database) {
		if !b.wants(k.name) {
			continue
		}
		var err error
		if k.on.version, err = k.on.ask(); err != nil {
			fmt.Fprintf(os.Stderr, "%s: left out, %v\n", k.name, err)
			continue
		}
		b.keepers = append(b.keepers, k)
	}
	for _, part := range []struct {
		name string
		do   func(context.Context) error
	}{{"messages", b.keptTraffic}, {"pages", b.pages}, {"coming back", b.storms}, {"memory", b.managedMemory}} {
		began := time.Now()
		if err := part.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s took %v\n", part.name, time.Since(began).Round(time.Second))
	}
	return nil
}

// keptTraffic measures messages, with all servers up at once.
func (b *bench) keptTraffic(ctx context.Context) (err error) {
	up := map[*contestant]*instance{}
	defer func() {
		for _, in := range up {
			err = errors.Join(err, in.stop())
		}
	}()
	for _, k := range b.keepers {
		if up[k.on] != nil {
			continue
		}
		if up[k.on], err = k.on.start(ctx, b.dir, b.dir); err != nil {
			delete(up, k.on)
			return err
		}
		cfg := b.loadOf(load.Login, up[k.on])
		cfg.Accounts.Register = true
		if _, err := b.here(ctx, k.on.name, &cfg); err != nil {
			return err
		}
	}
	began := time.Now()
	for n := range min(b.runs, keptRuns) {
		if took := time.Since(began); n > 0 && took+took/time.Duration(n) > keptWithin {
			break
		}
		b.rounds = n + 1
		fmt.Fprintf(os.Stderr, "archive, run %d of %d\n", n+1, min(b.runs, keptRuns))
		for _, kind := range []talk{{1, false}, {8, false}, {8, true}} {
			for _, k := range b.keepers {
				own := strings.HasPrefix(k.name, starlingName)
				if k.slow[kind] || kind.words && (k.managed || !own) {
					continue
				}
				began := time.Now()
				if err := b.keptRun(ctx, k, up[k.on], kind); err != nil {
					return err
				}
				k.slow[kind] = time.Since(began) > slowAfter && !own
			}
		}
	}
	return nil
}

func (b *bench) keptRun(ctx context.Context, k *keeper, in *instance, kind talk) error {
	cfg := b.loadOf(load.Chat, in)
	cfg.Window, cfg.Words, cfg.Managed, cfg.Whole = kind.window, kind.words, k.managed, true
	if k.name == postgresName {
		cfg.StorePIDs = []int{b.postgres.pid}
	}
	r, err := b.here(ctx, k.name, &cfg)
	if err != nil {
		return err
	}
	switch {
	case kind.words:
		b.add(keptWords, k.name, r.Server.PerOperation)
	case kind.window == 1:
		b.addKept(k, r, keptOne, storeOne, ackOne)
	default:
		b.addKept(k, r, keptEight, storeEight, ackEight)
		b.add(rateEight, k.name, r.PerSecond)
	}
	if k.keeps {
		return b.checkArchive(ctx, k.name, in, r.Sent)
	}
	return nil
}

func (b *bench) addKept(k *keeper, r *load.Report, server, itself, acknowledged row) {
	b.add(server, k.name, r.Server.PerOperation)
	if r.Store != nil {
		b.add(itself, k.name, r.Store.PerOperation)
	}
	if k.managed {
		b.add(acknowledged, k.name, 1e3*r.Behind)
	}
}

// loadOf is a load of plaintext sessions on a server.
func (b *bench) loadOf(s load.Scenario, in *instance) load.Config {
	return load.Config{
		Scenario: s, Addrs: []string{in.addr}, TLS: client.None, Mechanism: "PLAIN",
		Accounts: load.Accounts{Domain: "localhost", Pattern: "bench%d", Password: "bench-password"},
		Sessions: 2 * b.pairs, Concurrent: 32, Available: true, Size: 432, Window: 1,
		Duration: min(b.duration, keptLength), Drain: time.Minute, Settle: b.settle,
		ServerPIDs: []int{in.cmd.Process.Pid},
	}
}

// here puts load on a server from this process, once it is at rest.
func (b *bench) here(ctx context.Context, name string, cfg *load.Config) (*load.Report, error) {
	if err := load.Rest(ctx, append(cfg.ServerPIDs, cfg.StorePIDs...)...); err != nil {
		return nil, err
	}
	r, err := load.Run(ctx, *cfg)
	if r == nil {
		return nil, fmt.Errorf("%s, %s: %w", name, cfg.Scenario, err)
	}
	fmt.Fprintf(os.Stderr, "%s, %s, window %d:\n", name, cfg.Scenario, cfg.Window)
	b.blame(name, r)
	return r, r.Write(os.Stderr)
}
