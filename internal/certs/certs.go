// Package certs keeps the certificates that the server shows: it loads them from files, makes a self-signed one where
// there is none, chooses by domain for each connection, and takes over new files while connections go on.
//
// A Store holds the certificates. Each kind of listener makes a Door from it, with its own ALPN names and rules for
// client certificates. For each connection, the certificate is the first of these that exists: the one whose names
// (SAN only, RFC 6125 §6.4) cover the name in the client's SNI; the one that covers the domain of the stream header
// (RFC 6120 §4.7.2), which a client without SNI has named before STARTTLS; the default one, which is that of the first
// domain. Exact names go before wildcards, and a wildcard stands for one left-most label.
package certs

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/idna"
)

const (
	defaultInterval = 5 * time.Second
	expiresSoon     = 14 * 24 * time.Hour
)

// Files names a certificate chain and its private key, both PEM.
type Files struct {
	Cert, Key string
}

// Options says what a Store is made of.
type Options struct {
	Dir        string                // folder for the self-signed certificate; made when missing
	Files      []Files               // where two cover the same name, the earlier one counts
	Domains    []string              // domains that are served, at least one; the first has the default certificate
	Interval   time.Duration         // between looks at the files; 0 means 5 s
	Log        *slog.Logger          // required
	Registerer prometheus.Registerer // for starling_certificate_expiry_seconds; nil means no metric
	Clock      func() time.Time      // nil means time.Now
}

// Store is a set of certificates that follows its files. All methods may be called from any goroutine.
type Store struct {
	options Options
	current atomic.Pointer[snapshot]
}

// snapshot is the state of a Store at one time. Only configs changes after it was made.
type snapshot struct {
	pairs    []pair // in the order of Options.Files, then the self-signed one if it is needed
	names    map[string]*tls.Certificate
	fallback *tls.Certificate
	configs  sync.Map // doorCert → *tls.Config
}

// pair is one certificate and the state of its files when they were last read.
type pair struct {
	Files
	selfSigned bool
	cert       *tls.Certificate
	stamp      stamp
}

