package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"
)

// maxPassword bounds the line that is read from standard input; longer passwords are refused anyhow.
const maxPassword = 4096

// Password are the flags by which a command is given a password.
type Password struct {
	Password      *string `xor:"password" placeholder:"TEXT" help:"The password. Other users of this machine can see it while the command runs."`
	PasswordStdin bool    `xor:"password" help:"Read the password from standard input, one line."`
	Generate      bool    `xor:"password" help:"Make a password up and show it."`
}

// choose returns the password; "" means that one is to be made up.
func (p *Password) choose(c *console, who string) (string, error) {
	switch {
	case p.Generate:
		return "", nil
	case p.Password != nil:
		return notEmpty(*p.Password)
	case p.PasswordStdin:
		line, err := bufio.NewReader(io.LimitReader(c.in, maxPassword)).ReadString('\n')
		if err != nil && err != io.EOF {
			return "", fmt.Errorf("read the password: %w", err)
		}
		return notEmpty(strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"))
	case !term.IsTerminal(int(c.in.Fd())):
		return "", usage("there is no terminal to ask for the password: use --password-stdin or --generate")
	}
	first, err := ask(c, "Password for "+who+": ")
	if err != nil {
		return "", err
	}
	if _, err := notEmpty(first); err != nil {
		return "", err
	}
	again, err := ask(c, "Once more: ")
	if err == nil && first != again {
		err = usage("the two passwords differ")
	}
	return first, err
}

func notEmpty(password string) (string, error) {
	if password == "" {
		return "", usage("the password is empty")
	}
	return password, nil
}

// show tells a password that was made up.
func (p *Password) show(c *console, password string) error {
	if !p.Generate {
		return nil
	}
	_, err := fmt.Fprintf(c.out, "password: %s\n", password)
	return err
}

// ask reads a line from the terminal without showing it.
func ask(c *console, question string) (string, error) {
	fd := int(c.in.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	// Whoever gives up with Ctrl-C wants a terminal that shows again what is typed.
	signals, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	defer close(done)
	go func() {
		select {
		case <-signals:
			_ = term.Restore(fd, state) // there is nobody left to hear of an error
			fmt.Fprintln(c.err)
			os.Exit(exitFailed)
		case <-done:
		}
	}()
	fmt.Fprint(c.err, question)
	line, err := term.ReadPassword(fd)
	fmt.Fprintln(c.err)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return string(line), nil
}
