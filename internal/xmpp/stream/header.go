// Package stream holds what is common to every XML stream of XMPP (RFC 6120 §4):
// headers, stream errors, the reader that cuts a byte stream into stanzas, and
// the stream features in their order.
package stream

import (
	"crypto/rand"
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// Header is the root element that opens a stream (RFC 6120 §4.7).
type Header struct {
	From, To jid.JID // zero when absent
	ID       string
	Lang     string
	Version  Version
	Content  string // content namespace: jabber:client or jabber:server
}

// Version of XMPP, 0.9 when a header names none (RFC 6120 §4.7.5).
type Version struct{ Major, Minor int }

// V1 is the version of RFC 6120.
func V1() Version { return Version{Major: 1} }

// ParseHeader understands the header that opens a stream whose content namespace
// must be content. The error is a *Error; the header holds what was understood.
func ParseHeader(it *xml.Item, ns *xml.Stream, content string) (Header, error) {
	h := Header{Content: content, Version: Version{0, 9}}
	h.Lang, _ = it.Lang()
	var first error // what comes after it is read all the same
	for i := range it.Attrs {
		if err := h.take(&it.Attrs[i]); first == nil {
			first = err
		}
	}
	if first != nil {
		return h, first
	}
	return h, h.check(it, ns)
}

// take understands one attribute.
func (h *Header) take(a *xml.Attr) error {
	if a.Space != "" {
		return nil
	}
	var err error
	switch string(a.Local) {
	case "to":
		if h.To, err = jid.Parse(a.Value()); err != nil {
			return Err(HostUnknown, "").Because(err) // RFC 6120 §4.9.3.6
		}
	case "from":
		if h.From, err = jid.Parse(a.Value()); err != nil {
			return Err(InvalidFrom, "").Because(err) // RFC 6120 §4.9.3.9
		}
	case "version":
		if h.Version, err = parseVersion(a.Value()); err != nil {
			return Err(UnsupportedVersion, "").Because(err)
		}
	}
	return nil
}

func (h *Header) check(it *xml.Item, ns *xml.Stream) error {
	switch {
	case string(it.Local) != "stream":
		return Err(BadFormat, "the root element is not <stream/>")
	case it.Space != xml.NSStream: // RFC 6120 §4.8.1
		return Err(InvalidNamespace, "the stream's namespace is "+xml.NSStream)
	case len(it.Prefix) > 0 && string(it.Prefix) != "stream": // RFC 6120 §4.8.5
		return Err(BadNamespacePrefix, "the prefix of the stream is \"stream\"")
	case ns.Space() != h.Content && len(it.Prefix) > 0: // RFC 6120 §4.8.2
		return Err(InvalidNamespace, "the content namespace is "+h.Content)
	case h.Version.Major < 1: // RFC 6120 §4.9.3.25
		return Err(UnsupportedVersion, "version 1.0 is needed")
	}
	return nil
}

func parseVersion(s string) (Version, error) {
	major, minor, _ := strings.Cut(s, ".")
	a, err := strconv.ParseUint(major, 10, 16)
	if err != nil {
		return Version{}, err
	}
	b, err := strconv.ParseUint(minor, 10, 16)
	if err != nil {
		return Version{}, err
	}
	return Version{int(a), int(b)}, nil
}

// Append renders the header, with the XML declaration before it.
func (h *Header) Append(dst []byte) []byte {
	dst = append(dst, "<?xml version='1.0'?><stream:stream xmlns='"...)
	dst = append(dst, h.Content...)
	dst = append(dst, "' xmlns:stream='"+xml.NSStream+"'"...)
	dst = append(dst, " from='"...) // RFC 6120 §4.9.1.3: present even when empty
	dst = append(xml.AppendAttr(dst, h.From.String()), '\'')
	dst = appendAttr(dst, "to", h.To.String())
	dst = appendAttr(dst, "id", h.ID)
	dst = appendAttr(dst, "xml:lang", h.Lang)
	if h.Version.Major > 0 {
		dst = append(dst, " version='1.0'"...)
	}
	return append(dst, '>')
}

func appendAttr(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	dst = append(append(append(dst, ' '), name...), "='"...)
	return append(xml.AppendAttr(dst, value), '\'')
}

// Footer closes a stream (RFC 6120 §4.4).
const Footer = "</stream:stream>"

// NewID makes an unpredictable, non-repeating stream id of 144 random bits (RFC 6120 §4.7.3).
func NewID() string {
	b := make([]byte, 18)
	if _, err := rand.Read(b); err != nil {
		panic("stream: no randomness: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(b)
}
