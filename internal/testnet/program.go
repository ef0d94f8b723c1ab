package testnet

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Now is the time of the clock that all processes of the machine share and that nobody sets.
func Now() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // never fails
	return time.Duration(ts.Nano())
}

// question is a line to a program. The answer has its number; other lines are news.
type question struct {
	Number int             `json:"n"`
	What   string          `json:"what"`
	Args   json.RawMessage `json:"args,omitempty"`
}

// line is a line from a program.
type line struct {
	Number int             `json:"n,omitempty"`
	Error  string          `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	News   json.RawMessage `json:"news,omitempty"`
}

const (
	longest  = 64 << 20 // bytes of a line
	maxNotes = 4 << 20  // bytes kept of what a program writes to its standard error
)

// Program is a process that was started and that listens to questions, see Serve.
type Program struct {
	t     testing.TB
	name  string
	cmd   *exec.Cmd
	in    io.WriteCloser
	notes notes
	ended chan struct{} // closed when it has ended

	mu      sync.Mutex // guards what follows, and writing to in
	next    int
	waiting map[int]chan line
}

// Start starts a program. news is called for each of its news, one after another, and may be nil. The program ends with
// the test at the latest; what it wrote to its standard error is shown if the test has failed.
func Start(t testing.TB, name string, cmd *exec.Cmd, news func(json.RawMessage)) *Program {
	t.Helper()
	p := &Program{t: t, name: name, cmd: cmd, ended: make(chan struct{}), waiting: map[int]chan line{}}
	cmd.Stderr = &p.notes
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.in = in
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go p.read(out, news)
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s wrote:\n%s", name, p.Notes())
		}
	})
	return p
}

func (p *Program) read(out io.Reader, news func(json.RawMessage)) {
	defer close(p.ended)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, longest)
	for lines.Scan() {
		var l line
		switch err := json.Unmarshal(lines.Bytes(), &l); {
		case err != nil:
			_, _ = fmt.Fprintf(&p.notes, "standard output: %s\n", lines.Bytes())
		case l.News != nil:
			if news != nil {
				news(l.News)
			}
		default:
			p.mu.Lock()
			answer := p.waiting[l.Number]
			delete(p.waiting, l.Number)
			p.mu.Unlock()
			if answer != nil {
				answer <- l
			}
		}
	}
	_ = p.cmd.Wait()
}

// errEnded says that a program has ended before it answered.
var errEnded = errors.New("the program has ended")

// Ask asks the program to do something, with arguments that are sent as JSON, and waits for the result. A nil result is
// dropped.
func (p *Program) Ask(ctx context.Context, what string, args, result any) error {
	b, err := json.Marshal(args)
	if err != nil {
		return fmt.Errorf("arguments of %s: %w", what, err)
	}
	answer := make(chan line, 1)
	p.mu.Lock()
	p.next++
	number := p.next
	p.waiting[number] = answer
	b, _ = json.Marshal(question{number, what, b}) // its parts were made here
	_, err = p.in.Write(append(b, '\n'))
	p.mu.Unlock()
	if err != nil {
		return fmt.Errorf("ask %s to %s: %w", p.name, what, err)
	}
	select {
	case l := <-answer:
		switch {
		case l.Error != "":
			return errors.New(l.Error)
		case result == nil:
			return nil
		}
		return json.Unmarshal(l.Result, result)
	case <-p.ended:
		return fmt.Errorf("ask %s to %s: %w", p.name, what, errEnded)
	case <-ctx.Done():
		return fmt.Errorf("ask %s to %s: %w", p.name, what, ctx.Err())
	}
}

// Pid returns the number of the process.
func (p *Program) Pid() int { return p.cmd.Process.Pid }

// Kill ends the program at once, as kill -9 does, and waits until it has ended. It returns the time just before.
func (p *Program) Kill() time.Duration {
	at := Now()
	_ = p.cmd.Process.Kill()
	<-p.ended
	_ = p.in.Close()
	return at
}

// Stop lets the program stand still, as kill -STOP does. It returns the time just before.
func (p *Program) Stop() time.Duration {
	at := Now()
	p.signal(syscall.SIGSTOP)
	return at
}

// Continue lets a program go on that stands still. It returns the time just before.
func (p *Program) Continue() time.Duration {
	at := Now()
	p.signal(syscall.SIGCONT)
	return at
}

func (p *Program) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("signal %v to %s: %v", s, p.name, err)
	}
}

// Notes returns what the program has written to its standard error, save for a beginning that is too long ago.
func (p *Program) Notes() string { return p.notes.String() }

// notes keeps the end of what is written to it.
type notes struct {
	mu   sync.Mutex // guards text
	text []byte
}

func (n *notes) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.text = append(n.text, b...)
	if over := len(n.text) - maxNotes; over > 0 {
		n.text = append(n.text[:0], n.text[over:]...)
	}
	return len(b), nil
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Clone(string(n.text))
}
