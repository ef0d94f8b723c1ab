package sasl

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/xdg-go/scram"
)

// certificate makes a self-signed certificate with the given subjectAltName, if any.
func certificate(t testing.TB, key crypto.Signer, altName []byte) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "common@example.org"},
		NotAfter:     time.Now().Add(time.Hour),
	}
	if altName != nil {
		template.ExtraExtensions = []pkix.Extension{{Id: oidSubjectAltName, Value: altName}}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func ecdsaKey(t testing.TB, curve elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestTLSExporter(t *testing.T) {
	cert := certificate(t, ecdsaKey(t, elliptic.P256()), nil)
	for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			near, far := net.Pipe()
			server := tls.Server(near, &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version})
			// Who the server is does not matter here.
			client := tls.Client(far, &tls.Config{InsecureSkipVerify: true, MaxVersion: version})
			defer near.Close()
			defer far.Close()
			result := make(chan error, 1)
			go func() { result <- server.HandshakeContext(t.Context()) }()
			if err := client.HandshakeContext(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := <-result; err != nil {
				t.Fatal(err)
			}
			ours, theirs := server.ConnectionState(), client.ConnectionState()
			a, err := TLSExporter(&ours)
			if err != nil {
				t.Fatal(err)
			}
			b, err := TLSExporter(&theirs)
			if err != nil || len(a) != 32 || !bytes.Equal(a, b) {
				t.Errorf("%x, %x, %v", a, b, err)
			}
			// The other implementation gives no context, which only in TLS 1.3 is the same as one of no bytes.
			if other, err := scram.NewTLSExporterBinding(&theirs); err != nil || bytes.Equal(other.Data, a) != (version == tls.VersionTLS13) {
				t.Errorf("another implementation has %x, %v", other.Data, err)
			}
			end := ServerEndPoint(cert.Leaf)
			if other, err := scram.NewTLSServerEndpointBinding(&theirs); err != nil || !bytes.Equal(other.Data, end) {
				t.Errorf("another implementation has %x, %v", other.Data, err)
			}
		})
	}
	for name, cs := range map[string]*tls.ConnectionState{"none": nil, "before the handshake": {}} {
		if data, err := TLSExporter(cs); err == nil {
			t.Errorf("%s: %x", name, data)
		}
	}
}

func TestServerEndPoint(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256 := certificate(t, ecdsaKey(t, elliptic.P256()), nil).Leaf
	p384 := certificate(t, ecdsaKey(t, elliptic.P384()), nil).Leaf
	p521 := certificate(t, ecdsaKey(t, elliptic.P521()), nil).Leaf
	sha1 := *p256
	sha1.SignatureAlgorithm = x509.SHA1WithRSA
	sum256, sum384, sum512 := sha256.Sum256(p256.Raw), sha512.Sum384(p384.Raw), sha512.Sum512(p521.Raw)
	for _, c := range []struct {
		name string
		cert *x509.Certificate
		want []byte
	}{
		{"sha-256", p256, sum256[:]},
		{"sha-384", p384, sum384[:]},
		{"sha-512", p521, sum512[:]},
		{"sha-1 counts as sha-256", &sha1, sum256[:]},
		{"ed25519 has no hash", certificate(t, ed, nil).Leaf, nil},
	} {
		if got := ServerEndPoint(c.cert); !bytes.Equal(got, c.want) || (got == nil) != (c.want == nil) {
			t.Errorf("%s: %x, want %x", c.name, got, c.want)
		}
	}
}

func TestBindingTypes(t *testing.T) {
	got := BindingTypes([]Binding{{Type: TLSExporterType}, {Type: TLSServerEndPointType}})
	if !slices.Equal(got, []string{"tls-exporter", "tls-server-end-point"}) {
		t.Errorf("got %q", got)
	}
}

// asn writes an element of ASN.1.
func asn(class, tag int, compound bool, content ...[]byte) []byte {
	b, err := asn1.Marshal(asn1.RawValue{Class: class, Tag: tag, IsCompound: compound, Bytes: slices.Concat(content...)})
	if err != nil {
		panic(err)
	}
	return b
}

