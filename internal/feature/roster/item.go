package roster

import (
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// Item is one contact of an owner: what RFC 6121 defines as a state in its first appendix, and how
// the owner calls the contact.
type Item struct {
	Contact  jid.JID // bare
	Listed   bool    // false: only a request to answer, not in the roster (RFC 6121 §3.1.3)
	Name     string
	Groups   []string
	To       bool   // the owner sees the contact's presence
	From     bool   // the contact sees the owner's presence
	Ask      bool   // the owner has asked for the contact's presence: "Pending Out"
	Approved bool   // the owner lets the contact subscribe before it asks (RFC 6121 §3.4)
	Request  string // the contact's request, whole, while it waits for an answer: "Pending In"
}

// subscription is the value of the attribute (RFC 6121 §2.1.2.5).
func (i *Item) subscription() string {
	switch {
	case i.To && i.From:
		return "both"
	case i.To:
		return "to"
	case i.From:
		return "from"
	}
	return "none"
}

// element is the item as clients see it.
func (i *Item) element() xml.Element {
	if !i.Listed {
		return xml.New(NS, "item", "jid", i.Contact.String(), "subscription", "remove")
	}
	e := xml.New(NS, "item", "jid", i.Contact.String(), "name", i.Name, "subscription", i.subscription())
	if i.Ask {
		e = e.WithAttr("ask", "subscribe")
	}
	if i.Approved {
		e = e.WithAttr("approved", "true")
	}
	for _, g := range i.Groups {
		e = e.With(xml.New(NS, "group").WithText(g))
	}
	return e
}

// Outbound applies a subscription stanza that the owner sends to the contact, by
// tables 2 to 5 of RFC 6121. It reports whether the item changed, and
// whether the stanza goes on to the contact.
func (i *Item) Outbound(typ string) (changed, route bool) {
	before := *i
	switch typ {
	case stanza.Subscribe:
		if !i.To {
			i.Ask, i.Listed = true, true
		}
		route = true
	case stanza.Unsubscribe:
		i.To, i.Ask = false, false
		route = true
	case stanza.Subscribed:
		switch {
		case i.From:
		case i.Request != "":
			i.From, i.Request, i.Listed = true, "", true
			route = true
		default: // RFC 6121 §3.4.2
			i.Approved, i.Listed = true, true
		}
	case stanza.Unsubscribed:
		route = i.From || i.Request != ""
		i.From, i.Request, i.Approved = false, "", false
	}
	return !i.same(&before), route
}

// Reaction is what the server does about a subscription stanza from a contact.
type Reaction struct {
	Deliver bool   // to the owner's resources
	Reply   string // type of the presence to answer with on the owner's behalf; "" for none
}

// Inbound applies a subscription stanza from the contact, by tables 6 to 9 of
// RFC 6121. request is kept while it waits for the owner.
func (i *Item) Inbound(typ, request string) (changed bool, do Reaction) {
	before := *i
	switch typ {
	case stanza.Subscribe:
		switch {
		case i.From: // RFC 6121 §3.1.3 rule 2
			do.Reply = stanza.Subscribed
		case i.Approved: // RFC 6121 §3.4.2
			i.From = true
			do.Reply = stanza.Subscribed
		case i.Request == "":
			i.Request = request
			do.Deliver = true
		}
	case stanza.Unsubscribe:
		if i.From || i.Request != "" {
			i.From, i.Request = false, ""
			do = Reaction{Deliver: true, Reply: stanza.Unsubscribed}
		}
	case stanza.Subscribed:
		if i.Ask && !i.To {
			i.To, i.Ask = true, false
			do.Deliver = true
		}
	case stanza.Unsubscribed:
		if i.To || i.Ask {
			i.To, i.Ask = false, false
			do.Deliver = true
		}
	}
	return !i.same(&before), do
}

// same compares what subscriptions are about.
func (i *Item) same(o *Item) bool {
	return i.Listed == o.Listed && i.To == o.To && i.From == o.From && i.Ask == o.Ask &&
		i.Approved == o.Approved && i.Request == o.Request
}

// visiblySame tells whether clients would see no difference.
func (i *Item) visiblySame(o *Item) bool {
	a, b := i.element(), o.element()
	return string(a.Append(nil, NS)) == string(b.Append(nil, NS))
}

// List is a whole roster as it stood at a version.
type List struct {
	Version int64
	Items   []Item // by contact, those that are not listed included
	index   map[jid.JID]int
}

// Item is the item of a contact, the zero item but for the contact when there is none.
func (l *List) Item(contact jid.JID) Item {
	if i, ok := l.index[contact]; ok {
		return l.Items[i]
	}
	return Item{Contact: contact}
}

// changes lists the contacts that clients see otherwise in another list of the same owner.
func (l *List) changes(other *List) []jid.JID {
	var all []jid.JID
	for i := range other.Items {
		now, was := &other.Items[i], l.Item(other.Items[i].Contact)
		if !now.visiblySame(&was) {
			all = append(all, now.Contact)
		}
	}
	for i := range l.Items {
		if _, still := other.index[l.Items[i].Contact]; !still && l.Items[i].Listed {
			all = append(all, l.Items[i].Contact)
		}
	}
	return all
}
