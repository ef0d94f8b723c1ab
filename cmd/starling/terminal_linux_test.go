package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal opens a new terminal: what a person sees and types, and the end that a program has.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { person.Close() })
	if err := person.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	raw, err := person.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var number int
	err = raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

// until reads what the terminal shows, up to and including a text.
func until(t *testing.T, r io.Reader, text string) string {
	t.Helper()
	var shown strings.Builder
	for b := make([]byte, 1); !strings.HasSuffix(shown.String(), text); {
		if _, err := r.Read(b); err != nil {
			t.Fatalf("waiting for %q: %v after %q", text, err, shown.String())
		}
		shown.Write(b)
	}
	return shown.String()
}

// A person is asked twice, and what they type is not shown.
func TestPasswordOnTerminal(t *testing.T) {
	for _, c := range []struct {
		name, first, again string
		code               int
		want               string
	}{
		{"the same twice", "art thou", "art thou", exitOK, "has a new password"},
		{"corrected", "art thou\x7f\x7f\x7f\x7fwe", "art we", exitOK, "has a new password"},
		{"different ones", "art thou", "are you", exitUsage, "the two passwords differ"},
		{"given up", "art thou", "are\x03", exitUsage, "no password was given"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			n := serve(t, dir)
			person, tty := terminal(t)
			cmd := program(t, dir, "user", "passwd", "admin@localhost")
			var out strings.Builder
			cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, &out, tty
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			shown := until(t, person, "Password for admin@localhost: ")
			fmt.Fprint(person, c.first, "\r")
			shown += until(t, person, "Once more: ")
			fmt.Fprint(person, c.again, "\r")
			if c.code != exitOK {
				shown += until(t, person, c.want)
			}
			_ = cmd.Wait() // the exit code tells more
			if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(shown+out.String(), c.want) {
				t.Errorf("exit code %d, shown %q, out %q", code, shown, out.String())
			}
			if strings.Contains(shown, "art") || strings.Contains(shown, "are") {
				t.Errorf("the password is shown: %q", shown)
			}
			if c.code == exitOK {
				login(t, n, "admin@localhost", c.again).Drop()
			}
			n.stop()
		})
	}
}
