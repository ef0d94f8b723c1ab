package vcard

import (
	"context"
	"strings"

	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// stamp puts the hash of the owner's picture into available presence, whether broadcast
// or directed: XEP-0398 §4. Clients that do so themselves (XEP-0153 §4.1) may be wrong.
func (v *VCards) stamp(ctx context.Context, e *module.Passage) error {
	st := e.Stanza
	if st.Type != stanza.Available || e.Session.Anonymous {
		return nil
	}
	told := st.Child(NSUpdate, "x")
	photo := told.Child(NSUpdate, "photo")
	claim := strings.TrimSpace(photo.Text())
	if photo != nil && claim == "" { // XEP-0398 §4: the client shows no picture
		return nil
	}
	p, err := v.photos.Load(ctx, e.Session.Bare, v.readPhoto)
	switch {
	case err != nil: // no reason to refuse the presence
		v.Log.Error("hash of a picture not found out", "user", e.Session.Bare.String(), "err", err)
		return nil
	case !p.card:
		// Choice: who never had a card tells no more than the client does.
		return nil
	case photo != nil && strings.EqualFold(claim, p.hash):
		return nil
	}
	// Without a picture the element is empty (XEP-0153 §4.1 rule 3), so that contacts forget an old one.
	update := xml.New(NSUpdate, "x").With(xml.New(NSUpdate, "photo").WithText(p.hash))
	e.Stanza = st.Without(func(c stanza.Child) bool { return c.Space == NSUpdate }).With(update)
	v.injected.Inc()
	return nil
}

// photo is what has to be known of a card for presence.
type photo struct {
	card bool   // there is one
	hash string // of its picture, empty when it has none
}
