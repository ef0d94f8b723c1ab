package main

import (
	"bufio"
	"io"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// patience bounds how long a line may take.
const patience = 30 * time.Second

// TestBoard plays the example as its three processes.
func TestBoard(t *testing.T) {
	program := filepath.Join(t.TempDir(), "presence-board")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	cmd := exec.Command(program)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, write := io.Pipe()
	cmd.Stdout, cmd.Stderr = write, write
	lines := make(chan string, 256)
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(out); in.Scan(); {
			lines <- in.Text()
		}
	}()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := &board{t, lines, map[string]bool{}}
	defer func() {
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil { // when the last process that writes to the pipe has ended
			t.Errorf("presence-board: %v", err)
		}
		_ = write.Close()
	}()
	b.sees("juliet sees: nurse is here", "nurse sees: juliet is here", "romeo sees: juliet is here", "juliet sees: romeo is here")
	_, _ = io.WriteString(stdin, "juliet on the balcony\n")
	b.sees("romeo sees: juliet is now on the balcony", "nurse sees: juliet is now on the balcony")
	_, _ = io.WriteString(stdin, "kill nurse\n")
	b.sees("romeo sees: nurse is gone", "juliet sees: nurse is gone")
	_, _ = io.WriteString(stdin, "romeo in the orchard\n")
	b.sees("juliet sees: romeo is now in the orchard")
}

// board is what the processes have printed.
type board struct {
	t     *testing.T
	lines <-chan string
	seen  map[string]bool
}

// sees waits until each of the lines has come.
func (b *board) sees(want ...string) {
	b.t.Helper()
	deadline := time.After(patience)
	for _, line := range want {
		for !b.seen[line] {
			select {
			case got, ok := <-b.lines:
				if !ok {
					b.t.Fatalf("ended before %q; came: %v", line, b.seen)
				}
				b.seen[got] = true
			case <-deadline:
				b.t.Fatalf("not within %v: %q; came: %v", patience, line, b.seen)
			}
		}
	}
}
