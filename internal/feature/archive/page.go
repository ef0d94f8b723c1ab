package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	// maxCount is up to where the messages that match a filter are counted, and maxLooked among how many.
	maxCount  = 10_000
	maxLooked = 100_000
)

// page is the answer to a query.
type page struct {
	messages     []kept // in the order of the archive
	complete     bool   // nothing follows in the direction that was asked for
	index, count int    // -1: not known
	newest       int64  // position of the last message of the archive
}

// page reads a page. What is queued, on any node, gets its place first, so that ids which clients have got are known; but not
// for a page that ends before it: what comes has later positions.
func (a *Archive) page(ctx context.Context, owner jid.JID, f *filter) (*page, error) {
	if f.goesOn() {
		if p, err := a.readPage(ctx, owner, f); err == nil && (f.page.Backward() || !p.complete) {
			return p, nil
		}
	}
	if err := a.flush(ctx, owner); err != nil {
		return nil, err
	}
	a.retract.flush(ctx)
	return a.readPage(ctx, owner, f)
}

// goesOn tells whether a page goes on from a message that the client knows.
func (f *filter) goesOn() bool { return f.page.Max != 0 && (f.page.Before != "" || f.page.After != "") }

func (a *Archive) readPage(ctx context.Context, owner jid.JID, f *filter) (p *page, err error) {
	err = a.DB.Read(ctx, func(tx *store.Tx) error {
		p = &page{index: -1, count: -1}
		r, err := a.reader(tx, owner.String())
		if err != nil {
			return err
		}
		return p.read(r, f)
	})
	var failure *stanza.Failure
	if err != nil && !errors.As(err, &failure) {
		return nil, fmt.Errorf("read the archive of %s: %w", owner, err)
	}
	return p, err
}

// read finds the bounds of the results, then the page between them. Everything is by position, so a page costs the same
// wherever in the archive it is.
func (p *page) read(r *reader, f *filter) error {
	first, last, err := r.ends()
	if err != nil {
		return err
	}
	p.newest = last
	low, high, err := f.bounds(r, first, last)
	if err != nil {
		return err
	}
	if err := f.find(r); err != nil {
		return err
	}
	if f.page.Max == 0 { // XEP-0059 §2.7
		err := p.total(r, f, low, high, first, last)
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
		position, err := r.known(i)
		if err != nil {
			return err
		}
		b.tighten(position)
	}
	if err := p.total(r, f, low, high, first, last); err != nil {
		return err
	}
	if err := p.fetch(r, f, low, high); err != nil {
		return err
	}
	if len(p.messages) > 0 && p.count >= 0 && !f.narrows() {
		p.index = int(p.messages[0].position - first)
	}
	return nil
}

// known is the position of a message that the client has named.
func (r *reader) known(i id) (int64, error) {
	run, at, err := r.locate(i)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return 0, errUnknown()
	case err != nil:
		return 0, err
	}
	return run[at].position, nil
}

// bounds are the positions between which all results are: XEP-0313 §4.1.2, §4.1.3.
func (f *filter) bounds(r *reader, first, last int64) (low, high int64, err error) {
	low, high = first, last
	if f.start != 0 {
		if low, err = r.since(first, last, f.start); err != nil {
			return 0, 0, err
		}
		low = max(first, low-slack)
	}
	if f.end != 0 {
		if high, err = r.since(first, last, f.end+1); err != nil {
			return 0, 0, err
		}
		high = min(last, high+slack)
	}
	if f.hasAfter {
		position, err := r.known(f.after)
		if err != nil {
			return 0, 0, err
		}
		low = max(low, position+1)
	}
	if f.hasBefore {
		position, err := r.known(f.before)
		if err != nil {
			return 0, 0, err
		}
		high = min(high, position-1)
	}
	return low, high, nil
}

// find finds the messages that are asked for by their ids.
func (f *filter) find(r *reader) error {
	f.positions = f.positions[:0]
	for _, i := range f.ids {
		position, err := r.known(i)
		if err != nil {
			return err
		}
		f.positions = append(f.positions, position)
	}
	slices.Sort(f.positions)
	f.positions = slices.Compact(f.positions)
	return nil
}

// results gives all results between two positions to fn, in the order of the page, until it returns false.
func (f *filter) results(r *reader, low, high int64, fn func(*kept) bool) error {
	backward := f.page.Backward()
	among := func(k *kept) bool {
		wanted := (f.start == 0 || k.stamp >= f.start) && (f.end == 0 || k.stamp <= f.end) && (f.with.IsZero() || k.with(f.with))
		return !wanted || fn(k)
	}
	switch {
	case len(f.ids) > 0:
		positions, enough := f.positions, false
		if backward {
			positions = slices.Clone(positions)
			slices.Reverse(positions)
		}
		for _, at := range positions {
			if at < low || at > high || enough {
				continue
			}
			err := r.between(at, at, backward, func(k *kept) bool {
				enough = !among(k)
				return !enough
			})
			if err != nil {
				return err
			}
		}
		return nil
	case !f.with.IsZero(): // XEP-0313 §4.1.1
		return r.of(f.with, low, high, backward, among)
	}
	return r.between(low, high, backward, among)
}

// narrows tells whether not all messages are results.
func (f *filter) narrows() bool {
	return f.start != 0 || f.end != 0 || f.hasAfter || f.hasBefore || !f.with.IsZero() || len(f.ids) > 0
}

// total counts the results. Positions have few holes, so without a filter they tell; with one, only who asks for the
// number gets it, and only if it is not too much work (XEP-0059 §2.2, §2.7).
func (p *page) total(r *reader, f *filter, low, high, first, last int64) error {
	switch {
	case !f.narrows() && first == 0:
		p.count = 0
	case !f.narrows():
		p.count = int(last - first + 1)
	case f.page.Max == 0:
		n := 0
		err := f.results(r, low, high, func(*kept) bool {
			n++
			return n <= maxCount && r.looked <= maxLooked
		})
		if err != nil {
			return err
		}
		if n <= maxCount && r.looked <= maxLooked {
			p.count = n
		}
	}
	return nil
}

// fetch reads the messages between two positions.
func (p *page) fetch(r *reader, f *filter, low, high int64) error {
	size := 0
	p.complete = true
	err := f.results(r, low, high, func(k *kept) bool {
		size += len(k.raw)
		if len(p.messages) == f.max || size > maxPageBytes && len(p.messages) > 0 {
			p.complete = false
			return false
		}
		p.messages = append(p.messages, *k)
		return true
	})
	if f.page.Backward() {
		slices.Reverse(p.messages)
	}
	return err
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
