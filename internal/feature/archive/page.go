package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/datetime"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/rsm"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

const (
	// maxPageBytes bounds the texts of a page: they go into the client's queue at once. At least one message is given.
	maxPageBytes = 256 << 10
	// slack is by how many places a stamp may stand out of order: as the clocks of two nodes differ.
	slack = 64
	// maxCount is up to where the messages that match a filter are counted.
	maxCount = 10_000
)

// kept is a message of the archive.
type kept struct {
	position, stamp int64
	id              id
	raw             string
}

// page is the answer to a query.
type page struct {
	messages     []kept // in the order of the archive
	complete     bool   // nothing follows in the direction that was asked for
	index, count int    // -1: not known
	newest       int64  // position of the last message of the archive
}

// page reads a page. What is queued is committed first, so that ids which clients have got already are known.
func (a *Archive) page(ctx context.Context, owner jid.JID, f *filter) (p *page, err error) {
	if err := a.flush(ctx, owner); err != nil {
		return nil, err
	}
	a.retract.flush(ctx)
	err = a.DB.Read(ctx, func(tx *store.Tx) error {
		p = &page{index: -1, count: -1}
		return p.read(tx, owner.String(), f)
	})
	var failure *stanza.Failure
	if err != nil && !errors.As(err, &failure) {
		return nil, fmt.Errorf("read the archive of %s: %w", owner, err)
	}
	return p, err
}

// conditions are those of a SELECT from the archive.
type conditions struct {
	place string // the position, as the index has it that fits
	text  []string
	args  []any
}

// and adds a condition, whose ? is the value.
func (c *conditions) and(text string, value any) {
	c.args = append(c.args, value)
	c.text = append(c.text, strings.ReplaceAll(text, "?", "$"+strconv.Itoa(len(c.args))))
}

// where writes them.
func (c *conditions) where() string { return " WHERE " + strings.Join(c.text, " AND ") }

// read finds the bounds of the results, then the page between them. Everything is by position, so a page costs the same
// wherever in the archive it is.
func (p *page) read(tx *store.Tx, owner string, f *filter) error {
	first, last, err := ends(tx, owner)
	if err != nil {
		return err
	}
	p.newest = last
	low, high, err := f.bounds(tx, owner, first, last)
	if err != nil {
		return err
	}
	if f.page.Max == 0 { // XEP-0059 §2.7
		c, err := f.conditions(tx, owner)
		if err != nil {
			return err
		}
		c.and(c.place+" >= ?", low)
		c.and(c.place+" <= ?", high)
		err = p.total(tx, f, c, first, last)
		p.complete = p.count == 0
		return err
	}
	for _, b := range []struct {
		id      string
		tighten func(position int64)
	}{
		{f.page.After, func(position int64) { low = max(low, position+1) }},
		{f.page.Before, func(position int64) { high = min(high, position-1) }},
	} {
		if b.id == "" {
			continue
		}
		i, err := known(b.id)
		if err != nil {
			return err
		}
		position, err := locate(tx, owner, i)
		if err != nil {
			return err
		}
		b.tighten(position)
	}
	c, err := f.conditions(tx, owner)
	if err != nil {
		return err
	}
	if err := p.total(tx, f, c, first, last); err != nil {
		return err
	}
	if err := p.fetch(tx, f, c, low, high); err != nil {
		return err
	}
	if len(p.messages) > 0 && p.count >= 0 && !f.narrows() {
		p.index = int(p.messages[0].position - first)
	}
	return nil
}

// bounds are the positions between which all results are: XEP-0313 §4.1.2, §4.1.3.
func (f *filter) bounds(tx *store.Tx, owner string, first, last int64) (low, high int64, err error) {
	low, high = first, last
	if f.start != 0 {
		if low, err = since(tx, owner, first, last, f.start); err != nil {
			return 0, 0, err
		}
		low = max(first, low-slack)
	}
	if f.end != 0 {
		if high, err = since(tx, owner, first, last, f.end+1); err != nil {
			return 0, 0, err
		}
		high = min(last, high+slack)
	}
	if f.hasAfter {
		position, err := locate(tx, owner, f.after)
		if err != nil {
			return 0, 0, err
		}
		low = max(low, position+1)
	}
	if f.hasBefore {
		position, err := locate(tx, owner, f.before)
		if err != nil {
			return 0, 0, err
		}
		high = min(high, position-1)
	}
	return low, high, nil
}

// conditions are those of the results wherever they stand.
func (f *filter) conditions(tx *store.Tx, owner string) (*conditions, error) {
	c := &conditions{place: "position", text: []string{"owner = " + numberOf}, args: []any{owner}}
	if !f.with.IsZero() { // XEP-0313 §4.1.1
		c.place = "(position + 0)"
		c.and("peer = ?", peerOf(f.with))
		if f.with.IsFull() {
			c.and("resource = ?", f.with.Resource())
		}
	}
	if f.start != 0 {
		c.and("stamp >= ?", f.start)
	}
	if f.end != 0 {
		c.and("stamp <= ?", f.end)
	}
	if len(f.ids) == 0 {
		return c, nil
	}
	var all []string
	for _, i := range f.ids {
		position, err := locate(tx, owner, i)
		if err != nil {
			return nil, err
		}
		c.args = append(c.args, position)
		all = append(all, "$"+strconv.Itoa(len(c.args)))
	}
	c.text = append(c.text, "position IN ("+strings.Join(all, ", ")+")")
	return c, nil
}

