package xml

import (
	"slices"
	"strings"
)

// Stream is what must be remembered of one direction of a stream between its items: whether the header was
// read, and the namespaces that it declared. It is small, because every idle session holds one; the zero
// value expects a stream header.
type Stream struct {
	head  *header // nil before the header
	phase phase
}

type phase uint8

const (
	fresh  phase = iota // nothing read: an XML declaration may come
	prolog              // only the header may come
	open                // first-level elements or the footer may come
	ending              // the header was an empty element: its end is still to be reported
	closed              // only white space may come
)

// header is what a stream header put into force. It is never changed, so that streams can share it.
type header struct {
	name  string // qualified, as the footer must repeat it
	space string // default namespace
	binds []binding
}

// binding is one declared namespace prefix.
type binding struct{ prefix, space string }

// commonHeaders are shared by the streams that begin in the usual ways.
var commonHeaders = []*header{
	{"stream:stream", NSClient, []binding{{"stream", NSStream}}},
	{"stream:stream", NSServer, []binding{{"stream", NSStream}, {"db", "jabber:server:dialback"}}},
	{"stream:stream", NSServer, []binding{{"stream", NSStream}}},
	{"stream:stream", NSComponent, []binding{{"stream", NSStream}}},
	{"stream", NSStream, nil},
	{"", NSClient, nil}, // Open
	{"", NSServer, nil},
	{"", "", nil},
}

// newHeader returns what the header it puts into force; space is the default namespace inside.
func newHeader(it *Item, space string) *header {
	for _, h := range commonHeaders {
		if h.says(it, space) {
			return h
		}
	}
	h := &header{name: string(it.Local), space: space}
	if len(it.Prefix) > 0 {
		h.name = string(it.Prefix) + ":" + h.name
	}
	for _, d := range it.Decls {
		h.binds = append(h.binds, binding{string(d.Prefix), d.Space})
	}
	return h
}

// says tells whether h is what newHeader is to return.
func (h *header) says(it *Item, space string) bool {
	prefix, local, ok := strings.Cut(h.name, ":")
	if !ok {
		prefix, local = "", h.name
	}
	if string(it.Prefix) != prefix || string(it.Local) != local || h.space != space || len(h.binds) != len(it.Decls) {
		return false
	}
	for i := range it.Decls {
		d := &it.Decls[i]
		if !slices.ContainsFunc(h.binds, func(b binding) bool { return b.space == d.Space && b.prefix == string(d.Prefix) }) {
			return false
		}
	}
	return true
}

// Reset makes st expect a new stream header, as after STARTTLS and SASL (RFC 6120 §4.3.3).
func (st *Stream) Reset() { *st = Stream{} }

// Open makes st expect first-level elements at once, with space as the default namespace and no prefixes, for
// transports that frame each element apart (RFC 7395 §3.3.3).
func (st *Stream) Open(space string) {
	*st = Stream{head: newHeader(new(Item), space), phase: open}
}

// Space returns the default namespace that the header declared: the content namespace, unless the stream uses
// none (RFC 6120 §4.8.2). It is empty before the header.
func (st *Stream) Space() string {
	if st.head == nil {
		return ""
	}
	return st.head.space
}

// Declares tells whether the header bound a prefix to space (elements of XEP-0220 §2 need one).
func (st *Stream) Declares(space string) bool {
	return st.head != nil && slices.ContainsFunc(st.head.binds, func(b binding) bool { return b.space == space })
}
