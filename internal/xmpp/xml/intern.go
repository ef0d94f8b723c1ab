package xml

// known holds the namespaces that traffic is made of. One string each is shared by everything that was read: no
// allocation for them, and comparisons that mostly end at the pointer.
var known = set(
	NSClient, NSServer, NSComponent, NSStream, NSXML,
	"jabber:iq:auth", "jabber:iq:last", "jabber:iq:oob", "jabber:iq:private", "jabber:iq:register",
	"jabber:iq:roster", "jabber:iq:rpc", "jabber:iq:search", "jabber:iq:time", "jabber:iq:version",
	"jabber:server:dialback", "jabber:x:conference", "jabber:x:data", "jabber:x:delay", "jabber:x:encrypted",
	"jabber:x:event", "jabber:x:oob", "jabber:x:signed",
	"vcard-temp", "vcard-temp:x:update", "storage:bookmarks", "storage:rosternotes",
	"eu.siacs.conversations.axolotl", "eu.siacs.conversations.axolotl.devicelist",
	"http://etherx.jabber.org/streams", "http://jabber.org/features/iq-register",
	"http://jabber.org/protocol/activity", "http://jabber.org/protocol/address",
	"http://jabber.org/protocol/bytestreams", "http://jabber.org/protocol/caps",
	"http://jabber.org/protocol/chatstates", "http://jabber.org/protocol/commands",
	"http://jabber.org/protocol/disco#info", "http://jabber.org/protocol/disco#items",
	"http://jabber.org/protocol/geoloc", "http://jabber.org/protocol/ibb",
	"http://jabber.org/protocol/mood", "http://jabber.org/protocol/muc",
	"http://jabber.org/protocol/muc#admin", "http://jabber.org/protocol/muc#owner",
	"http://jabber.org/protocol/muc#user", "http://jabber.org/protocol/nick",
	"http://jabber.org/protocol/pubsub", "http://jabber.org/protocol/pubsub#errors",
	"http://jabber.org/protocol/pubsub#event", "http://jabber.org/protocol/pubsub#owner",
	"http://jabber.org/protocol/rsm", "http://jabber.org/protocol/shim",
	"http://jabber.org/protocol/tune", "http://jabber.org/protocol/xhtml-im",
	"http://www.w3.org/1999/xhtml", "http://www.w3.org/2005/Atom",
	"urn:ietf:params:xml:ns:vcard-4.0", "urn:ietf:params:xml:ns:xmpp-bind",
	"urn:ietf:params:xml:ns:xmpp-framing", "urn:ietf:params:xml:ns:xmpp-sasl",
	"urn:ietf:params:xml:ns:xmpp-session", "urn:ietf:params:xml:ns:xmpp-stanzas",
	"urn:ietf:params:xml:ns:xmpp-streams", "urn:ietf:params:xml:ns:xmpp-tls",
	"urn:xmpp:attention:0", "urn:xmpp:avatar:data", "urn:xmpp:avatar:metadata", "urn:xmpp:bidi",
	"urn:xmpp:bind:0", "urn:xmpp:blocking", "urn:xmpp:bob", "urn:xmpp:bookmarks:1", "urn:xmpp:caps",
	"urn:xmpp:carbons:2", "urn:xmpp:chat-markers:0", "urn:xmpp:csi:0", "urn:xmpp:delay",
	"urn:xmpp:eme:0", "urn:xmpp:extdisco:2", "urn:xmpp:fallback:0", "urn:xmpp:fast:0",
	"urn:xmpp:forward:0", "urn:xmpp:hashes:2", "urn:xmpp:hats:0", "urn:xmpp:hints",
	"urn:xmpp:http:upload:0", "urn:xmpp:idle:1", "urn:xmpp:jingle-message:0", "urn:xmpp:jingle:1",
	"urn:xmpp:mam:2", "urn:xmpp:markup:0", "urn:xmpp:mds:displayed:0", "urn:xmpp:message-correct:0",
	"urn:xmpp:message-moderate:1", "urn:xmpp:message-retract:1", "urn:xmpp:occupant-id:0",
	"urn:xmpp:omemo:2", "urn:xmpp:ping", "urn:xmpp:push:0", "urn:xmpp:reactions:0",
	"urn:xmpp:receipts", "urn:xmpp:reference:0", "urn:xmpp:reply:0", "urn:xmpp:reporting:1",
	"urn:xmpp:sasl:2", "urn:xmpp:sasl-cb:0", "urn:xmpp:sce:1", "urn:xmpp:sfs:0", "urn:xmpp:sid:0",
	"urn:xmpp:sm:3", "urn:xmpp:spoiler:0", "urn:xmpp:sticker:0", "urn:xmpp:styling:0",
	"urn:xmpp:thumbs:1", "urn:xmpp:time", "urn:xmpp:tm:1",
)

func set(names ...string) map[string]string {
	m := make(map[string]string, len(names))
	for _, name := range names {
		m[name] = name
	}
	return m
}

// share returns the shared string that equals s, or s itself.
func share(s string) string {
	if k, ok := known[s]; ok {
		return k
	}
	return s
}

// Bounds of interner.
const (
	internEntries = 64
	internBytes   = 128
)

// interner shares the strings of namespaces that are not known here. It is bounded, and forgets all at once.
type interner map[string]string

func (in *interner) intern(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if s, ok := known[string(b)]; ok {
		return s
	}
	if s, ok := (*in)[string(b)]; ok {
		return s
	}
	s := string(b)
	if len(s) <= internBytes {
		if *in == nil {
			*in = make(interner)
		} else if len(*in) >= internEntries {
			clear(*in)
		}
		(*in)[s] = s
	}
	return s
}
