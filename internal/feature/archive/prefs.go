package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// fallback is what is kept of exchanges with those who are on neither list: XEP-0441 §2.1.1.
type fallback string

const (
	fallbackAlways fallback = "always"
	fallbackNever  fallback = "never"
	fallbackRoster fallback = "roster"
)

func parseFallback(s string) (fallback, bool) {
	f := fallback(s)
	return f, f == fallbackAlways || f == fallbackNever || f == fallbackRoster
}

// prefs are the wishes of one user. They do not change.
type prefs struct {
	fallback      fallback
	always, never []jid.JID
}

// decide tells whether exchanges with a JID are kept; asRoster that it depends on the roster. Choice: who is on both lists
// is on the list of those who are never kept.
func (p *prefs) decide(with jid.JID) (kept, asRoster bool) {
	switch {
	case listed(p.never, with):
		return false, false
	case listed(p.always, with):
		return true, false
	}
	return p.fallback == fallbackAlways, p.fallback == fallbackRoster
}

// listed compares as XEP-0441 §2.3.1 has it: a bare JID on the list stands for all its resources.
func listed(list []jid.JID, with jid.JID) bool {
	return len(list) > 0 && (slices.Contains(list, with) || slices.Contains(list, with.Bare()))
}

// wants tells whether an owner wants a message from or to somebody kept. unsure: it cannot be found out now, so whoever
// commits the message has to ask again.
func (a *Archive) wants(ctx context.Context, owner, with jid.JID) (wanted, unsure bool) {
	wanted, err := a.decide(ctx, owner, with)
	return wanted || err != nil, err != nil
}

func (a *Archive) decide(ctx context.Context, owner, with jid.JID) (bool, error) {
	p, err := a.prefs.Load(ctx, owner, a.readPrefs)
	if err != nil {
		return false, err
	}
	kept, asRoster := p.decide(with)
	if !asRoster {
		return kept, nil
	}
	item, err := a.roster.Lookup(ctx, owner, with.Bare())
	return item.Listed || with.Bare() == owner, err
}

// getPrefs tells users what they have set: XEP-0441 §2.1.
func (a *Archive) getPrefs(ctx context.Context, iq *stanza.Stanza) (xml.Element, error) {
	owner, err := a.owner(iq)
	if err != nil {
		return xml.None, err
	}
	p, err := a.prefs.Load(ctx, owner, a.readPrefs)
	if err != nil {
		return xml.None, err
	}
	return p.element(), nil
}

// setPrefs replaces the preferences: XEP-0441 §2.1.
func (a *Archive) setPrefs(ctx context.Context, iq *stanza.Stanza) (xml.Element, error) {
	owner, err := a.owner(iq)
	if err != nil {
		return xml.None, err
	}
	ask := iq.Payload()
	p := &prefs{}
	var ok bool
	if p.fallback, ok = parseFallback(ask.Attr("default")); !ok {
		return xml.None, stanza.Err(stanza.BadRequest, "the default is always, never or roster")
	}
	if p.always, err = a.list(ask.Child(NS, "always")); err != nil {
		return xml.None, err
	}
	if p.never, err = a.list(ask.Child(NS, "never")); err != nil {
		return xml.None, err
	}
	if err := a.writePrefs(ctx, owner, p); err != nil {
		return xml.None, err
	}
	return p.element(), nil
}

// list reads the addresses of <always/> or <never/>, none when it is missing (XEP-0441 §2.1.2, §2.1.3).
func (a *Archive) list(e *xml.Element) ([]jid.JID, error) {
	var all []jid.JID
	if e == nil {
		return nil, nil
	}
	for c := range e.Elements() {
		if c.Space != NS || c.Local != "jid" {
			continue
		}
		j, err := jid.Parse(strings.TrimSpace(c.Text()))
		if err != nil {
			return nil, stanza.Err(stanza.JIDMalformed, "").Because(err)
		}
		if !slices.Contains(all, j) {
			all = append(all, j)
		}
		if len(all) > a.cfg.MaxListed {
			return nil, stanza.Err(stanza.PolicyViolation, "too many addresses")
		}
	}
	return all, nil
}

// element is what clients see: both lists are there even when they are empty.
func (p *prefs) element() xml.Element {
	list := func(name string, all []jid.JID) xml.Element {
		e := xml.New(NS, name)
		for _, j := range all {
			e = e.With(xml.New(NS, "jid").WithText(j.String()))
		}
		return e
	}
	return xml.New(NS, "prefs", "default", string(p.fallback)).With(list("always", p.always), list("never", p.never))
}

func (a *Archive) readPrefs(ctx context.Context, owner jid.JID) (p *prefs, err error) {
	err = a.DB.Read(ctx, func(tx *store.Tx) error {
		var fallback, always, never string
		err := tx.Row(`SELECT fallback, always, never FROM archive_prefs WHERE owner = $1`, owner.String()).Scan(&fallback, &always, &never)
		if errors.Is(err, store.ErrNotFound) {
			p = a.unset
			return nil
		}
		if err != nil {
			return err
		}
		p = &prefs{always: parseLines(always), never: parseLines(never)}
		p.fallback, _ = parseFallback(fallback)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read archive preferences of %s: %w", owner, err)
	}
	return p, nil
}

func (a *Archive) writePrefs(ctx context.Context, owner jid.JID, p *prefs) error {
	err := a.DB.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO archive_prefs (owner, fallback, always, never) VALUES ($1, $2, $3, $4)
			ON CONFLICT (owner) DO UPDATE SET fallback = excluded.fallback, always = excluded.always, never = excluded.never`,
			owner.String(), string(p.fallback), lines(p.always), lines(p.never))
		return err
	})
	if err != nil {
		return fmt.Errorf("write archive preferences of %s: %w", owner, err)
	}
	a.prefs.Put(owner, p)
	return nil
}

// lines writes addresses, which have no line breaks, one a line.
func lines(all []jid.JID) string {
	var b strings.Builder
	for _, j := range all {
		b.WriteString(j.String() + "\n")
	}
	return b.String()
}

// parseLines reads what lines has written.
func parseLines(s string) []jid.JID {
	var all []jid.JID
	for line := range strings.Lines(s) {
		if j, err := jid.Parse(strings.TrimSuffix(line, "\n")); err == nil {
			all = append(all, j)
		}
	}
	return all
}
