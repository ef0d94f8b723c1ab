package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// errNoPostgres: PostgreSQL's programs are not installed.
var errNoPostgres = errors.New("initdb and postgres are neither in PATH nor under /usr/lib/postgresql")

// PostgresServer is a private PostgreSQL server in a temporary directory. It listens on a Unix socket only, and ends with
// the process that started it, however that ends.
type PostgresServer struct {
	URL   string // postgres:// with the administrator's name
	dir   string
	guard *exec.Cmd
	alive io.WriteCloser // the guard's standard input
}

// guardScript runs the server until its standard input ends, which it does at the latest with our process; then it stops the
// server and removes the directory. Each line that it reads before stops the server, by the signal that the line names, or
// starts it again, in turn. $1 is the directory, $2 the postgres program, the rest its arguments.
const guardScript = `dir=$1; shift
while "$@" </dev/null >>"$dir/log" 2>&1 & read -r line; do
	kill "-$line" $!
	wait
	read -r line || break
done
kill -QUIT $!
wait
rm -rf "$dir"`

// StartPostgres makes a database cluster and starts its server. Without fsync it is several times faster; data then survive
// crashes of the server, not of the machine. PostgreSQL refuses to run as root, so root runs it as the user postgres.
func StartPostgres(fsync bool) (*PostgresServer, error) {
	bin, err := postgresPrograms()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "starling-pg-")
	if err != nil {
		return nil, err
	}
	s := &PostgresServer{dir: dir, URL: (&url.URL{
		Scheme: "postgres", User: url.User("postgres"), Path: "/postgres",
		RawQuery: url.Values{"host": {dir}}.Encode(),
	}).String()}
	if err := s.start(bin, fsync); err != nil {
		s.Stop()
		os.RemoveAll(dir)
		return nil, fmt.Errorf("start a PostgreSQL server for tests: %w", err)
	}
	return s, nil
}

func (s *PostgresServer) start(bin string, fsync bool) error {
	dir := s.dir
	attr, err := unprivileged(dir)
	if err != nil {
		return err
	}
	data := filepath.Join(dir, "data")
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
		"--locale=C", "--no-sync", "--no-instructions")
	initdb.Dir, initdb.SysProcAttr = dir, attr
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	args := []string{"-c", guardScript, "sh", dir, filepath.Join(bin, "postgres"), "-D", data, "-k", dir,
		"-c", "listen_addresses=", "-c", "max_connections=400", "-c", "shared_buffers=64MB"}
	if !fsync {
		args = append(args, "-c", "fsync=off", "-c", "full_page_writes=off")
	}
	s.guard = exec.Command("/bin/sh", args...)
	s.guard.Dir, s.guard.SysProcAttr = dir, attr
	in, err := s.guard.StdinPipe()
	if err != nil {
		return err
	}
	if err := s.guard.Start(); err != nil {
		s.guard = nil
		return err
	}
	s.alive = in
	return s.await()
}

// Halt stops the server, which ends all connections, until Resume. It returns when it has ended.
func (s *PostgresServer) Halt() error { return s.end("INT") }

// Crash is like Halt, but nothing is finished or tidied up: Resume has to recover what was committed.
func (s *PostgresServer) Crash() error { return s.end("QUIT") }

func (s *PostgresServer) end(signal string) error {
	if _, err := io.WriteString(s.alive, signal+"\n"); err != nil {
		return err
	}
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-again.C {
		_, err := os.Stat(filepath.Join(s.dir, "data", "postmaster.pid"))
		switch {
		case errors.Is(err, os.ErrNotExist):
			return nil
		case err != nil:
			return err
		case time.Now().After(deadline):
			return errors.New("PostgreSQL does not stop")
		}
	}
}

// Resume starts the server again after Halt, with all its data, and waits until it answers.
func (s *PostgresServer) Resume() error {
	if _, err := io.WriteString(s.alive, "\n"); err != nil {
		return err
	}
	return s.await()
}

// await waits until the server answers.
func (s *PostgresServer) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		c, err := pgx.Connect(ctx, s.URL)
		if err == nil {
			return c.Close(ctx)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			said, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("%w\n%s", err, said)
		}
	}
}

// Stop ends the server, removes its data and waits for both.
func (s *PostgresServer) Stop() {
	if s.guard == nil {
		return
	}
	s.alive.Close()
	_ = s.guard.Wait() // Its status is that of rm; nothing depends on it.
	s.guard = nil
}

// postgresPrograms returns the directory of PostgreSQL's programs: Debian keeps them out of PATH.
func postgresPrograms() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path), nil
		}
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", errNoPostgres
	}
	return filepath.Dir(found[len(found)-1]), nil
}

// unprivileged returns how to start PostgreSQL's programs, and gives dir to the user they run as. They get a process group of
// their own, so that an interrupt from the terminal reaches only us.
func unprivileged(dir string) (*syscall.SysProcAttr, error) {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if os.Getuid() != 0 {
		return attr, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, err
		}
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return attr, os.Chown(dir, int(uid), int(gid))
}
