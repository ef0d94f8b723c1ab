package load

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/starling-im/starling/internal/xmpp/xml"
)

// A mark makes each stanza one of a kind: ~SSSSSSSS-NNNNNNNN~ with the sender and the number of its stanza in
// hexadecimal. Nothing else in what the generator sends, or a server adds, holds the sign that it starts with.
const (
	markSign  = '~'
	digits    = 8
	markSize  = 1 + digits + 1 + digits + 1
	numberAt  = 1 + digits + 1 // within the mark
	emptyMark = "~00000000-00000000~"
)

// pattern is a stanza of one sender, complete but for its number and the words that go with it.
type pattern struct {
	bytes   []byte
	numbers []int // where the digits of the number are
	sender  uint32
	words   int // bytes of words that follow the mark, other ones in each stanza; 0: all have the same text
}

// number makes b, a copy of the pattern's bytes, the stanza of a number.
func (p *pattern) number(b []byte, n uint32) {
	for _, at := range p.numbers {
		putHex(b[at:], n)
	}
	if p.words > 0 {
		copy(b[p.text():], Words(p.sender, n, p.words))
	}
}

// text is where the text begins that follows the mark.
func (p *pattern) text() int { return p.numbers[len(p.numbers)-1] + digits + 1 }

// chatPattern makes a message of size bytes: a text, a chat state (XEP-0085) and a request for a receipt (XEP-0184), as
// common clients send them.
func chatPattern(sender uint32, to string, size int) (pattern, error) {
	head := "<message type='chat' id='" + idOf(sender) + "' to='" + string(xml.AppendAttr(nil, to)) + "'><body>"
	tail := "</body><active xmlns='http://jabber.org/protocol/chatstates'/><request xmlns='urn:xmpp:receipts'/></message>"
	return newPattern(sender, head, " Wherefore art thou, Romeo? Deny thy father &amp; refuse thy name;", tail, size)
}

// wordy has each message say something else.
func (p pattern) wordy() pattern {
	p.words = bytes.Index(p.bytes, []byte("</body>")) - p.text()
	p.number(p.bytes, 0)
	return p
}

// presencePattern makes a presence of size bytes, or as few as there can be.
func presencePattern(sender uint32, size int) (pattern, error) {
	return newPattern(sender, "<presence id='"+idOf(sender)+"'><status>", " at the ball", "</status><priority>1</priority></presence>", size)
}

// idOf is the id of the stanzas of a sender, with zeros for the number.
func idOf(sender uint32) string { return fmt.Sprintf("b%08x-%08x", sender, 0) }

// newPattern puts the mark, and as much of the filler as makes size bytes, between head and tail.
func newPattern(sender uint32, head, filler, tail string, size int) (pattern, error) {
	room := size - len(head) - markSize - len(tail)
	if room < 0 {
		return pattern{}, fmt.Errorf("a stanza of %d bytes is too short, at least %d are needed", size, size-room)
	}
	text := strings.Repeat(filler, room/len(filler)) + strings.Repeat(".", room%len(filler))
	b := []byte(head + emptyMark + text + tail)
	p := pattern{bytes: b, sender: sender}
	putHex(b[len(head)+1:], sender)
	p.numbers = []int{bytes.Index(b, []byte(idOf(sender))) + 1 + digits + 1, len(head) + numberAt}
	return p, nil
}

const hexDigits = "0123456789abcdef"

// putHex writes n as eight digits.
func putHex(b []byte, n uint32) {
	_ = b[digits-1]
	for i := digits - 1; i >= 0; i-- {
		b[i] = hexDigits[n&15]
		n >>= 4
	}
}

// readMark reads the mark that b, of at least markSize bytes, starts with.
func readMark(b []byte) (sender, number uint32, ok bool) {
	sender, ok = readHex(b[1:])
	number, valid := readHex(b[numberAt:])
	return sender, number, ok && valid && b[1+digits] == '-' && b[markSize-1] == markSign
}

func readHex(b []byte) (n uint32, ok bool) {
	for _, c := range b[:digits] {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | uint32(c-'0')
		case c >= 'a' && c <= 'f':
			n = n<<4 | uint32(c-'a'+10)
		default:
			return 0, false
		}
	}
	return n, true
}

// Marked reads the mark in a stanza of the generator: which session sent it, and its number among those of that session.
func Marked(stanza string) (sender, number uint32, ok bool) {
	_, rest, found := strings.Cut(stanza, string(rune(markSign)))
	if !found || len(rest) < markSize-1 {
		return 0, 0, false
	}
	return readMark([]byte(string(rune(markSign)) + rest[:markSize-1]))
}
