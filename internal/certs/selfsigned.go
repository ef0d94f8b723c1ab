package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/net/idna"
)

const (
	// Choice: 800 days. Clients of Apple refuse certificates of servers that are valid for more than 825, self-signed
	// or not. A renewed certificate keeps its key, so pins of the key stay good.
	selfSignedValidity = 800 * 24 * time.Hour
	renewBefore        = 30 * 24 * time.Hour

	selfSignedCert = "self-signed.crt"
	selfSignedKey  = "self-signed.key"
)

// selfSigned returns the self-signed certificate in Dir. It makes one if there is none yet, or if it does not cover the
// wanted domains or is about to expire.
func (s *Store) selfSigned(wanted []string) (pair, error) {
	p := pair{selfSigned: true, Files: Files{
		Cert: filepath.Join(s.options.Dir, selfSignedCert),
		Key:  filepath.Join(s.options.Dir, selfSignedKey),
	}}
	loaded, err := load(p)
	if err == nil && !s.endsSoon(loaded) && len(newSnapshot([]pair{loaded}, nil).uncovered(wanted)) == 0 {
		return loaded, nil
	}
	if err := s.makeSelfSigned(p.Files); err != nil {
		return pair{}, err
	}
	if p, err = load(p); err != nil {
		return pair{}, err
	}
	s.options.Log.Info("self-signed certificate made", slog.String("file", p.Cert),
		slog.String("sha256", Fingerprint(p.cert.Leaf)), slog.Time("expires", p.cert.Leaf.NotAfter))
	return p, nil
}

// renew makes a new self-signed certificate if the one in use ends soon. The next refresh takes it over.
func (s *Store) renew() error {
	for _, p := range s.current.Load().pairs {
		if p.selfSigned && s.endsSoon(p) {
			return s.makeSelfSigned(p.Files)
		}
	}
	return nil
}

func (s *Store) endsSoon(p pair) bool {
	return p.cert.Leaf.NotAfter.Sub(s.options.Clock()) < renewBefore
}

// makeSelfSigned writes a certificate for all domains, the name of this host and loopback.
func (s *Store) makeSelfSigned(f Files) error {
	if err := os.MkdirAll(s.options.Dir, 0o700); err != nil {
		return err
	}
	key, err := existingKey(f.Key)
	if err != nil {
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return err
		}
	}
	template := s.template()
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	keyBytes, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	// The key first: a crash in between leaves a pair that does not match, which is made anew.
	if err := writeFile(f.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyBytes})); err != nil {
		return err
	}
	return writeFile(f.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
}

// existingKey reads the key of an earlier self-signed certificate.
func existingKey(file string) (*ecdsa.PrivateKey, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s is not PEM", file)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s is not an ECDSA key", file)
	}
	return key, nil
}

// template returns what the self-signed certificate says.
func (s *Store) template() *x509.Certificate {
	now := s.options.Clock()
	t := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"Starling self-signed"}},
		NotBefore:             now.Add(-time.Hour), // for clients whose clock is behind
		NotAfter:              now.Add(selfSignedValidity),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true, // it is no authority: a stolen key signs nothing else
		// Other servers, to which this one connects, see it as a client's.
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback},
	}
	names := s.options.Domains
	if host, err := os.Hostname(); err == nil {
		if _, err := idna.Lookup.ToASCII(host); err == nil { // else it is no name that a client could ask for
			names = append(slices.Clone(names), host)
		}
	}
	for _, d := range names {
		name := hostName(d)
		if addr, err := netip.ParseAddr(name); err == nil {
			if ip := net.IP(addr.AsSlice()); !slices.ContainsFunc(t.IPAddresses, ip.Equal) {
				t.IPAddresses = append(t.IPAddresses, ip)
			}
			continue
		}
		if !slices.Contains(t.DNSNames, name) {
			t.DNSNames = append(t.DNSNames, name)
		}
	}
	return t
}

// writeFile replaces a file in one step, so that a reader or a crash never sees half of it.
func writeFile(name string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone already if all went well
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	return err
}
