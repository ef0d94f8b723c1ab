// Command starling is the XMPP server and everything that its operator does on the command line.
//
// It holds flags, messages and exit codes only: 0 when all went well, 1 when something failed, 2 when the command line
// or the settings are wrong. The server itself is internal/server, what is done to it internal/admin.
package main

import (
	"context"
	"io"
	"os"

	"github.com/alecthomas/kong"
)

// commands is the command line.
type commands struct {
	Serve      serveCommand      `cmd:"" help:"Run the server."`
	Quickstart quickstartCommand `cmd:"" help:"Write a commented file of settings for a domain, and say which DNS records it needs."`
	Check      checkCommand      `cmd:"" help:"Look for mistakes in the settings and around them, before a client finds them."`
	User       userCommands      `cmd:"" help:"Add, list and delete accounts, and set passwords."`
	Cluster    clusterCommands   `cmd:"" help:"Look at the cluster that the running server is in, and change it."`
	Bench      benchCommand      `cmd:"" help:"Put load on an XMPP server and measure what it costs."`
	Version    versionCommand    `cmd:"" help:"Say which version this is."`
	Doc        docCommand        `cmd:"" hidden:"" help:"Rewrite the generated pages of doc/. For those who change Starling: it reads the source."`
}

// console is where a command reads and writes.
type console struct {
	context.Context
	in  *os.File
	out io.Writer // what was asked for
	err io.Writer // log, problems and questions
}

func main() {
	c := &console{context.Background(), os.Stdin, os.Stdout, os.Stderr}
	os.Exit(run(c, os.Args[1:]))
}

// run parses the command line, runs the command and returns the exit code.
func run(c *console, args []string) int {
	if len(args) == 0 {
		args = []string{"--help"}
	}
	var line commands
	parser := kong.Must(&line,
		kong.Name("starling"),
		kong.Description("Starling is an instant-messaging server (XMPP). `starling serve` starts one, without any preparation."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.Writers(c.out, c.err),
	)
	parsed, err := parser.Parse(args)
	if err == nil {
		err = parsed.Run(c)
	}
	return report(c.err, err)
}
