package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/starling-im/starling/internal/membership"
)

// writeStatus shows a node and its members.
func writeStatus(out io.Writer, s *membership.Status) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "node\t%s\n", s.Node)
	fmt.Fprintf(t, "state\t%s\n", s.State)
	switch {
	case !s.Configured:
		fmt.Fprint(t, "cluster\tnot configured: `starling cluster token --help` begins one\n")
	case len(s.Members) > 1:
		fmt.Fprintf(t, "cluster\t%s, %d members, %s is the senior\n", s.Cluster, len(s.Members), s.Senior)
	default:
		fmt.Fprintf(t, "cluster\t%s\n", s.Cluster)
	}
	if s.Configured {
		fmt.Fprintf(t, "decided\t%s\n", decision(s))
	}
	if s.Failure != nil {
		fmt.Fprintf(t, "reason\t%s\nremedy\t%s\n", s.Failure.Reason, s.Failure.Remedy)
	}
	if s.Trouble != "" {
		fmt.Fprintf(t, "trouble\t%s\n", s.Trouble)
	}
	clients := fmt.Sprintf("%d here, %d on all nodes", s.Sessions.Here, s.Sessions.Everywhere)
	if !s.Admits {
		clients += "; this node takes no new ones"
	}
	fmt.Fprintf(t, "sessions\t%s\n", clients)
	if err := t.Flush(); err != nil {
		return err
	}
	if len(s.Members) < 2 {
		return nil
	}
	fmt.Fprintln(out)
	return writeMembers(out, s.Members)
}

// decision says whether the node is to be a member, and who says so.
func decision(s *membership.Status) string {
	text := "it is to be alone"
	if s.Wanted {
		text = "it is to be a member"
	}
	text += " (" + string(s.DecidedBy)
	if !s.DecidedAt.IsZero() {
		text += ", " + s.DecidedAt.Local().Format(time.DateTime)
	}
	return text + ")"
}

// writeMembers lists nodes, the oldest first.
func writeMembers(out io.Writer, all []membership.Member) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NODE\tSTATE\tADDRESS\tSESSIONS\tUP\tVERSION\t")
	for _, m := range all {
		var marks []string
		if m.Self {
			marks = append(marks, "this node")
		}
		if m.Senior {
			marks = append(marks, "senior")
		}
		state := m.State
		if m.Suspected {
			state += "?"
		}
		up := ""
		if !m.Started.IsZero() {
			up = time.Since(m.Started).Round(time.Second).String()
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", m.Name, state, dash(m.Address), m.Sessions, dash(up), dash(m.Version), strings.Join(marks, ", "))
	}
	return t.Flush()
}

// writeTables lists replicated tables.
func writeTables(out io.Writer, all []membership.Table) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TABLE\tKEYS\tROWS\tOF THIS NODE\tORPHANS\tDIGEST\t")
	for _, x := range all {
		note := ""
		if x.Unknown {
			note = "not known to this version"
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%s\t%s\n", x.Name, x.Keys, x.Rows, x.Owned, x.Orphans, x.Digest, note)
	}
	return t.Flush()
}

// writeLinks lists links.
func writeLinks(out io.Writer, all []membership.Link) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(out, "There are no links: this node sees no other one.")
		return err
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MEMBER\tLINK\tUNACKNOWLEDGED\tWAITING\tROUND TRIP\tSENT\tRECEIVED\tFRAMES RESENT\t")
	for _, l := range all {
		note := ""
		if !l.Synced {
			note = "its tables are not complete here"
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\t%d\t%d\t%d\t%s\n", l.Member, l.Kind, l.Unacknowledged, l.Waiting,
			l.RoundTrip.Round(time.Microsecond), l.Sent, l.Received, l.Resent, note)
	}
	return t.Flush()
}

// writeEvents lists events, the oldest first.
func writeEvents(out io.Writer, all []membership.Event) error {
	for _, e := range all {
		if _, err := fmt.Fprintf(out, "%s  %s\n", e.Time.Local().Format(time.DateTime), e.Text); err != nil {
			return err
		}
	}
	return nil
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
