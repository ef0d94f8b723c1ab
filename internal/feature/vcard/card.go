package vcard

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// maxField is how much of a name can be found and is shown in a search, in bytes.
const maxField = 255

// Person is what a search is about, and what it finds.
type Person struct {
	Owner                          jid.JID // bare; zero in a question
	Given, Family, Nickname, Email string
}

// fields lists the texts in the order of the columns.
func (p *Person) fields() [4]string { return [4]string{p.Given, p.Family, p.Nickname, p.Email} }

// photoHash is the SHA-1 of the picture in a card, in lower case (XEP-0153 §3.1); empty
// when there is none. Choice: what is not base64 is no picture, and the card is kept all the same.
func photoHash(card *xml.Element) string {
	text := card.Child(NS, "PHOTO").Child(NS, "BINVAL").Text()
	text = strings.Map(func(r rune) rune {
		if strings.ContainsRune(" \t\r\n", r) { // XEP-0153 §4.6 rule 5
			return -1
		}
		return r
	}, text)
	image, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(image) == 0 {
		return ""
	}
	sum := sha1.Sum(image)
	return hex.EncodeToString(sum[:])
}

// person reads from a card by what its owner can be found. listed is false when the
// owner does not want to be found, or has told nothing to be found by.
//
// Choice: who marks the card as private or confidential, by its CLASS (XEP-0054 §9),
// is not listed.
func person(owner jid.JID, card *xml.Element) (p Person, listed bool) {
	class := card.Child(NS, "CLASS")
	if class.Child(NS, "PRIVATE") != nil || class.Child(NS, "CONFIDENTIAL") != nil {
		return Person{}, false
	}
	text := func(e *xml.Element) string { return clip(strings.Join(strings.Fields(e.Text()), " ")) }
	name := card.Child(NS, "N")
	p = Person{
		Owner: owner, Given: text(name.Child(NS, "GIVEN")), Family: text(name.Child(NS, "FAMILY")),
		Nickname: text(card.Child(NS, "NICKNAME")), Email: text(card.Child(NS, "EMAIL").Child(NS, "USERID")),
	}
	if p.Given == "" && p.Family == "" {
		p.Given = text(card.Child(NS, "FN"))
	}
	return p, p.fields() != [4]string{}
}

// clip shortens a text to maxField at the end of a character.
func clip(s string) string {
	if len(s) <= maxField {
		return s
	}
	n := maxField
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// key is a text as it is compared: without regard to case or width.
func key(s string) []byte {
	return []byte(norm.NFKC.String(strings.ToLower(norm.NFKC.String(s))))
}