// Open loads all certificates. Files that are missing, broken or do not belong together are an error. A self-signed
// certificate is made, or taken from Dir, if a domain is covered by none of the files.
func Open(o Options) (*Store, error) {
	o.Interval = cmp.Or(o.Interval, defaultInterval)
	if o.Clock == nil {
		o.Clock = time.Now
	}
	s := &Store{options: o}
	var pairs []pair
	var errs []error
	for _, f := range o.Files {
		p, err := load(pair{Files: f})
		if err != nil {
			errs = append(errs, err)
		}
		pairs = append(pairs, p)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	uncovered := newSnapshot(pairs, nil).uncovered(o.Domains)
	if len(uncovered) > 0 || len(pairs) == 0 {
		if len(pairs) > 0 {
			o.Log.Warn("domains without a certificate get a self-signed one", slog.Any("domains", uncovered))
		}
		p, err := s.selfSigned(uncovered)
		if err != nil {
			return nil, fmt.Errorf("make a self-signed certificate: %w", err)
		}
		pairs = append(pairs, p)
	}
	s.current.Store(newSnapshot(pairs, o.Domains))
	for _, p := range pairs {
		s.logExpiry(p)
	}
	if o.Registerer != nil {
		if err := o.Registerer.Register(expiry{s}); err != nil {
			return nil, fmt.Errorf("register the metric of certificates: %w", err)
		}
	}
	return s, nil
}

// newSnapshot indexes pairs by the names they cover.
func newSnapshot(pairs []pair, domains []string) *snapshot {
	n := &snapshot{pairs: pairs, names: make(map[string]*tls.Certificate)}
	for _, p := range slices.Backward(pairs) { // so that earlier ones win
		for _, dns := range p.cert.Leaf.DNSNames {
			n.names[strings.ToLower(dns)] = p.cert
		}
		for _, ip := range p.cert.Leaf.IPAddresses {
			if addr, ok := netip.AddrFromSlice(ip); ok {
				n.names[addr.Unmap().String()] = p.cert
			}
		}
		n.fallback = p.cert
	}
	if len(domains) > 0 {
		n.fallback = cmp.Or(n.covering(domains[0]), n.fallback)
	}
	return n
}

// covering returns the certificate for a domain, or nil.
func (n *snapshot) covering(domain string) *tls.Certificate {
	name := hostName(domain)
	if cert, ok := n.names[name]; ok {
		return cert
	}
	// RFC 6125 §6.4.3: a wildcard is the whole left-most label and stands for exactly one.
	if _, parent, ok := strings.Cut(name, "."); ok {
		return n.names["*."+parent]
	}
	return nil
}

// choose returns the certificate of the first name that one covers, else the default one.
func (n *snapshot) choose(names ...string) *tls.Certificate {
	for _, name := range names {
		if name == "" {
			continue
		}
		if cert := n.covering(name); cert != nil {
			return cert
		}
	}
	return n.fallback
}

// uncovered returns the domains that no certificate covers.
func (n *snapshot) uncovered(domains []string) []string {
	return slices.DeleteFunc(slices.Clone(domains), func(d string) bool { return n.covering(d) != nil })
}

// hostName returns a domain as certificates and SNI write it: with A-labels, in lower case, an IP address bare.
func hostName(domain string) string {
	domain = strings.TrimSuffix(domain, ".")
	if addr, err := netip.ParseAddr(strings.Trim(domain, "[]")); err == nil {
		return addr.Unmap().String()
	}
	if ascii, err := idna.Lookup.ToASCII(domain); err == nil {
		return ascii
	}
	return strings.ToLower(domain)
}

// ForDomain returns the certificate for a domain, or the default one if none covers it.
func (s *Store) ForDomain(domain string) *tls.Certificate { return s.current.Load().choose(domain) }

// Covers reports whether the certificate for a domain bears its name.
func (s *Store) Covers(domain string) bool { return s.current.Load().covering(domain) != nil }

// Run looks at the files from time to time and takes over new ones, until ctx ends. What cannot be loaded is logged
// once per change, and the old certificate stays. A self-signed certificate is renewed a month before it ends.
func (s *Store) Run(ctx context.Context) {
	tick := time.NewTicker(s.options.Interval)
	defer tick.Stop()
	var renewed time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now := s.options.Clock(); now.Sub(renewed) > 24*time.Hour { // also after a failure, which repeats itself
			renewed = now
			if err := s.renew(); err != nil {
				s.options.Log.Error("self-signed certificate not renewed", slog.Any("err", err))
			}
		}
		for _, err := range s.refresh(false) {
			s.options.Log.Error("new certificate not taken over, the old one stays", slog.Any("err", err))
		}
	}
}

// Reload reads all files now, also those that look unchanged. Where that fails the old certificate stays, and the
// error says why.
func (s *Store) Reload() error { return errors.Join(s.refresh(true)...) }

// refresh reads the files that have changed, or all of them, and swaps the snapshot. It returns what could not be read.
func (s *Store) refresh(all bool) []error {
	for {
		old := s.current.Load()
		next, touched := slices.Clone(old.pairs), false
		var errs []error
		var changed []pair
		for i, p := range old.pairs {
			if !all && p.stamp.same(stampOf(p.Files)) {
				continue
			}
			fresh, err := load(p)
			if err != nil {
				errs = append(errs, err)
			} else if !slices.EqualFunc(fresh.cert.Certificate, p.cert.Certificate, slices.Equal) {
				changed = append(changed, fresh)
			}
			next[i], touched = fresh, true
		}
		if !touched {
			return nil
		}
		if s.current.CompareAndSwap(old, newSnapshot(next, s.options.Domains)) {
			for _, p := range changed {
				s.options.Log.Info("certificate taken over", slog.String("file", p.Cert),
					slog.String("sha256", Fingerprint(p.cert.Leaf)), slog.Time("expires", p.cert.Leaf.NotAfter))
				s.logExpiry(p)
			}
			if lost := s.current.Load().uncovered(s.options.Domains); len(changed) > 0 && len(lost) > 0 {
				s.options.Log.Warn("no certificate covers these domains", slog.Any("domains", lost))
			}
			return errs
		}
	}
}

// logExpiry warns of a certificate that has ended or is about to.
func (s *Store) logExpiry(p pair) {
	if left := p.cert.Leaf.NotAfter.Sub(s.options.Clock()); left < expiresSoon {
		s.options.Log.Warn("certificate expires soon or has expired",
			slog.String("file", p.Cert), slog.Time("expires", p.cert.Leaf.NotAfter))
	}
}
