package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

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
	return ask(c, who)
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

// ask has a person type a password twice. The terminal stops showing what is typed before the question appears.
func ask(c *console, who string) (password string, err error) {
	fd := int(c.in.Fd())
	state, err := term.MakeRaw(fd)
	if err != nil {
		return "", fmt.Errorf("prepare the terminal for a password: %w", err)
	}
	defer func() { err = errors.Join(err, term.Restore(fd, state)) }()
	screen := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{c.in, c.err}, "")
	password, err = screen.ReadPassword("Password for " + who + ": ")
	if err == nil {
		_, err = notEmpty(password)
	}
	if err != nil {
		return "", gaveUp(err)
	}
	again, err := screen.ReadPassword("Once more: ")
	if err != nil {
		return "", gaveUp(err)
	}
	if again != password {
		return "", usage("the two passwords differ")
	}
	return password, nil
}

// gaveUp names the end of what a person types: Ctrl-C or Ctrl-D.
func gaveUp(err error) error {
	if errors.Is(err, io.EOF) {
		return usage("no password was given")
	}
	return err
}
