// Command pgserver starts a private PostgreSQL server, runs a command that finds it in STARLING_TEST_POSTGRES, and removes
// the server when the command has ended. A run of many test programs thereby pays for one server only:
//
//	go run ./internal/store/storetest/pgserver -- go test ./...
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/starling-im/starling/internal/store/storetest"
)

func main() {
	flags := flag.NewFlagSet("pgserver", flag.ExitOnError)
	fsync := flags.Bool("fsync", false, "make commits durable, for measurements")
	flags.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: pgserver [-fsync] -- command [argument ...]")
		flags.PrintDefaults()
	}
	_ = flags.Parse(os.Args[1:]) // exits by itself
	if flags.NArg() == 0 {
		flags.Usage()
		os.Exit(2)
	}
	code, err := run(*fsync, flags.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "pgserver:", err)
	}
	os.Exit(code)
}

// run returns the command's exit status.
func run(fsync bool, command []string) (code int, err error) {
	server, err := storetest.StartPostgres(fsync)
	if err != nil {
		return 1, err
	}
	defer server.Stop()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), storetest.ServerVariable+"="+server.URL)

	// An interrupt from the terminal reaches the command as well; the server outlives it.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			if s == syscall.SIGTERM { // is sent to one process only
				_ = cmd.Process.Signal(s)
			}
		case err := <-ended:
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				return max(1, exit.ExitCode()), nil // -1: killed by a signal
			}
			if err != nil {
				return 1, err
			}
			return 0, nil
		}
	}
}
