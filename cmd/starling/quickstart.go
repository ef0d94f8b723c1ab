package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/net/idna"

	"github.com/starling-im/starling/internal/config"
	"github.com/starling-im/starling/internal/server"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

// quickstartCommand writes a file of settings.
type quickstartCommand struct {
	Domain string `arg:"" help:"Domain of the addresses: what stands after the @."`
	Out    string `placeholder:"FILE" default:"starling.toml" help:"File to write."`
	Force  bool   `help:"Replace the file if it exists."`
}

// Help is the long help text.
func (*quickstartCommand) Help() string {
	return `The file has every setting, explained and commented out at its default; only the domain is set.

    starling quickstart example.org
    starling quickstart example.org --out /etc/starling.toml`
}

// Run is called by the parser.
func (q *quickstartCommand) Run(c *console) error {
	domain, err := jid.Domainpart(q.Domain)
	if err != nil {
		return usage(fmt.Sprintf("%q is not a domain: %v", q.Domain, err))
	}
	if err := q.write(config.Commented(domain, server.Sections()...)); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "%s has all settings for %s.\n", q.Out, domain)
	writeRecords(c, domain)
	flags := ""
	if q.Out != defaultFile {
		flags = " --config " + shellQuote(q.Out)
	}
	_, err = fmt.Fprintf(c.out, nextSteps, domain, q.Out, flags, flags, flags, domain)
	return err
}

// write puts the file in place. It may come to hold the database's password, so only its owner may read it.
func (q *quickstartCommand) write(text []byte) error {
	mode := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if q.Force {
		mode = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(q.Out, mode, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return usage(q.Out + " exists already: name another with --out, or replace it with --force")
	}
	if err != nil {
		return fmt.Errorf("write the settings: %w", err)
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the settings: %w", err)
	}
	return nil
}

// writeRecords shows the DNS records by which clients find the server (RFC 6120 §3.2.1, XEP-0368 §3).
func writeRecords(c *console, domain string) {
	_, notIP := netip.ParseAddr(strings.Trim(domain, "[]"))
	ascii, err := idna.Lookup.ToASCII(domain)
	if notIP == nil || err != nil || !strings.Contains(ascii, ".") {
		fmt.Fprintf(c.out, "\n%s is not a name of the DNS, so it needs no records.\n", domain)
		return
	}
	fmt.Fprintf(c.out, records, ascii)
}

const records = `
DNS records, where xmpp.%[1]s is this machine (put in its own addresses):

  xmpp.%[1]s.                IN A     203.0.113.5
  xmpp.%[1]s.                IN AAAA  2001:db8::5
  _xmpp-client._tcp.%[1]s.   IN SRV   0 5 5222 xmpp.%[1]s.   ; clients, STARTTLS
  _xmpps-client._tcp.%[1]s.  IN SRV   0 5 5223 xmpp.%[1]s.   ; clients, direct TLS

This version does not speak to other servers: make no records for _xmpp-server and _xmpps-server.
`

const nextSteps = `
Next:

  1. Get a certificate for %s and name its files in %s, under [tls].
     Until then, the server makes a self-signed one.
  2. Let clients through the firewall: ports 5222 and 5223.
  3. starling check%s
  4. starling serve%s
  5. starling user add%s name@%s
`
