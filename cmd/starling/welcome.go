package main

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/starling-im/starling/internal/config"
	"github.com/starling-im/starling/internal/server"
)

// docs is where people read on.
const docs = "https://github.com/starling-im/starling/tree/main/doc"

// firstAdmin shows a password that is kept nowhere.
const firstAdmin = `An administrator's account was made:

  address   %s
  password  %s

Keep the password: it is shown only this once.

`

// welcome is what an operator sees when the server is ready.
type welcome struct {
	cfg    *config.Config
	server *server.Server
	flags  string // of the other commands, for the same data
}

// write shows where to connect and what to do next.
func (w *welcome) write(out io.Writer) error {
	domain := w.cfg.Domains[0]
	data, err := filepath.Abs(w.cfg.Data)
	if err != nil {
		data = w.cfg.Data
	}
	fmt.Fprintf(out, "Starling %s is ready.\n\n", version())
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "  domain\t%s\n", strings.Join(w.cfg.Domains, ", "))
	for _, door := range []struct{ name, label, format string }{
		{"c2s", "clients", "%s (STARTTLS)"},
		{"tls", "clients", "%s (direct TLS)"},
		{"https", "web", "https://%s/"},
		{"admin", "metrics", "http://%s/metrics, /healthz, /readyz"},
	} {
		for _, address := range w.server.Addresses()[door.name] {
			fmt.Fprintf(t, "  %s\t"+door.format+"\n", door.label, reachable(address, domain))
		}
	}
	for _, d := range w.cfg.Domains {
		print, selfSigned := w.server.Fingerprint(d)
		kind := ""
		if selfSigned {
			kind = "self-signed, "
		}
		fmt.Fprintf(t, "  certificate\t%s%s, SHA-256\n\t%s\n", kind, "for "+d, print)
	}
	if w.cfg.Cluster.Configured() {
		fmt.Fprintf(t, "  cluster\t%s\n", w.cluster())
	}
	fmt.Fprintf(t, "  data\t%s\n", data)
	if err := t.Flush(); err != nil {
		return err
	}
	w.warn(out)
	_, err = fmt.Fprintf(out, `
Log in with any XMPP client. More accounts:  starling user add%s name@%s
Look for mistakes in the settings:           starling check%s
Documentation:                               %s
Stop the server:                             Ctrl-C, or kill %d
`, w.flags, domain, w.flags, docs, os.Getpid())
	return err
}

// cluster says how it is with the cluster, and where other nodes connect.
func (w *welcome) cluster() string {
	s := w.server.Membership().Status()
	text := fmt.Sprintf("%s, node %s is %s", s.Cluster, s.Node, s.State)
	if address := w.server.Node().Self().Address; address != "" {
		if len(s.Members) > 1 {
			text += fmt.Sprintf(", %d members", len(s.Members))
		}
		text += ", other nodes connect to " + address
	}
	return text
}

// warn names what is convenient but not safe.
func (w *welcome) warn(out io.Writer) {
	var lines []string
	if _, selfSigned := w.server.Fingerprint(w.cfg.Domains[0]); selfSigned {
		lines = append(lines, "Clients do not trust the self-signed certificate by themselves: compare its fingerprint there.")
	}
	if w.cfg.Auth.AllowPlaintext {
		lines = append(lines, "Clients may log in without TLS: whoever listens on the network can read along.")
	}
	if s := w.server.Membership().Status(); s.Failure != nil {
		lines = append(lines, fmt.Sprintf("This node is not in its cluster: %s. To mend it, %s.", s.Failure.Reason, s.Failure.Remedy))
	}
	if w.openRegistration() {
		lines = append(lines, "Registration is open: whoever reaches this server can make an account.")
	}
	if len(lines) > 0 {
		fmt.Fprintln(out)
	}
	for _, l := range lines {
		fmt.Fprintln(out, "  ! "+l)
	}
}

// openRegistration tells whether strangers can make accounts.
func (w *welcome) openRegistration() bool {
	on := map[string]string{}
	for _, v := range w.cfg.Effective() {
		on[v.Key] = v.Text
	}
	return on["registration.enabled"] == "true" && on["registration.open"] == "true"
}

// reachable writes a listening address as one to connect to: with the domain where it means all interfaces.
func reachable(address, domain string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = ""
	}
	return net.JoinHostPort(cmp.Or(host, domain), port)
}
