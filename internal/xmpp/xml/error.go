package xml

// Stream error conditions that reading XML can cause (RFC 6120 §4.9.3).
const (
	NotWellFormed       = "not-well-formed"      // RFC 6120 §4.9.3.13
	RestrictedXML       = "restricted-xml"       // RFC 6120 §4.9.3.18
	BadNamespacePrefix  = "bad-namespace-prefix" // RFC 6120 §4.9.3.2
	UnsupportedEncoding = "unsupported-encoding" // RFC 6120 §4.9.3.22
	PolicyViolation     = "policy-violation"     // RFC 6120 §4.9.3.14
)

// StanzaTooBig is the application-specific condition that goes with PolicyViolation when a size limit was
// passed (XEP-0205 §4.5).
const StanzaTooBig = "stanza-too-big"

// SyntaxError says why bytes are not acceptable XML. It ends the stream they came from.
type SyntaxError struct {
	Condition    string // the stream error to send, one of the constants above
	AppCondition string // StanzaTooBig, or empty
	Text         string // what was wrong, without any of the peer's bytes
}

func (e *SyntaxError) Error() string { return "xml: " + e.Condition + ": " + e.Text }
