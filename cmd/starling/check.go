package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/starling-im/starling/internal/admin"
	"github.com/starling-im/starling/internal/config"
	"github.com/starling-im/starling/internal/server"
	"github.com/starling-im/starling/internal/store"
)

// databaseTimeout is how long the database may take to answer.
const databaseTimeout = 10 * time.Second

// checkCommand looks for mistakes without serving anybody.
type checkCommand struct {
	Sources
	Overrides
	Effective bool `help:"Only show every setting in force and where it comes from. Secrets are hidden."`
}

// Help is the long help text.
func (*checkCommand) Help() string {
	return `Reads the settings from the same places as serve and takes the same flags. Then it tries
what can be tried without serving: certificates, data folder, database, ports. It changes
nothing, and may run while the server does.

It ends with 0 if all is well, with 2 if the settings are wrong, and with 1 if something
else is.

    starling check
    starling check --config /etc/starling.toml
    starling check --effective | grep listen`
}

// Run is called by the parser.
func (k *checkCommand) Run(c *console) error {
	cfg, err := k.load(&k.Overrides)
	if err != nil {
		return err
	}
	if k.Effective {
		return effective(c.out, cfg)
	}
	r := &findings{out: c.out}
	if file := k.file(); file != "" {
		r.ok("settings", "%s can be read", file)
	} else {
		r.ok("settings", "no file, so the defaults, the environment and the flags")
	}
	client, info, err := running(c, cfg.Data)
	if err != nil {
		r.problem("server", err, advise(err))
	}
	if client != nil {
		r.ok("server", "runs, process %d", info.PID)
	}
	checkData(r, cfg.Data)
	checkDatabase(c, r, cfg, client)
	checkCertificates(r, cfg, time.Now())
	checkCluster(c, r, cfg, err != nil || client != nil)
	if err == nil && client == nil {
		checkPorts(r, &cfg.Listen)
	}
	return r.end()
}

// effective lists all settings with their sources. Long values push their source to the right, not everybody's.
func effective(out io.Writer, cfg *config.Config) error {
	const widest = 32
	all, keys, values := cfg.Effective(), 0, 0
	for _, v := range all {
		keys = max(keys, utf8.RuneCountInString(v.Key))
		values = max(values, min(utf8.RuneCountInString(v.Text), widest))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-*s  %-*s  %s\n", keys, "KEY", values, "VALUE", "SOURCE")
	for _, v := range all {
		fmt.Fprintf(&b, "%-*s  %-*s  %s\n", keys, v.Key, values, v.Text, v.Source)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// findings writes what was found, a line each.
type findings struct {
	out      io.Writer
	problems int
}

func (r *findings) line(kind, what, text string) {
	fmt.Fprintf(r.out, "%-8s %s: %s\n", kind, what, text)
}

func (r *findings) ok(what, format string, args ...any) {
	r.line("ok", what, fmt.Sprintf(format, args...))
}

// note is for what may be meant as it is.
func (r *findings) note(what, format string, args ...any) {
	r.line("note", what, fmt.Sprintf(format, args...))
}

func (r *findings) problem(what string, err error, remedy string) {
	r.problems++
	text := strings.Join(strings.Fields(err.Error()), " ") // some drivers write several lines
	if remedy != "" {
		text += " (" + remedy + ")"
	}
	r.line("problem", what, text)
}

// end sums up.
func (r *findings) end() error {
	switch r.problems {
	case 0:
		_, err := fmt.Fprintln(r.out, "\nAll is well.")
		return err
	case 1:
		fmt.Fprintln(r.out, "\nThere is a problem.")
	default:
		fmt.Fprintf(r.out, "\nThere are %d problems.\n", r.problems)
	}
	return errProblems
}

// checkData looks whether the data folder can be written, or made.
func checkData(r *findings, data string) {
	info, err := os.Stat(data)
	if errors.Is(err, fs.ErrNotExist) {
		parent := filepath.Dir(filepath.Clean(data))
		for parent != filepath.Dir(parent) {
			if _, err := os.Stat(parent); !errors.Is(err, fs.ErrNotExist) {
				break
			}
			parent = filepath.Dir(parent)
		}
		if err := unix.Access(parent, unix.W_OK|unix.X_OK); err != nil {
			r.problem("data", fmt.Errorf("%s cannot be made in %s: %w", data, parent, err), "make it, owned by the user that the server runs as")
			return
		}
		r.ok("data", "%s does not exist yet; serve makes it", data)
		return
	}
	if err == nil && !info.IsDir() {
		err = errors.New("it is not a folder")
	}
	if err == nil {
		err = unix.Access(data, unix.R_OK|unix.W_OK|unix.X_OK)
	}
	if err != nil {
		r.problem("data", fmt.Errorf("%s cannot be used: %w", data, err), "it has to belong to the user that the server runs as")
		return
	}
	if info.Mode().Perm()&0o077 != 0 {
		r.note("data", "other users of this machine can look into %s; chmod 700 keeps them out", data)
	}
	r.ok("data", "%s can be written", data)
}

// checkDatabase looks whether the database answers.
func checkDatabase(c *console, r *findings, cfg *config.Config, client *admin.Client) {
	url := cfg.DatabaseURL()
	shown := config.URL(url).String()
	if file, ok := strings.CutPrefix(url, "sqlite:"); ok {
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			checkNewFile(r, file, cfg.Data)
			return
		}
		if client != nil {
			r.ok("database.url", "%s is in use by the running server", shown)
			return
		}
	}
	ctx, cancel := context.WithTimeout(c, databaseTimeout)
	defer cancel()
	db, err := store.Open(ctx, url, store.Options{})
	if err == nil {
		err = errors.Join(db.Ping(ctx), db.Close())
	}
	if err != nil {
		r.problem("database.url", fmt.Errorf("%s cannot be used: %w", shown, err), "is it running, and is the address right?")
		return
	}
	r.ok("database.url", "%s answers", shown)
}

// checkNewFile looks whether an SQLite file can be made. The data folder itself is made if need be.
func checkNewFile(r *findings, file, data string) {
	dir := filepath.Dir(file)
	if dir != filepath.Clean(data) {
		if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
			r.problem("database.url", fmt.Errorf("%s cannot be made in %s: %w", filepath.Base(file), dir, err), "make that folder first")
			return
		}
	}
	r.ok("database.url", "sqlite:%s does not exist yet; serve makes it", file)
}

// checkPorts opens every door for a moment.
func checkPorts(r *findings, l *config.Listen) {
	for _, door := range []struct {
		key       string
		addresses config.Addresses
	}{{"listen.c2s", l.C2S}, {"listen.tls", l.TLS}, {"listen.https", l.HTTPS}, {"listen.admin", l.Admin}} {
		for _, address := range door.addresses {
			listener, err := net.Listen("tcp", address)
			if err != nil {
				failed := &server.ListenError{Key: door.key, Address: address, Err: err}
				r.problem(door.key, fmt.Errorf("cannot listen on %s: %w", address, err), advise(failed))
				continue
			}
			listener.Close()
			r.ok(door.key, "%s is free", address)
		}
		if len(door.addresses) == 0 {
			r.note(door.key, "is off")
		}
	}
}
