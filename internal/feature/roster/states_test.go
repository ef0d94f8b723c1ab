package roster_test

import (
	"testing"

	"github.com/starling-im/starling/internal/feature/roster"
	"github.com/starling-im/starling/internal/xmpp/stanza"
)

// The nine states of RFC 6121 §A.1.
const (
	none = iota
	noneOut
	noneIn
	noneOutIn
	to
	toIn
	from
	fromOut
	both
	states
)

// item is an item in a state.
func item(state int) roster.Item {
	i := roster.Item{Listed: true}
	i.Ask = state == noneOut || state == noneOutIn || state == fromOut
	i.To = state == to || state == toIn || state == both
	i.From = state == from || state == fromOut || state == both
	if state == noneIn || state == noneOutIn || state == toIn {
		i.Request = "<presence type='subscribe'/>"
	}
	return i
}

// stateOf is the state of an item.
func stateOf(i roster.Item) int {
	for s := range states {
		want := item(s)
		if i.Ask == want.Ask && i.To == want.To && i.From == want.From && (i.Request == "") == (want.Request == "") {
			return s
		}
	}
	return -1
}

// TestOutbound is tables 2 to 5 of RFC 6121 §A.2: the new state, and whether the stanza goes on.
func TestOutbound(t *testing.T) {
	const approve = states // a pre-approval, without another state
	for _, table := range []struct {
		typ   string
		next  [states]int
		route [states]bool
	}{
		{stanza.Subscribe, // RFC 6121 §A.2.1
			[states]int{noneOut, noneOut, noneOutIn, noneOutIn, to, toIn, fromOut, fromOut, both},
			[states]bool{true, true, true, true, true, true, true, true, true}},
		{stanza.Unsubscribe, // RFC 6121 §A.2.2
			[states]int{none, none, noneIn, noneIn, none, noneIn, from, from, from},
			[states]bool{true, true, true, true, true, true, true, true, true}},
		{stanza.Subscribed, // RFC 6121 §A.2.3
			[states]int{approve, approve, from, fromOut, approve, both, from, fromOut, both},
			[states]bool{noneIn: true, noneOutIn: true, toIn: true}},
		{stanza.Unsubscribed, // RFC 6121 §A.2.4
			[states]int{none, noneOut, none, noneOut, to, to, none, noneOut, to},
			[states]bool{noneIn: true, noneOutIn: true, toIn: true, from: true, fromOut: true, both: true}},
	} {
		for state := range states {
			i, want := item(state), table.next[state]
			approved := want == approve
			if approved {
				want = state
			}
			changed, route := i.Outbound(table.typ)
			if got := stateOf(i); got != want || i.Approved != approved {
				t.Errorf("%s in state %d: state %d, approved %v; awaited %d, %v", table.typ, state, got, i.Approved, want, approved)
			}
			if route != table.route[state] {
				t.Errorf("%s in state %d: goes on: %v", table.typ, state, route)
			}
			if changed != (want != state || approved) {
				t.Errorf("%s in state %d: changed: %v", table.typ, state, changed)
			}
		}
	}
}

// TestInbound is tables 6 to 9 of RFC 6121 §A.3: the new state, whether the owner gets the stanza, and the answer on the
// owner's behalf.
func TestInbound(t *testing.T) {
	for _, table := range []struct {
		typ     string
		next    [states]int
		deliver [states]bool
		reply   [states]string
	}{
		{stanza.Subscribe, // RFC 6121 §A.3.1
			[states]int{noneIn, noneOutIn, noneIn, noneOutIn, toIn, toIn, from, fromOut, both},
			[states]bool{none: true, noneOut: true, to: true},
			[states]string{from: stanza.Subscribed, fromOut: stanza.Subscribed, both: stanza.Subscribed}},
		{stanza.Unsubscribe, // RFC 6121 §A.3.2
			[states]int{none, noneOut, none, noneOut, to, to, none, noneOut, to},
			[states]bool{noneIn: true, noneOutIn: true, toIn: true, from: true, fromOut: true, both: true},
			[states]string{noneIn: stanza.Unsubscribed, noneOutIn: stanza.Unsubscribed, toIn: stanza.Unsubscribed,
				from: stanza.Unsubscribed, fromOut: stanza.Unsubscribed, both: stanza.Unsubscribed}},
		{stanza.Subscribed, // RFC 6121 §A.3.3
			[states]int{none, to, noneIn, toIn, to, toIn, from, both, both},
			[states]bool{noneOut: true, noneOutIn: true, fromOut: true}, [states]string{}},
		{stanza.Unsubscribed, // RFC 6121 §A.3.4
			[states]int{none, none, noneIn, noneIn, none, noneIn, from, from, from},
			[states]bool{noneOut: true, noneOutIn: true, to: true, toIn: true, fromOut: true, both: true}, [states]string{}},
	} {
		for state := range states {
			i := item(state)
			changed, do := i.Inbound(table.typ, "<presence type='subscribe' id='new'/>")
			if got := stateOf(i); got != table.next[state] {
				t.Errorf("%s in state %d: state %d, awaited %d", table.typ, state, got, table.next[state])
			}
			if do.Deliver != table.deliver[state] || do.Reply != table.reply[state] {
				t.Errorf("%s in state %d: delivered: %v, answer %q", table.typ, state, do.Deliver, do.Reply)
			}
			if changed != (table.next[state] != state) {
				t.Errorf("%s in state %d: changed: %v", table.typ, state, changed)
			}
		}
	}
}

// TestPreApproved: a request is answered at once if it was approved before (RFC 6121 §3.4.2), and a denial takes the
// approval back (RFC 6121 §3.2.2).
func TestPreApproved(t *testing.T) {
	for _, state := range []int{none, noneOut, to} {
		i := item(state)
		i.Outbound(stanza.Subscribed)
		denied := i
		if changed, route := denied.Outbound(stanza.Unsubscribed); !changed || route || denied.Approved {
			t.Errorf("state %d: denial: changed %v, goes on %v, approved %v", state, changed, route, denied.Approved)
		}
		changed, do := i.Inbound(stanza.Subscribe, "<presence type='subscribe'/>")
		if !changed || do.Deliver || do.Reply != stanza.Subscribed || !i.From || i.Request != "" {
			t.Errorf("state %d: changed %v, %+v, %+v", state, changed, do, i)
		}
	}
}
