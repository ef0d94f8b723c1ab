package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"golang.org/x/net/idna"

	"github.com/starling-im/starling/internal/certs"
	"github.com/starling-im/starling/internal/config"
)

// renewalTime is how long before its end a certificate is named.
const renewalTime = 14 * 24 * time.Hour

// checkCertificates looks whether the certificates can be read, are valid now, and cover the domains.
func checkCertificates(r *findings, cfg *config.Config, now time.Time) {
	var leaves []*x509.Certificate
	for i, files := range cfg.TLS.Certificates {
		key := fmt.Sprintf("tls.certificates[%d]", i)
		pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
		if err != nil {
			r.problem(key, err, "both files are PEM, belong together, and can be read by the user that the server runs as")
			continue
		}
		leaves = append(leaves, pair.Leaf)
		if err := valid(pair.Leaf, now); err != nil {
			r.problem(key, fmt.Errorf("%s %w", files.Cert, err), "get a new one")
			continue
		}
		if left := pair.Leaf.NotAfter.Sub(now); left < renewalTime {
			r.note(key, "%s ends in %d days", files.Cert, left/(24*time.Hour))
		}
		if why := untrusted(pair, now); why != nil {
			r.note(key, "clients may not trust %s: %v", files.Cert, why)
		}
		r.ok(key, "%s is valid until %s, for %q", files.Cert, pair.Leaf.NotAfter.Format(time.DateOnly), pair.Leaf.DNSNames)
	}
	for _, domain := range cfg.Domains {
		switch {
		case covered(leaves, domain):
		case len(cfg.TLS.Certificates) == 0:
			r.note("tls.certificates", "%s gets a self-signed certificate, which clients do not trust by themselves", domain)
		default:
			r.problem("tls.certificates", fmt.Errorf("none is for %s", domain), "clients would be shown a self-signed one: get one with that name")
		}
	}
	if file := cfg.TLS.ClientCA; file != "" {
		if _, err := certs.LoadPool(file); err != nil {
			r.problem("tls.client_ca", err, "name a PEM file")
		} else {
			r.ok("tls.client_ca", "%s can be read", file)
		}
	}
}

// valid says why a certificate does not hold today.
func valid(leaf *x509.Certificate, now time.Time) error {
	switch {
	case now.After(leaf.NotAfter):
		return errors.New("ended on " + leaf.NotAfter.Format(time.DateOnly))
	case now.Before(leaf.NotBefore):
		return errors.New("begins only on " + leaf.NotBefore.Format(time.DateOnly))
	}
	return nil
}

// untrusted says why this machine would not trust a certificate as it is served: most often the file lacks the
// intermediate ones.
func untrusted(pair tls.Certificate, now time.Time) error {
	chain := x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil { // what cannot be read helps no client, either
			chain.AddCert(c)
		}
	}
	_, err := pair.Leaf.Verify(x509.VerifyOptions{Intermediates: chain, CurrentTime: now})
	return err
}

// covered tells whether one of the certificates bears the domain's name.
func covered(leaves []*x509.Certificate, domain string) bool {
	name, err := idna.Lookup.ToASCII(domain)
	if err != nil {
		name = domain // an IP address
	}
	for _, leaf := range leaves {
		if leaf.VerifyHostname(name) == nil {
			return true
		}
	}
	return false
}
