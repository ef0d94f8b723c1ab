package certs

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
)

// DoorOptions says how one kind of listener speaks TLS.
type DoorOptions struct {
	ALPN       []string           // protocols in order of preference, such as "xmpp-client" (XEP-0368 §3); empty means none
	MinVersion uint16             // 0 means TLS 1.2 (RFC 9325 §3.1.1)
	ClientAuth tls.ClientAuthType // tls.RequestClientCert where clients or servers may use EXTERNAL
	ClientCAs  *x509.CertPool     // named to clients when a certificate is asked for
}

// Door gives connections of one kind their TLS settings. All methods may be called from any goroutine.
type Door struct {
	store   *Store
	options DoorOptions
}

// Served tells which certificate was shown on one connection.
type Served struct {
	cert atomic.Pointer[tls.Certificate]
}

// doorCert is the key of a finished tls.Config.
type doorCert struct {
	door *Door
	cert *tls.Certificate
}

// Door makes a door to the store's certificates.
func (s *Store) Door(o DoorOptions) *Door {
	if o.MinVersion < tls.VersionTLS12 {
		o.MinVersion = tls.VersionTLS12
	}
	return &Door{store: s, options: o}
}

// Config returns settings that any number of connections may share, for listeners that need not know which certificate
// was shown. An HTTP server finds its protocols in DoorOptions.ALPN: "h2" and "http/1.1".
func (d *Door) Config() *tls.Config {
	return d.config(func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		config, _ := d.choose(hello.ServerName)
		return config, nil
	})
}

// Connection returns settings for one connection, and what will tell, once the handshake is done, which certificate was
// shown on it: exactly, whatever is reloaded meanwhile. Domain is that of the stream header, for clients that send no
// SNI or one that no certificate covers; "" if it is not known. The settings live only until the client's first
// message; after it, the connection holds those that all connections with the same certificate share.
func (d *Door) Connection(domain string) (*tls.Config, *Served) {
	served := new(Served)
	return d.config(func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		config, cert := d.choose(hello.ServerName, domain)
		served.cert.Store(cert)
		return config, nil
	}), served
}

// Certificate returns the certificate that was shown, or nil before the client's first message. It is the one for the
// channel binding of RFC 5929 §4.1.
func (s *Served) Certificate() *tls.Certificate { return s.cert.Load() }

// config returns the settings that hold until the certificate is chosen.
func (d *Door) config(choose func(*tls.ClientHelloInfo) (*tls.Config, error)) *tls.Config {
	return &tls.Config{MinVersion: d.options.MinVersion, SessionTicketsDisabled: true, GetConfigForClient: choose}
}

// choose returns the settings with the certificate for the first name that one covers.
func (d *Door) choose(names ...string) (*tls.Config, *tls.Certificate) {
	n := d.store.current.Load()
	cert := n.choose(names...)
	key := doorCert{d, cert}
	if known, ok := n.configs.Load(key); ok {
		return known.(*tls.Config), cert
	}
	known, _ := n.configs.LoadOrStore(key, &tls.Config{
		Certificates: []tls.Certificate{*cert},
		MinVersion:   d.options.MinVersion,
		NextProtos:   d.options.ALPN,
		ClientAuth:   d.options.ClientAuth,
		ClientCAs:    d.options.ClientCAs,
		// Choice: no tickets, so every connection is a full handshake. A session that was begun with one domain can
		// then not go on with another, a log-in by certificate is always checked against today's authorities, and the
		// certificate for channel binding is one that was really shown. It costs one signature per connection: little with
		// ECDSA, several times as much with RSA.
		SessionTicketsDisabled: true,
		// What is flushed at once goes out as one record, not as a few small ones first.
		DynamicRecordSizingDisabled: true,
		// RFC 9325 §3.5: crypto/tls never renegotiates as a server, so that needs no setting.
	})
	return known.(*tls.Config), cert
}

// VerifyClient checks the chain of a client's certificate against authorities, for doors that only ask for one. It
// returns the client's own certificate; whose it is, the caller finds out (RFC 6120 §13.7.2.2).
func VerifyClient(state tls.ConnectionState, authorities *x509.CertPool) (*x509.Certificate, error) {
	if len(state.PeerCertificates) == 0 {
		return nil, errors.New("the client showed no certificate")
	}
	intermediates := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		intermediates.AddCert(c)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots:         authorities,
		Intermediates: intermediates,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil, fmt.Errorf("verify the client's certificate: %w", err)
	}
	return state.PeerCertificates[0], nil
}

// Fingerprint returns the SHA-256 hash of a certificate as people compare it: "AB:CD:…".
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum), " ", ":")
}
