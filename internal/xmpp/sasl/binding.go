package sasl

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Types of channel binding.
const (
	TLSExporterType       = "tls-exporter"         // RFC 9266 §2
	TLSServerEndPointType = "tls-server-end-point" // RFC 5929 §4.1
)

// Binding is what a channel can be told by: the name of the type and the data both ends compute.
type Binding struct {
	Type string
	Data []byte
}

// BindingTypes returns the names to announce for the bindings (XEP-0440 §2).
func BindingTypes(bindings []Binding) []string {
	types := make([]string, len(bindings))
	for i, b := range bindings {
		types[i] = b.Type
	}
	return types
}

// TLSExporter computes the data of tls-exporter, 32 bytes. RFC 9266 §2: it is defined only where master secrets are
// unique; over TLS 1.2 without extended master secret, and where renegotiation is enabled, there is an error.
func TLSExporter(cs *tls.ConnectionState) ([]byte, error) {
	if cs == nil || !cs.HandshakeComplete {
		return nil, errors.New("sasl: channel binding before the handshake is complete")
	}
	// RFC 9266 §2: the context is a string of no bytes, which in TLS 1.2 is not the same as no context.
	data, err := cs.ExportKeyingMaterial("EXPORTER-Channel-Binding", []byte{}, 32)
	if err != nil {
		return nil, fmt.Errorf("sasl: channel binding: %w", err)
	}
	return data, nil
}

// ServerEndPoint computes the data of tls-server-end-point from the server's certificate as it was sent: its hash,
// with the hash function of its signature, and SHA-256 instead of MD5 and SHA-1. It is nil if the binding is not
// defined for the certificate, as for Ed25519, which names no hash function (RFC 5929 §4.1).
func ServerEndPoint(cert *x509.Certificate) []byte {
	switch cert.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256, x509.DSAWithSHA256:
		sum := sha256.Sum256(cert.Raw)
		return sum[:]
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		sum := sha512.Sum384(cert.Raw)
		return sum[:]
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		sum := sha512.Sum512(cert.Raw)
		return sum[:]
	}
	return nil
}

// downgradeHash returns the value of attribute "h": base64 of the hash over the mechanisms and types of channel
// binding that were advertised (XEP-0474 §6.1). Without types, no channel binding element was advertised.
func downgradeHash(h Hash, mechanisms, types []string) string {
	s := sorted(mechanisms)
	if len(types) > 0 {
		s += "\x1f" + sorted(types)
	}
	return encode64(digest(h, []byte(s)))
}

// sorted joins the names in the order of their bytes.
func sorted(names []string) string {
	names = slices.Clone(names)
	slices.Sort(names)
	return strings.Join(names, "\x1e")
}
