package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/starling-im/starling/internal/config"
	"github.com/starling-im/starling/internal/server"
	"github.com/starling-im/starling/internal/store"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // something went wrong while running
	exitUsage  = 2 // the command line or the settings are wrong
)

// usage is a mistake on the command line that only the command itself can see.
type usage string

func (u usage) Error() string { return string(u) }

// errProblems ends a command that has already said what is wrong.
var errProblems = errors.New("problems were found")

// report tells the operator why a command failed and returns its exit code.
func report(w io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	if errors.Is(err, errProblems) {
		return exitFailed
	}
	if mistakes, ok := errors.AsType[*config.Error](err); ok {
		for _, p := range mistakes.Problems {
			fmt.Fprintln(w, "starling:", describe(p))
		}
		return exitUsage
	}
	parse, wrong := errors.AsType[*kong.ParseError](err)
	if wrong {
		command := "starling"
		if parse.Context != nil {
			command = strings.TrimSpace("starling " + commandOf(parse.Context))
		}
		fmt.Fprintf(w, "starling: %v\nstarling: %s --help explains\n", err, command)
		return exitUsage
	}
	if u, ok := errors.AsType[usage](err); ok {
		fmt.Fprintln(w, "starling:", u)
		return exitUsage
	}
	fmt.Fprintln(w, "starling:", err)
	if remedy := advise(err); remedy != "" {
		fmt.Fprintln(w, "starling:", remedy)
	}
	return exitFailed
}

// describe writes a problem as file:line: key: text (remedy).
func describe(p config.Problem) string {
	remedy := p.Remedy
	p.Remedy = ""
	if remedy == "" {
		return p.String()
	}
	return p.String() + " (" + remedy + ")"
}

// commandOf names the command that was being parsed: "user add".
func commandOf(c *kong.Context) string {
	var names []string
	for _, p := range c.Path {
		if p.Command != nil {
			names = append(names, p.Command.Name)
		}
	}
	return strings.Join(names, " ")
}

// advise says what an operator can do about an error; "" where nothing is known.
func advise(err error) string {
	if listen, ok := errors.AsType[*server.ListenError](err); ok {
		return adviseListen(listen)
	}
	if none, ok := errors.AsType[*notRunning](err); ok {
		return "start it with `starling serve --data " + shellQuote(none.data) + "`, or name the folder of one that runs with --data"
	}
	switch {
	case errors.Is(err, server.ErrInUse):
		return "stop that server, or give this one another folder with --data"
	case errors.Is(err, store.ErrUnavailable):
		return "is the database running, and is database.url right? `starling check` tries it"
	case errors.Is(err, fs.ErrPermission):
		return "run this as the user that owns the data folder, or name another folder with --data"
	case errors.Is(err, syscall.ENOSPC):
		return "free some space on that disk"
	}
	return ""
}

// adviseListen says how a door can be opened after all.
func adviseListen(e *server.ListenError) string {
	_, port, _ := net.SplitHostPort(e.Address)
	flag := "--" + strings.ReplaceAll(e.Key, ".", "-")
	switch {
	case errors.Is(e.Err, syscall.EADDRINUSE):
		return fmt.Sprintf("another program has port %s: stop it (`ss -ltnp 'sport = :%s'` names it), or choose another address with %s or %s in the file",
			port, port, flag, e.Key)
	case errors.Is(e.Err, fs.ErrPermission):
		return fmt.Sprintf("port %s is for privileged programs: run `setcap cap_net_bind_service=+ep` on the starling binary, "+
			"or choose a port from 1024 on with %s or %s in the file", port, flag, e.Key)
	case errors.Is(e.Err, syscall.EADDRNOTAVAIL):
		return fmt.Sprintf("this machine does not have that address: choose another with %s, as in %s=:%s for all", flag, flag, port)
	}
	return fmt.Sprintf("choose another address with %s or %s in the file", flag, e.Key)
}
