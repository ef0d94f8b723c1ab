package load

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/starling-im/starling/internal/xmpp/xml"
)

// receiver looks at everything that a session receives. The first stanza is parsed and compared with what was sent;
// what follows the mark in it is remembered, so that of a later one that has the same bytes there only the mark is
// read. One that differs is parsed and compared again: a server may write the same content in other ways.
type receiver struct {
	own     uint32
	self    string // 'to' of what is expected; empty: whatever comes
	echoes  bool   // own stanzas come back, and do not count
	sources []source
	start   []byte   // of the start tag of what is expected
	end     []byte   // its end tag
	typ     string   // its type
	want    []string // its children, with an empty mark
	words   int      // bytes of words that follow the mark
	tail    []byte   // what follows these, nil until that is known
	faults  *faults
	sm      *management // nil: none

	seen func(sender, number uint32) // told of every stanza that is as it should be; nil: nobody
}

// source is a session that stanzas are expected from.
type source struct {
	number  uint32
	jid     string // 'from' of its stanzas; empty: whatever comes
	next    uint32 // the number of the next stanza
	missing map[uint32]struct{}
}

// expect makes the receiver expect stanzas like p.
func (r *receiver) expect(p pattern, local string) error {
	e, err := xml.Parse(p.bytes, xml.NSClient)
	if err != nil {
		return fmt.Errorf("a stanza of the generator: %w", err)
	}
	r.start, r.end, r.typ, r.words = []byte("<"+local), []byte("</"+local+">"), e.Attr("type"), p.words
	r.want = r.children(&e)
	return nil
}

// children renders the children of an element, each mark in them emptied, and the words taken out that belong to it.
func (r *receiver) children(e *xml.Element) []string {
	var all []string
	for c := range e.Elements() {
		b := c.Append(nil, xml.NSClient)
		if at := bytes.IndexByte(b, markSign); at >= 0 && len(b)-at >= markSize+r.words {
			sender, number, ok := readMark(b[at:])
			copy(b[at:], emptyMark)
			if after := at + markSize; ok && r.says(b[after:], sender, number) {
				b = slices.Delete(b, after, after+r.words)
			}
		}
		all = append(all, string(b))
	}
	return all
}

// says tells whether b begins with the words of a stanza.
func (r *receiver) says(b []byte, sender, number uint32) bool {
	return r.words == 0 || bytes.HasPrefix(b, Words(sender, number, r.words))
}

// scan looks at bytes as they came. It returns how many of them are done with, and how many stanzas from sources were
// among these; the rest has to be given again, with what follows.
func (r *receiver) scan(b []byte) (used, stanzas int) {
	for {
		rest := b[used:]
		if r.sm != nil {
			n := r.sm.take(rest)
			if n < 0 {
				return used, stanzas
			}
			if used += n; n > 0 {
				continue
			}
		}
		at := bytes.IndexByte(rest, markSign)
		if at < 0 {
			return used + r.skip(rest), stanzas
		}
		after := at + markSize + r.words
		if len(rest) < after {
			return used, stanzas
		}
		sender, number, ok := readMark(rest[at:])
		ok = ok && r.says(rest[at+markSize:], sender, number)
		switch tail := rest[after:]; {
		case ok && r.tail != nil && bytes.HasPrefix(tail, r.tail):
			used += after + len(r.tail)
		case r.tail != nil && len(tail) < len(r.tail) && bytes.HasPrefix(r.tail, tail):
			return used, stanzas // the rest will come
		default:
			end := bytes.Index(tail, r.end)
			if end < 0 {
				return used, stanzas
			}
			end += after + len(r.end)
			ok = r.compare(rest[max(bytes.LastIndex(rest[:at], r.start), 0):end], sender)
			if ok {
				r.tail = bytes.Clone(rest[after:end])
			}
			used += end
		}
		if r.sm != nil {
			r.sm.received++
		}
		if ok && r.count(sender, number) {
			stanzas++
		}
	}
}

// skip returns how much of b, in which no mark is, can be forgotten: all but what may be the start of a stanza.
func (r *receiver) skip(b []byte) int {
	if bytes.Contains(b, []byte("<stream:error")) || bytes.Contains(b, []byte("type='error'")) {
		r.faults.hint("from the server: " + string(b))
	}
	if i := bytes.LastIndex(b, r.start); i >= 0 {
		return i
	}
	return max(0, len(b)-len(r.start)+1)
}

// compare parses a stanza and tells whether it is what was sent. If not it counts it.
func (r *receiver) compare(b []byte, sender uint32) bool {
	changed := func(why string) bool {
		r.faults.note(func(f *Faults) { f.Changed++ }, why+": "+string(b))
		return false
	}
	e, err := xml.Parse(b, xml.NSClient)
	if err != nil {
		return changed(err.Error())
	}
	s := r.source(sender)
	switch {
	case sender == r.own && r.echoes:
		return true
	case sender == r.own:
		r.faults.note(func(f *Faults) { f.Bounced++ }, "came back: "+string(b))
		return false
	case s == nil:
		return changed("is for another session")
	case e.Attr("type") != r.typ:
		return changed("has another type")
	case s.jid != "" && e.Attr("from") != s.jid:
		return changed("is not from " + s.jid)
	case r.self != "" && e.Attr("to") != r.self:
		return changed("is not for " + r.self)
	}
	got := r.children(&e)
	for _, want := range r.want { // a server may add elements and put them in another order, but each that was sent must be there
		at := slices.Index(got, want)
		if at < 0 {
			return changed("lacks " + want)
		}
		got = slices.Delete(got, at, at+1)
	}
	return true
}

func (r *receiver) source(number uint32) *source {
	for i := range r.sources {
		if r.sources[i].number == number {
			return &r.sources[i]
		}
	}
	return nil
}

// count holds a stanza's number against those before it. It tells whether the stanza counts as received.
func (r *receiver) count(sender, number uint32) bool {
	s := r.source(sender)
	if s == nil {
		if sender != r.own || !r.echoes {
			r.faults.note(func(f *Faults) { f.Changed++ }, fmt.Sprintf("a stanza of session %d came to session %d", sender, r.own))
		}
		return false
	}
	switch {
	case number == s.next:
		s.next++
	case number > s.next:
		if s.missing == nil {
			s.missing = map[uint32]struct{}{}
		}
		for ; s.next < number; s.next++ {
			s.missing[s.next] = struct{}{}
		}
		s.next++
	default:
		if _, late := s.missing[number]; !late {
			r.faults.note(func(f *Faults) { f.Duplicated++ }, fmt.Sprintf("stanza %d of %s came again", number, s.jid))
			return false
		}
		delete(s.missing, number)
		r.faults.note(func(f *Faults) { f.Reordered++ }, fmt.Sprintf("stanza %d of %s came after %d", number, s.jid, s.next-1))
	}
	if r.seen != nil {
		r.seen(sender, number)
	}
	return true
}

// lost counts what a source sent and this receiver never got.
func (r *receiver) lost(s *source, sent uint32) uint64 {
	return uint64(sent-s.next) + uint64(len(s.missing))
}
