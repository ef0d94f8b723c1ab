package blocking

import (
	"slices"

	"github.com/starling-im/starling/internal/xmpp/jid"
)

// List is the block list of an account. It does not change.
type List struct {
	items []jid.JID // sorted
	set   map[jid.JID]struct{}
}

// empty is the list of everybody who has blocked nobody.
var empty = &List{}

func newList(items []jid.JID) *List {
	if len(items) == 0 {
		return empty
	}
	l := &List{items: slices.Clone(items), set: make(map[jid.JID]struct{}, len(items))}
	slices.SortFunc(l.items, func(a, b jid.JID) int {
		if a.String() < b.String() {
			return -1
		}
		return 1
	})
	for _, j := range l.items {
		l.set[j] = struct{}{}
	}
	return l
}

// has tells whether the address itself is an item.
func (l *List) has(j jid.JID) bool {
	_, ok := l.set[j]
	return ok
}

// matches tells whether an address falls under an item: XEP-0191 §6. An item
// domain/resource is that one address.
func (l *List) matches(j jid.JID) bool {
	return l.has(j) || l.has(j.Bare()) || l.has(j.Host())
}

// blocks tells whether the list keeps an owner and a contact apart.
func (l *List) blocks(owner, contact jid.JID) bool {
	switch {
	case l == empty:
		return false
	case contact.Bare() == owner: // XEP-0191 §5: never between the user's own resources
		return false
	case contact == owner.Host():
		// Choice: a user who blocks the own domain blocks its users, not the server itself,
		// which answers for the account.
		return false
	}
	return l.matches(contact)
}
