package xml_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/starling-im/starling/internal/xmpp/xml"
)

// Stanzas as clients and servers send them, with the lengths that the targets are given for.
var (
	chatStanza = pad(432, `<message from='juliet@capulet.example/balcony-phone' to='romeo@montague.example/orchard' `+
		`id='8f2c1a64-7d1b' type='chat' xml:lang='en'><body>`, "Wherefore art thou, Romeo? ",
		`</body><active xmlns='http://jabber.org/protocol/chatstates'/><request xmlns='urn:xmpp:receipts'/>`+
			`<origin-id xmlns='urn:xmpp:sid:0' id='8f2c1a64-7d1b'/></message>`)
	cyrillicStanza = pad(432, `<message from='juliet@capulet.example/balcony-phone' to='romeo@montague.example/orchard' `+
		`id='8f2c1a64' type='chat'><body>`, "Ромео, зачем же ты Ромео? ",
		`</body><active xmlns='http://jabber.org/protocol/chatstates'/><request xmlns='urn:xmpp:receipts'/></message>`)
	presenceStanza = pad(339, `<presence from='juliet@capulet.example/balcony' xml:lang='en'><show>away</show><status>`, "at the ball ",
		`</status><priority>5</priority><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' `+
			`node='https://c.example' ver='QgayPKawpkPSDYmwT/WM94uAlu0='/>`+
			`<x xmlns='vcard-temp:x:update'><photo>01b87fcd030b72895ff8e88db57ec525450f000d</photo></x></presence>`)
	rosterStanza = roster(50)
	mamStanza    = pad(704, `<message from='juliet@capulet.example' to='juliet@capulet.example/balcony'>`+
		`<result xmlns='urn:xmpp:mam:2' queryid='f27' id='28482'><forwarded xmlns='urn:xmpp:forward:0'>`+
		`<delay xmlns='urn:xmpp:delay' stamp='2026-07-10T23:08:25Z'/><message xmlns='jabber:client' `+
		`from='romeo@montague.example/orchard' to='juliet@capulet.example' type='chat' id='8f2c1a64-7d1b'><body>`,
		"But soft, what light through yonder window breaks? ",
		`</body><active xmlns='http://jabber.org/protocol/chatstates'/>`+
			`<stanza-id xmlns='urn:xmpp:sid:0' by='juliet@capulet.example' id='28482-98726-73623'/>`+
			`</message></forwarded></result></message>`)
)

// pad puts as much of filler between head and tail as makes n bytes.
func pad(n int, head, filler, tail string) string {
	room := n - len(head) - len(tail)
	text := strings.Repeat(filler, room/len(filler)+1)[:room]
	return head + strings.ToValidUTF8(text, "?") + tail
}

func roster(items int) string {
	var b strings.Builder
	b.WriteString(`<iq to='juliet@capulet.example/balcony' type='result' id='roster-1'><query xmlns='jabber:iq:roster' ver='ver11'>`)
	for i := range items {
		fmt.Fprintf(&b, `<item jid='contact-%02d@montague.example' name='Contact %02d' subscription='both'><group>Friends</group></item>`, i, i)
	}
	b.WriteString(`</query></iq>`)
	return b.String()
}

var samples = []struct{ name, stanza string }{
	{"chat", chatStanza}, {"cyrillic", cyrillicStanza}, {"presence", presenceStanza}, {"roster50", rosterStanza}, {"mam", mamStanza},
}

// BenchmarkScan reads one complete stanza from a warm buffer.
func BenchmarkScan(b *testing.B) {
	for _, s := range samples {
		b.Run(s.name, func(b *testing.B) {
			buf := []byte(s.stanza)
			lim := xml.DefaultLimits()
			var st xml.Stream
			st.Open(xml.NSClient)
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			for b.Loop() {
				sc := xml.AcquireScanner()
				if ev, _, err := sc.Next(&st, &lim, buf); ev != xml.FirstLevel {
					b.Fatal(ev, err)
				}
				sc.Release()
			}
		})
	}
}

// BenchmarkElement builds the tree of a stanza that was read.
func BenchmarkElement(b *testing.B) {
	for _, s := range samples {
		b.Run(s.name, func(b *testing.B) {
			var st xml.Stream
			st.Open(xml.NSClient)
			sc := xml.AcquireScanner()
			if ev, _, err := sc.Next(&st, nil, []byte(s.stanza)); ev != xml.FirstLevel {
				b.Fatal(ev, err)
			}
			b.SetBytes(int64(len(s.stanza)))
			b.ReportAllocs()
			for b.Loop() {
				sc.Item().Element()
			}
		})
	}
}

// BenchmarkAppend writes a tree.
func BenchmarkAppend(b *testing.B) {
	for _, s := range samples {
		b.Run(s.name, func(b *testing.B) {
			e, err := xml.Parse([]byte(s.stanza), xml.NSClient)
			if err != nil {
				b.Fatal(err)
			}
			var buf []byte
			b.SetBytes(int64(len(s.stanza)))
			b.ReportAllocs()
			for b.Loop() {
				buf = e.Append(buf[:0], xml.NSClient)
			}
		})
	}
}
