package xml

// Namespaces that the XML layer itself must know. Namespaces of features live with the features.
const (
	NSClient    = "jabber:client"                        // RFC 6120 §4.8.3: stanzas between a client and its server
	NSServer    = "jabber:server"                        // RFC 6120 §4.8.3: stanzas between two servers
	NSComponent = "jabber:component:accept"              // XEP-0114 §3: stanzas between a component and its server
	NSStream    = "http://etherx.jabber.org/streams"     // RFC 6120 §4.8.1: stream headers, features and errors
	NSXML       = "http://www.w3.org/XML/1998/namespace" // always bound to the prefix xml
)

// nsXMLNS is bound to the prefix xmlns and may be bound to nothing else.
const nsXMLNS = "http://www.w3.org/2000/xmlns/"

// isContent tells whether space is a content namespace (RFC 6120 §4.8.2). Elements in one are re-scoped
// when a stanza passes from one kind of stream to another, by changing only the stanza's own declaration.
func isContent(space string) bool {
	return space == NSClient || space == NSServer || space == NSComponent
}
