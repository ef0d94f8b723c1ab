// Package rsm asks for a part of a long list of results, and says which part was given (XEP-0059).
package rsm

import (
	"errors"
	"strconv"

	"github.com/starling-im/starling/internal/xmpp/xml"
)

// NS is the namespace of both the request and the answer.
const NS = "http://jabber.org/protocol/rsm"

// ErrInvalid: a <set/> that makes no sense, such as a maximum that is no number.
var ErrInvalid = errors.New("not a request for a page of XEP-0059")

// Request is the page that a client wants. The zero value asks for the first page, of a length that the server chooses.
type Request struct {
	Max    int    // items at most; -1 when the client leaves it open
	After  string // id of the item before the page (XEP-0059 §2.2)
	Before string // id of the item after the page (XEP-0059 §2.3)
	Last   bool   // an empty <before/>: the last page (XEP-0059 §2.5)
	Index  int    // place of the page's first item (XEP-0059 §2.6); -1 when the client does not give one
}

// Backward tells whether the page ends where the request points to, and does not begin there.
func (r *Request) Backward() bool { return r.Last || r.Before != "" }

// Find reads the <set/> that is a child of e, which may be nil. Without one, nothing is limited.
func Find(e *xml.Element) (Request, error) {
	r := Request{Max: -1, Index: -1}
	set := e.Child(NS, "set")
	if set == nil {
		return r, nil
	}
	var err error
	if r.Max, err = number(set, "max"); err != nil {
		return r, err
	}
	if r.Index, err = number(set, "index"); err != nil {
		return r, err
	}
	r.After = set.Child(NS, "after").Text()
	if before := set.Child(NS, "before"); before != nil {
		r.Before = before.Text()
		r.Last = r.Before == ""
	}
	return r, nil
}

// number reads a child that counts something, -1 when it is not there.
func number(set *xml.Element, name string) (int, error) {
	c := set.Child(NS, name)
	if c == nil {
		return -1, nil
	}
	n, err := strconv.ParseUint(c.Text(), 10, 31)
	if err != nil {
		return -1, ErrInvalid
	}
	return int(n), nil
}

// Element is the request as a client sends it.
func (r *Request) Element() xml.Element {
	set := xml.New(NS, "set")
	add := func(name, text string) { set = set.With(xml.New(NS, name).WithText(text)) }
	if r.Max >= 0 {
		add("max", strconv.Itoa(r.Max))
	}
	if r.Index >= 0 {
		add("index", strconv.Itoa(r.Index))
	}
	if r.After != "" {
		add("after", r.After)
	}
	if r.Backward() {
		add("before", r.Before)
	}
	return set
}

// Page says which part of the results was given.
type Page struct {
	First, Last string // ids of the first and the last item; empty when the page is
	Index       int    // place of the first among all results, which may be approximate; -1: not known
	Count       int    // of all results, which may be approximate; -1: not known
}

// Element is the answer: XEP-0059 §2.2.
func (p *Page) Element() xml.Element {
	set := xml.New(NS, "set")
	if p.First != "" {
		first := xml.New(NS, "first").WithText(p.First)
		if p.Index >= 0 {
			first = first.WithAttr("index", strconv.Itoa(p.Index))
		}
		set = set.With(first, xml.New(NS, "last").WithText(p.Last))
	}
	if p.Count >= 0 {
		set = set.With(xml.New(NS, "count").WithText(strconv.Itoa(p.Count)))
	}
	return set
}
