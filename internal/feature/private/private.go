// Package private keeps data of clients, any XML, for the user alone (XEP-0049).
package private

import (
	"context"
	"embed"
	"errors"
	"fmt"

	"github.com/starling-im/starling/internal/config"
	"github.com/starling-im/starling/internal/hook"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// NS is the namespace of requests.
const NS = "jabber:iq:private"

// maxName bounds the name and namespace of an element, in bytes: they are part of a key.
const maxName = 512

//go:embed schema
var schema embed.FS

// Module is the feature's declaration.
var Module = module.Def[Config]{
	Name:     "private",
	Doc:      "Keeps private data for clients, such as bookmarks of older ones.",
	Specs:    []module.Spec{{XEP: 49, Version: "1.2"}},
	Disco:    module.Disco{module.Server: {NS}, module.Account: {NS}},
	Defaults: Config{MaxItems: 100, MaxBytes: 128 << 10},
	Schema:   schema,
	Start:    start,
}

// Config is the feature's configuration.
type Config struct {
	MaxItems int         `toml:"max_items" min:"1" doc:"Most elements that are kept for a user."`
	MaxBytes config.Size `toml:"max_bytes" min:"1 KiB" doc:"Longest of these elements."`
}

type private struct {
	*module.Host
	cfg Config
}

func start(h *module.Host, cfg Config) error {
	p := &private{h, cfg}
	h.IQ(module.Account, stanza.Get, NS, "query", p.get)
	h.IQ(module.Account, stanza.Set, NS, "query", p.set)
	h.Hooks.Deleted.Add(h.Name, hook.Record, p.deleted)
	return nil
}

// check refuses what belongs to others: XEP-0049 §2.3.
func (p *private) check(iq *stanza.Stanza) (owner jid.JID, err error) {
	owner = iq.From.Bare()
	if !iq.To.IsZero() && iq.To != owner {
		return owner, stanza.Err(stanza.Forbidden, "only the owner may see and change private data")
	}
	if s := p.Sessions.Find(iq.From); s != nil && s.Anonymous {
		return owner, stanza.Err(stanza.NotAllowed, "a guest has no storage")
	}
	return owner, nil
}

// get answers with the element of the same name, or that one without content.
func (p *private) get(ctx context.Context, iq *stanza.Stanza) (xml.Element, error) {
	owner, err := p.check(iq)
	if err != nil {
		return xml.None, err
	}
	q := iq.Payload()
	ask := q.First()
	switch {
	case ask == nil || ask.Space == NS:
		// XEP-0049 §2.3 calls it bad-format, which RFC 6120 §8.3.3 does not know.
		return xml.None, stanza.Err(stanza.BadRequest, "which element?")
	case len(elements(&q)) > 1: // XEP-0049 §2.3
		return xml.None, stanza.Err(stanza.BadRequest, "only one element at a time")
	}
	var content string
	err = p.DB.Read(ctx, func(tx *store.Tx) error {
		return tx.Row(`SELECT content FROM private WHERE owner = $1 AND space = $2 AND name = $3`,
			owner.String(), ask.Space, ask.Local).Scan(&content)
	})
	if errors.Is(err, store.ErrNotFound) {
		return xml.New(NS, "query").With(xml.New(ask.Space, ask.Local)), nil
	}
	if err != nil {
		return xml.None, fmt.Errorf("read private data of %s: %w", owner, err)
	}
	e, err := xml.Parse([]byte(content), "")
	if err != nil {
		return xml.None, fmt.Errorf("private data {%s}%s of %s: %w", ask.Space, ask.Local, owner, err)
	}
	return xml.New(NS, "query").With(e), nil
}

// elements are the children of q.
func elements(q *xml.Element) []xml.Element {
	var all []xml.Element
	for e := range q.Elements() {
		all = append(all, *e)
	}
	return all
}

// set replaces the elements of the same names: XEP-0049 §2.1.
func (p *private) set(ctx context.Context, iq *stanza.Stanza) (xml.Element, error) {
	owner, err := p.check(iq)
	if err != nil {
		return xml.None, err
	}
	q := iq.Payload()
	all := elements(&q)
	if len(all) == 0 { // XEP-0049 §2.3
		return xml.None, stanza.Err(stanza.NotAcceptable, "there is nothing to keep")
	}
	for i := range all {
		if all[i].Space == NS || all[i].Space == "" { // XEP-0049 §2.1
			return xml.None, stanza.Err(stanza.NotAcceptable, "an element needs a namespace of its own")
		}
		for _, before := range all[:i] {
			if before.Space == all[i].Space && before.Local == all[i].Local {
				return xml.None, stanza.Err(stanza.NotAcceptable, "an element is there twice")
			}
		}
	}
	err = p.DB.Write(ctx, func(tx *store.Tx) error {
		before, err := count(tx, owner)
		if err != nil {
			return err
		}
		for i := range all {
			if err := p.keep(tx, owner, &all[i]); err != nil {
				return err
			}
		}
		after, err := count(tx, owner)
		if err == nil && after > before && after > p.cfg.MaxItems {
			err = stanza.Err(stanza.ResourceConstraint, "too many elements are kept")
		}
		return err
	})
	if err != nil {
		return xml.None, fmt.Errorf("keep private data of %s: %w", owner, err)
	}
	return xml.None, nil
}

func count(tx *store.Tx, owner jid.JID) (n int, err error) {
	err = tx.Row(`SELECT COUNT(*) FROM private WHERE owner = $1`, owner.String()).Scan(&n)
	return n, err
}

// keep stores one element. Nothing is kept of one that is empty, since that is what get
// makes up.
func (p *private) keep(tx *store.Tx, owner jid.JID, e *xml.Element) error {
	if len(e.Nodes) == 0 && len(e.Attrs) == 0 {
		_, err := tx.Exec(`DELETE FROM private WHERE owner = $1 AND space = $2 AND name = $3`, owner.String(), e.Space, e.Local)
		return err
	}
	content := e.String()
	if len(content) > int(p.cfg.MaxBytes) || len(e.Space)+len(e.Local) > maxName {
		return stanza.Err(stanza.NotAcceptable, "the element is too long")
	}
	_, err := tx.Exec(`INSERT INTO private (owner, space, name, content) VALUES ($1, $2, $3, $4)
		ON CONFLICT (owner, space, name) DO UPDATE SET content = excluded.content`, owner.String(), e.Space, e.Local, content)
	return err
}

// deleted forgets what was kept for an account.
func (p *private) deleted(ctx context.Context, e *module.AccountEvent) error {
	return p.DB.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`DELETE FROM private WHERE owner = $1`, e.Account.String())
		return err
	})
}