func oid(arcs ...int) []byte {
	b, err := asn1.Marshal(asn1.ObjectIdentifier(arcs))
	if err != nil {
		panic(err)
	}
	return b
}

func otherName(id []byte, value ...[]byte) []byte {
	return asn(asn1.ClassContextSpecific, 0, true, id, asn(asn1.ClassContextSpecific, 0, true, value...))
}

func utf8String(s string) []byte {
	return asn(asn1.ClassUniversal, asn1.TagUTF8String, false, []byte(s))
}

func altName(names ...[]byte) []byte {
	return asn(asn1.ClassUniversal, asn1.TagSequence, true, names...)
}

var (
	idXMPPAddr = oid(1, 3, 6, 1, 5, 5, 7, 8, 5)
	idSRVName  = oid(1, 3, 6, 1, 5, 5, 7, 8, 7)
	dnsName    = asn(asn1.ClassContextSpecific, 2, false, []byte("example.org"))
	mailName   = asn(asn1.ClassContextSpecific, 1, false, []byte("mail@example.org"))
)

func TestXMPPAddrs(t *testing.T) {
	key := ecdsaKey(t, elliptic.P256())
	for _, c := range []struct {
		name    string
		altName []byte
		want    []string
		fails   bool
	}{
		{name: "no subjectAltName"},
		{name: "other names", altName: altName(dnsName, mailName)},
		{name: "one", altName: altName(otherName(idXMPPAddr, utf8String("juliet@example.org"))), want: []string{"juliet@example.org"}},
		{name: "several among others", want: []string{"juliet@example.org", "r\u00f6meo@example.org"},
			altName: altName(dnsName, otherName(idXMPPAddr, utf8String("juliet@example.org")), mailName,
				otherName(idSRVName, utf8String("_x.example.org")), otherName(idXMPPAddr, utf8String("r\u00f6meo@example.org")))},
		{name: "longer identifier", altName: altName(dnsName, otherName(oid(1, 3, 6, 1, 5, 5, 7, 8, 5, 1), utf8String("juliet@example.org")))},
		{name: "identifier in text", altName: altName(dnsName, otherName(idSRVName, utf8String("1.3.6.1.5.5.7.8.5;UTF8:juliet@example.org")))},
		{name: "another string type", fails: true,
			altName: altName(otherName(idXMPPAddr, asn(asn1.ClassUniversal, asn1.TagIA5String, false, []byte("juliet@example.org"))))},
		{name: "not UTF-8", altName: altName(otherName(idXMPPAddr, utf8String("\xff"))), fails: true},
		{name: "two values", altName: altName(otherName(idXMPPAddr, utf8String("a@b"), utf8String("c@d"))), fails: true},
		{name: "no value", altName: altName(otherName(idXMPPAddr)), fails: true},
		{name: "value without wrapper", fails: true,
			altName: altName(asn(asn1.ClassContextSpecific, 0, true, idXMPPAddr, utf8String("a@b")))},
		{name: "otherName without identifier", altName: altName(asn(asn1.ClassContextSpecific, 0, true)), fails: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := XMPPAddrs(certificate(t, key, c.altName).Leaf)
			if (err != nil) != c.fails || !slices.Equal(got, c.want) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	trailing := append(altName(dnsName), 0)
	if got, err := XMPPAddrs(&x509.Certificate{Extensions: []pkix.Extension{{Id: oidSubjectAltName, Value: trailing}}}); err == nil {
		t.Errorf("bytes after the names: %q", got)
	}
}

func FuzzXMPPAddrs(f *testing.F) {
	f.Add(altName(dnsName, otherName(idXMPPAddr, utf8String("juliet@example.org"))))
	f.Add(altName(otherName(idSRVName, utf8String("x"))))
	f.Fuzz(func(t *testing.T, value []byte) {
		addrs, err := XMPPAddrs(&x509.Certificate{Extensions: []pkix.Extension{{Id: oidSubjectAltName, Value: value}}})
		if err != nil && addrs != nil {
			t.Errorf("%q came with %v", addrs, err)
		}
		for _, addr := range addrs {
			if !bytes.Contains(value, otherName(idXMPPAddr, utf8String(addr))) {
				t.Errorf("%q is not in the bytes", addr)
			}
		}
	})
}
