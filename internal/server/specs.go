package server

import "github.com/starling-im/starling/internal/module"

// CoreSpec is a specification that the server itself implements, not a feature.
type CoreSpec struct {
	Folder string // where it is obeyed
	module.Spec
}

// CoreSpecs lists what the core implements, by folder. What features implement stands in their Def.
func CoreSpecs() []CoreSpec {
	return []CoreSpec{
		{"internal/xmpp/jid", module.Spec{RFC: 7622}}, // addresses (RFC 7622)

		// Streams and stanzas (RFC 6120), what they may cost (XEP-0205, XEP-0478), and where a stanza goes (RFC 6121 §8).
		{"internal/c2s", module.Spec{RFC: 6120, Note: "client-to-server only"}},
		{"internal/router", module.Spec{RFC: 6121, Note: "§8: server rules for processing stanzas"}},
		{"internal/c2s", module.Spec{XEP: 205, Version: "1.0.2"}},
		{"internal/c2s", module.Spec{XEP: 478, Version: "0.2.0"}},

		// The order of negotiation (XEP-0170), direct TLS (XEP-0368), and pings of silent clients (XEP-0199).
		{"internal/c2s", module.Spec{XEP: 170, Version: "1.0"}},
		{"internal/c2s", module.Spec{XEP: 368, Version: "1.1.0", Note: "clients only"}},
		{"internal/c2s", module.Spec{XEP: 199, Version: "2.0.1"}},

		// TLS and certificates: RFC 9325, RFC 6125.
		{"internal/certs", module.Spec{RFC: 9325}},
		{"internal/certs", module.Spec{RFC: 6125}},

		// Passwords: SCRAM (RFC 5802, RFC 7677), PLAIN (RFC 4616), how they are prepared (RFC 8265), and what is
		// stored of them (XEP-0438).
		{"internal/xmpp/sasl", module.Spec{RFC: 5802}},
		{"internal/xmpp/sasl", module.Spec{RFC: 7677}},
		{"internal/xmpp/sasl", module.Spec{RFC: 4616}},
		{"internal/xmpp/sasl", module.Spec{RFC: 8265}},
		{"internal/account", module.Spec{XEP: 438, Version: "0.2.0"}},

		// Channel binding (RFC 5929, RFC 9266, XEP-0440) and protection against downgrades (XEP-0474).
		{"internal/xmpp/sasl", module.Spec{RFC: 5929, Note: "tls-server-end-point"}},
		{"internal/xmpp/sasl", module.Spec{RFC: 9266}},
		{"internal/c2s", module.Spec{XEP: 440, Version: "1.0.0"}},
		{"internal/xmpp/sasl", module.Spec{XEP: 474, Version: "0.5.0"}},

		// Log-in, binding and resumption in one request (XEP-0388, XEP-0386), tokens instead of passwords (XEP-0484), and
		// keys for stronger hash functions (XEP-0480).
		{"internal/c2s", module.Spec{XEP: 388, Version: "1.0.4"}},
		{"internal/c2s", module.Spec{XEP: 386, Version: "1.1.0"}},
		{"internal/c2s", module.Spec{XEP: 484, Version: "0.2.0", Note: "not in early data of TLS"}},
		{"internal/c2s", module.Spec{XEP: 480, Version: "0.2.0", Note: "to SHA-256 and SHA-512"}},

		// Without a password: ANONYMOUS (XEP-0175) and certificates of clients (XEP-0178).
		{"internal/c2s", module.Spec{XEP: 175, Version: "1.2"}},
		{"internal/c2s", module.Spec{XEP: 178, Version: "1.2", Note: "clients only"}},
	}
}