// narrows tells whether not all messages are results.
func (f *filter) narrows() bool {
	return f.start != 0 || f.end != 0 || f.hasAfter || f.hasBefore || !f.with.IsZero() || len(f.ids) > 0
}

// total counts the results. Positions have few holes, so without a filter they tell; with one, only who asks for the
// number gets it, and only if it is not too much work (XEP-0059 §2.2, §2.7).
func (p *page) total(tx *store.Tx, f *filter, c *conditions, first, last int64) error {
	switch {
	case !f.narrows() && first == 0:
		p.count = 0
	case !f.narrows():
		p.count = int(last - first + 1)
	case f.page.Max == 0:
		var n int
		err := tx.Row(`SELECT COUNT(*) FROM (SELECT position FROM archive`+c.where()+` LIMIT `+strconv.Itoa(maxCount+1)+`) AS matching`, c.args...).Scan(&n)
		if err != nil {
			return err
		}
		if n <= maxCount {
			p.count = n
		}
	}
	return nil
}

// errEnough ends the reading of a page.
var errEnough = errors.New("the page is full")

// fetch reads the messages between two positions. The one at which it ends is not part of the statement: of a range with
// two ends PostgreSQL thinks that it is short, as long as it has no statistics, and sorts it.
func (p *page) fetch(tx *store.Tx, f *filter, c *conditions, low, high int64) error {
	order := " ORDER BY " + c.place
	if f.page.Backward() {
		order += " DESC"
		c.and(c.place+" <= ?", high)
	} else {
		c.and(c.place+" >= ?", low)
	}
	size := 0
	p.complete = true
	err := tx.Each(func(scan store.Scan) error {
		var k kept
		var raw []byte
		if err := scan(&k.position, &raw, &k.stamp, &k.raw); err != nil {
			return err
		}
		if k.position < low || k.position > high {
			return errEnough
		}
		size += len(k.raw)
		if len(p.messages) == f.max || size > maxPageBytes && len(p.messages) > 0 {
			p.complete = false
			return errEnough
		}
		k.id = id(raw)
		p.messages = append(p.messages, k)
		return nil
	}, `SELECT position, id, stamp, stanza FROM archive`+c.where()+order+` LIMIT `+strconv.Itoa(f.max+1), c.args...)
	if err != nil && err != errEnough {
		return err
	}
	if f.page.Backward() {
		slices.Reverse(p.messages)
	}
	return nil
}

// locate is the position of the message of an id.
func locate(tx *store.Tx, owner string, i id) (position int64, err error) {
	err = tx.Row(`SELECT position FROM archive WHERE owner = `+numberOf+` AND id = $2`, owner, i[:]).Scan(&position)
	if errors.Is(err, store.ErrNotFound) {
		return 0, errUnknown()
	}
	return position, err
}

// fin tells which page was given: XEP-0313 §4.3.
func (p *page) fin() xml.Element {
	answer := rsm.Page{Index: p.index, Count: p.count}
	if n := len(p.messages); n > 0 {
		answer.First, answer.Last = p.messages[0].id.String(), p.messages[n-1].id.String()
	}
	fin := xml.New(NS, "fin")
	if p.complete {
		fin = fin.WithAttr("complete", "true")
	}
	return fin.With(answer.Element())
}

// result is a message of the archive on its way to whoever asked: XEP-0313 §4.2. It is put together as text, since the
// message was checked when it came.
func (k *kept) result(owner, to jid.JID, queryID string) (*stanza.Stanza, error) {
	b := make([]byte, 0, len(k.raw)+512)
	attr := func(name, value string) {
		if value != "" {
			b = append(append(append(b, ' '), name...), "='"...)
			b = append(xml.AppendAttr(b, value), '\'')
		}
	}
	b = append(b, "<message"...)
	attr("from", owner.String())
	attr("to", to.String())
	b = append(b, "><result"...)
	attr("xmlns", NS)
	attr("queryid", queryID)
	attr("id", k.id.String())
	b = append(b, "><forwarded xmlns='"+nsForward+"'><delay xmlns='"+nsDelay+"' stamp='"...)
	b = append(b, datetime.Format(store.Time(k.stamp))...)
	b = append(b, "'/><message xmlns='"+xml.NSClient+"'"...)
	b = append(b, strings.TrimPrefix(k.raw, "<message")...)
	b = append(b, "</forwarded></result></message>"...)
	return stanza.Decode(string(b))
}
