package roster

import (
	"slices"
	"testing"

	"github.com/starling-im/starling/internal/xmpp/jid"
)

// TestChanges is what a client is told that got its list while the list was being changed.
func TestChanges(t *testing.T) {
	list := func(items ...Item) *List {
		l := &List{index: map[jid.JID]int{}}
		for _, i := range items {
			l.index[i.Contact] = len(l.Items)
			l.Items = append(l.Items, i)
		}
		return l
	}
	item := func(name string, change func(*Item)) Item {
		i := Item{Contact: jid.MustParse(name + "@a.test"), Listed: true, Name: name}
		if change != nil {
			change(&i)
		}
		return i
	}
	was := list(item("same", nil), item("renamed", nil), item("gone", nil),
		item("request", func(i *Item) { i.Listed, i.Request = false, "<presence/>" }))
	now := list(item("same", nil), item("renamed", func(i *Item) { i.Name = "other" }), item("new", nil),
		item("stranger", func(i *Item) { i.Listed, i.Request = false, "<presence/>" }))
	var got []string
	for _, j := range was.changes(now) {
		got = append(got, j.Local())
	}
	if want := []string{"renamed", "new", "gone"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
