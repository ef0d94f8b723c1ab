package c2s

import (
	"strings"

	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// Namespaces of what decides how urgent a stanza is.
const (
	nsCSI        = "urn:xmpp:csi:0"
	nsChatStates = "http://jabber.org/protocol/chatstates"
	nsHints      = "urn:xmpp:hints"
	nsEvent      = "http://jabber.org/protocol/pubsub#event"
)

// Indication are the settings of client state indication (XEP-0352).
type Indication struct {
	On             bool
	Stanzas        int  // that are held back for one client
	HoldPresence   bool // until the client is active again
	HoldEvents     bool // of personal eventing, likewise
	DropChatStates bool // that come alone
}

// urgency is what becomes of a stanza for a client whose user does not look.
type urgency uint8

const (
	urgent  urgency = iota // goes out at once, after all that is held
	patient                // is held, in order
	latest                 // is held, and takes the place of the sender's earlier one
	idle                   // says nothing later
)

// heldWhileLost is how many stanzas are held back for a client that is not there, at least.
const heldWhileLost = 256

// quiet holds what a client need not hear at once: while it is inactive (XEP-0352 §3.2), and while it is not there.
type quiet struct {
	inactive bool // the client said so
	held     []entry
	last     map[jid.JID]int // sender of presence: where in held
	gaps     int             // entries of held that were taken out
}

// hush begins to hold back. mu is held.
func (l *line) hush(inactive bool) {
	if l.quiet == nil {
		l.quiet = &quiet{}
	}
	l.quiet.inactive = inactive
}

// speak ends it: what was held goes out in order. mu is held.
func (l *line) speak() (first bool, err error) {
	q := l.quiet
	l.quiet = nil
	if q == nil {
		return false, nil
	}
	return l.release(q)
}

// release lets all out that is held. mu is held.
func (l *line) release(q *quiet) (first bool, err error) {
	all := q.held
	q.held, q.last, q.gaps = nil, nil, 0
	for _, e := range all {
		if e.text == "" {
			continue
		}
		f, failed := l.put(e)
		first = first || f
		if err == nil {
			err = failed
		}
	}
	l.srv.keeper.released.Add(float64(len(all)))
	return first, err
}

// hold takes a stanza for a client that is inactive or lost. mu is held.
func (l *line) hold(e entry) (first bool, err error) {
	q := l.quiet
	how, sender := l.urgency(e.text)
	switch how {
	case idle:
		l.srv.keeper.dropped.Inc()
		e.settle(true)
		return false, nil
	case latest:
		if i, ok := q.last[sender]; ok {
			q.held[i].settle(true)
			q.held[i] = entry{}
			q.gaps++
		}
		if q.last == nil {
			q.last = map[jid.JID]int{}
		}
		q.last[sender] = len(q.held)
	case urgent:
		first, err = l.release(q)
		f, failed := l.put(e)
		if err == nil {
			err = failed
		}
		return first || f, err
	}
	q.held = append(q.held, e)
	bound := l.srv.opts.Indication.Stanzas
	if l.phase == detached {
		bound = max(bound, heldWhileLost)
	}
	if len(q.held)-q.gaps >= bound {
		return l.release(q)
	}
	if q.gaps > len(q.held)/2 && q.gaps > 16 {
		q.compact()
	}
	return false, nil
}

// compact closes the gaps.
func (q *quiet) compact() {
	at := make([]int, len(q.held))
	kept := q.held[:0]
	for i, e := range q.held {
		at[i] = len(kept)
		if e.text != "" {
			kept = append(kept, e)
		}
	}
	clear(q.held[len(kept):])
	q.held, q.gaps = kept, 0
	for sender, i := range q.last {
		q.last[sender] = at[i]
	}
}

// urgency judges a stanza (XEP-0352 §3.2). Choice: everything is urgent that is not one of these: available and
// unavailable presence of others, of which the last one counts; events of personal eventing; and messages that hold a
// chat state and nothing else, which say nothing when they are over.
func (l *line) urgency(text string) (urgency, jid.JID) {
	o := &l.srv.opts.Indication
	if strings.HasPrefix(text, "<iq") {
		return urgent, jid.JID{}
	}
	st, err := stanza.Decode(text)
	if err != nil {
		return urgent, jid.JID{}
	}
	lost := l.phase == detached
	switch {
	case st.Kind == stanza.Presence:
		if (o.HoldPresence || lost) && (st.Type == stanza.Available || st.Type == stanza.Unavailable) && st.From != l.sess.JID {
			return latest, st.From
		}
	case (o.DropChatStates || lost) && onlyChatState(st):
		return idle, jid.JID{}
	case (o.HoldEvents || lost) && st.Type == stanza.Headline && st.Has(nsEvent, "event") && !st.Has(xml.NSClient, "body"):
		return patient, jid.JID{}
	}
	return urgent, jid.JID{}
}

// onlyChatState tells messages that hold a chat state (XEP-0085 §5.5) and nothing else to read.
func onlyChatState(st *stanza.Stanza) bool {
	if st.Type == stanza.Error || !st.HasSpace(nsChatStates) {
		return false
	}
	for _, c := range st.Children() {
		if c.Space != nsChatStates && c.Space != nsHints && c.Local != "thread" {
			return false
		}
	}
	return true
}

// indicate takes <active/> and <inactive/> (XEP-0352 §4.2). What <active/> lets out is on its way before anything is
// handled that the client sends after it (XEP-0352 §5.1).
func (l *line) indicate(inactive bool) {
	l.mu.Lock()
	var first bool
	var err error
	if inactive {
		l.hush(true)
	} else {
		first, err = l.speak()
	}
	l.mu.Unlock()
	if err != nil {
		l.sess.End(errTooMuch)
	}
	if first {
		l.Flush()
	}
}
